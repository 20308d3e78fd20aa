// Package through writes to the paths that users give: whatever a path points to is
// written to, and never renamed over.
//
//	a regular file, or nothing    the caller replaces it under its own name
//	a symbolic link               the same of what it points to, not of the link
//	a pipe, a device              opened and written to
//	/dev/stdout, /proc/.../fd/1   opened and written to, at its end if it is a file
//	a directory, a socket         an error
//
// Nothing here waits for the reader of a pipe.
package through

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Write writes data to what a path points to. For a regular file, or one that does not
// exist, it calls replace with its path, on which no symbolic link is left. A pipe
// without a reader is an error, and so is a full one that nobody empties at once.
func Write(path string, data []byte, replace func(file string) error) error {
	info, err := os.Stat(path)
	isMissing := errors.Is(err, fs.ErrNotExist)
	if err != nil && !isMissing {
		return err
	}
	if isMissing || info.Mode().IsRegular() {
		file, isOpen, err := Follow(path)
		if err != nil {
			return err
		}
		if !isOpen {
			return replace(file)
		}
	}
	err = write(path, data)
	if errors.Is(err, syscall.ENXIO) && info.Mode()&fs.ModeNamedPipe != 0 {
		err = &fs.PathError{Op: "open", Path: path, Err: errNoReader}
	}
	return err
}

var errNoReader = errors.New("no process reads from this pipe; start the one that does first")

// Follow returns the path of the file that symbolic links point to, which need not exist.
// isOpen says that they point to an open file of a process instead, as /dev/stdout does,
// which need not have a path.
func Follow(path string) (file string, isOpen bool, err error) {
	for range 40 { // as many as the system follows
		if dir, err := filepath.EvalSymlinks(filepath.Dir(path)); err == nil {
			path = filepath.Join(dir, filepath.Base(path)) // so that .. points to where the system goes
		}
		target, err := os.Readlink(path)
		if err != nil {
			return path, false, nil // it is no link
		}
		if isProc(filepath.Dir(path)) {
			return path, true, nil
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(path), target)
		}
		path = target
	}
	return "", false, &fs.PathError{Op: "open", Path: path, Err: syscall.ELOOP}
}

// isProc reports whether a directory is one of procfs, in which links are no paths.
func isProc(dir string) bool {
	var s unix.Statfs_t
	return unix.Statfs(dir, &s) == nil && s.Type == unix.PROC_SUPER_MAGIC
}

// patience is how long a pipe may stay full. One that was just opened has room for 64
// KiB.
const patience = 200 * time.Millisecond

func write(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|syscall.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_ = f.SetWriteDeadline(time.Now().Add(patience)) // what cannot wait has none
	if _, err := f.Write(data); errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("%w: the process at its other end does not read", err)
	} else if err != nil {
		return err
	}
	return f.Close()
}
