package lockfile

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"puavo-image-repository/testdata"
)

func TestAcquire(t *testing.T) {
	root, err := os.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for range 2 { // the second time the file is there
		lock, err := Acquire(root.Name(), "lock")
		if err != nil {
			t.Fatal(err)
		}
		if info, err := root.Stat("lock"); err != nil || info.Mode() != 0o600 {
			t.Errorf("%v, %v", info, err)
		}
		_, err = Acquire(root.Name(), "lock")
		if !errors.Is(err, ErrHeld) || !strings.Contains(err.Error(), fmt.Sprintf("by process %d (", os.Getpid())) {
			t.Errorf("second holder: %v", err)
		}
		if err := lock.Release(); err != nil {
			t.Fatal(err)
		}
		root.Chmod("lock", 0o666) // as others make it
	}
	if _, err := Acquire(root.Name(), "none/lock"); err == nil {
		t.Error("a lock in no directory")
	}
	if _, err := Acquire(root.Name(), "../lock"); err == nil {
		t.Error("a lock outside of the root")
	}
}

// The shell's flock(1), which installed tools use, and we keep each other out.
func TestShell(t *testing.T) {
	testdata.Tool(t, "flock")
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	path := filepath.Join(dir, "lock")
	lock, err := Acquire(root.Name(), "lock")
	if err != nil {
		t.Fatal(err)
	}
	if err := exec.Command("flock", "-nx", path, "true").Run(); err == nil {
		t.Error("flock takes the lock that we hold")
	}
	lock.Release()
	cmd := exec.Command("flock", "-nx", path, "sh", "-c", "echo got it; read end")
	in, _ := cmd.StdinPipe()
	out, _ := cmd.StdoutPipe()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	out.Read(make([]byte, 6))
	if _, err := Acquire(root.Name(), "lock"); !errors.Is(err, ErrHeld) || !strings.Contains(err.Error(), "another process") {
		t.Errorf("while flock holds it: %v", err)
	}
	in.Close()
	cmd.Wait()
	if lock, err := Acquire(root.Name(), "lock"); err != nil {
		t.Errorf("after flock gave it back: %v", err)
	} else {
		lock.Release()
	}
}

// On a disk without room for a line about the holder the lock is held all the same.
func TestFullDisk(t *testing.T) {
	dir := testdata.SmallDisk(t, 64<<10)
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	os.WriteFile(filepath.Join(dir, "ballast"), make([]byte, 1<<20), 0o666)
	lock, err := Acquire(root.Name(), "lock")
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Release()
	if _, err := Acquire(root.Name(), "lock"); !errors.Is(err, ErrHeld) {
		t.Errorf("second holder: %v", err)
	}
}
