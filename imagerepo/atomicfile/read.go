package atomicfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"puavo-image-repository/meta/untrusted"
)

// ErrNotRegular is wrapped by the error for what has the name of a file and is no
// regular file.
var ErrNotRegular = errors.New("not a regular file")

// notRegular is the error for a file of this mode.
type notRegular fs.FileMode

func (e notRegular) Error() string { return "it is " + Describe(fs.FileMode(e)) + "; move it away" }

func (notRegular) Is(target error) bool { return target == ErrNotRegular }

// Describe returns what a file of a mode is, such as "a pipe".
func Describe(mode fs.FileMode) string {
	for _, kind := range []struct {
		bits fs.FileMode
		name string
	}{
		{fs.ModeDir, "a directory"}, {fs.ModeSymlink, "a symbolic link"}, {fs.ModeNamedPipe, "a pipe"},
		{fs.ModeSocket, "a socket"}, {fs.ModeDevice, "a device"}, {fs.ModeType, "no regular file"},
	} {
		if mode&kind.bits != 0 {
			return kind.name
		}
	}
	return "a regular file"
}

// OpenRoot opens a directory as os.OpenRoot does, which at a pipe would wait for
// whoever writes to it.
func OpenRoot(path string) (*os.Root, error) {
	if info, err := os.Stat(path); err == nil && !info.IsDir() {
		return nil, &fs.PathError{Op: "open", Path: path, Err: syscall.ENOTDIR}
	}
	return os.OpenRoot(path)
}

// wantDir returns an error for what exists and is no directory.
func (d Dir) wantDir(name string) error {
	if info, err := d.root.Stat(name); err == nil && !info.IsDir() {
		return &fs.PathError{Op: "open", Path: filepath.Join(d.path, name), Err: syscall.ENOTDIR}
	}
	return nil
}

// OpenRegular opens a regular file of any directory for reading, to which a symbolic link
// may lead. For anything else the error wraps ErrNotRegular.
func OpenRegular(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = &fs.PathError{Op: "open", Path: path, Err: notRegular(info.Mode())}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// Open opens a regular file for reading. For anything else, a symbolic link too, the
// error wraps ErrNotRegular.
func (d Dir) Open(name string) (*os.File, error) {
	return d.open(name, os.O_RDONLY, d.root.Lstat, 0)
}

// open opens a regular file, or what is of the other kinds, without waiting for the
// other end of a pipe. look returns what has the name, or what that points to.
func (d Dir) open(name string, flag int, look func(string) (fs.FileInfo, error), kinds fs.FileMode) (*os.File, error) {
	check := func(info fs.FileInfo, err error) error {
		if err == nil && info.Mode().Type()&^kinds != 0 {
			err = &fs.PathError{Op: "open", Path: filepath.Join(d.path, name), Err: notRegular(info.Mode())}
		}
		return err
	}
	// To open a device may do something, so it is looked at before; and after, should it
	// have been replaced.
	if err := check(look(name)); errors.Is(err, ErrNotRegular) {
		return nil, err
	}
	f, err := d.root.OpenFile(name, flag|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	if err := check(f.Stat()); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// ReadFile returns the content of a regular file, with errors as Open's. For one of more
// than most bytes the error wraps untrusted.ErrTooLarge.
func (d Dir) ReadFile(name string, most int64) ([]byte, error) {
	f, err := d.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := untrusted.ReadAll(f, most)
	if errors.Is(err, untrusted.ErrTooLarge) {
		err = &fs.PathError{Op: "read", Path: filepath.Join(d.path, name), Err: err}
	}
	return data, err
}

// OpenDir opens a directory for reading.
func (d Dir) OpenDir(name string) (*os.File, error) {
	if err := d.wantDir(name); err != nil {
		return nil, err
	}
	return d.open(name, os.O_RDONLY|syscall.O_DIRECTORY, d.root.Stat, fs.ModeDir)
}

// FS returns the directory for reading. Only regular files and directories in it can be
// opened.
func (d Dir) FS() fs.FS { return tree{d} }

// tree is an fs.StatFS and an fs.ReadDirFS. Those of an os.Root wait at pipes.
type tree struct{ dir Dir }

func (t tree) Open(name string) (fs.File, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	}
	f, err := t.dir.open(name, os.O_RDONLY, t.dir.root.Stat, fs.ModeDir)
	if err != nil {
		return nil, err // no *os.File that is nil
	}
	return f, nil
}

func (t tree) Stat(name string) (fs.FileInfo, error) { return fs.Stat(t.dir.root.FS(), name) }

func (t tree) ReadDir(name string) ([]fs.DirEntry, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: fs.ErrInvalid}
	}
	f, err := t.dir.OpenDir(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	entries, err := f.ReadDir(-1)
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return entries, err
}
