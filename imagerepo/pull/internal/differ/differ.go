// Package differ makes deltas between images of a copy. Both images are first compared with
// their digests. A delta is written to a file, applied by a second implementation, and digested
// while that reads it.
package differ

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"

	"puavo-image-repository/cksum"
	"puavo-image-repository/delta"
	"puavo-image-repository/delta/mmap"
	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/budget"
	"puavo-image-repository/meta"
)

// ErrImage is wrapped by the error for an image that is not what the meta says.
var ErrImage = errors.New("it is not what the meta says")

// MaxRatio is the largest share of its image that a delta is worth.
const MaxRatio = 0.9

// errTooLarge ends the writing of a delta.
var errTooLarge = errors.New("the delta is too large")

// Images are the images of a copy, opened once.
type Images struct {
	Dir  atomicfile.Dir
	Sums map[meta.Name]cksum.Sums
	open map[meta.Name]*image
}

type image struct {
	content []byte
	unmap   func() error
}

// Close closes the images.
func (all *Images) Close() error {
	var errs []error
	for _, im := range all.open {
		errs = append(errs, im.unmap())
	}
	all.open = nil
	return errors.Join(errs...)
}

// content returns the bytes of an image, once they are verified.
func (all *Images) content(ctx context.Context, n meta.Name) ([]byte, error) {
	if im := all.open[n]; im != nil {
		return im.content, ctx.Err()
	}
	f, err := all.Dir.Open(n.String())
	if err != nil {
		return nil, err
	}
	defer f.Close()
	h := cksum.NewFor(all.Sums[n])
	if _, err := io.Copy(h, &reader{ctx, f}); err != nil {
		return nil, err
	}
	if same, wrong := h.Sums().Compare(all.Sums[n]); wrong != nil || !same {
		return nil, fmt.Errorf("%s: %w", n, ErrImage)
	}
	content, unmap, err := mmap.Map(f)
	if err != nil {
		return nil, err
	}
	if all.open == nil {
		all.open = make(map[meta.Name]*image)
	}
	all.open[n] = &image{content, unmap}
	return content, nil
}

// reader ends with its context.
type reader struct {
	ctx context.Context
	r   io.Reader
}

func (r *reader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}

// Base is an image that deltas are made from.
type Base struct {
	images *Images
	name   meta.Name
	data   []byte
	index  *delta.Index
}

// Base indexes an image. Whoever calls it calls Close.
func (all *Images) Base(ctx context.Context, n meta.Name) (b *Base, err error) {
	data, err := all.content(ctx, n)
	if err != nil {
		return nil, err
	}
	memory, err := budget.New(0, 1)
	if err != nil {
		return nil, err
	}
	b = &Base{images: all, name: n, data: data}
	err = mmap.Guard(func() error {
		b.index, err = delta.NewIndex(ctx, data, delta.Options{Memory: memory.Index(int64(len(data)))})
		return err
	})
	return b, err
}

// Close frees the index.
func (b *Base) Close() { b.index.Close() }

// Make makes the delta to an image in a file, and flushes that to the disk. It reports whether
// the delta is worth having; if not, no file is left.
func (b *Base) Make(ctx context.Context, target meta.Name, file string) (sums cksum.Sums, worth bool, err error) {
	data, err := b.images.content(ctx, target)
	if err != nil {
		return sums, false, err
	}
	f, err := b.images.Dir.Begin(file, path.Base(file))
	if err != nil {
		return sums, false, err
	}
	defer f.Discard()
	most := int64(MaxRatio * float64(len(data)))
	err = mmap.Guard(func() error {
		_, err := b.index.Diff(ctx, &bounded{f, most}, data, nil)
		return err
	})
	if errors.Is(err, errTooLarge) {
		return sums, false, ctx.Err()
	}
	if err == nil {
		err = f.Sync()
	}
	if err != nil {
		return sums, false, fmt.Errorf("making the delta from %s to %s: %w", b.name, target, err)
	}
	h := cksum.New()
	err = mmap.Guard(func() error {
		return delta.Check(ctx, b.data, data, io.TeeReader(io.NewSectionReader(f, 0, most), h), nil)
	})
	if err != nil {
		return sums, false, fmt.Errorf("the delta from %s to %s does not make it: %w", b.name, target, err)
	}
	return h.Sums(), true, f.Keep()
}

// bounded writes at most left bytes.
type bounded struct {
	w    io.Writer
	left int64
}

func (b *bounded) Write(p []byte) (int, error) {
	if b.left -= int64(len(p)); b.left < 0 {
		return 0, errTooLarge
	}
	return b.w.Write(p)
}
