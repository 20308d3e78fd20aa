package delta

import (
	"context"
	"io"
)

// Stats says what a delta consists of.
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

// Inspect reads a whole delta and returns what it consists of, which gives the size
// of its target and the size of the smallest base that it fits. Errors in the delta
// wrap ErrFormat.
func Inspect(ctx context.Context, delta io.Reader) (Stats, error) {
	var s Stats
	cs, err := newCommands(delta, true)
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
			return s, malformed("command %d makes it a target, or needs a base, of 2^63 bytes or more", cs.n)
		}
		s.add(c)
		if err := cs.skip(ctx, c); err != nil {
			return s, err
		}
	}
}
