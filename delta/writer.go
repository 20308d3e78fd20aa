package delta

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
)

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
