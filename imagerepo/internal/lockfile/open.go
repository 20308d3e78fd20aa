package lockfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	slash "path"
	"syscall"

	"golang.org/x/sys/unix"

	"puavo-image-repository/imagerepo/atomicfile"
)

// open opens the file of a lock, and nothing that is no regular file, in whose
// place nothing is made or waited at. The directories of name may be links within
// dir.
func open(dir, name string, flags int) (*os.File, error) {
	root, err := atomicfile.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	folder, err := root.OpenFile(slash.Dir(name), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer folder.Close()
	where := path(dir, name)
	// To open a device or a pipe may do something, so it is looked at before; and
	// after, should it have been replaced.
	if info, err := root.Lstat(name); err == nil {
		if err := regular(where, info.Mode()); err != nil {
			return nil, err
		}
	}
	f, err := openAt(folder, slash.Base(name), where, flags)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil {
		err = regular(where, info.Mode())
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// openAt opens a file of a folder and follows no link, which an os.Root would.
func openAt(folder *os.File, base, where string, flags int) (*os.File, error) {
	for {
		fd, err := unix.Openat(int(folder.Fd()), base, flags|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0o600)
		switch {
		case err == nil:
			return os.NewFile(uintptr(fd), where), nil
		case !errors.Is(err, unix.EINTR):
			return nil, &fs.PathError{Op: "open", Path: where, Err: err}
		}
	}
}

// regular returns an error for what is no regular file.
func regular(where string, mode fs.FileMode) error {
	if mode.IsRegular() {
		return nil
	}
	return refuse(where, atomicfile.Describe(mode))
}

// singular returns an error for a file that has another name too: it is somebody's
// for something else.
func singular(where string, info fs.FileInfo) error {
	if sys, ok := info.Sys().(*syscall.Stat_t); ok && sys.Nlink > 1 {
		return refuse(where, fmt.Sprintf("a file with %d names", sys.Nlink))
	}
	return nil
}

func refuse(where, what string) error {
	return fmt.Errorf("%s is %s, so it is not used as a lock; move it away and run again", where, what)
}
