package delta

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"math"

	"puavo-image-repository/delta/internal/behind"
)

// patchBuffer is the size of the pieces in which Patch writes, in bytes; a context
// is looked at once a piece.
const patchBuffer = 1 << 20

// Patch writes to dst the target that delta makes from base. base has baseSize
// bytes, the target must have exactly size bytes, and the delta must end with
// its end command; no command reads outside the base, and nothing beyond size is
// written. With a size of -1 the target may have any: as much as the delta says,
// however small it is itself. Patch writes while it goes on reading, and takes
// about 4 MiB of memory.
//
// Errors in the delta wrap ErrFormat; those of dst, base, delta and ctx are
// passed on. After an error dst holds some beginning of a target and must not be
// used. That the result is the right one is for its digest to tell: a wrong base
// of the right size gives no error.
func Patch(ctx context.Context, dst io.Writer, base io.ReaderAt, baseSize int64, delta io.Reader, size int64) error {
	cs, err := newCommands(delta)
	if err != nil {
		return err
	}
	p := patcher{ctx: ctx, delta: cs.r, base: base, baseSize: baseSize, out: behind.New(dst, patchBuffer)}
	err = p.run(cs, size)
	return cmp.Or(err, p.out.Close(err == nil))
}

// patcher is the state of one Patch.
type patcher struct {
	ctx      context.Context
	delta    io.Reader
	base     io.ReaderAt
	baseSize int64
	out      *behind.Writer

	// A window of the base, for the many short copies that lie near each other.
	window []byte
	start  int64 // of the window in the base
	last   int64 // where the last short copy was
}

func (p *patcher) run(cs *commands, size int64) error {
	left := size
	if size < 0 {
		left = math.MaxInt64
	}
	for {
		if err := p.ctx.Err(); err != nil {
			return err
		}
		c, err := cs.next()
		if err == io.EOF {
			break
		} else if err != nil {
			return err
		}
		if err := c.check(p.baseSize, left); err != nil {
			return err
		}
		left -= c.length
		if err := p.write(c); err != nil {
			return err
		}
	}
	if size >= 0 && left != 0 {
		return malformed("the delta makes %d bytes too few", left)
	}
	return nil
}

// check refuses a command that reads outside the base or writes more than left
// bytes.
func (c command) check(baseSize, left int64) error {
	if c.length > left {
		return malformed("the delta makes more bytes than the target has")
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
		c.offset += int64(len(part))
		c.length -= int64(len(part))
		if c.length > 0 && p.ctx.Err() != nil {
			return p.ctx.Err()
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
	if at := c.offset - p.start; at >= 0 && at+int64(len(part)) <= int64(len(p.window)) {
		copy(part, p.window[at:])
		p.last = c.offset
		return nil
	}
	jump := c.offset - p.last
	p.last = c.offset
	if jump < -near || jump > near {
		return readAt(p.base, part, c.offset)
	}
	return p.move(part, c.offset)
}

// move reads the window anew around offset, and part from it.
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
	return fmt.Errorf("the base ends early, at byte %d: it was changed meanwhile", end)
}
