package delta

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
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
	g := &guard{ctx: ctx}
	in := bufio.NewReaderSize(delta, 256<<10)
	target := &guardedTarget{guard: g, out: behind.New(dst, patchBuffer), left: size}
	err := mmap.Guard(func() error {
		err := librsync.Patch(&guardedBase{guard: g, r: base, size: base.Size()}, guardedDelta{g, in}, target)
		return target.verdict(err, in)
	})
	return cmp.Or(err, target.out.Close())
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

type guardedTarget struct {
	*guard
	out  *behind.Writer
	left int64
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
	for l.N > 0 {
		n, err := t.readPart(l)
		written += int64(n)
		t.left -= int64(n)
		if err != nil {
			return written, t.fail(err)
		}
	}
	return written, nil
}

// readPart reads as much of a command as fits into the buffer.
func (t *guardedTarget) readPart(l *io.LimitedReader) (int, error) {
	if err := t.check(); err != nil {
		return 0, err
	}
	part, err := t.out.Next(l.N)
	if err != nil {
		return 0, err
	}
	n, err := io.ReadFull(l, part)
	t.out.Filled(n)
	return n, cut(err, "the delta ends within a literal")
}

// Write exists for io.Writer alone.
func (t *guardedTarget) Write(p []byte) (int, error) {
	n, err := t.ReadFrom(io.LimitReader(bytes.NewReader(p), int64(len(p))))
	return int(n), err
}

// verdict returns what was wrong, by the error that librsync-go gave and by what
// it does not look at: the size of the target, and that the delta in ends there.
func (t *guardedTarget) verdict(err error, in *bufio.Reader) error {
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
	if err := (&commands{r: in}).end(); err != io.EOF {
		return err
	}
	return nil
}
