package base

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"puavo-image-repository/cksum"
	"puavo-image-repository/delta"
	"puavo-image-repository/delta/mmap"
	"puavo-image-repository/imagerepo/internal/meter"
)

// Target is an image that a delta is to make.
type Target struct {
	Path   string
	Size   int64           // bytes
	BLAKE3 cksum.Digest256 // what it must have by a base that is known by its signature alone
	// Also are written to what the delta is, if Base.SumsAsWritten is set: see
	// cksum.Hash.Also.
	Also []io.Writer
}

// File is where a delta is written, and read again for its digests.
type File interface {
	io.Writer
	io.ReaderAt
}

// Lane makes or checks one delta of a sweep. One goroutine at a time uses it.
type Lane struct {
	base *Base
	pace *pace
	n    int   // which of the pace it is
	done int64 // bytes of its target
}

// Sweep returns n lanes, for as many deltas. All must be used at the same time, since
// none gets far ahead of the slowest, and each leaves in the end.
func (b *Base) Sweep(n int) []*Lane {
	p := newPace(n, paceWindow)
	lanes := make([]*Lane, n)
	for i := range lanes {
		lanes[i] = &Lane{base: b, pace: p, n: i}
	}
	return lanes
}

// Leave says that no other lane must wait for this one from then on. It may be called
// again. Make and Check leave when they end; what they do after that is not held to
// the pace.
func (l *Lane) Leave() { l.pace.leave(l.n) }

// Make writes the delta to a target to an empty file, and verifies it. It returns what
// the file holds then. It gives up with ErrTooLarge, and the size reached, where
// tooLarge says so of the size in bytes. A delta that does not make its target is an
// ErrWrong; errors of the file, of the images and of ctx are passed on.
func (l *Lane) Make(ctx context.Context, t Target, f File, tooLarge func(size int64) bool) (Verified, error) {
	defer l.Leave()
	target, unmap, err := mmap.Open(t.Path)
	if err != nil {
		return Verified{}, err
	}
	defer unmap()
	encoder, err := l.base.ready(ctx)
	if err != nil {
		return Verified{}, err
	}
	diffed, verified := counter{meter: l.base.progress.At(meter.Diff)}, counter{meter: l.base.progress.At(meter.Verify)}
	out := l.base.output(f, tooLarge, t.Also)
	diff := func(ctx context.Context, w io.Writer) error {
		_, err := encoder.Diff(ctx, w, target, func(n int) {
			diffed.add(n)
			l.advance(ctx, n, t)
		})
		return err
	}
	if l.base.isImage {
		err = l.lockstep(ctx, target, out, diff, verified.add)
	} else if err = diff(ctx, out); err == nil {
		err = l.base.recall(ctx, t, target, io.NewSectionReader(f, 0, out.size), verified.add)
	}
	if errors.Is(err, ErrTooLarge) {
		diffed.saved(t.Size)
		verified.saved(t.Size)
	}
	return out.verified(), err
}

// advance says that n bytes more of a target are done. It counts by the base, of which
// targets of other sizes get about as much done at the same time: so the lanes look at the
// same stretch of it.
func (l *Lane) advance(ctx context.Context, n int, t Target) {
	inBase := func(at int64) int64 { return int64(float64(at) / float64(t.Size) * float64(l.base.size)) }
	before := inBase(l.done)
	l.done += int64(n)
	l.pace.advance(ctx, l.n, inBase(l.done)-before)
}

// counter counts the bytes of one kind of work for a delta.
type counter struct {
	meter *meter.Meter
	done  atomic.Int64 // bytes
}

func (c *counter) add(n int) {
	c.done.Add(int64(n))
	c.meter.Add(int64(n))
}

// saved says that of size bytes that were expected no more will be done.
func (c *counter) saved(size int64) { c.meter.Expect(c.done.Load() - size) }

// errAbandoned is what the reader of a delta gets that its writer does not complete.
var errAbandoned = errors.New("the delta is not completed")

// lockstep has diff write a delta, to out too, while another goroutine verifies it.
func (l *Lane) lockstep(ctx context.Context, target []byte, out io.Writer, diff func(context.Context, io.Writer) error, work func(n int)) error {
	content, err := l.base.mapped()
	if err != nil {
		return err
	}
	inner, stop := context.WithCancel(ctx)
	defer stop()
	r, w := io.Pipe()
	var wrong error
	var checking sync.WaitGroup
	// It ends when diff has, and ends that where the delta is wrong.
	checking.Go(func() {
		if wrong = delta.Check(inner, content, target, r, work); wrong != nil {
			stop()
		}
		r.CloseWithError(errAbandoned)
	})
	err = diff(inner, io.MultiWriter(out, w))
	if err != nil {
		w.CloseWithError(errAbandoned)
	} else {
		w.Close()
	}
	checking.Wait()
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case wrong == nil || errors.Is(wrong, errAbandoned):
		return err
	default: // whatever diff met came of it
		return fmt.Errorf("%w: %w", ErrWrong, wrong)
	}
}

// Check verifies a delta of size bytes, and returns what it is. One that does not make
// its target, or cannot be read, is an ErrWrong.
func (l *Lane) Check(ctx context.Context, t Target, r io.ReaderAt, size int64) (Verified, error) {
	defer l.Leave()
	target, unmap, err := mmap.Open(t.Path)
	if err != nil {
		return Verified{}, err
	}
	defer unmap()
	in := io.NewSectionReader(r, 0, size)
	seen := l.base.output(nil, nil, t.Also)
	work := func(n int) {
		l.base.progress.At(meter.Verify).Add(int64(n))
		l.advance(ctx, n, t)
	}
	if !l.base.isImage {
		if _, err := l.base.ready(ctx); err != nil {
			return Verified{}, err
		}
		if err := l.base.recall(ctx, t, target, in, work); err != nil {
			return Verified{}, err
		}
		_, err = io.Copy(seen, io.NewSectionReader(r, 0, size))
		return seen.verified(), err
	}
	content, err := l.base.mapped()
	if err != nil {
		return Verified{}, err
	}
	if err := delta.Check(ctx, content, target, io.TeeReader(in, seen), work); ctx.Err() != nil {
		return Verified{}, ctx.Err()
	} else if err != nil {
		return Verified{}, fmt.Errorf("%w: %w", ErrWrong, err)
	}
	return seen.verified(), nil
}
