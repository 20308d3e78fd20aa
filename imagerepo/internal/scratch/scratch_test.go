package scratch

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"puavo-image-repository/imagerepo/internal/lockfile"
)

// TestMain is a process that uses a directory until it is killed, where childEnv is set.
func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		dir, _, err := Make("test")
		fmt.Println(dir, err)
		select {}
	}
	os.Exit(m.Run())
}

const childEnv = "SCRATCH_CHILD"

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// names returns what is in TMPDIR.
func names(t *testing.T) (all []string) {
	t.Helper()
	entries, err := os.ReadDir(os.TempDir())
	must(t, err)
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

// A directory is empty, for this user alone, and gone once it is removed.
func TestMake(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	dir, remove, err := Make("test")
	must(t, err)
	info, err := os.Stat(dir)
	must(t, err)
	entries, err := os.ReadDir(dir)
	if above, _ := os.Stat(filepath.Dir(dir)); err != nil || len(entries) > 0 || info.Mode().Perm() != 0o700 || above.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v: %v", info.Mode(), entries, err)
	}
	if _, held := lockfile.Holder(filepath.Dir(dir), lock); !held {
		t.Error("it is not locked")
	}
	must(t, os.MkdirAll(filepath.Join(dir, "a", "b"), 0o700))
	must(t, remove())
	if left := names(t); len(left) > 0 {
		t.Errorf("left are %q", left)
	}
	t.Setenv("TMPDIR", filepath.Join(t.TempDir(), "none"))
	if _, _, err := Make("test"); err == nil {
		t.Error("it is made where there is no TMPDIR")
	}
}

// The directory of a process that was killed is removed by the next, and not while it runs.
func TestKilled(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"=1")
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	said, err := bufio.NewReader(out).ReadString('\n')
	dir, err2, _ := strings.Cut(strings.TrimSpace(said), " ")
	if err != nil || err2 != "<nil>" {
		t.Errorf("%q: %v", said, err)
	}
	must(t, os.WriteFile(filepath.Join(dir, "document"), []byte("text"), 0o600))
	must(t, Clean("test"))
	if len(names(t)) != 1 {
		t.Error("that of a process that runs is gone")
	}
	cmd.Process.Kill()
	cmd.Wait()
	_, remove, err := Make("test")
	must(t, err)
	defer remove()
	if left := names(t); len(left) != 1 || strings.HasPrefix(dir, filepath.Join(os.TempDir(), left[0])) {
		t.Errorf("there are %q, and %s was of one that was killed", left, dir)
	}
}

// Only directories that no process uses are removed.
func TestClean(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	ended := exec.Command("true")
	must(t, ended.Run())
	dead, live := ended.Process.Pid, os.Getpid()
	held := func(dir string) error {
		l, err := lockfile.Acquire(dir, lock)
		if err == nil {
			t.Cleanup(func() { l.Release() })
		}
		return err
	}
	owned := func(dir string) error { return os.Chown(dir, 65534, -1) }
	for _, c := range []struct {
		name  string
		make  func(dir string) error // after the directory
		stays bool
	}{
		{fmt.Sprintf("puavo-test-%d-1", dead), nil, false},
		{fmt.Sprintf("puavo-test-%d-2", dead), held, true}, // of another container
		{fmt.Sprintf("puavo-test-%d-3", live), nil, true},  // not locked yet
		{fmt.Sprintf("puavo-other-%d-4", dead), nil, true},
		{fmt.Sprintf("puavo-test-%d-5", dead), owned, os.Geteuid() == 0},
		{fmt.Sprintf("puavo-test-%d-6", dead), func(dir string) error { return replace(dir, func() error { return os.WriteFile(dir, nil, 0o600) }) }, true},
		{fmt.Sprintf("puavo-test-%d-7", dead), func(dir string) error { return replace(dir, func() error { return os.Symlink(".", dir) }) }, true},
		{"puavo-test-x-8", nil, true},
		{"puavo-test--9", nil, true},
		{"puavo-test-0-10", nil, true},
	} {
		dir := filepath.Join(os.TempDir(), c.name)
		must(t, os.MkdirAll(filepath.Join(dir, files, "meta"), 0o700))
		if c.make != nil {
			if err := c.make(dir); err != nil && os.Geteuid() == 0 {
				t.Fatal(err)
			}
		}
		must(t, Clean("test"))
		if stays := slices.Contains(names(t), c.name); stays != c.stays {
			t.Errorf("%s stays: %v, want %v", c.name, stays, c.stays)
		}
	}
}

// replace makes something else in the place of a directory.
func replace(dir string, other func() error) error {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	return other()
}
