package setup

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"puavo-image-repository/testdata"
)

// verifyUnits has systemd itself read units. Without systemd-analyze, the test is skipped,
// but fails where CI is set.
func verifyUnits(t *testing.T, files []file) {
	t.Helper()
	testdata.Tool(t, "systemd-analyze")
	args := []string{"verify", "--man=no", "--recursive-errors=no"}
	for _, f := range files {
		args = append(args, f.path)
	}
	if out, err := exec.CommandContext(t.Context(), "systemd-analyze", args...).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("systemd-analyze: %v\n%s", err, out)
	}
}

// verifyInstances has systemd read the templates of a folder with these drop-ins in dir, as
// verifyUnits does. The program need not be installed.
func verifyInstances(t *testing.T, dir, templates string, dropIns []file) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(templates, "*"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no templates: %v", err)
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		text = []byte(strings.ReplaceAll(string(text), installed, "/bin/true"))
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(path)), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var instances []file
	for _, f := range dropIns {
		instances = append(instances, file{path: strings.TrimSuffix(filepath.Dir(f.path), ".d")})
	}
	verifyUnits(t, instances)
}
