// Package atomicfile changes directories so that a process that is killed, or a
// power cut, at any instant leaves whole files under their names.
//
// Every change to a mirror, a client's images directory, a directory of keys or a
// file that a command writes goes through a Dir. A file is written under a
// temporary name on the same file system, flushed to the disk, renamed, and then
// its directory is flushed:
//
//	Begin    create the temporary file, after removing one that a dead run left
//	Write    any number of times
//	Commit   flush the file, rename it, flush the directory that it is in
//
// After a power cut at any instant, the final name has the old file or the new one.
// The removal of a file, or another link to it, is certain once its directory is
// flushed; SyncDir does that.
//
// All names are inside a directory that was opened once, so none can point outside it.
// google/renameio does nearly this, but knows no os.Root and does not flush the
// directory.
//
// Some file systems refuse to flush what this process only reads: squashfs, erofs and
// others that are read-only have nothing to flush, CIFS and some of FUSE cannot flush a
// directory. They answer EINVAL or ENOTSUP. That is no error of Sync and SyncDir: no
// program can do more there, and how much a power cut costs is up to the file system. For
// a file that was written it is an error, of File.Sync and Commit.
//
// Only regular files of bounded size are read: others who can change the directory may
// put a pipe, or a file of any size, in place of a file.
//
// Observe shows a test each change before it is made, so that the order can be
// checked and each change can be made to fail.
package atomicfile

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path"

	"golang.org/x/sys/unix"
)

// Dir is a directory in which files are changed. It can be used concurrently, for
// different files. The zero Dir is no directory.
type Dir struct {
	root    *os.Root
	path    string
	observe func(Change) error // nil if nobody observes
	// NoSync leaves all flushes out: after a power cut a file may then be there in
	// part. What happens to the process alone still does no harm.
	NoSync bool
	// Reflush flushes the files that Replace leaves as they are: whoever wrote them
	// may not have done so.
	Reflush bool
}

// Open opens a directory. Whoever calls it calls Close.
func Open(path string) (Dir, error) {
	root, err := OpenRoot(path)
	if err != nil {
		return Dir{}, err
	}
	return Dir{root: root, path: path, observe: observer(path)}, nil
}

// Sub opens a directory in this one, with the same settings.
func (d Dir) Sub(name string) (Dir, error) {
	if err := d.wantDir(name); err != nil {
		return Dir{}, err
	}
	root, err := d.root.OpenRoot(name)
	if err != nil {
		return Dir{}, err
	}
	d.root, d.path = root, path.Join(d.path, name)
	return d, nil
}

// Close closes the directory.
func (d Dir) Close() error { return d.root.Close() }

// IsZero reports whether this is no directory.
func (d Dir) IsZero() bool { return d.root == nil }

// Name returns the path that was opened.
func (d Dir) Name() string { return d.path }

// Stat returns what is known of a file, or of what a symbolic link points to.
func (d Dir) Stat(name string) (fs.FileInfo, error) { return d.root.Stat(name) }

// Lstat returns what is known of a file, which may be a symbolic link.
func (d Dir) Lstat(name string) (fs.FileInfo, error) { return d.root.Lstat(name) }

// Readlink returns where a symbolic link leads.
func (d Dir) Readlink(name string) (string, error) { return d.root.Readlink(name) }

// Rename gives a file another name, and takes that from the file that has it. It
// lasts once the directory of the new name is flushed.
func (d Dir) Rename(name, to string) error {
	return d.change(Change{Kind: Rename, Name: name, To: to}, func() error { return d.root.Rename(name, to) })
}

// RenameNew gives a file a name that nothing has. Where something has it, the error wraps
// fs.ErrExist. On a file system that cannot rename so, such as NFS, the file has both
// names for an instant.
func (d Dir) RenameNew(name, to string) error {
	err := d.change(Change{Kind: Rename, Name: name, To: to}, func() error { return d.renameNew(name, to) })
	if !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOSYS) && !errors.Is(err, unix.ENOTSUP) {
		return err
	}
	if err := d.Link(name, to); err != nil {
		return err
	}
	return d.Remove(name)
}

func (d Dir) renameNew(name, to string) error {
	from, err := d.OpenDir(path.Dir(name))
	if err != nil {
		return err
	}
	defer from.Close()
	into, err := d.OpenDir(path.Dir(to))
	if err != nil {
		return err
	}
	defer into.Close()
	err = unix.Renameat2(int(from.Fd()), path.Base(name), int(into.Fd()), path.Base(to), unix.RENAME_NOREPLACE)
	if err != nil {
		return &os.LinkError{Op: "rename", Old: path.Join(d.path, name), New: path.Join(d.path, to), Err: err}
	}
	return nil
}

// Link gives a file a second name.
func (d Dir) Link(name, to string) error {
	return d.change(Change{Kind: Link, Name: name, To: to}, func() error { return d.root.Link(name, to) })
}

// LinkFrom gives a file outside of the directory a name in it. The path must not
// be that of a symbolic link.
func (d Dir) LinkFrom(file, to string) error {
	return d.change(Change{Kind: LinkFrom, Name: file, To: to}, func() error { return os.Link(file, path.Join(d.path, to)) })
}

// Remove removes a file or an empty directory.
func (d Dir) Remove(name string) error {
	return d.change(Change{Kind: Remove, Name: name}, func() error { return d.root.Remove(name) })
}

// RemoveAll removes a file, or a directory with all that it holds, if it is there.
func (d Dir) RemoveAll(name string) error {
	return d.change(Change{Kind: Remove, Name: name}, func() error { return d.root.RemoveAll(name) })
}

// Mkdir makes a directory.
func (d Dir) Mkdir(name string, mode fs.FileMode) error {
	return d.change(Change{Kind: Mkdir, Name: name}, func() error { return d.root.Mkdir(name, mode) })
}

// MkdirAll makes a directory, and those above it, unless it is there.
func (d Dir) MkdirAll(name string, mode fs.FileMode) error {
	if info, err := d.root.Stat(name); err == nil && info.IsDir() {
		return nil
	}
	return d.change(Change{Kind: Mkdir, Name: name}, func() error { return d.root.MkdirAll(name, mode) })
}

// Sync flushes a file to the disk that is already there, whoever wrote it, unless its
// file system refuses that, see the package documentation.
func (d Dir) Sync(name string) error { return unlessRefused(d.flush(Flush, name)) }

// SyncDir flushes to the disk which names a directory has, unless its file system
// refuses that.
func (d Dir) SyncDir(name string) error { return unlessRefused(d.flush(FlushDir, name)) }

func (d Dir) flush(kind Kind, name string) error {
	if d.NoSync {
		return nil
	}
	return d.change(Change{Kind: kind, Name: name}, func() error {
		f, err := d.open(name, os.O_RDONLY, d.root.Stat, fs.ModeDir)
		if err != nil {
			return err
		}
		return errors.Join(f.Sync(), f.Close())
	})
}

// unlessRefused returns the error of a flush, nil where the file system does not flush
// what is only read.
func unlessRefused(err error) error {
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOTSUP) {
		return nil
	}
	return err
}

// Replace writes a whole file, and reports whether it did: a file that holds
// data already is left as it is. What is no regular file is replaced by one.
func (d Dir) Replace(tmp, name string, data []byte) (written bool, err error) {
	if old, err := d.ReadFile(name, int64(len(data))); err == nil && bytes.Equal(old, data) {
		if d.Reflush {
			return false, errors.Join(d.flush(Flush, name), d.SyncDir(path.Dir(name)))
		}
		return false, nil
	}
	f, err := d.Begin(tmp, name)
	if err != nil {
		return false, err
	}
	defer f.Discard()
	if _, err := f.Write(data); err != nil {
		return false, err
	}
	return true, f.Commit()
}
