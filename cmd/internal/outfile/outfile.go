// Package outfile writes the files that a user names on a command line.
//
// A regular file appears, or replaces the old file, when it is complete; until
// then, and after a power cut, the old one stays. Of a symbolic link the target is
// replaced, not the link. A device or a pipe is written through.
package outfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"puavo-image-repository/imagerepo/atomicfile"
)

// File is a file that is being written. It is not for concurrent use.
type File struct {
	io.Writer
	commit  func() error
	discard func()
}

// Create begins to write the file of this path. A new file has the mode that the
// umask leaves, another the mode of the one before, unless mode is not 0. The
// caller must call Discard in the end.
func Create(path string, mode fs.FileMode) (*File, error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return through(path)
	default:
		if mode == 0 {
			mode = info.Mode().Perm()
		}
	}
	if path, err = follow(path); err != nil {
		return nil, err
	}
	return begin(path, mode)
}

// follow returns the path of the file that a symbolic link leads to, which need not
// be there.
func follow(path string) (string, error) {
	for range 40 { // as many as the system follows
		if dir, err := filepath.EvalSymlinks(filepath.Dir(path)); err == nil {
			path = filepath.Join(dir, filepath.Base(path)) // so that .. leads to where the system goes
		}
		target, err := os.Readlink(path)
		if err != nil {
			return path, nil // it is no link
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(path), target)
		}
		path = target
	}
	return "", fmt.Errorf("%s: too many symbolic links", path)
}

// through opens what is no regular file.
func through(path string) (*File, error) {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return nil, err
	}
	return &File{Writer: f, commit: f.Close, discard: func() { f.Close() }}, nil
}

// begin begins to write a regular file. Its temporary name is in the same
// directory, hidden, and ends in .tmp.
func begin(path string, mode fs.FileMode) (*File, error) {
	dir, err := atomicfile.Open(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	name := filepath.Base(path)
	f, err := dir.Begin(fmt.Sprintf(".%s.%d.tmp", name, os.Getpid()), name)
	if err != nil {
		dir.Close()
		return nil, err
	}
	out := &File{Writer: f, commit: f.Commit, discard: func() { f.Discard(); dir.Close() }}
	if mode != 0 {
		if err := f.Chmod(mode); err != nil {
			out.Discard()
			return nil, err
		}
	}
	return out, nil
}

// Commit gives a regular file its name, and closes any other.
func (f *File) Commit() error { return f.commit() }

// Discard leaves the old file as it was, unless Commit was called. It can be called
// repeatedly.
func (f *File) Discard() { f.discard() }

// Write writes a whole file.
func Write(path string, mode fs.FileMode, data []byte) error {
	f, err := Create(path, mode)
	if err != nil {
		return err
	}
	defer f.Discard()
	if _, err := f.Write(data); err != nil {
		return err
	}
	return f.Commit()
}
