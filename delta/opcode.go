package delta

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"math/bits"
)

// The opcodes at which the ranges of the table in the package's documentation
// begin, by librsync's names: N1 is a number of one byte. An opcode between
// opEnd and opLiteralN1 is the length of a literal itself.
const (
	opEnd       = 0x00
	opLiteralN1 = 0x41 // and N2, N4, N8: the length
	opCopyN1N1  = 0x45 // to N8N8: the offset, then the length
	opReserved  = 0x55
)

// A command is one step of a delta: a copy of length bytes of the base from
// offset, or a literal of length bytes that follow in the delta.
type command struct {
	literal        bool
	offset, length int64
}

// appendHeader appends the command without a literal's bytes: the opcode, and the
// numbers that it asks for.
func (c command) appendHeader(b []byte) []byte {
	w := width(c.length)
	switch {
	case !c.literal:
		ow := width(c.offset)
		b = append(b, byte(opCopyN1N1+4*ow+w))
		b = appendNumber(b, c.offset, ow)
	case c.length < opLiteralN1:
		return append(b, byte(c.length))
	default:
		b = append(b, byte(opLiteralN1+w))
	}
	return appendNumber(b, c.length, w)
}

// worthwhile reports whether a copy is shorter than its bytes in a literal that
// it cuts in two.
func (c command) worthwhile() bool {
	const secondLiteral = 3
	return int64(1+1<<width(c.offset)+1<<width(c.length)+secondLiteral) < c.length
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

// next returns the next command, without a literal's bytes, or io.EOF after the
// end command if the delta ends there too.
func (c *commands) next() (command, error) {
	op, err := c.r.ReadByte()
	if err != nil {
		return command{}, cut(err, "the delta ends after %d commands without an end command", c.n)
	}
	c.n++
	switch {
	case op == opEnd:
		return command{}, c.end()
	case op < opLiteralN1:
		return command{literal: true, length: int64(op)}, nil
	case op < opCopyN1N1:
		length, err := c.number(op - opLiteralN1)
		return command{literal: true, length: length}, c.positive(length, err)
	case op < opReserved:
		offset, err := c.number((op - opCopyN1N1) / 4)
		if err != nil {
			return command{}, err
		}
		length, err := c.number((op - opCopyN1N1) % 4)
		return command{offset: offset, length: length}, c.positive(length, err)
	default:
		return command{}, malformed("command %d has the reserved opcode %#02x", c.n, op)
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

// positive returns err, or else refuses a length of 0.
func (c *commands) positive(length int64, err error) error {
	if err == nil && length == 0 {
		return malformed("command %d has length 0", c.n)
	}
	return err
}

// errCommand is wrapped by the error for a command that no delta can have.
var errCommand = errors.New("a copy needs an offset of 0 or more and a length of 1 or more")

// Writer writes a delta whose commands are known: no index is made, and nothing is compared.
// It is not for concurrent use. Its errors are sticky.
type Writer struct {
	w     *bufio.Writer
	last  command // a copy that is not yet written, since the next may continue it
	head  [17]byte
	stats Stats
	err   error
}

// NewWriter returns a writer of a delta to w. Whoever calls it calls Close.
func NewWriter(w io.Writer) *Writer {
	d := &Writer{w: bufio.NewWriterSize(w, 256<<10)}
	_, d.err = d.w.Write(binary.BigEndian.AppendUint32(d.head[:0], deltaMagic))
	return d
}

// Copy continues the target with length bytes of the base from offset. Copies that continue
// each other become one.
func (d *Writer) Copy(offset, length int64) error {
	if d.err == nil && (offset < 0 || length < 1 || offset+length < offset) {
		d.err = errCommand
	}
	if d.err != nil {
		return d.err
	}
	if d.last.length > 0 && d.last.offset+d.last.length == offset {
		d.last.length += length
		return nil
	}
	d.flush()
	d.last = command{offset: offset, length: length}
	return d.err
}

// Literal continues the target with bytes that the delta holds.
func (d *Writer) Literal(p []byte) error {
	if d.err != nil || len(p) == 0 {
		return d.err
	}
	d.flush()
	d.write(command{literal: true, length: int64(len(p))})
	if d.err == nil {
		_, d.err = d.w.Write(p)
	}
	return d.err
}

// Close ends the delta and returns what it has. It does not close what the delta is written to.
func (d *Writer) Close() (Stats, error) {
	d.flush()
	if d.err == nil {
		d.err = d.w.WriteByte(opEnd)
	}
	if d.err == nil {
		d.err = d.w.Flush()
	}
	return d.stats, d.err
}

// flush writes the copy that waits.
func (d *Writer) flush() {
	if c := d.last; c.length > 0 {
		d.last = command{}
		d.write(c)
	}
}

func (d *Writer) write(c command) {
	if d.err == nil {
		d.stats.add(c)
		_, d.err = d.w.Write(c.appendHeader(d.head[:0]))
	}
}
