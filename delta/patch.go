package delta

import (
	"bufio"
	"context"
	"fmt"
	"io"
)

// patchBuffer is the size of the pieces in which Patch reads and writes, in
// bytes; a context is looked at once a piece.
const patchBuffer = 1 << 20

// Patch writes to dst the target that delta makes from base. base has baseSize
// bytes, the target must have exactly size bytes, and the delta must end with
// its end command; no command reads outside the base, and nothing beyond size is
// written. Errors in the delta wrap ErrFormat; those of dst, base, delta and ctx
// are passed on. After an error dst holds some beginning of a target and must
// not be used. That the result is the right one is for its digest to tell: a
// wrong base of the right size gives no error.
func Patch(ctx context.Context, dst io.Writer, base io.ReaderAt, baseSize int64, delta io.Reader, size int64) error {
	cs, err := newCommands(delta)
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(dst, patchBuffer)
	buf := make([]byte, patchBuffer)
	left := size
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		c, err := cs.next()
		if err == io.EOF {
			break
		} else if err != nil {
			return err
		}
		if err := c.check(baseSize, left); err != nil {
			return err
		}
		left -= c.length
		if err := c.run(ctx, w, cs.r, base, buf); err != nil {
			return err
		}
	}
	if left != 0 {
		return malformed("the delta makes %d bytes, want %d", size-left, size)
	}
	return w.Flush()
}

// check refuses a command that reads outside the base or writes more than left
// bytes.
func (c command) check(baseSize, left int64) error {
	if c.length > left {
		return malformed("the delta makes more bytes than the target has")
	}
	if !c.literal && (c.offset > baseSize || c.length > baseSize-c.offset) {
		return malformed("a copy of %d bytes from offset %d, the base has %d", c.length, c.offset, baseSize)
	}
	return nil
}

// run writes the command's bytes, from base or, a literal's, from delta.
func (c command) run(ctx context.Context, w io.Writer, delta io.Reader, base io.ReaderAt, buf []byte) error {
	for done := int64(0); done < c.length; {
		if err := ctx.Err(); err != nil {
			return err
		}
		part := buf[:min(int64(len(buf)), c.length-done)]
		if err := c.fill(part, done, delta, base); err != nil {
			return err
		}
		if _, err := w.Write(part); err != nil {
			return err
		}
		done += int64(len(part))
	}
	return nil
}

// fill reads the part of the command's bytes that begins after done of them.
func (c command) fill(part []byte, done int64, delta io.Reader, base io.ReaderAt) error {
	if c.literal {
		_, err := io.ReadFull(delta, part)
		return cut(err, "the delta ends within a literal")
	}
	n, err := base.ReadAt(part, c.offset+done)
	if n == len(part) {
		return nil
	}
	if err == io.EOF {
		return baseChanged(c.offset + done + int64(n))
	}
	return err
}

// baseChanged is the error for a base that ends before its size.
func baseChanged(end int64) error {
	return fmt.Errorf("the base ends early, at byte %d: it was changed meanwhile", end)
}

// Stats tells what a delta consists of.
type Stats struct {
	Copies, Literals        int64 // commands
	CopyBytes, LiteralBytes int64 // bytes of the target they make
	BaseEnd                 int64 // where the furthest copy ends in the base
}

// Target returns the size of the target in bytes.
func (s Stats) Target() int64 { return s.CopyBytes + s.LiteralBytes }

func (s *Stats) add(c command) {
	if c.literal {
		s.Literals++
		s.LiteralBytes += c.length
		return
	}
	s.Copies++
	s.CopyBytes += c.length
	s.BaseEnd = max(s.BaseEnd, c.offset+c.length)
}

// Inspect reads a whole delta and tells what it consists of: the size of its
// target, and how large a base it needs. Errors in the delta wrap ErrFormat.
func Inspect(ctx context.Context, delta io.Reader) (Stats, error) {
	var s Stats
	cs, err := newCommands(delta)
	if err != nil {
		return s, err
	}
	for {
		if err := ctx.Err(); err != nil {
			return s, err
		}
		c, err := cs.next()
		if err == io.EOF {
			return s, nil
		} else if err != nil {
			return s, err
		}
		if c.offset+c.length < 0 || s.Target()+c.length < 0 {
			return s, malformed("command %d goes beyond 2^63 bytes", cs.n)
		}
		s.add(c)
		if err := cs.skip(ctx, c); err != nil {
			return s, err
		}
	}
}

// skip passes over the bytes of a literal.
func (c *commands) skip(ctx context.Context, cmd command) error {
	if !cmd.literal {
		return nil
	}
	for left := cmd.length; left > 0; {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := c.r.Discard(int(min(left, patchBuffer)))
		if err != nil {
			return cut(err, "the delta ends within a literal")
		}
		left -= int64(n)
	}
	return nil
}
