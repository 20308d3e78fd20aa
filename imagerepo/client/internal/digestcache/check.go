package digestcache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"puavo-image-repository/cksum"
)

var (
	// ErrWrong is wrapped by the error for a file whose content is not what it should
	// be.
	ErrWrong = errors.New("wrong content")
	// ErrUnknown is wrapped by the error for a file of which no digest is known.
	ErrUnknown = errors.New("no digest of it is known")
)

// Known is Check without reading: it reports whether a file is right, and whether
// that is known.
func (c *Cache) Known(file string, want cksum.Sums) (right, known bool) {
	info, err := c.dir.Lstat(file)
	if err != nil {
		return false, false
	}
	known, err = c.compare(file, info, want)
	return known && err == nil, known
}

// Check compares a file with its size and its digest: nil if they are right, an
// error that wraps ErrWrong if not. All of want must be from one document. Only if no
// digest is known that want has as well, the file is read, with calls of progress, which
// may be nil; then one digest is computed, the fastest of those that want has.
func (c *Cache) Check(ctx context.Context, file string, want cksum.Sums, progress func(done, total int64)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	info, err := c.dir.Lstat(file)
	if err != nil {
		return err
	}
	if known, err := c.compare(file, info, want); known {
		c.judge(file, info, err)
		return err
	}
	e, err := c.digest(ctx, file, want, progress)
	if err != nil {
		return err
	}
	known, err := e.compare(file, want)
	if !known && err == nil {
		return fmt.Errorf("%s: no digest to check it against", file)
	}
	c.judge(file, info, err)
	return err
}

// Recheck reads a file and compares it with the digest that was last known of it, with
// calls of progress, which may be nil. It needs no document: a file that was right and is
// the same still is right. The error wraps ErrWrong if it is another, or was found wrong,
// and ErrUnknown if nothing is known of it.
func (c *Cache) Recheck(ctx context.Context, file string, progress func(done, total int64)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	info, err := c.dir.Lstat(file)
	if err != nil {
		return err
	}
	was, ok := c.contents.Files[file]
	isSame := was.stamp == stampOf(info)
	want := was.sums()
	want.Size = was.Size
	switch {
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s: %w: it is not a regular file", file, ErrWrong)
	case !ok || was.Wrong && !isSame:
		return fmt.Errorf("%s: %w", file, ErrUnknown)
	case was.Wrong:
		return fmt.Errorf("%s: %w: its digest differed from the mirror's", file, ErrWrong)
	case info.Size() != want.Size:
		return fmt.Errorf("%s: %w: it has %d bytes instead of %d", file, ErrWrong, info.Size(), want.Size)
	}
	e, err := c.digest(ctx, file, want, progress)
	if err != nil {
		return err
	}
	_, err = e.compare(file, want)
	c.judge(file, info, err)
	return err
}

// judge remembers of a file of this info whether it is wrong.
func (c *Cache) judge(file string, info fs.FileInfo, err error) {
	if e, known := c.contents.entry(file, info); known && e.Wrong != (err != nil) {
		e.Wrong = err != nil
		c.contents.Files[file] = e
		c.save()
	}
}

// compare is Check without reading. The error counts only if the result is known.
func (c *Cache) compare(file string, info fs.FileInfo, want cksum.Sums) (known bool, err error) {
	if !info.Mode().IsRegular() {
		return true, fmt.Errorf("%s: %w: it is not a regular file", file, ErrWrong)
	}
	if info.Size() != want.Size {
		return true, fmt.Errorf("%s: %w: it has %d bytes, want %d", file, ErrWrong, info.Size(), want.Size)
	}
	e, known := c.contents.entry(file, info)
	if !known {
		return false, nil
	}
	return e.compare(file, want)
}

// compare compares an entry with the digests that it should have. All that are known of
// both were computed of the content and are of one document, so all must be right.
func (e entry) compare(file string, want cksum.Sums) (known bool, err error) {
	known, err = e.sums().Compare(want)
	if err != nil {
		err = fmt.Errorf("%s: %w: %w", file, ErrWrong, err)
	}
	return known, err
}

// digest takes the digest of a file, and remembers it with the stamp from before:
// if the file was changed since, nothing is known of it.
func (c *Cache) digest(ctx context.Context, file string, want cksum.Sums, progress func(done, total int64)) (entry, error) {
	f, err := c.dir.Open(file)
	if err != nil {
		return entry{}, err
	}
	defer f.Close()
	before, err := f.Stat()
	if err != nil {
		return entry{}, err
	}
	h := cksum.NewFor(want.Fastest())
	if err := read(ctx, h, f, file, want.Size, progress); err != nil {
		return entry{}, err
	}
	e := newEntry(before, h.Sums())
	c.contents.add(file, e)
	c.save()
	return e, nil
}

// read digests size bytes, which must be all.
func read(ctx context.Context, h *cksum.Hash, f io.Reader, file string, size int64, progress func(done, total int64)) error {
	in := &counted{ctx: ctx, r: f, size: size, progress: progress}
	switch _, err := io.Copy(h, in); {
	case ctx.Err() != nil: // it may have ended with the last byte
		return ctx.Err()
	case err != nil:
		return err
	case in.done != size:
		return fmt.Errorf("%s: %w: its size changed while it was read", file, ErrWrong)
	}
	return nil
}

// counted reads little beyond size, and nothing after the end of its context.
type counted struct {
	ctx        context.Context
	r          io.Reader
	done, size int64 // bytes
	progress   func(done, total int64)
}

func (c *counted) Read(p []byte) (int, error) {
	if c.ctx.Err() != nil || c.done > c.size {
		return 0, io.EOF
	}
	n, err := c.r.Read(p)
	if c.done += int64(n); c.progress != nil && n > 0 && c.done <= c.size {
		c.progress(c.done, c.size)
	}
	return n, err
}
