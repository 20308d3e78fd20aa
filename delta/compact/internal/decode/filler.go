package decode

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"

	"puavo-image-repository/delta/compact/internal/lzo"
	"puavo-image-repository/delta/compact/internal/wire"
)

// filler fills the content of groups. It sorts the copies by their places, so that each
// block of the base is unpacked once for a group.
type filler struct {
	*making
	copies      []placed
	runs        []run  // of the content
	differences []byte // all of theirs
	window      []byte
	budget      int64  // bytes of content of extents that the group may still unpack
	region      region // whose content is at hand
	bytes       []byte // that
}

// placed is a part of a copy that lies in one block of the base, or between two.
type placed struct {
	place int64
	at, n int32 // in the content
}

// region is a block of the base that is unpacked, or what lies between two.
type region struct {
	extent
	end   int64 // in the space
	block bool
}

// find returns the region that has a place of the space.
func (d *Delta) find(place int64) region {
	i, found := slices.BinarySearchFunc(d.space, place, func(e extent, at int64) int { return cmp.Compare(e.at, at) })
	if !found {
		i--
	}
	var r region
	if i >= 0 {
		r.extent = d.space[i]
		if r.end = r.at + int64(r.content); place < r.end {
			r.block = true
			return r
		}
		r.extent = extent{at: r.end, offset: r.offset + int64(r.packed)}
	}
	if i+1 < len(d.space) {
		r.end = d.space[i+1].at
	} else {
		r.end = r.at + d.head.Base.Size - r.offset
	}
	return r
}

// parse reads the commands of a group, puts the literals in their places, and sorts the
// copies.
func (f *filler) parse(content []byte, s *wire.StreamSet) error {
	c := newCommandReader(s)
	literals := s[wire.LiteralStream]
	f.copies, f.runs, f.differences = f.copies[:0], f.runs[:0], s[wire.DifferenceStream]
	left := len(f.differences)
	for n, at := 0, 0; at < len(content); n++ {
		m := c.next(len(content) - at)
		switch {
		case c.err() != nil:
			return c.err()
		case n == wire.GroupParts:
			return errors.New("too many commands")
		case m.differs:
			if left -= m.run; left < 0 {
				return errors.New("too few differences")
			}
			f.runs = append(f.runs, run{int32(at), int32(m.run)})
			m.place -= int64(m.run)
			m.length += m.run
		case m.run > len(literals):
			return errors.New("too few literals")
		default:
			at += copy(content[at:], literals[:m.run])
			literals = literals[m.run:]
		}
		if err := f.split(m.place, at, m.length); err != nil {
			return err
		}
		at += m.length
	}
	if len(literals) > 0 || left > 0 {
		return errors.New("literals or differences that no command has")
	}
	slices.SortFunc(f.copies, func(a, b placed) int { return cmp.Compare(a.place, b.place) })
	return c.end()
}

// run is a part of the content that is differences.
type run struct{ at, n int32 }

// split adds a copy, in as many parts as it has regions.
func (f *filler) split(place int64, at, n int) error {
	for n > 0 {
		r := f.find(place)
		k := int(min(int64(n), r.end-place))
		if place < 0 || k <= 0 {
			return fmt.Errorf("a copy of %d bytes from %d", n, place)
		}
		if len(f.copies) == wire.GroupParts {
			return errors.New("too many copies")
		}
		f.copies = append(f.copies, placed{place, int32(at), int32(k)})
		place += int64(k)
		at += k
		n -= k
	}
	return nil
}

// fill puts what is copied in its places.
func (f *filler) fill(content []byte) error {
	f.region = region{}
	for i := 0; i < len(f.copies); i++ {
		c := f.copies[i]
		if c.place >= f.region.end {
			f.region = f.find(c.place)
			if f.region.block {
				if err := f.unpack(); err != nil {
					return err
				}
			}
		}
		if f.region.block {
			copy(content[c.at:c.at+c.n], f.bytes[c.place-f.region.at:])
			continue
		}
		n, err := f.raw(content, f.copies[i:])
		if err != nil {
			return err
		}
		i += n - 1
	}
	f.differ(content)
	return nil
}

// differ adds the differences to what was copied.
func (f *filler) differ(content []byte) {
	d := f.differences
	for _, r := range f.runs {
		part := content[r.at : r.at+r.n]
		for i := range part {
			part[i] += d[i]
		}
		d = d[len(part):]
	}
}

// unpack unpacks the block of the region.
func (f *filler) unpack() error {
	r := f.region
	f.budget -= int64(r.content)
	if f.unpacked.Add(int64(r.content)) > f.head.Unpacked || f.budget < 0 {
		return wire.Malformed("more of the base is unpacked than the head says or a group may")
	}
	b, err := f.read(r.offset, r.packed)
	if err != nil {
		return err
	}
	f.bytes = slices.Grow(f.bytes[:0], r.content)[:r.content]
	n, err := lzo.Unpack(f.bytes, b)
	if err == nil && n < r.content {
		err = fmt.Errorf("it makes %d bytes instead of %d", n, r.content)
	}
	if err != nil {
		return wire.Malformed("the block at %d of the base: %w", r.offset, err)
	}
	return nil
}

// near is how far apart copies may be that are read together.
const near = 4 << 10

// raw makes the first of some copies that lie in the region, and those that are near. It
// returns how many it made.
func (f *filler) raw(content []byte, copies []placed) (n int, err error) {
	start := copies[0].place
	shift := f.region.offset - f.region.at
	if first := copies[0]; int(first.n) > wire.WindowLen {
		return 1, f.readInto(content[first.at:first.at+first.n], start+shift)
	}
	end := start
	for _, c := range copies {
		if c.place >= f.region.end || c.place > end+near || c.place+int64(c.n) > start+wire.WindowLen {
			break
		}
		end = max(end, c.place+int64(c.n))
		n++
	}
	b, err := f.read(start+shift, int(end-start))
	if err != nil {
		return 0, err
	}
	for _, c := range copies[:n] {
		copy(content[c.at:c.at+c.n], b[c.place-start:])
	}
	return n, nil
}

// read returns bytes of the base, valid until the next read.
func (f *filler) read(offset int64, n int) ([]byte, error) {
	f.window = slices.Grow(f.window[:0], n)[:n]
	return f.window, f.readInto(f.window, offset)
}

func (f *filler) readInto(b []byte, offset int64) error {
	n, err := f.base.ReadAt(b, offset)
	if n == len(b) {
		return nil
	}
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("reading %d bytes at %d of the base: %w", len(b), offset, err)
}
