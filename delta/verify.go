package delta

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"

	librsync "github.com/balena-os/librsync-go"

	"puavo-image-repository/delta/internal/behind"
	"puavo-image-repository/delta/mmap"
)

// Verify does what Patch does, and returns the same kinds of errors, by a second
// and independent implementation of the format, librsync-go. A delta that both
// apply alike is one that an installed rdiff applies too. It is fastest where base
// reads from a bytes.Reader of a mapped file; if that becomes shorter, the error is
// ErrChanged.
//
// librsync-go ignores almost every error: it continues after a failed write, makes
// a shorter copy of a base that is cut short, and seeks to negative offsets. So all
// its reads and writes pass a guard, which keeps the first error and does nothing
// after it.
func Verify(ctx context.Context, dst io.Writer, base Source, delta io.Reader, size int64) error {
	out := behind.New(dst, patchBuffer)
	g := &guard{ctx: ctx}
	err := g.decode(&guardedBase{guard: g, r: base, size: base.Size()}, delta, size, &filling{out})
	return cmp.Or(err, out.Close())
}

// Check returns an error unless delta makes target from base, by librsync-go as in
// Verify. It compares each command's bytes with the target where they stand, and
// copies nothing, so it is the fastest way to verify where base and target are
// mapped files. A wrong byte is an error that says at which offset of the target.
// The other errors are those of Verify: of the format, of delta and of ctx, and
// ErrChanged.
//
// It reads delta to its end, and base and target in the order of the commands: so
// Check can run at the same time as what writes the delta. progress, which may be
// nil, is called with the number of bytes of target compared since its last call.
func Check(ctx context.Context, base, target []byte, delta io.Reader, progress func(n int)) error {
	if progress == nil {
		progress = func(int) {}
	}
	g := &guard{ctx: ctx}
	from := &guardedBase{guard: g, r: bytes.NewReader(base), size: int64(len(base))}
	c := &comparing{base: base, target: target, progress: progress}
	err := g.decode(from, delta, int64(len(target)), c)
	if err == nil {
		c.report()
	}
	return err
}

// sink takes what a delta makes.
type sink interface {
	// take takes the next bytes that a command makes, at least one and at most as many
	// as l has left, and returns their number. They come from base, where it stands,
	// or else from literals.
	take(l *io.LimitedReader, base *guardedBase, literals *bufio.Reader) (int, error)
}

// decode has librsync-go apply a delta that makes size bytes.
func (g *guard) decode(base *guardedBase, delta io.Reader, size int64, to sink) error {
	in := bufio.NewReaderSize(delta, 256<<10)
	target := &guardedTarget{guard: g, to: to, literals: in, left: size}
	return mmap.Guard(func() error {
		err := librsync.Patch(base, guardedDelta{g, in}, target)
		return target.verdict(err)
	})
}

// guard keeps the first error of all that librsync-go reads and writes.
type guard struct {
	ctx context.Context
	err error
}

// fail keeps err if it is the first error, and returns the first.
func (g *guard) fail(err error) error {
	if g.err == nil {
		g.err = err
	}
	return g.err
}

// check returns the first error, or that of the context if it has ended. Once a
// command is enough for that; the other methods check err.
func (g *guard) check() error {
	if g.err == nil {
		g.err = g.ctx.Err()
	}
	return g.err
}

type guardedDelta struct {
	*guard
	r io.Reader
}

func (d guardedDelta) Read(p []byte) (int, error) {
	if d.err != nil {
		return 0, d.err
	}
	n, err := d.r.Read(p)
	if err != nil && err != io.EOF {
		d.fail(err)
	}
	return n, err
}

type guardedBase struct {
	*guard
	r         io.ReaderAt
	pos, size int64
}

func (b *guardedBase) Seek(offset int64, _ int) (int64, error) {
	switch {
	case offset < 0:
		return 0, b.fail(malformed("a copy from an offset of 2^63 or more"))
	case offset > b.size:
		return 0, b.fail(malformed("a copy from offset %d, the base has %d bytes", offset, b.size))
	}
	b.pos = offset
	return offset, b.err
}

func (b *guardedBase) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	p = p[:min(int64(len(p)), b.size-b.pos)]
	if len(p) == 0 {
		return 0, b.fail(malformed("a copy that goes beyond the base's %d bytes", b.size))
	}
	n, err := b.r.ReadAt(p, b.pos)
	b.pos += int64(n)
	if n < len(p) {
		if err == io.EOF {
			err = baseChanged(b.pos)
		}
		return n, b.fail(err)
	}
	return n, nil
}

// next returns the next n bytes from where the base stands, or fewer where they
// cross its end, and goes on behind them.
func (b *guardedBase) next(content []byte, n int64) ([]byte, error) {
	if b.pos == b.size {
		return nil, malformed("a copy that goes beyond the base's %d bytes", b.size)
	}
	part := content[b.pos:min(b.pos+n, b.size)]
	b.pos += int64(len(part))
	return part, nil
}

type guardedTarget struct {
	*guard
	to       sink
	literals *bufio.Reader // the delta
	left     int64
}

// ReadFrom is what io.CopyN, of which librsync-go consists, calls for each
// command. src is then limited to the command's length.
func (t *guardedTarget) ReadFrom(src io.Reader) (written int64, err error) {
	l, ok := src.(*io.LimitedReader)
	switch {
	case !ok || l.N == 0:
		return 0, t.fail(malformed("a command has length 0"))
	case l.N < 0:
		return 0, t.fail(malformed("a command has a length of 2^63 or more"))
	case l.N > t.left:
		return 0, t.fail(malformed("the delta makes more bytes than the target may have"))
	}
	base, _ := l.R.(*guardedBase) // nil for a literal
	for l.N > 0 {
		if err := t.check(); err != nil {
			return written, err
		}
		n, err := t.to.take(l, base, t.literals)
		written += int64(n)
		t.left -= int64(n)
		if err != nil {
			return written, t.fail(err)
		}
	}
	return written, nil
}

// Write exists for io.Writer alone.
func (t *guardedTarget) Write(p []byte) (int, error) {
	n, err := t.ReadFrom(io.LimitReader(bytes.NewReader(p), int64(len(p))))
	return int(n), err
}

// verdict returns what was wrong, by the error that librsync-go gave and by what
// it does not look at: the size of the target, and that the delta ends there.
func (t *guardedTarget) verdict(err error) error {
	switch {
	case t.check() != nil:
		return t.err
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return malformed("the delta ends early")
	case err != nil:
		return malformed("%v", err)
	case t.left != 0:
		return malformed("the delta makes %d bytes too few", t.left)
	}
	if err := (&commands{r: t.literals}).end(); err != io.EOF {
		return err
	}
	return nil
}

// filling writes what a delta makes.
type filling struct{ out *behind.Writer }

// take reads as much of a command as fits into the buffer.
func (f *filling) take(l *io.LimitedReader, _ *guardedBase, _ *bufio.Reader) (int, error) {
	part, err := f.out.Next(l.N)
	if err != nil {
		return 0, err
	}
	n, err := io.ReadFull(l, part)
	f.out.Filled(n)
	return n, cut(err, "the delta ends within a literal")
}

// comparing compares what a delta makes with a target.
type comparing struct {
	base, target []byte
	at           int // bytes of the target that are compared
	reported     int // bytes of them that progress was called with
	progress     func(n int)
}

const (
	// comparePart is the most bytes that are compared at once, and at most half of the
	// buffer that literals are read into.
	comparePart = 128 << 10
	// compareReport is the number of bytes after which progress is called.
	compareReport = 1 << 20
)

// take compares a part of a command.
func (c *comparing) take(l *io.LimitedReader, base *guardedBase, literals *bufio.Reader) (n int, err error) {
	var part []byte
	if n := min(l.N, comparePart); base != nil {
		part, err = base.next(c.base, n)
	} else {
		part, err = literals.Peek(int(n))
	}
	if err != nil {
		return 0, cut(err, "the delta ends within a literal")
	}
	n = len(part)
	if want := c.target[c.at:][:n]; !bytes.Equal(part, want) {
		return 0, fmt.Errorf("the delta makes another byte at offset %d of the target", c.at+firstOther(part, want))
	}
	if base == nil {
		_, err = literals.Discard(n)
	}
	l.N -= int64(n)
	if c.at += n; c.at-c.reported >= compareReport {
		c.report()
	}
	return n, err
}

// report reports what was not reported yet.
func (c *comparing) report() {
	c.progress(c.at - c.reported)
	c.reported = c.at
}

// firstOther returns where the first byte stands that a and b, of one length, do not
// have in common.
func firstOther(a, b []byte) int {
	for i := range a {
		if a[i] != b[i] {
			return i
		}
	}
	return len(a)
}
