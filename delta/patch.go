package delta

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"

	"puavo-image-repository/delta/internal/behind"
)

// patchBuffer is the size of the pieces in which Patch writes, in bytes. It checks
// the context once a piece.
const patchBuffer = 1 << 20

// Source is a base: bytes that can be read at any offset, and their number. A
// bytes.Reader is a Source; for a file, use an io.SectionReader. A base that ends
// before Size is an error. One goroutine at a time reads it.
type Source interface {
	io.ReaderAt
	Size() int64 // bytes
}

// Patch writes to dst the target that delta makes from base. The target must have
// exactly size bytes, and the delta must end with its end command; no command reads
// outside the base, and nothing beyond size is written. With a size of -1 the
// target may have any size: as much as the delta says, and a delta of a few bytes
// can say 2^62. Patch reads and writes concurrently, and takes about 4 MiB of
// memory.
//
// Errors in the delta wrap ErrFormat; those of dst, base, delta and ctx are passed
// on. After an error dst holds the beginning of a target and must not be used, unless
// the error wraps ErrTrailing: then dst holds the whole target.
// Compare the digest of the result: a wrong base of the right size gives no error.
func Patch(ctx context.Context, dst io.Writer, base Source, delta io.Reader, size int64) error {
	return Resume(ctx, dst, base, delta, size, Position{}, nil)
}

// Position is how far a Patch has got, so that a later call can resume there.
type Position struct {
	Delta   int64 `json:"delta"`   // bytes of the delta that were read
	Target  int64 `json:"target"`  // bytes of the target that were written
	Literal int64 `json:"literal"` // bytes that follow in the delta and belong to a literal already begun
}

// check returns an error for a position that a patch to a target of size bytes
// cannot have.
func (p Position) check(size int64) error {
	begun := p.Delta >= magicLen || p == Position{}
	if !begun || p.Target < 0 || p.Literal < 0 || size >= 0 && p.Target > size {
		return malformed("no position of a patch: %+v", p)
	}
	return nil
}

// markEvery is the number of bytes, of the delta or of the target, after which a
// position is reported.
const markEvery = 1 << 20

// Resume does what Patch does, from a position that an earlier call has reported:
// delta must begin there, and dst receives what follows. mark, which may be nil, is
// called after each 1 MiB of the target or of the delta, but not within a copy,
// with the position at which a later call can resume once everything read so far is
// written. The writing goroutine calls the function that mark returns when that is
// the case, unless a later position is written by then too; an error of that
// function ends the work. The last such call is over when Resume returns. After an
// error, Resume has written all that it had made, and reported the last position.
func Resume(ctx context.Context, dst io.Writer, base Source, delta io.Reader, size int64, from Position, mark func(Position) (written func() error)) error {
	if err := from.check(size); err != nil {
		return err
	}
	in := &counted{r: delta, n: from.Delta}
	cs, err := newCommands(in, from.Delta == 0)
	if err != nil {
		return err
	}
	p := patcher{
		ctx: ctx, in: in, delta: cs.r, base: base, baseSize: base.Size(), out: behind.New(dst, patchBuffer),
		written: from.Target, mark: mark, marked: from,
	}
	err = p.run(cs, size, from.Literal)
	// What was made before an error is written too.
	if writing := p.out.Close(); err == nil || errors.Is(err, ErrTrailing) {
		err = cmp.Or(writing, err)
	}
	return err
}

// counted counts what is read through it.
type counted struct {
	r io.Reader
	n int64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// patcher is the state of one Patch.
type patcher struct {
	ctx      context.Context
	in       *counted
	delta    *bufio.Reader // of in
	base     io.ReaderAt
	baseSize int64
	out      *behind.Writer

	written int64 // bytes of the target, of which out may hold some
	mark    func(Position) func() error
	marked  Position // the last

	// A window of the base, for the many short copies that lie near each other.
	window []byte
	start  int64 // of the window in the base
	last   int64 // where the last short copy was
	short  int   // short copies since the window was read
}

func (p *patcher) run(cs *commands, size, literal int64) error {
	left := size - p.written
	if size < 0 {
		left = math.MaxInt64 - p.written
	}
	if literal > 0 {
		if err := p.do(command{literal: true, length: literal}, &left); err != nil {
			return err
		}
	}
	for {
		if err := p.ctx.Err(); err != nil {
			return err
		}
		c, err := cs.next()
		switch {
		case err == io.EOF || errors.Is(err, ErrTrailing):
			if size >= 0 && left != 0 {
				return malformed("the delta makes %d bytes too few", left)
			}
			if err == io.EOF {
				return nil
			}
			return err
		case err != nil:
			return err
		}
		if err := p.do(c, &left); err != nil {
			return err
		}
	}
}

// do executes a command, which may make at most left bytes of the target.
func (p *patcher) do(c command, left *int64) error {
	if err := c.check(p.baseSize, *left); err != nil {
		return err
	}
	*left -= c.length
	if err := p.write(c); err != nil {
		return err
	}
	p.tell(0)
	return nil
}

// tell reports the position if it is far enough from the last one. literal is the
// number of bytes of a literal that are left.
func (p *patcher) tell(literal int64) {
	if p.mark == nil {
		return
	}
	now := Position{Delta: p.in.n - int64(p.delta.Buffered()), Target: p.written, Literal: literal}
	if now.Target-p.marked.Target < markEvery && now.Delta-p.marked.Delta < markEvery {
		return
	}
	p.marked = now
	p.out.After(p.mark(now))
}

// check refuses a command that reads outside the base or writes more than left
// bytes.
func (c command) check(baseSize, left int64) error {
	if c.length > left {
		return malformed("the delta makes more bytes than the target may have")
	}
	if !c.literal && (c.offset > baseSize || c.length > baseSize-c.offset) {
		return cut(io.ErrUnexpectedEOF, "a copy of %d bytes from offset %d, the base has %d", c.length, c.offset, baseSize)
	}
	return nil
}

// write writes the bytes of a command.
func (p *patcher) write(c command) error {
	for c.length > 0 {
		part, err := p.out.Next(c.length)
		if err != nil {
			return err
		}
		if err := p.fill(part, c); err != nil {
			return err
		}
		p.out.Filled(len(part))
		c.offset += int64(len(part))
		c.length -= int64(len(part))
		p.written += int64(len(part))
		if c.length == 0 {
			break
		}
		if err := p.ctx.Err(); err != nil {
			return err
		}
		if c.literal {
			p.tell(c.length)
		}
	}
	return nil
}

// fill reads the first bytes of a command.
func (p *patcher) fill(part []byte, c command) error {
	if c.literal {
		_, err := io.ReadFull(p.delta, part)
		return cut(err, "the delta ends within a literal")
	}
	const short, near = 16 << 10, 64 << 10
	if len(part) > short {
		return readAt(p.base, part, c.offset)
	}
	p.short++
	if at := c.offset - p.start; at >= 0 && at+int64(len(part)) <= int64(len(p.window)) {
		copy(part, p.window[at:])
		p.last = c.offset
		return nil
	}
	jump := c.offset - p.last
	p.last = c.offset
	if jump < -near || jump > near || p.short < moveEvery {
		return readAt(p.base, part, c.offset)
	}
	p.short = 0
	return p.move(part, c.offset)
}

// moveEvery is the number of short copies for each time that the window is read.
// Reading it costs about as much as ten copies do, so a delta whose copies all lie
// outside the window costs at most twice as much as without one.
const moveEvery = 32

// move reads the window again, around offset, and part from it.
func (p *patcher) move(part []byte, offset int64) error {
	const before, size = 32 << 10, 256 << 10
	if p.window == nil {
		p.window = make([]byte, 0, size)
	}
	start := max(0, offset-before)
	window := p.window[:min(size, p.baseSize-start)]
	p.window = p.window[:0]
	if err := readAt(p.base, window, start); err != nil {
		return err
	}
	p.window, p.start = window, start
	copy(part, window[offset-start:])
	return nil
}

// readAt fills b from base, whose size was said to be enough.
func readAt(base io.ReaderAt, b []byte, offset int64) error {
	n, err := base.ReadAt(b, offset)
	switch {
	case n == len(b):
		return nil
	case err == io.EOF:
		return baseChanged(offset + int64(n))
	default:
		return err
	}
}

// baseChanged is the error for a base that ends before its size.
func baseChanged(end int64) error {
	return fmt.Errorf("the base ends early, at byte %d: it changed in the meantime", end)
}
