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

// leap passes over all but the end of a long literal without reading it, if in reads from
// seeker, which may be nil, and returns what is left of the literal: a byte at least, which
// shows that the delta goes so far.
func (c *commands) leap(cmd command, in *counted, seeker io.Seeker) (command, error) {
	ahead := cmd.length - int64(c.r.Buffered()) - 1
	if seeker == nil || !cmd.literal || ahead < patchBuffer {
		return cmd, nil
	}
	if _, err := seeker.Seek(ahead, io.SeekCurrent); err != nil {
		return cmd, err
	}
	in.n += ahead
	cmd.length = 1
	c.r.Reset(in)
	return cmd, nil
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
	err := walk(ctx, delta, func(c command, _ int64) error {
		s.add(c)
		return nil
	})
	return s, err
}

// Command makes the next Length bytes of a target.
type Command struct {
	Literal bool
	// From is where the bytes are: of a literal in the delta, of a copy in the base.
	From, Length int64
}

// Walk calls emit with the commands of a delta, in their order. Where delta is an
// io.Seeker too, which must stand at its start, it does not read long literals. The
// bytes that a copy needs may lie beyond the base: Walk does not know it. Errors are
// those of Inspect, and the first of emit.
func Walk(ctx context.Context, delta io.Reader, emit func(Command) error) error {
	return walk(ctx, delta, func(c command, at int64) error {
		if c.literal {
			return emit(Command{Literal: true, From: at, Length: c.length})
		}
		return emit(Command{From: c.offset, Length: c.length})
	})
}

// walk calls emit with each command, and with where in the delta its header ends.
func walk(ctx context.Context, delta io.Reader, emit func(command, int64) error) error {
	in := &counted{r: delta}
	cs, err := newCommands(in, true)
	if err != nil {
		return err
	}
	seeker, _ := delta.(io.Seeker)
	var target int64
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		c, err := cs.next()
		if err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		if c.offset+c.length < 0 || target+c.length < 0 {
			return malformed("command %d makes it a target, or needs a base, of 2^63 bytes or more", cs.n)
		}
		target += c.length
		if err := emit(c, in.n-int64(cs.r.Buffered())); err != nil {
			return err
		}
		if c, err = cs.leap(c, in, seeker); err != nil {
			return err
		}
		if err := cs.skip(ctx, c); err != nil {
			return err
		}
	}
}
