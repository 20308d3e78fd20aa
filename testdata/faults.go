package testdata

import (
	"errors"
	"io"
	"os"
	"runtime"
	"syscall"
	"testing"
)

// Allocated returns how many bytes are allocated while do works, whether they are
// freed or not.
func Allocated(do func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	do()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// Scale returns how often a test tries something, or how much of it: all, or a part
// where only the short tests run, and under the race detector, which makes each try
// several times as long and sees in the first ones what it sees in all.
func Scale(all, part int) int {
	if testing.Short() || raceDetector {
		return part
	}
	return all
}

// Failing is a file whose reads after the first At call Hook, and then fail if Err
// is not nil.
type Failing struct {
	io.ReaderAt
	At   int
	Hook func()
	Err  error
}

func (f *Failing) ReadAt(p []byte, off int64) (int, error) {
	if f.At--; f.At < 0 {
		f.Hook()
		if f.Err != nil {
			return 0, f.Err
		}
	}
	return f.ReaderAt.ReadAt(p, off)
}

// ReadOnly mounts a directory read-only for the time of the test and returns where. It
// skips the test where mounting is not allowed; where CI is set, it fails instead.
func ReadOnly(t testing.TB, dir string) string {
	t.Helper()
	at := t.TempDir()
	unmount, err := MountReadOnly(dir, at)
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("mounting read-only: %v", err)
		}
		t.Skipf("mounting read-only: %v", err)
	}
	t.Cleanup(func() {
		if err := unmount(); err != nil {
			t.Error(err)
		}
	})
	return at
}

// Bind mounts a directory at another place too for the time of the test and returns where.
// It skips the test where mounting is not allowed; where CI is set, it fails instead.
func Bind(t testing.TB, dir string) string {
	t.Helper()
	at := t.TempDir()
	if err := syscall.Mount(dir, at, "", syscall.MS_BIND, ""); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("mounting a directory: %v", err)
		}
		t.Skipf("mounting a directory: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(at, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return at
}

// MountReadOnly mounts a directory read-only at another, or at itself.
func MountReadOnly(dir, at string) (unmount func() error, err error) {
	if err := syscall.Mount(dir, at, "", syscall.MS_BIND, ""); err != nil {
		return nil, err
	}
	unmount = func() error { return syscall.Unmount(at, syscall.MNT_DETACH) }
	if err := syscall.Mount("", at, "", syscall.MS_REMOUNT|syscall.MS_BIND|syscall.MS_RDONLY, ""); err != nil {
		return nil, errors.Join(err, unmount())
	}
	return unmount, nil
}

// AsNobody calls do in a goroutine of its own, for which the modes of files hold even
// if root runs the test: it has files as the user nobody. Goroutines that it starts do
// not.
func AsNobody(do func()) {
	const nobody = 65534
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		if os.Getuid() == 0 {
			syscall.RawSyscall(syscall.SYS_SETFSUID, nobody, 0, 0)
		}
		do()
	}()
	<-done
}
