package content

import (
	"context"
	"fmt"
	"io"
	"sort"
	"sync/atomic"

	"puavo-image-repository/delta"
)

// commandMemory is what a command of a delta takes in memory, in bytes.
const commandMemory = 16

// layer is a version that a delta makes of another. Reads find the commands that make a
// range, and take the bytes from the delta, or from the version below.
type layer struct {
	below, delta source
	size         int64
	starts       []int64      // where in this version each command begins
	froms        []int64      // where its bytes are, below or in the delta, doubled; and 1 of a literal
	last         atomic.Int64 // the command that was read last: the next read is mostly of it or the next
}

// source is something that can be read within its size.
type source interface {
	io.ReaderAt
	Size() int64
}

// newLayer maps a version of size bytes. It takes memory for commands commands, and refuses a
// delta that has more.
func newLayer(ctx context.Context, below, d source, size, commands int64) (*layer, error) {
	l := &layer{below: below, delta: d, size: size, starts: make([]int64, 0, commands), froms: make([]int64, 0, commands)}
	end := int64(0)
	err := delta.Walk(ctx, io.NewSectionReader(d, 0, d.Size()), func(c delta.Command) error {
		from, limit := c.From<<1, below.Size()
		if c.Literal {
			from, limit = from|1, d.Size()
		}
		if c.From > limit || c.Length > limit-c.From || c.Length > size-end || len(l.starts) == int(commands) {
			return fmt.Errorf("%w: it is not the delta that the catalog says", delta.ErrFormat)
		}
		l.starts, l.froms = append(l.starts, end), append(l.froms, from)
		end += c.Length
		return nil
	})
	if err == nil && end != size {
		err = fmt.Errorf("%w: it makes %d bytes, not %d", delta.ErrFormat, end, size)
	}
	return l, err
}

// Size returns the size of the version in bytes.
func (l *layer) Size() int64 { return l.size }

// ReadAt reads from the version. Any number of goroutines may call it.
func (l *layer) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 || off >= l.size {
		return 0, io.EOF
	}
	for i := l.command(off); n < len(p) && i < len(l.starts); i++ {
		at := off + int64(n)
		part := p[n:min(int64(len(p)), int64(n)+l.end(i)-at)]
		from := l.below
		if l.froms[i]&1 != 0 {
			from = l.delta
		}
		m, err := from.ReadAt(part, l.froms[i]>>1+at-l.starts[i])
		n += m
		if m < len(part) {
			return n, err
		}
		l.last.Store(int64(i))
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// end returns where a command ends.
func (l *layer) end(i int) int64 {
	if i+1 < len(l.starts) {
		return l.starts[i+1]
	}
	return l.size
}

// command returns the command that makes the byte at off.
func (l *layer) command(off int64) int {
	last := int(l.last.Load())
	for i := last; i < min(last+2, len(l.starts)); i++ {
		if l.starts[i] <= off && off < l.end(i) {
			return i
		}
	}
	return sort.Search(len(l.starts), func(i int) bool { return l.starts[i] > off }) - 1
}
