// Package maker makes the deltas of an archive. A delta is written to its file, flushed, and
// applied to its base by a decoder that shares nothing with what made it; the digest of what
// comes out must be that of the version.
package maker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"puavo-image-repository/cksum"
	"puavo-image-repository/delta"
	"puavo-image-repository/delta/compact"
	"puavo-image-repository/delta/compact/squashfs"
	"puavo-image-repository/delta/mmap"
	"puavo-image-repository/imagerepo/archive/internal/catalog"
	"puavo-image-repository/imagerepo/atomicfile"
)

// ErrUnlike is wrapped by the error for a delta that does not make the version.
var ErrUnlike = errors.New("what it makes has another digest than the version")

// errTooLarge ends the writing of a delta.
var errTooLarge = errors.New("the delta is too large")

// Job is a delta to make.
type Job struct {
	Dir    atomicfile.Dir
	File   string // that is written in Dir; what has the name is replaced
	Form   catalog.Form
	Parent string // the version of the base
	Base   []byte // mapped from a file
	Target []byte // likewise
	BLAKE3 cksum.Digest256
	Most   int64 // bytes that it is worth
	Memory int64 // bytes of the index
	// Progress, which may be nil, is called with the bytes of the target that were searched,
	// and with those that were made again, since its last call.
	Progress func(int64)
}

// Work is how many bytes Progress counts for a target.
func Work(target int64) int64 { return 2 * target }

// Make makes a delta, and reports whether it is worth having. If not, there is no file.
func Make(ctx context.Context, j Job) (s catalog.Stored, worth bool, err error) {
	if j.Progress == nil {
		j.Progress = func(int64) {}
	}
	f, err := j.Dir.Begin(j.File, j.File)
	if err != nil {
		return s, false, err
	}
	defer f.Discard()
	s = catalog.Stored{Form: j.Form, Parent: j.Parent}
	write, apply := j.rdiff, j.applyRdiff
	if j.Form == catalog.Compact {
		write, apply = j.compact, j.applyCompact
	}
	h := cksum.NewFor(cksum.Sums{BLAKE3: j.BLAKE3})
	err = mmap.Guard(func() error { return write(ctx, &bounded{io.MultiWriter(f, h), j.Most}, &s) })
	if errors.Is(err, errTooLarge) {
		return catalog.Stored{}, false, ctx.Err()
	}
	if err == nil {
		err = f.Sync()
	}
	if err != nil {
		return s, false, fmt.Errorf("making the delta %s: %w", j.File, err)
	}
	sums := h.Sums()
	s.Size, s.BLAKE3 = sums.Size, sums.BLAKE3
	err = mmap.Guard(func() error {
		return j.verify(func(w io.Writer) error { return apply(ctx, w, io.NewSectionReader(f, 0, s.Size)) })
	})
	if err != nil {
		return s, false, fmt.Errorf("verifying the delta %s: %w", j.File, err)
	}
	return s, true, f.Keep()
}

// verify compares the digest of what apply writes with that of the version.
func (j Job) verify(apply func(io.Writer) error) error {
	h := cksum.NewFor(cksum.Sums{BLAKE3: j.BLAKE3})
	if err := apply(io.MultiWriter(h, counter(j.Progress))); err != nil {
		return err
	}
	if got := h.Sums().BLAKE3; got != j.BLAKE3 {
		return fmt.Errorf("%w: its BLAKE3 is %s, not %s; the version may be damaged, see archive verify", ErrUnlike, got, j.BLAKE3)
	}
	return nil
}

// counter counts what is written.
type counter func(int64)

func (c counter) Write(p []byte) (int, error) {
	c(int64(len(p)))
	return len(p), nil
}

func (j Job) rdiff(ctx context.Context, w io.Writer, s *catalog.Stored) error {
	index, err := delta.NewIndex(ctx, j.Base, delta.Options{Memory: j.Memory})
	if err != nil {
		return err
	}
	defer index.Close()
	stats, err := index.Diff(ctx, w, j.Target, func(n int) { j.Progress(int64(n) / 2) }) // searched and written
	s.Commands = stats.Copies + stats.Literals
	return err
}

func (j Job) applyRdiff(ctx context.Context, w io.Writer, d io.Reader) error {
	return delta.Verify(ctx, w, bytes.NewReader(j.Base), d, int64(len(j.Target)))
}

func (j Job) compact(ctx context.Context, w io.Writer, _ *catalog.Stored) error {
	_, err := compact.Encode(ctx, w, imageOf(j.Base), imageOf(j.Target), compact.Options{
		Memory: j.Memory, Scratch: func() (*os.File, error) { return j.Dir.Scratch() },
	})
	j.Progress(int64(len(j.Target)))
	return err
}

func imageOf(b []byte) compact.Image { return compact.Image{Bytes: b, Blocks: squashfs.Blocks(b)} }

func (j Job) applyCompact(ctx context.Context, w io.Writer, d io.Reader) error {
	c, err := compact.Open(d)
	if err != nil {
		return err
	}
	return c.Decode(ctx, d, bytes.NewReader(j.Base), w, compact.DecodeOptions{Trusted: true})
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
