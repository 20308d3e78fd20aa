// Package lockfile keeps two writers out of one directory.
//
// The lock is a flock(2) on a file in the directory, so it ends with the
// process that holds it, however that ends, and the shell's flock(1) takes part.
//
// The file has mode 0600 and one line about the holder, for those who have to
// wait: "process N (name) since YYYY-MM-DD hh:mm:ss", perhaps ", " and what it does,
// and blanks up to a fixed length; blanks alone while nobody holds the lock. The line is written over an
// empty file, blanks, or another such line, and over nothing else; the file is
// never cut. If the lock's name belongs to something else than a regular file, or to a
// file with several names, it is refused and left as it is.
package lockfile

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ErrHeld is wrapped by the error for a lock that another process holds.
var ErrHeld = errors.New("locked")

// Acquire tries for patience, once every pause, so that those who only look, or
// are about to end, keep nobody from the lock.
const (
	patience = 150 * time.Millisecond
	pause    = 5 * time.Millisecond
)

// A Lock is held until Release, or the end of the process.
type Lock struct {
	f    *os.File
	line string // what was written into the file, "" if nothing was
	self string // how the line begins
}

// Acquire takes the lock that is the file name, with slashes, in the directory
// dir, and makes the file where it is not there. Where another holds the lock for
// longer than a moment, the error says who and since when.
func Acquire(dir, name string) (l *Lock, err error) {
	for end := time.Now().Add(patience); ; time.Sleep(pause) {
		if l, err = try(dir, name); !errors.Is(err, ErrHeld) || time.Now().After(end) {
			return l, err
		}
	}
}

// try takes the lock unless another has it.
func try(dir, name string) (*Lock, error) {
	f, err := open(dir, name, unix.O_RDWR|unix.O_CREAT)
	if err != nil {
		return nil, err
	}
	if err := take(f); err != nil {
		f.Close()
		return nil, err
	}
	_ = f.Chmod(0o600) // who may open the file, to read it even, may hold the lock
	l := &Lock{f: f}
	line := lineOf(os.Getpid(), os.Args[0], time.Now())
	if write(f, ours, line) == nil { // on a full disk it cannot, and who has to wait learns less
		l.line, l.self = line, strings.TrimSpace(line)
	}
	return l, nil
}

// flock is a variable since tests have one that fails as those of networks do.
var flock = unix.Flock

// take locks an open file, if that is still the one of its name and of no other.
func take(f *os.File) error {
	err := flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return fmt.Errorf("%s is %w by %s; wait until it has finished", f.Name(), ErrHeld, holder(f))
	} else if err != nil {
		return fmt.Errorf("locking %s: %w%s", f.Name(), err, advice(err))
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if now, err := os.Lstat(f.Name()); err != nil || !os.SameFile(info, now) {
		return fmt.Errorf("%s is %w by another process, which has just replaced it; run again", f.Name(), ErrHeld)
	}
	return singular(f.Name(), info)
}

// advice returns what to do about a lock that cannot be taken though nobody holds it, ""
// where that is unknown.
func advice(err error) string {
	for _, errno := range []unix.Errno{unix.ENOLCK, unix.ENOSYS, unix.EPERM, unix.EOPNOTSUPP, unix.EIO} {
		if errors.Is(err, errno) {
			return "; its file system seems unable to lock files: move its directory to a local disk," +
				" or run the lock daemon (of NFS 3 rpc.statd) here and on the server"
		}
	}
	return ""
}

// Say adds to the line what the holder does, such as "making a.img, 3 h left", for
// those who have to wait. It replaces what was said before.
func (l *Lock) Say(work string) {
	if l.line == "" {
		return
	}
	line := pad(l.self+", "+printable(work, maxWork), lineLength)
	if write(l.f, func(data []byte) bool { return describes(data, l.line) }, line) == nil {
		l.line = line
	}
}

// Release gives the lock back.
func (l *Lock) Release() error {
	if l.line != "" {
		// Where this cannot be done, the line is of one who no longer holds it.
		_ = write(l.f, func(data []byte) bool { return describes(data, l.line) }, "")
	}
	return l.f.Close()
}

// Holder returns who holds the lock of Acquire's arguments, if anybody does. It
// makes no file and does not wait. A lock that may not be read counts as free.
func Holder(dir, name string) (who string, held bool) {
	f, err := open(dir, name, unix.O_RDONLY)
	if err != nil {
		return "", false
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB); !errors.Is(err, unix.EWOULDBLOCK) {
		return "", false // closing the file gives it back
	}
	return holder(f), true
}

// path returns the path of a lock, for messages.
func path(dir, name string) string { return filepath.Join(dir, filepath.FromSlash(name)) }
