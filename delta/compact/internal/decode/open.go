// Package decode applies compact deltas. It shares nothing with package encode but the layout
// of the head.
package decode

import (
	"context"
	"io"
	"slices"

	"puavo-image-repository/delta/compact/internal/wire"
)

// memoryLimit is what Decode takes at most, unless one worker takes more.
const memoryLimit = 128 << 20

// Delta is a compact delta of which the head was read. It never changes.
type Delta struct {
	head    *wire.Head
	length  int64   // of the file
	starts  []int64 // where the sections start in the file
	first   []int   // the first group of each section
	targets []int64 // where the groups start in the target
	space   []extent
}

// extent is a block of the base that is unpacked in its place.
type extent struct {
	at, offset      int64 // in the space, in the base
	packed, content int
}

// Open reads the head of a compact delta, and nothing behind it.
func Open(r io.Reader) (*Delta, error) {
	counted := &counter{r: r}
	head, err := wire.Read(counted)
	if err != nil {
		return nil, err
	}
	d := &Delta{head: head}
	at, group := counted.n, 0
	for _, s := range head.Sections {
		d.starts, d.first = append(d.starts, at), append(d.first, group)
		at += s.Length
		group += s.Groups
	}
	d.length = at
	var target, shift int64
	for _, g := range head.Groups {
		d.targets = append(d.targets, target)
		target += g.Length
	}
	for _, e := range head.Extents {
		d.space = append(d.space, extent{e.Offset + shift, e.Offset, e.Packed, e.Content})
		shift += int64(e.Content - e.Packed)
	}
	return d, nil
}

type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// Head returns the head, which must not be changed, and the length of the file.
func (d *Delta) Head() (*wire.Head, int64) { return d.head, d.length }

// Start returns the offset in the file of what Decode reads to begin at a group, and the
// offset of that group in the target. For the number of groups both are the ends.
func (d *Delta) Start(group int) (file, target int64) {
	if group >= len(d.targets) {
		return d.length, d.head.Target.Size
	}
	section, found := slices.BinarySearch(d.first, group)
	if !found {
		section--
	}
	return d.starts[section], d.targets[group]
}

// reader ends with a context, and remembers the error of what it reads.
type reader struct {
	ctx context.Context
	r   io.Reader
	err error
}

func readerOf(ctx context.Context, r io.Reader) *reader { return &reader{ctx: ctx, r: r} }

func (r *reader) Read(p []byte) (n int, err error) {
	if err = r.ctx.Err(); err == nil {
		n, err = r.r.Read(p)
	}
	if err != nil && err != io.EOF {
		r.err = err
	}
	return n, err
}
