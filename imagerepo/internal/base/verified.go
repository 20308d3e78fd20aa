package base

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"

	"puavo-image-repository/cksum"
	"puavo-image-repository/delta"
)

// Verified is what a delta was when it was verified.
type Verified struct {
	Size  int64       // bytes
	print uint64      // of this process alone
	sums  *cksum.Hash // nil unless Base.SumsAsWritten
}

// seed is that of the prints.
var seed = maphash.MakeSeed()

// Sums returns the digests of the delta: of its file, as read computes them, unless they
// are known from the writing. It is an ErrWrong where the file holds another delta than the
// one that was verified.
func (v Verified) Sums(ctx context.Context, f io.ReaderAt, read func(context.Context, io.Reader) (cksum.Sums, error)) (cksum.Sums, error) {
	if v.sums != nil {
		return v.sums.Sums(), ctx.Err()
	}
	again := newOutput(nil, nil)
	sums, err := read(ctx, io.TeeReader(io.NewSectionReader(f, 0, v.Size), again))
	if err == nil && again.verified() != v {
		err = fmt.Errorf("%w: its file differs from what was verified; check the disk of the mirror", ErrWrong)
	}
	return sums, err
}

// output passes on what is written to it until that becomes too large, and knows then
// what it was.
type output struct {
	w        io.Writer // may be nil
	tooLarge func(size int64) bool
	size     int64
	hash     maphash.Hash
	sums     *cksum.Hash // nil if the digests are read later
}

func newOutput(w io.Writer, tooLarge func(size int64) bool) *output {
	o := &output{w: w, tooLarge: tooLarge}
	o.hash.SetSeed(seed)
	return o
}

// output returns a new output, which digests what is written to it if the base says so, and
// writes it to also then.
func (b *Base) output(w io.Writer, tooLarge func(size int64) bool, also []io.Writer) *output {
	o := newOutput(w, tooLarge)
	if b.SumsAsWritten {
		o.sums = cksum.New()
		for _, w := range also {
			o.sums.Also(w)
		}
	}
	return o
}

func (o *output) Write(p []byte) (int, error) {
	o.size += int64(len(p))
	if o.tooLarge != nil && o.tooLarge(o.size) {
		return 0, ErrTooLarge
	}
	o.hash.Write(p)
	if o.sums != nil {
		o.sums.Write(p)
	}
	if o.w == nil {
		return len(p), nil
	}
	return o.w.Write(p)
}

func (o *output) verified() Verified { return Verified{o.size, o.hash.Sum64(), o.sums} }

// recall verifies a complete delta from a base that is known by its signature alone.
func (b *Base) recall(ctx context.Context, t Target, target []byte, d *io.SectionReader, work func(n int)) error {
	err := b.apply(ctx, t, target, d, work)
	if ctx.Err() != nil {
		return ctx.Err()
	} else if err != nil {
		return fmt.Errorf("%w: %w", ErrWrong, err)
	}
	return nil
}

func (b *Base) apply(ctx context.Context, t Target, target []byte, d *io.SectionReader, work func(n int)) error {
	content, err := b.blocks.Recall(ctx, target, b.size, d)
	if err != nil {
		return err
	}
	digest := cksum.NewBLAKE3()
	if _, err := d.Seek(0, io.SeekStart); err != nil {
		return err
	}
	err = delta.Verify(ctx, &counting{digest, work}, content, d, t.Size)
	if err == nil && cksum.Digest256(digest.Sum(nil)) != t.BLAKE3 {
		err = errors.New("another digest")
	}
	return err
}

// counting calls work with the number of bytes of each write.
type counting struct {
	w    io.Writer
	work func(n int)
}

func (c *counting) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.work(n)
	return n, err
}
