// Package lockfile keeps two writers out of one directory.
//
// The lock is a flock(2) on a file in the directory, so it ends with the
// process that holds it, however that ends, and the shell's flock(1) takes part.
// The file holds a line about the holder, for those who have to wait.
package lockfile

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ErrHeld is wrapped by the error for a lock that another process holds.
var ErrHeld = errors.New("locked")

// A Lock is held until Release, or the end of the process.
type Lock struct{ f *os.File }

// Acquire takes the lock that is the file name in root, which it makes where it
// is not there, and does not wait: where another holds it, the error says who
// and since when.
func Acquire(dir, name string) (*Lock, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	f, err := root.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = fmt.Errorf("%s is %w by %s; wait for its end", filepath.Join(root.Name(), name), ErrHeld, holder(f))
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	_ = f.Chmod(0o600) // who may open the file, to read it even, may hold the lock
	_ = describe(f)    // on a full disk it cannot, and who has to wait learns less
	return &Lock{f}, nil
}

// Release gives the lock back.
func (l *Lock) Release() error {
	return errors.Join(l.f.Truncate(0), l.f.Close())
}

func describe(f *os.File) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err := fmt.Fprintf(f, "process %d (%s) since %s\n",
		os.Getpid(), filepath.Base(os.Args[0]), time.Now().Format("2006-01-02 15:04:05"))
	return err
}

func holder(f *os.File) string {
	line, err := io.ReadAll(io.LimitReader(f, 200))
	if who := strings.TrimSpace(string(line)); err == nil && who != "" {
		return who
	}
	return "another process"
}
