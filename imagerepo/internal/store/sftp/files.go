package sftp

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"

	client "github.com/pkg/sftp"

	"puavo-image-repository/imagerepo/internal/store"
	"puavo-image-repository/meta/untrusted"
)

// prepare makes the folder of the destination, unless it is only looked at.
func (s *Store) prepare(l *link) error {
	if s.o.Look {
		return nil
	}
	return s.makeFolders(l, s.o.Path)
}

// makeFolders makes a folder and those above it, unless they exist.
func (s *Store) makeFolders(l *link, folder string) error {
	s.mu.Lock()
	exists := s.folders[folder]
	s.mu.Unlock()
	if exists || folder == "/" {
		return nil
	}
	if err := s.makeFolder(l, folder); err != nil {
		return fmt.Errorf("the folder %s: %w", untrusted.Show(folder), err)
	}
	s.mu.Lock()
	s.folders[folder] = true
	s.mu.Unlock()
	return nil
}

func (s *Store) makeFolder(l *link, folder string) error {
	if info, err := l.files.Stat(folder); err == nil && info.IsDir() {
		return nil
	} else if err == nil {
		return syscall.ENOTDIR
	} else if !isMissing(err) {
		return err
	}
	if err := s.makeFolders(l, path.Dir(folder)); err != nil {
		return err
	}
	if err := l.files.Mkdir(folder); err != nil {
		if info, second := l.files.Stat(folder); second == nil && info.IsDir() { // made meanwhile
			return nil
		}
		return s.explain(l, err)
	}
	mode := fs.FileMode(0o755)
	if folder == s.path(store.Aside) {
		mode = 0o700
	}
	return errors.Join(l.files.Chmod(folder, mode), l.syncFolder(path.Dir(folder)))
}

// syncFolder flushes which names a folder has. Not all servers can.
func (l *link) syncFolder(folder string) error {
	if !l.has(extSync) {
		return nil
	}
	f, err := l.files.Open(folder)
	if err == nil {
		err = errors.Join(f.Sync(), f.Close())
	}
	if isLost(err) {
		return err
	}
	return nil
}

// sync flushes a file, if the server can.
func (l *link) sync(f *client.File) error {
	if !l.has(extSync) {
		return nil
	}
	return f.Sync()
}

// explain adds the likely reason to an error that the server does not explain.
func (s *Store) explain(l *link, err error) error {
	status, ok := errors.AsType[*client.StatusError](err)
	if !ok || status.FxCode() != client.ErrSSHFxFailure || !l.has(extStatVFS) {
		return err
	}
	disk, second := l.files.StatVFS(s.o.Path)
	switch {
	case second != nil:
		return err
	case disk.Bavail*disk.Frsize < chunk:
		return fmt.Errorf("%w at the server: %d bytes are free; make space there, then run it again", syscall.ENOSPC, disk.Bavail*disk.Frsize)
	case disk.Files > 0 && disk.Favail == 0:
		return fmt.Errorf("%w at the server: no more files can be made, since the inodes are used up; make space there, then run it again", syscall.ENOSPC)
	}
	return fmt.Errorf("%w; the server does not say why: look at the user's quota and at its log", err)
}

// List returns all regular files, except those that are aside or have names that no published
// file can have. It does not follow symbolic links.
func (s *Store) List(ctx context.Context) ([]store.File, error) {
	var files []store.File
	err := s.do(ctx, nil, func(l *link) (err error) {
		files, err = s.list(ctx, l, "", 0)
		return err
	})
	slices.SortFunc(files, func(a, b store.File) int { return strings.Compare(a.Name, b.Name) })
	return files, s.failed("listing", "", err)
}

// deepest bounds how deep the folders of a server are nested.
const deepest = 32

func (s *Store) list(ctx context.Context, l *link, folder string, depth int) (files []store.File, err error) {
	entries, err := l.files.ReadDirContext(ctx, s.path(folder))
	if isMissing(err) { // removed meanwhile, or the destination does not exist yet
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		name := path.Join(folder, e.Name())
		if e.Mode()&fs.ModeSymlink != 0 {
			err = store.CheckLink(name)
		}
		if err != nil {
			return nil, err
		}
		if store.CheckName(name) != nil || !e.Mode().IsRegular() && (!e.IsDir() || depth == deepest) {
			continue
		}
		if !e.IsDir() {
			files = append(files, store.File{Name: name, Size: e.Size(), Modified: e.ModTime()})
			continue
		}
		below, err := s.list(ctx, l, name, depth+1)
		if err != nil {
			return nil, err
		}
		files = append(files, below...)
	}
	return files, nil
}

// Stat returns what is known of a regular file.
func (s *Store) Stat(ctx context.Context, name string) (file store.File, err error) {
	if err := store.CheckName(name); err != nil {
		return store.File{}, err
	}
	err = s.do(ctx, nil, func(l *link) (err error) {
		file, err = s.stat(l, name)
		return err
	})
	return file, s.failed("looking at", name, err)
}

func (s *Store) stat(l *link, name string) (store.File, error) {
	info, err := l.files.Lstat(s.path(name))
	if err != nil {
		return store.File{}, err
	}
	if !info.Mode().IsRegular() {
		return store.File{}, errors.New("it is not a regular file; move it away")
	}
	return store.File{Name: name, Size: info.Size(), Modified: info.ModTime()}, nil
}

// Open opens a regular file to read it. When the connection is lost, so is the reader.
func (s *Store) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	if err := store.CheckName(name); err != nil {
		return nil, err
	}
	var r *reader
	err := s.do(ctx, nil, func(l *link) error {
		if _, err := s.stat(l, name); err != nil {
			return err
		}
		f, err := l.files.Open(s.path(name))
		if err == nil {
			r = &reader{ctx: ctx, file: f, buffer: bufio.NewReaderSize(f, 8*packet), stop: context.AfterFunc(ctx, l.cut)}
		}
		return err
	})
	if err != nil {
		return nil, s.failed("reading", name, err)
	}
	return r, nil
}

// reader is a file of the server.
type reader struct {
	ctx    context.Context
	file   *client.File
	buffer *bufio.Reader // fills itself by concurrent requests
	stop   func() bool
}

func (r *reader) Read(p []byte) (int, error) {
	n, err := r.buffer.Read(p)
	if r.ctx.Err() != nil {
		return 0, r.ctx.Err()
	}
	return n, err
}

func (r *reader) Close() error {
	r.stop()
	return r.file.Close()
}

// Write makes or replaces a document.
func (s *Store) Write(ctx context.Context, name string, data []byte) error {
	return s.writing(ctx, name, func(l *link) error {
		return s.writeTemporary(l, data, func(temporary string) error {
			return l.files.PosixRename(temporary, s.path(name))
		})
	})
}

// writing calls do, by which a document gets its name, in its folder.
func (s *Store) writing(ctx context.Context, name string, do func(*link) error) error {
	if err := store.CheckName(name); err != nil {
		return err
	}
	return s.failed("writing", name, s.do(ctx, nil, func(l *link) error {
		folder := path.Dir(s.path(name))
		if err := s.makeFolders(l, folder); err != nil {
			return err
		}
		if err := do(l); err != nil {
			return err
		}
		return l.syncFolder(folder)
	}))
}

// writeTemporary writes a document under a temporary name, of which use makes something.
// If it fails, the name is free again.
func (s *Store) writeTemporary(l *link, data []byte, use func(temporary string) error) error {
	if err := s.makeFolders(l, s.path(store.Aside)); err != nil {
		return err
	}
	temporary := s.path(store.Temporary())
	err := s.writeNew(l, temporary, data)
	if err == nil {
		err = use(temporary)
	}
	if err != nil {
		err = s.explain(l, err)
		l.files.Remove(temporary) // best effort
	}
	return err
}

// writeNew writes a file that must not exist.
func (s *Store) writeNew(l *link, file string, data []byte) error {
	f, err := l.files.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(data, 0)
	if err == nil {
		err = f.Chmod(0o644)
	}
	if err == nil {
		err = l.sync(f)
	}
	return errors.Join(err, f.Close())
}

// Create makes a document that must not exist.
func (s *Store) Create(ctx context.Context, name string, data []byte) error {
	before := false // an attempt, whose connection was lost, may have succeeded
	return s.writing(ctx, name, func(l *link) error {
		err := s.create(l, name, data)
		if before && errors.Is(err, fs.ErrExist) {
			if ours, second := s.holds(l, name, data); ours || second != nil {
				return second
			}
		}
		before = true
		return err
	})
}

func (s *Store) create(l *link, name string, data []byte) error {
	if l.has(extLink) {
		err := s.writeTemporary(l, data, func(temporary string) error {
			err := s.exists(l, name, l.files.Link(temporary, s.path(name)))
			if err == nil {
				err = l.files.Remove(temporary)
			}
			return err
		})
		if _, refused := errors.AsType[*client.StatusError](err); !refused {
			return err
		} // as on file systems without links
	}
	return s.exists(l, name, s.writeNew(l, s.path(name), data))
}

// exists returns an error that wraps fs.ErrExist, if a failure has this reason: SFTP has
// none for it.
func (s *Store) exists(l *link, name string, err error) error {
	if err == nil || isLost(err) {
		return err
	}
	if _, second := l.files.Lstat(s.path(name)); second == nil {
		return fs.ErrExist
	}
	return err
}

// Replace replaces a document whose content is old, unless another publisher does so between
// the comparison and the renaming.
func (s *Store) Replace(ctx context.Context, name string, old, data []byte) error {
	before := false // an attempt, whose connection was lost, may have succeeded
	return s.writing(ctx, name, func(l *link) error {
		return s.writeTemporary(l, data, func(temporary string) error {
			if before {
				if done, err := s.holds(l, name, data); done || err != nil {
					return errors.Join(err, l.files.Remove(temporary))
				}
			}
			if same, err := s.holds(l, name, old); err != nil {
				return err
			} else if !same {
				return store.ErrOther
			}
			before = true
			return l.files.PosixRename(temporary, s.path(name))
		})
	})
}

// holds reports whether a document has this content.
func (s *Store) holds(l *link, name string, data []byte) (bool, error) {
	f, err := l.files.Open(s.path(name))
	if isMissing(err) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	defer f.Close()
	got, err := untrusted.ReadAll(f, int64(len(data)))
	if errors.Is(err, untrusted.ErrTooLarge) {
		return false, nil
	}
	return string(got) == string(data), err
}

// Remove removes a file.
func (s *Store) Remove(ctx context.Context, name string) error {
	if err := store.CheckName(name); err != nil {
		return err
	}
	return s.failed("removing", name, s.do(ctx, nil, func(l *link) error {
		if _, err := s.stat(l, name); isMissing(err) {
			return nil
		} else if err != nil {
			return err
		}
		if err := l.files.Remove(s.path(name)); err != nil && !isMissing(err) {
			return err
		}
		return l.syncFolder(path.Dir(s.path(name)))
	}))
}

// Now returns the time that the server gives a new file, to the second.
func (s *Store) Now(ctx context.Context) (now time.Time, err error) {
	err = s.do(ctx, nil, func(l *link) error {
		return s.writeTemporary(l, nil, func(temporary string) error {
			info, err := l.files.Lstat(temporary)
			if err == nil {
				now = info.ModTime()
				err = l.files.Remove(temporary)
			}
			return err
		})
	})
	return now, s.failed("writing to", store.Aside, err)
}
