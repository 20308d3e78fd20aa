package delta

import (
	"bufio"
	"context"
	"errors"
	"io"

	librsync "github.com/balena-os/librsync-go"
)

// Verify does what Patch does, and returns the same kinds of errors, by a second
// and independent implementation of the format, librsync-go. A delta that both
// apply alike is one that an installed rdiff applies too.
//
// librsync-go looks at almost no error: it goes on after a failed write, takes a
// base cut short for a shorter copy, and seeks to negative offsets. So all it
// reads and writes passes a guard that keeps the first error and lets nothing
// happen after it.
func Verify(ctx context.Context, dst io.Writer, base io.ReaderAt, baseSize int64, delta io.Reader, size int64) error {
	g := &guard{ctx: ctx}
	in := bufio.NewReaderSize(delta, 256<<10)
	out := bufio.NewWriterSize(dst, patchBuffer)
	target := &guardedTarget{guard: g, w: out, left: size, buf: make([]byte, 64<<10)}
	err := librsync.Patch(&guardedBase{guard: g, r: base, size: baseSize}, guardedDelta{g, in}, target)
	switch {
	case g.err != nil:
		return g.err
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return malformed("the delta ends early")
	case err != nil:
		return malformed("%v", err)
	case target.left != 0:
		return malformed("the delta makes %d bytes, want %d", size-target.left, size)
	}
	if err := (&commands{r: in}).end(); err != io.EOF {
		return err
	}
	return out.Flush()
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

// check returns the first error, or that the context has ended.
func (g *guard) check() error {
	if err := g.ctx.Err(); err != nil {
		return g.fail(err)
	}
	return g.err
}

type guardedDelta struct {
	*guard
	r io.Reader
}

func (d guardedDelta) Read(p []byte) (int, error) {
	if err := d.check(); err != nil {
		return 0, err
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
	if offset < 0 || offset > b.size {
		return 0, b.fail(malformed("a copy from offset %d, the base has %d bytes", offset, b.size))
	}
	b.pos = offset
	return offset, b.check()
}

func (b *guardedBase) Read(p []byte) (int, error) {
	if err := b.check(); err != nil {
		return 0, err
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
	w    io.Writer
	left int64
	buf  []byte
}

// ReadFrom is what io.CopyN, of which librsync-go consists, calls for each
// command. src is then limited to the command's length.
func (t *guardedTarget) ReadFrom(src io.Reader) (written int64, err error) {
	if l, ok := src.(*io.LimitedReader); ok && l.N <= 0 {
		return 0, t.fail(malformed("a command has length %d", l.N))
	}
	for {
		n, err := src.Read(t.buf)
		if n > 0 {
			m, err := t.Write(t.buf[:n])
			written += int64(m)
			if err != nil {
				return written, err
			}
		}
		if err == io.EOF {
			return written, nil
		} else if err != nil {
			return written, err
		}
	}
}

func (t *guardedTarget) Write(p []byte) (int, error) {
	if err := t.check(); err != nil {
		return 0, err
	}
	if int64(len(p)) > t.left {
		return 0, t.fail(malformed("the delta makes more bytes than the target has"))
	}
	n, err := t.w.Write(p)
	t.left -= int64(n)
	if err != nil {
		t.fail(err)
	}
	return n, err
}
