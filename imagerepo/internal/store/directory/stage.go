package directory

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path"
	"time"

	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/store"
)

// piece is how much is copied at once, in bytes.
const piece = 8 << 20

// Stage copies payload, see the package documentation. Where the file in the mirror is not
// what c says, nothing is left.
func (s *Store) Stage(ctx context.Context, c store.Content) error {
	if err := check(ctx, c.Name); err != nil {
		return err
	}
	from, err := c.Source()
	if err != nil {
		return err
	}
	defer from.Close()
	f, old, err := s.staged(c)
	if err != nil {
		return s.failed("writing", c.Staged(), err)
	}
	defer f.Discard()
	err = s.fill(ctx, c, f, from, old)
	if errors.Is(err, store.ErrChanged) {
		return err
	}
	if err == nil {
		err = s.failed("writing", c.Staged(), f.Sync())
	}
	return errors.Join(err, f.Keep())
}

// Adopt takes a file of the directory for payload that was staged. It must be whole, verified
// and flushed; its name is gone afterwards. Whatever Stage has left of c is replaced.
func (s *Store) Adopt(ctx context.Context, c store.Content, file string) error {
	if err := check(ctx, c.Name); err != nil {
		return err
	}
	err := makeFolders(s.dir, store.Aside)
	if err == nil {
		err = s.dir.Rename(file, c.Staged())
	}
	if err == nil {
		err = s.dir.SyncDir(store.Aside)
	}
	return s.failed("naming", c.Staged(), err)
}

// staged opens the file that payload is written to, and returns how many bytes an earlier
// Stage has left in it.
func (s *Store) staged(c store.Content) (f *atomicfile.File, old int64, err error) {
	if err := makeFolders(s.dir, store.Aside); err != nil {
		return nil, 0, err
	}
	if info, err := s.dir.Lstat(c.Staged()); err == nil && info.Mode().IsRegular() {
		old = min(info.Size(), c.Size)
	}
	if old > 0 {
		f, err = s.dir.Resume(c.Staged(), c.Name, old)
	} else {
		f, err = s.dir.Begin(c.Staged(), c.Name)
	}
	return f, old, err
}

// fill gives the file the payload: as a reflink, if the file is new and its file system can.
func (s *Store) fill(ctx context.Context, c store.Content, f *atomicfile.File, from *store.Source, old int64) error {
	if old == 0 && f.Clone(from.File()) == nil {
		return s.checkClone(ctx, c)
	}
	t := &target{s: s, c: c, file: f, old: old}
	return from.Each(ctx, piece, t.put)
}

// target is the file that payload is copied to.
type target struct {
	s    *Store
	c    store.Content
	file *atomicfile.File
	old  int64  // bytes that an earlier Stage has left and that are not known to be wrong
	left []byte // buffer for a piece of these
	cut  bool   // writing has begun
}

// put writes a part, unless it is at its place already.
func (t *target) put(at int64, part []byte) error {
	if !t.cut && t.has(at, part) {
		t.c.Report(int64(len(part)), false)
		return nil
	}
	var err error
	if !t.cut {
		err = t.file.Truncate(at)
		t.cut = true
	}
	if err == nil {
		_, err = t.file.Write(part)
	}
	if err != nil {
		return t.s.failed("writing", t.c.Staged(), err)
	}
	t.c.Report(int64(len(part)), true)
	return nil
}

// has reports whether an earlier Stage has left this part.
func (t *target) has(at int64, part []byte) bool {
	if at+int64(len(part)) > t.old {
		return false
	}
	if t.left == nil {
		t.left = make([]byte, len(part)) // none is longer
	}
	n, _ := t.file.ReadAt(t.left[:len(part)], at)
	return bytes.Equal(t.left[:n], part)
}

// checkClone digests the reflink: unlike the file in the mirror, nobody changes it.
func (s *Store) checkClone(ctx context.Context, c store.Content) error {
	clone := c
	clone.Open = func() (*os.File, error) { return s.dir.Open(c.Staged()) }
	source, err := clone.Source()
	if err != nil {
		return err
	}
	defer source.Close()
	return source.Each(ctx, piece, func(_ int64, part []byte) error {
		c.Report(int64(len(part)), true)
		return nil
	})
}

// Release renames what was staged.
func (s *Store) Release(ctx context.Context, c store.Content) error {
	if err := check(ctx, c.Name); err != nil {
		return err
	}
	folder := path.Dir(c.Name)
	err := makeFolders(s.dir, folder)
	if err == nil {
		err = s.dir.Rename(c.Staged(), c.Name)
	}
	if err == nil {
		err = s.dir.SyncDir(folder)
	}
	return s.failed("naming", c.Name, err)
}

// Sweep removes all that is aside and belongs to none of these contents, but for temporary
// files of the last hour: another process may be writing them.
func (s *Store) Sweep(ctx context.Context, keep []store.Content) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	entries, err := fs.ReadDir(s.dir.FS(), store.Aside)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return s.failed("listing", store.Aside, err)
	}
	// What is staged goes first. It makes room for the file whose time says which temporary
	// files are old: a full disk may have none.
	if err := s.sweep(ctx, entries, time.Time{}, keep); err != nil {
		return err
	}
	now, err := s.Now(ctx)
	if err != nil {
		return err
	}
	return s.sweep(ctx, entries, now, keep)
}

// sweep removes what is left over at the time now. At the zero time no temporary file is.
func (s *Store) sweep(ctx context.Context, entries []fs.DirEntry, now time.Time, keep []store.Content) error {
	for _, e := range entries {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		name := path.Join(store.Aside, e.Name())
		info, err := e.Info()
		if err != nil || !store.IsLeft(name, now.Sub(info.ModTime()), keep) {
			continue // removed meanwhile, or needed
		}
		if err := s.dir.RemoveAll(name); err != nil {
			return s.failed("removing", name, err)
		}
	}
	return nil
}
