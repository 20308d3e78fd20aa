// Package atomicfile writes files that are there wholly or not at all.
//
// A file is written under a temporary name on the same file system and renamed
// when it is complete. File and directories are flushed to the disk on the way,
// in an order in which a power cut at any instant leaves under the final name
// what was there before or the new file. All paths are inside an os.Root, so no
// name leads out of it.
//
// renameio does nearly this, but knows no os.Root and does not flush the
// directory.
package atomicfile

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path"
)

// Dir is a directory in which files are written. It can be used concurrently,
// for different files.
type Dir struct {
	*os.Root
	// NoSync leaves all flushes out: after a power cut a file may then be there in
	// part. What happens to the process alone still does no harm.
	NoSync bool
}

// File is a file that is being written. It is not for concurrent use.
type File struct {
	*os.File
	dir       Dir
	tmp, name string
	ended     bool
}

// Begin begins to write the file name under the temporary name tmp. What has the
// temporary name is replaced. The file is made with mode 0666 less the umask.
// Whoever calls Begin calls Discard in the end.
func (d Dir) Begin(tmp, name string) (*File, error) {
	if err := d.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	f, err := d.OpenFile(tmp, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return nil, err
	}
	return &File{File: f, dir: d, tmp: tmp, name: name}, nil
}

// Commit flushes the file to the disk and gives it its name. After an error
// what had the name before still has it, unless only the flush of the directory
// failed.
func (f *File) Commit() error {
	if f.ended {
		return fs.ErrClosed
	}
	var err error
	if !f.dir.NoSync {
		err = f.File.Sync()
	}
	if err = errors.Join(err, f.File.Close()); err == nil {
		err = f.dir.Rename(f.tmp, f.name)
	}
	if err != nil {
		f.remove()
		return err
	}
	f.ended = true
	return f.dir.SyncDir(path.Dir(f.name))
}

// Discard removes the file unless it was committed. It can be called again.
func (f *File) Discard() {
	if !f.ended {
		f.File.Close()
		f.remove()
	}
}

func (f *File) remove() {
	f.dir.Remove(f.tmp)
	f.ended = true
}

// Replace writes a whole file, and reports whether it did: a file that holds
// data already is left as it is.
func (d Dir) Replace(tmp, name string, data []byte) (written bool, err error) {
	if old, err := d.ReadFile(name); err == nil && bytes.Equal(old, data) {
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

// SyncDir flushes to the disk which names a directory has.
func (d Dir) SyncDir(dir string) error {
	if d.NoSync {
		return nil
	}
	f, err := d.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
