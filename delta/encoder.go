package delta

import (
	"bufio"
	"context"
	"encoding/binary"
	"io"

	"puavo-image-repository/delta/internal/match"
)

// encoder writes the commands of a delta. Copies arrive in the order of the
// target; what lies between them becomes literals.
type encoder struct {
	ctx    context.Context
	w      *bufio.Writer
	target []byte
	done   int     // bytes of target that are in the delta or in pending
	last   command // a copy not yet written, since the next may continue it
	head   [17]byte
	stats  Stats
}

func newEncoder(ctx context.Context, dst io.Writer, target []byte) *encoder {
	e := &encoder{ctx: ctx, w: bufio.NewWriterSize(dst, 256<<10), target: target}
	// A bufio.Writer keeps its error, so that only flushes and long writes need
	// to look at it.
	e.w.Write(binary.BigEndian.AppendUint32(e.head[:0], deltaMagic))
	return e
}

// copy adds a match, less what of it lies before done.
func (e *encoder) copy(m match.Match) error {
	if over := e.done - m.Target; over > 0 {
		m = match.Match{Target: e.done, Base: m.Base + over, Len: m.Len - over}
	}
	if m.Len <= 0 {
		return nil
	}
	if m.Target == e.done && e.last.length > 0 && e.last.offset+e.last.length == int64(m.Base) {
		e.last.length += int64(m.Len)
		e.done += m.Len
		return nil
	}
	c := command{offset: int64(m.Base), length: int64(m.Len)}
	if !c.worthwhile() {
		return nil
	}
	if err := e.literal(m.Target); err != nil {
		return err
	}
	e.flush()
	e.last = c
	e.done = m.Target + m.Len
	return nil
}

// worthwhile reports whether a copy is shorter than its bytes in a literal that
// it cuts in two.
func (c command) worthwhile() bool {
	const secondLiteral = 3
	return int64(1+1<<width(c.offset)+1<<width(c.length)+secondLiteral) < c.length
}

// literal writes the bytes of target from done to end.
func (e *encoder) literal(end int) error {
	if end == e.done {
		return nil
	}
	e.flush()
	e.write(command{literal: true, length: int64(end - e.done)})
	for e.done < end {
		if err := e.ctx.Err(); err != nil {
			return err
		}
		part := e.target[e.done:min(end, e.done+patchBuffer)]
		if _, err := e.w.Write(part); err != nil {
			return err
		}
		e.done += len(part)
	}
	return nil
}

// flush writes the pending copy.
func (e *encoder) flush() {
	if e.last.length > 0 {
		e.write(e.last)
		e.last = command{}
	}
}

func (e *encoder) write(c command) {
	e.stats.add(c)
	e.w.Write(c.appendHeader(e.head[:0]))
}

// finish writes what is left of the target and the end of the delta.
func (e *encoder) finish() (Stats, error) {
	if err := e.literal(len(e.target)); err != nil {
		return Stats{}, err
	}
	e.flush()
	e.w.WriteByte(opEnd)
	return e.stats, e.w.Flush()
}
