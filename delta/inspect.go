package delta

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

const (
	deltaMagic = 0x72730236
	magicLen   = 4 // bytes
)

// ErrFormat is wrapped by all errors that say a delta or signature is not well
// formed, or does not fit the base or the target's size it is used with.
var ErrFormat = errors.New("not valid")

// ErrMagic is wrapped, with ErrFormat, by the errors for a file that is no delta or
// no signature at all.
var ErrMagic = fmt.Errorf("%w: a different kind of file", ErrFormat)

// ErrTrailing is wrapped, with ErrFormat, by the errors for a delta that is well formed
// up to its end command and has more data after that.
var ErrTrailing = errors.New("data after the end command")

func malformed(format string, a ...any) error {
	return fmt.Errorf("%w: %s", ErrFormat, fmt.Sprintf(format, a...))
}

// cut turns an early end of the input into an ErrFormat that says where, and that
// is an io.ErrUnexpectedEOF too. It passes other errors on.
func cut(err error, format string, a ...any) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return fmt.Errorf("%w: %w: %s", ErrFormat, io.ErrUnexpectedEOF, fmt.Sprintf(format, a...))
	}
	return err
}

// commands reads the commands of a delta. The caller must read the bytes of a
// literal from r before the next command.
type commands struct {
	r *bufio.Reader
	n int64 // commands read, to say where an error is
}

// newCommands reads commands, after the magic number if one must come first.
func newCommands(delta io.Reader, fromStart bool) (*commands, error) {
	c := &commands{r: bufio.NewReaderSize(delta, 256<<10)}
	if !fromStart {
		return c, nil
	}
	var magic [magicLen]byte
	if _, err := io.ReadFull(c.r, magic[:]); err != nil {
		return nil, cut(err, "the delta ends within its magic number")
	}
	if m := binary.BigEndian.Uint32(magic[:]); m != deltaMagic {
		return nil, fmt.Errorf("%w: magic number %08x, a delta has %08x", ErrMagic, m, deltaMagic)
	}
	return c, nil
}

// end returns io.EOF if the delta ends after its end command.
func (c *commands) end() error {
	switch _, err := c.r.ReadByte(); err {
	case io.EOF:
		return io.EOF
	case nil:
		return fmt.Errorf("%w: %w", ErrFormat, ErrTrailing)
	default:
		return err
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
// wrap ErrFormat; if one wraps ErrTrailing, the Stats are those of the delta before it.
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
