// Package testdata gives tests the fixtures of this folder, the installed tools
// that they compare with, and files that fail.
package testdata

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// Path returns the path of a fixture, named from this folder with slashes.
func Path(name string) string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), filepath.FromSlash(name))
}

// Read returns the content of a fixture.
func Read(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(Path(name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Glob returns the paths of the fixtures that match, which must be some.
func Glob(t testing.TB, pattern string) []string {
	t.Helper()
	paths, err := filepath.Glob(Path(pattern))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no fixture matches %s (%v)", pattern, err)
	}
	return paths
}

// Tool skips the test where the named command is not installed. Where CI is
// set, it fails instead: there, every tool must be.
func Tool(t testing.TB, name string) {
	t.Helper()
	if _, err := exec.LookPath(name); err == nil {
		return
	}
	if os.Getenv("CI") != "" {
		t.Fatalf("%s is not installed", name)
	}
	t.Skipf("%s is not installed", name)
}

// Run runs an installed command and returns what it writes to standard output;
// that it fails is fatal. Tool is implied.
func Run(t testing.TB, name string, args ...string) []byte {
	t.Helper()
	Tool(t, name)
	cmd := exec.Command(name, args...)
	out, err := cmd.Output()
	if err != nil {
		var stderr []byte
		if e, ok := errors.AsType[*exec.ExitError](err); ok {
			stderr = e.Stderr
		}
		t.Fatalf("%v: %v\n%s", cmd.Args, err, stderr)
	}
	return out
}

// SmallDisk mounts a file system of so many bytes for the time of the test and
// returns its directory. It skips the test where mounting is not allowed; where
// CI is set, it fails instead.
func SmallDisk(t testing.TB, size int) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", size)); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("mounting a small disk: %v", err)
		}
		t.Skipf("mounting a small disk: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// Nobody is the user, and the group, that Unprivileged stands for.
const Nobody = 65534

// Unprivileged calls do as a user to whom the files in dir, a t.TempDir, belong and
// who must keep to their modes. It is so for the goroutine that calls it alone.
func Unprivileged(t testing.TB, dir string, do func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		do()
		return
	}
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		return errors.Join(err, os.Lchown(path, Nobody, Nobody))
	})
	if err = errors.Join(err, os.Chmod(filepath.Dir(dir), 0o755)); err != nil {
		t.Fatal(err)
	}
	runtime.LockOSThread() // whose user it is
	defer runtime.UnlockOSThread()
	unix.SetfsuidRetUid(Nobody)
	defer unix.SetfsuidRetUid(0)
	do()
}

// Short returns how often a test tries something, or how much of it: all, or a part where
// only the short tests run. See Scale, which returns the part under the race detector too.
func Short(all, part int) int {
	if testing.Short() {
		return part
	}
	return all
}

// InMemory has tests keep their temporary files in memory where only the short ones run,
// because these wait most of the time for flushes of a disk. It does so if there is room, and
// TMPDIR says nothing else. TestMain calls it, and remove in the end.
func InMemory() (remove func()) {
	const shared, room, noExec = "/dev/shm", 2 << 30, 8
	flag.Parse()
	var s syscall.Statfs_t
	if !testing.Short() || os.Getenv("TMPDIR") != "" || syscall.Statfs(shared, &s) != nil ||
		s.Bavail*uint64(s.Bsize) < room || s.Flags&noExec != 0 {
		return func() {}
	}
	dir, err := os.MkdirTemp(shared, "short")
	if err != nil {
		return func() {}
	}
	os.Chmod(dir, 0o755) // tests have other users look at files
	os.Setenv("TMPDIR", dir)
	return func() { os.RemoveAll(dir) }
}
