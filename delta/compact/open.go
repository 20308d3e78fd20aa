package compact

import (
	"context"
	"io"
	"slices"

	"puavo-image-repository/delta/compact/internal/piece"
	"puavo-image-repository/delta/compact/internal/wire"
)

const (
	workersStated = 4
	// memoryLimit is what a Decoder takes at most, unless one worker takes more.
	memoryLimit = 128 * mib
)

// Delta is a compact delta of which the head was read. It never changes.
type Delta struct {
	head    *wire.Head
	info    Info
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
	d := &Delta{head: head, info: infoOf(head, counted.n)}
	at, group := counted.n, 0
	for _, s := range head.Sections {
		d.starts, d.first = append(d.starts, at), append(d.first, group)
		at += s.Length
		group += s.Groups
	}
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

// Info returns what the file says of itself.
func (d *Delta) Info() Info { return d.info }

// Start returns the offset in the file of what Decode reads to begin at a group, and the
// offset of that group in the target. For the number of groups both are the ends.
func (d *Delta) Start(group int) (file, target int64) {
	if group >= len(d.targets) {
		return d.info.Length, d.head.Target.Size
	}
	section, found := slices.BinarySearch(d.first, group)
	if !found {
		section--
	}
	return d.starts[section], d.targets[group]
}

func infoOf(h *wire.Head, length int64) Info {
	for _, s := range h.Sections {
		length += s.Length
	}
	return Info{
		Base: h.Base, Target: h.Target, Length: length, Memory: h.Memory,
		Unpacked: h.Unpacked, Coded: h.Coded, Groups: len(h.Groups),
	}
}

// memory returns what a Decoder of some workers takes.
func memory(h *wire.Head, workers int64) int64 {
	const (
		perEntry = 64          // of an extent or a group
		perCopy  = 16          //
		tokens   = 3 * mib     // of the model of tokens
		each     = 12 + 4 + 12 // for each byte of a block: its tables, its tokens, and what it was unpacked from
	)
	worker := wire.Content + wire.GroupCopies*perCopy + tokens + each*int64(h.Block) + windowLen
	return 2*wire.Streams + 2*piece.Most + perEntry*int64(len(h.Extents)+len(h.Groups)) + workers*worker
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
