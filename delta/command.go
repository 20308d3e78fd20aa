package delta

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"
)

const (
	deltaMagic = 0x72730236
	magicLen   = 4 // bytes
)

// The opcodes from which the ranges of the table in the package's
// documentation begin.
const (
	opEnd      = 0x00
	opLiteral  = 0x41 // and below: the length itself
	opCopy     = 0x45
	opReserved = 0x55
)

// A command is one step of a delta: a copy of length bytes of the base from
// offset, or a literal of length bytes that follow in the delta.
type command struct {
	literal        bool
	offset, length int64
}

// ErrFormat is wrapped by all errors that say a delta or signature is not well
// formed, or does not fit the base or the target's size it is used with.
var ErrFormat = errors.New("not valid")

// ErrMagic is wrapped, besides ErrFormat, by the errors for what is no delta, or
// no signature, at all.
var ErrMagic = fmt.Errorf("%w: another kind of file", ErrFormat)

func malformed(format string, a ...any) error {
	return fmt.Errorf("%w: %s", ErrFormat, fmt.Sprintf(format, a...))
}

// width returns log2 of the number of bytes (1, 2, 4 or 8) that hold n.
func width(n int64) int {
	switch b := bits.Len64(uint64(n)); {
	case b <= 8:
		return 0
	case b <= 16:
		return 1
	case b <= 32:
		return 2
	default:
		return 3
	}
}

// appendNumber appends n in 1<<w bytes.
func appendNumber(b []byte, n int64, w int) []byte {
	switch w {
	case 0:
		return append(b, byte(n))
	case 1:
		return binary.BigEndian.AppendUint16(b, uint16(n))
	case 2:
		return binary.BigEndian.AppendUint32(b, uint32(n))
	default:
		return binary.BigEndian.AppendUint64(b, uint64(n))
	}
}

// appendHeader appends the command without a literal's bytes.
func (c command) appendHeader(b []byte) []byte {
	w := width(c.length)
	switch {
	case !c.literal:
		ow := width(c.offset)
		b = append(b, byte(opCopy+4*ow+w))
		b = appendNumber(b, c.offset, ow)
	case c.length < opLiteral:
		return append(b, byte(c.length))
	default:
		b = append(b, byte(opLiteral+w))
	}
	return appendNumber(b, c.length, w)
}

// commands reads the commands of a delta. The bytes of a literal are to be read
// from r before the next command.
type commands struct {
	r *bufio.Reader
	n int64 // commands read, to say where an error is
}

// newCommands reads commands, after the magic number where that is to come.
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

// next returns the next command, or io.EOF after the end command if the delta
// ends there too.
func (c *commands) next() (command, error) {
	op, err := c.r.ReadByte()
	if err != nil {
		return command{}, cut(err, "the delta ends after %d commands without an end command", c.n)
	}
	c.n++
	switch {
	case op == opEnd:
		return command{}, c.end()
	case op < opLiteral:
		return command{literal: true, length: int64(op)}, nil
	case op < opCopy:
		length, err := c.number(op - opLiteral)
		return command{literal: true, length: length}, c.positive(length, err)
	case op < opReserved:
		offset, err := c.number((op - opCopy) / 4)
		if err != nil {
			return command{}, err
		}
		length, err := c.number((op - opCopy) % 4)
		return command{offset: offset, length: length}, c.positive(length, err)
	default:
		return command{}, malformed("command %d has the reserved opcode %#02x", c.n, op)
	}
}

func (c *commands) positive(length int64, err error) error {
	if err == nil && length == 0 {
		return malformed("command %d has length 0", c.n)
	}
	return err
}

func (c *commands) end() error {
	switch _, err := c.r.ReadByte(); err {
	case io.EOF:
		return io.EOF
	case nil:
		return malformed("data after the end command")
	default:
		return err
	}
}

// number reads a number of 1<<w bytes. Those over 2^63-1 are refused, as rdiff
// refuses them.
func (c *commands) number(w byte) (int64, error) {
	var b [8]byte
	if _, err := io.ReadFull(c.r, b[8-(1<<w):]); err != nil {
		return 0, cut(err, "the delta ends within command %d", c.n)
	}
	n := int64(binary.BigEndian.Uint64(b[:]))
	if n < 0 {
		return 0, malformed("command %d has a number of 2^63 or more", c.n)
	}
	return n, nil
}

// cut turns an early end of the input into an ErrFormat that says where, and that
// is an io.ErrUnexpectedEOF too. It passes other errors on.
func cut(err error, format string, a ...any) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return fmt.Errorf("%w: %w: %s", ErrFormat, io.ErrUnexpectedEOF, fmt.Sprintf(format, a...))
	}
	return err
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
