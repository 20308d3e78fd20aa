package textfile

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestGauge(t *testing.T) {
	var b bytes.Buffer
	Gauge(&b, "a_bytes", "How many.", 1<<40, "dir", "a \"b\" \\\n\xff", "other", "")
	Gauge(&b, "b", "None.", 0.5)
	const want = "# HELP a_bytes How many.\n# TYPE a_bytes gauge\n" +
		`a_bytes{dir="a \"b\" \\\n` + "\uFFFD" + `",other=""} 1099511627776` + "\n# HELP b None.\n# TYPE b gauge\nb{} 0.5\n"
	if b.String() != want {
		t.Errorf("got %q\nwant %q", &b, want)
	}
}

func TestWrite(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	os.WriteFile(path("old"), []byte("old"), 0o600)
	os.WriteFile(path("large"), bytes.Repeat([]byte("x"), maxFile+1), 0o600)
	os.Symlink("old", path("link"))
	os.Mkdir(path("dir"), 0o777)
	syscall.Mkfifo(path("pipe"), 0o600)
	for name, c := range map[string]struct{ old, err string }{
		"new": {"", ""}, "link": {"old", ""}, "large": {"", "more than"}, "/dev/null": {"", ""},
		"dir": {"", "is a directory"}, "none/new": {"", "no such file"}, "pipe": {"", "no process reads"},
	} {
		file := name
		if !filepath.IsAbs(name) {
			file = path(name)
		}
		got := ""
		err := Change(t.Context(), file, func(old []byte) []byte {
			got = string(old)
			return append(old, '+')
		})
		if got != c.old || (err == nil) != (c.err == "") {
			t.Errorf("%s: of %q, %v", name, got, err)
		}
		if err != nil && !(strings.Contains(err.Error(), c.err) && strings.Contains(err.Error(), "metrics file "+file) && strings.Contains(err.Error(), "give another file")) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if data, err := os.ReadFile(path("old")); string(data) != "old+" || err != nil {
		t.Errorf("what the link leads to is %q, %v", data, err)
	}
	if info, err := os.Lstat(path("link")); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Error("the link is none")
	}
	if info, err := os.Stat(path("new")); err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("%v, %v", info, err)
	}
	if err := Write(path("large"), []byte("new")); err != nil {
		t.Errorf("one that is large: %v", err)
	}
	if data, err := os.ReadFile(path("large")); string(data) != "new" || err != nil {
		t.Errorf("it becomes %q, %v", data, err)
	}
	if err := Write(path("none/new"), nil); err == nil || !strings.Contains(err.Error(), "give another file") {
		t.Errorf("where no directory is: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Change(ctx, path("old"), func([]byte) []byte { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
