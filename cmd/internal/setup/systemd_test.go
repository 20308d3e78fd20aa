package setup

import (
	"os/exec"
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
