// Package directory publishes to a directory of this machine: a disk that is carried to
// the server, or a network file system.
//
// All changes go through atomicfile, so that a process that is killed, or a power cut, at
// any instant leaves whole files under their names.
//
// # Payload
//
// Stage writes to .publish. Where the file system can, the file shares the blocks of the
// one in the mirror (a reflink); otherwise it is a copy, made in pieces of 8 MiB. It is
// never a hard link: a change to the mirror must not change what is published. The
// digest of a reflink is computed of the reflink itself.
//
// An interrupted Stage leaves what it wrote. The next one compares it with the file of
// the mirror, and continues at the first piece that differs: after a power cut even bytes
// that were written may be missing.
//
// # Modes
//
// Files have mode 0666 and folders 0777, less the umask of the process.
package directory

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/store"
	"puavo-image-repository/meta/untrusted"
)

// A Store is a directory.
type Store struct {
	dir  atomicfile.Dir
	path string
}

var _ store.Store = (*Store)(nil)

// Open opens a directory, and makes it if it is missing. With noSync nothing is flushed to
// the disk. The caller calls Close.
func Open(path string, noSync bool) (*Store, error) {
	if err := makeRoot(path, noSync); err != nil {
		return nil, err
	}
	dir, err := atomicfile.Open(path)
	if err != nil {
		return nil, err
	}
	dir.NoSync = noSync
	return &Store{dir, path}, nil
}

// makeRoot makes the directory itself, in the deepest one above it that exists.
func makeRoot(file string, noSync bool) error {
	missing, above := "", path.Clean(file)
	for {
		dir, err := atomicfile.Open(above)
		if errors.Is(err, fs.ErrNotExist) {
			missing, above = path.Join(path.Base(above), missing), path.Dir(above)
			continue
		}
		if err != nil {
			return err
		}
		defer dir.Close()
		dir.NoSync = noSync
		return makeFolders(dir, missing)
	}
}

// makeFolders makes folders that are missing, and flushes the one that each is in.
func makeFolders(dir atomicfile.Dir, name string) error {
	if name == "" || name == "." {
		return nil
	}
	if _, err := dir.Stat(name); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	above := path.Dir(name)
	if err := makeFolders(dir, above); err != nil {
		return err
	}
	if err := dir.Mkdir(name, 0o777); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return dir.SyncDir(above)
}

// String returns the path.
func (s *Store) String() string { return s.path }

// Close closes the directory.
func (s *Store) Close() error { return s.dir.Close() }

// Requests returns 0: there are none.
func (s *Store) Requests(int64) int64 { return 0 }

// check returns the error with which a method ends before it begins.
func check(ctx context.Context, name string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return store.CheckName(name)
}

// List returns all files, except those that are aside or have names that no published file
// can have.
func (s *Store) List(ctx context.Context) (files []store.File, err error) {
	err = fs.WalkDir(s.dir.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		switch {
		case name != "." && errors.Is(err, fs.ErrNotExist): // removed meanwhile
			return nil
		case err != nil || name == ".":
			return err
		case store.CheckName(name) != nil && d.IsDir():
			return fs.SkipDir
		case d.Type()&fs.ModeSymlink != 0:
			return store.CheckLink(name)
		case store.CheckName(name) != nil || !d.Type().IsRegular():
			return nil
		}
		info, err := d.Info()
		if err == nil {
			files = append(files, file(name, info))
		} else if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return err
	})
	slices.SortFunc(files, func(a, b store.File) int { return strings.Compare(a.Name, b.Name) })
	return files, s.failed("listing", ".", err)
}

func file(name string, info fs.FileInfo) store.File {
	return store.File{Name: name, Size: info.Size(), Modified: info.ModTime()}
}

// failed adds what was being done.
func (s *Store) failed(doing, name string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %s: %w", doing, path.Join(s.path, name), err)
}

// Stat returns what is known of a regular file.
func (s *Store) Stat(ctx context.Context, name string) (store.File, error) {
	if err := check(ctx, name); err != nil {
		return store.File{}, err
	}
	f, err := s.dir.Open(name)
	if err != nil {
		return store.File{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return store.File{}, err
	}
	return file(name, info), nil
}

// Open opens a regular file to read it.
func (s *Store) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	if err := check(ctx, name); err != nil {
		return nil, err
	}
	f, err := s.dir.Open(name)
	if err != nil {
		return nil, err // no *os.File that is nil
	}
	return f, nil
}

// Write makes or replaces a document.
func (s *Store) Write(ctx context.Context, name string, data []byte) error {
	if err := check(ctx, name); err != nil {
		return err
	}
	f, err := s.begin(store.Temporary(), name, data)
	if err != nil {
		return s.failed("writing", name, err)
	}
	defer f.Discard()
	return s.failed("writing", name, f.Commit())
}

// begin writes a document under a temporary name. The caller calls Discard.
func (s *Store) begin(temporary, name string, data []byte) (*atomicfile.File, error) {
	for _, folder := range []string{store.Aside, path.Dir(name)} {
		if err := makeFolders(s.dir, folder); err != nil {
			return nil, err
		}
	}
	f, err := s.dir.Begin(temporary, name)
	if err != nil {
		return nil, err
	}
	if _, err := f.Write(data); err != nil {
		f.Discard()
		return nil, err
	}
	return f, nil
}

// Create makes a document that must not exist.
func (s *Store) Create(ctx context.Context, name string, data []byte) error {
	if err := check(ctx, name); err != nil {
		return err
	}
	temporary := store.Temporary()
	f, err := s.begin(temporary, name, data)
	if err != nil {
		return s.failed("writing", name, err)
	}
	defer f.Discard()
	if err := f.Sync(); err != nil {
		return s.failed("writing", name, err)
	}
	if err := s.dir.RenameNew(temporary, name); err != nil {
		return s.failed("writing", name, err)
	}
	return s.failed("writing", name, errors.Join(f.Keep(), s.dir.SyncDir(path.Dir(name))))
}

// Replace replaces a document whose content is old, unless another process does so between
// the comparison and the renaming.
func (s *Store) Replace(ctx context.Context, name string, old, data []byte) error {
	if err := check(ctx, name); err != nil {
		return err
	}
	f, err := s.begin(store.Temporary(), name, data)
	if err != nil {
		return s.failed("writing", name, err)
	}
	defer f.Discard()
	if err := f.Sync(); err != nil { // now, since it may take long
		return s.failed("writing", name, err)
	}
	now, err := s.dir.ReadFile(name, int64(len(old)))
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, untrusted.ErrTooLarge) {
		return s.failed("writing", name, err)
	}
	if err != nil || !bytes.Equal(now, old) {
		return s.failed("writing", name, store.ErrOther)
	}
	return s.failed("writing", name, f.Commit())
}

// Remove removes a file.
func (s *Store) Remove(ctx context.Context, name string) error {
	if err := check(ctx, name); err != nil {
		return err
	}
	err := s.dir.Remove(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = s.dir.SyncDir(path.Dir(name))
	}
	return s.failed("removing", name, err)
}

// Now returns the time that the file system gives a new file.
func (s *Store) Now(ctx context.Context) (time.Time, error) {
	if err := ctx.Err(); err != nil {
		return time.Time{}, err
	}
	f, err := s.begin(store.Temporary(), "now", []byte{0})
	if err != nil {
		return time.Time{}, s.failed("writing to", store.Aside, err)
	}
	defer f.Discard()
	info, err := f.Stat()
	if err != nil {
		return time.Time{}, s.failed("writing to", store.Aside, err)
	}
	return info.ModTime(), nil
}
