// Package outfile writes the files that a user names on a command line.
//
// A regular file appears, or replaces the old file, when it is complete; until
// then, and after a power cut, the old one stays. The new one has its mode, and its
// owner if this process may give files away. Of a symbolic link the target is
// replaced, or made, not the link.
//
// Where that would not give what the user asked for, or cannot be done, the file is
// written in place:
//
//   - a device, a pipe, and what /dev/stdout and the like point to;
//   - a file that has other hard links, which would keep the old content;
//   - a file that is a mount point, which cannot be replaced;
//   - a file in a directory in which no other can be made.
//
// A regular file that is written in place keeps its content until the first write,
// and then holds what was written so far.
package outfile

import (
	"cmp"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/through"
)

// File is a file that is being written. It is not for concurrent use.
type File struct {
	path string // as the user gave it
	file
}

// file is what Files are written with.
type file interface {
	Write(p []byte) (int, error)
	Commit() error
	Discard()
}

// Create begins to write the file of this path. A new file has the mode that the
// umask leaves, another the mode of the file it replaces, unless mode is not 0. Errors, and
// those of the methods of File, name the path. The caller must call Discard in the
// end.
func Create(path string, mode fs.FileMode) (*File, error) { return create(path, mode, true) }

// Replace does what Create does, but writes no regular file in place. It is for a file
// that is read while it is written.
func Replace(path string, mode fs.FileMode) (*File, error) { return create(path, mode, false) }

func create(path string, mode fs.FileMode, inPlace bool) (*File, error) {
	f := &File{path: path}
	if err := f.open(mode, inPlace); err != nil {
		return nil, f.named(err)
	}
	return f, nil
}

func (f *File) open(mode fs.FileMode, inPlace bool) error {
	old, err := os.Stat(f.path)
	switch {
	case f.path == "":
		return syscall.ENOENT
	case errors.Is(err, fs.ErrNotExist):
		old = nil
	case err != nil:
		return err
	case !old.Mode().IsRegular():
		return f.through(old, 0)
	}
	path, isOpen, err := through.Follow(f.path)
	if err != nil {
		return err
	}
	if inPlace && old != nil && (isOpen || stays(path, old)) {
		return f.through(old, mode)
	}
	if f.file, err = begin(path, old, mode); inPlace && isRefused(err) {
		return f.through(old, mode)
	}
	return err
}

// stays reports whether a regular file must not be replaced by another.
func stays(path string, old fs.FileInfo) bool {
	var s unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, path, 0, 0, &s)
	mounted := err == nil && s.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0
	return mounted || old.Sys().(*syscall.Stat_t).Nlink != 1
}

// isRefused reports whether an error says that a file cannot be made in a directory,
// where one that is there may still be written.
func isRefused(err error) bool {
	return errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS) || errors.Is(err, syscall.ENAMETOOLONG)
}

// begin begins to write a regular file under a temporary name. old, if it is not nil,
// is the file before.
func begin(path string, old fs.FileInfo, mode fs.FileMode) (file, error) {
	dir, err := atomicfile.Open(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	name := filepath.Base(path)
	f, err := dir.Begin(temporary(name), name)
	if err != nil {
		dir.Close()
		return nil, err
	}
	out := replacing{f, dir}
	if old != nil {
		err = own(f, old)
		mode = cmp.Or(mode, old.Mode().Perm())
	}
	if err == nil && mode != 0 {
		err = f.Chmod(mode)
	}
	if err != nil {
		out.Discard()
		return nil, err
	}
	return out, nil
}

// own gives a file the owner of the file it replaces, if this process may do so.
func own(f *atomicfile.File, old fs.FileInfo) error {
	now, err := f.Stat()
	if err != nil {
		return err
	}
	is, want := now.Sys().(*syscall.Stat_t), old.Sys().(*syscall.Stat_t)
	if is.Uid == want.Uid && is.Gid == want.Gid {
		return nil
	}
	return allowed(f.Chown(int(want.Uid), int(want.Gid)))
}

// allowed returns err unless it says that this process may not do something.
func allowed(err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return nil
	}
	return err
}

// temporary returns the temporary name for a file: in the same directory, hidden, and
// ending in .tmp. It is no longer than a name can be.
func temporary(name string) string {
	const longest, sum = 255, len("~01234567")
	end := fmt.Sprintf(".%d.tmp", os.Getpid())
	if most := longest - len(".") - len(end); len(name) > most {
		h := fnv.New32a()
		h.Write([]byte(name)) // never fails
		name = fmt.Sprintf("%s~%08x", strings.ToValidUTF8(name[:most-sum], ""), h.Sum32())
	}
	return "." + name + end
}

// replacing is a file that gets its name when it is complete.
type replacing struct {
	*atomicfile.File
	dir atomicfile.Dir
}

func (r replacing) Discard() { r.File.Discard(); r.dir.Close() }

// through opens a file to be written in place, and makes it where old is nil. A mode
// of 0, and one that this process may not give, leaves its own.
func (f *File) through(old fs.FileInfo, mode fs.FileMode) error {
	flags := os.O_WRONLY
	if old == nil {
		flags |= os.O_CREATE
	}
	opened, err := os.OpenFile(f.path, flags, 0o666)
	if err != nil {
		return err
	}
	if mode != 0 && (old == nil || old.Mode().Perm() != mode) {
		if err := allowed(opened.Chmod(mode)); err != nil {
			opened.Close()
			return err
		}
	}
	f.file = &existing{File: opened, regular: old == nil || old.Mode().IsRegular()}
	return nil
}

// existing is a file that is written in place.
type existing struct {
	*os.File
	regular bool
	begun   bool // the old content is gone
}

func (e *existing) Write(p []byte) (int, error) {
	if err := e.begin(); err != nil {
		return 0, err
	}
	return e.File.Write(p)
}

// begin removes the old content of a regular file.
func (e *existing) begin() error {
	if e.begun || !e.regular {
		return nil
	}
	e.begun = true
	return e.Truncate(0)
}

// Commit flushes a regular file to the disk.
func (e *existing) Commit() error {
	err := e.begin()
	if err == nil && e.regular {
		err = e.Sync()
	}
	return errors.Join(err, e.Close())
}

func (e *existing) Discard() { e.Close() }

// Write writes on.
func (f *File) Write(p []byte) (int, error) {
	n, err := f.file.Write(p)
	return n, f.named(err)
}

// Commit ends the writing: the file is complete, is flushed to the disk and has its
// name.
func (f *File) Commit() error { return f.named(f.file.Commit()) }

// Discard leaves the old file as it was, unless Commit was called, or Write where the
// file is written in place. It can be called repeatedly.
func (f *File) Discard() { f.file.Discard() }

// named returns an error that says what failed, and the path instead of a temporary
// name.
func (f *File) named(err error) error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		err = e.Err
	} else if e, ok := errors.AsType[*os.LinkError](err); ok {
		err = e.Err
	}
	return &fs.PathError{Op: "write", Path: f.path, Err: err}
}

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

// WriteNew writes a whole file that does not exist yet, in a directory that is made where
// it is missing. The file gets its name when it is complete, and replaces nothing: if the
// name is taken, the error wraps fs.ErrExist.
func WriteNew(path string, mode fs.FileMode, data []byte) error {
	f := &File{path: path}
	return f.named(writeNew(path, mode, data))
}

func writeNew(path string, mode fs.FileMode, data []byte) error {
	dir, err := makeDir(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	name := filepath.Base(path)
	whole := temporary(name + ".new")
	f, err := dir.Begin(temporary(name), whole)
	if err != nil {
		return err
	}
	defer f.Discard()
	if err := f.Chmod(mode); err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		return err
	}
	if err := f.Commit(); err != nil {
		return err
	}
	err = dir.Link(whole, name)
	return errors.Join(err, dir.Remove(whole), dir.SyncDir("."))
}

// makeDir opens a directory, and makes it, with those above it, where it is missing.
func makeDir(path string) (atomicfile.Dir, error) {
	above := filepath.Clean(path)
	for {
		_, err := os.Stat(above)
		if err == nil || !errors.Is(err, fs.ErrNotExist) || above == filepath.Dir(above) {
			break
		}
		above = filepath.Dir(above)
	}
	dir, err := atomicfile.Open(above)
	if err != nil || above == filepath.Clean(path) {
		return dir, err
	}
	defer dir.Close()
	below, err := filepath.Rel(above, path)
	if err == nil {
		err = dir.MkdirAll(below, 0o755)
	}
	if err != nil {
		return atomicfile.Dir{}, err
	}
	return atomicfile.Open(path)
}
