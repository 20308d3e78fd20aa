package atomicfile

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path"

	"golang.org/x/sys/unix"
)

// File is a file that is being written. It is not for concurrent use, but for Sync.
type File struct {
	f         *os.File
	dir       Dir
	tmp, name string
	ended     bool
}

// Begin begins to write the file name under the temporary name tmp. What has the
// temporary name is replaced. The file is made with mode 0666 less the umask.
// Whoever calls Begin calls Discard in the end.
func (d Dir) Begin(tmp, name string) (*File, error) {
	if err := d.removeLeft(tmp); err != nil {
		return nil, err
	}
	f := &File{dir: d, tmp: tmp, name: name}
	err := d.change(Change{Kind: Create, Name: tmp}, func() (err error) {
		f.f, err = d.root.OpenFile(tmp, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
		return err
	})
	if err != nil {
		return nil, err
	}
	return f, nil
}

// removeLeft removes what a dead run has left under a temporary name.
func (d Dir) removeLeft(tmp string) error {
	if _, err := d.root.Lstat(tmp); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return d.Remove(tmp)
}

// Resume opens a file that was left under its temporary name, see Keep, cut to
// size bytes. It is read from its start; at its end, writing goes on.
func (d Dir) Resume(tmp, name string, size int64) (*File, error) {
	f := &File{dir: d, tmp: tmp, name: name}
	err := d.change(Change{Kind: Write, Name: tmp}, func() (err error) {
		if f.f, err = d.open(tmp, os.O_RDWR, d.root.Lstat, 0); err != nil {
			return err
		}
		if err = f.f.Truncate(size); err != nil {
			f.f.Close()
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return f, nil
}

// Scratch makes a file that has no name, for what is of no use after this process: where the
// file system can, it never has one; else a process that is killed while it is made may leave
// an empty one.
func (d Dir) Scratch() (*os.File, error) {
	fd, err := openUnnamed(d.path, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err == nil {
		return os.NewFile(uintptr(fd), path.Join(d.path, "a scratch file")), nil
	}
	f, err := os.CreateTemp(d.path, ".scratch-")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// openUnnamed is a variable since tests have one that fails as those of some file systems do.
var openUnnamed = unix.Open

// Read reads on, and Write writes on, at one place, see Resume.
func (f *File) Read(p []byte) (int, error) { return f.f.Read(p) }

func (f *File) Write(p []byte) (n int, err error) {
	err = f.dir.change(Change{Kind: Write, Name: f.tmp}, func() (err error) {
		n, err = f.f.Write(p)
		return err
	})
	return n, err
}

// WriteAt writes at a place of its own, and leaves that of Write.
func (f *File) WriteAt(p []byte, off int64) (n int, err error) {
	err = f.dir.change(Change{Kind: Write, Name: f.tmp}, func() (err error) {
		n, err = f.f.WriteAt(p, off)
		return err
	})
	return n, err
}

// Truncate cuts the file to size bytes. Write goes on there.
func (f *File) Truncate(size int64) error {
	return f.dir.change(Change{Kind: Write, Name: f.tmp}, func() error {
		_, err := f.f.Seek(size, io.SeekStart)
		return errors.Join(err, f.f.Truncate(size))
	})
}

// ReadAt reads what was written.
func (f *File) ReadAt(p []byte, off int64) (int, error) { return f.f.ReadAt(p, off) }

// Clone makes the file share the blocks of another, where the file system can.
func (f *File) Clone(from *os.File) error {
	return f.dir.change(Change{Kind: Write, Name: f.tmp}, func() error {
		return unix.IoctlFileClone(int(f.f.Fd()), int(from.Fd()))
	})
}

// Chmod gives the file a mode that no umask changes.
func (f *File) Chmod(mode fs.FileMode) error { return f.f.Chmod(mode) }

// Chown gives the file another owner and group.
func (f *File) Chown(uid, gid int) error { return f.f.Chown(uid, gid) }

// Stat returns what is known of the file.
func (f *File) Stat() (fs.FileInfo, error) { return f.f.Stat() }

// Sync flushes what was written to the disk.
func (f *File) Sync() error {
	if f.dir.NoSync {
		return nil
	}
	return f.dir.change(Change{Kind: Flush, Name: f.tmp}, f.f.Sync)
}

// Commit flushes the file to the disk and gives it its name. After an error
// what had the name before still has it, unless only the flush of the directory
// failed.
func (f *File) Commit() error {
	if f.ended {
		return fs.ErrClosed
	}
	err := errors.Join(f.Sync(), f.f.Close())
	if err == nil {
		err = f.dir.Rename(f.tmp, f.name)
	}
	if err != nil {
		f.remove()
		return err
	}
	f.ended = true
	return f.dir.SyncDir(path.Dir(f.name))
}

// Keep closes the file and leaves it under its temporary name.
func (f *File) Keep() error {
	f.ended = true
	return f.f.Close()
}

// Discard removes the file unless it was committed or kept. It can be called again.
func (f *File) Discard() {
	if !f.ended {
		f.f.Close()
		f.remove()
	}
}

func (f *File) remove() {
	f.dir.Remove(f.tmp)
	f.ended = true
}
