package encode

import (
	"bytes"
	"slices"
	"testing"

	"puavo-image-repository/delta/compact/internal/wire"
)

// image returns an image of blocks of a length, one after another.
func image(b []byte, size int64) (m Image) {
	m.Bytes = b
	for at := int64(0); at+size <= int64(len(b)); at += size {
		m.Blocks = append(m.Blocks, Block{at, size})
	}
	return m
}

// What the base has as it is, is found by blocks, and where it is expected.
func TestSegments(t *testing.T) {
	t.Parallel()
	b := noise(1, 10_000)
	other := noise(2, 10_000)
	join := slices.Concat[[]byte]
	kept := func(target, base, size int64) segment {
		return segment{part: part{offset: target, size: size}, kept: true, base: base}
	}
	for _, c := range []struct {
		name         string
		base, target Image
		want         []segment // but for what is packed
	}{
		{"the same", image(b, 100), image(b, 100), []segment{kept(0, 0, 10_000)}},
		{"the same without blocks", Image{Bytes: b}, Image{Bytes: b}, []segment{kept(0, 0, 10_000)}},
		{"nothing", image(b, 100), Image{}, nil},
		{"no base", Image{}, image(b[:200], 100), []segment{{part: part{offset: 0, size: 100}}, {part: part{offset: 100, size: 100}}}},
		{"a block more", image(b, 100), image(join(b[:500], other[:100], b[500:]), 100),
			[]segment{kept(0, 0, 500), {part: part{offset: 500, size: 100}}, kept(600, 500, 9500)}},
		{"a block fewer", image(b, 100), image(join(b[:500], b[600:]), 100), []segment{kept(0, 0, 500), kept(500, 600, 9400)}},
		{"bytes as they are between", image(b, 100), Image{join(b[:50], other[:50], b[:100], b[300:400]), []Block{{100, 100}, {200, 100}}},
			[]segment{{part: part{offset: 0, size: 100}}, kept(100, 0, 100), kept(200, 300, 100)}},
		{"the end of the base", image(b, 100), image(join(b[9900:], b[:100]), 100), []segment{kept(0, 9900, 100), kept(100, 0, 100)}},
	} {
		got := segments(c.base, c.target)
		var size int64
		for i := range got {
			s := &got[i]
			if s.offset != size {
				t.Errorf("%s: a segment at %d, want %d", c.name, s.offset, size)
			}
			size += s.size
			if s.kept && !bytes.Equal(c.base.Bytes[s.base:s.base+s.size], c.target.Bytes[s.offset:s.offset+s.size]) {
				t.Errorf("%s: other bytes are kept: %+v", c.name, *s)
			}
			s.packed = false
			if !s.kept {
				s.base = 0
			}
		}
		if !slices.Equal(got, c.want) || size != int64(len(c.target.Bytes)) {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
}

// Groups keep to the limits, and have all segments.
func TestGroups(t *testing.T) {
	t.Parallel()
	block := segment{part: part{size: 50_000, packed: true, content: 1 << 17}}
	small := segment{part: part{size: 500, packed: true, content: 1000}}
	kept := segment{part: part{size: wire.GroupTarget / 2}, kept: true}
	tiny := segment{part: part{size: 1}, kept: true}
	bytes := segment{part: part{size: chunk, content: chunk}}
	for _, c := range []struct {
		name     string
		segments []segment
		want     []int // segments of each group
	}{
		{"nothing", nil, nil},
		{"one", []segment{block}, []int{1}},
		{"content", slices.Repeat([]segment{bytes}, 70), []int{32, 32, 6}},
		{"large blocks", slices.Repeat([]segment{block}, 100), []int{64, 36}},
		{"small blocks", slices.Repeat([]segment{small}, 130), []int{64, 64, 2}},
		{"kept", slices.Repeat([]segment{kept}, 5), []int{2, 2, 1}},
		{"kept and blocks", []segment{kept, block, kept, block, block}, []int{2, 3}},
		{"operations", slices.Repeat([]segment{tiny}, wire.GroupOps+1), []int{wire.GroupOps, 1}},
	} {
		var got []int
		var target, content int64
		for _, g := range groups(c.segments) {
			got = append(got, len(g.segments))
			if g.target != target || g.at != content {
				t.Errorf("%s: a group at %d and %d, want %d and %d", c.name, g.target, g.at, target, content)
			}
			target += g.length
			content += g.content
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

// Sections keep to the limits.
func TestSections(t *testing.T) {
	t.Parallel()
	of := func(literals, others int) groupSizes {
		return groupSizes{sizes: [wire.StreamCount]int{wire.LiteralStream: literals, wire.RunStream: others}}
	}
	for _, c := range []struct {
		name string
		all  []groupSizes
		want []int
	}{
		{"nothing", nil, []int{0}},
		{"one", []groupSizes{of(1, 1)}, []int{0, 1}},
		{"a full stream", []groupSizes{of(8<<20, 0), of(0, 5), of(1, 0)}, []int{0, 2, 3}},
		{"full of all", slices.Repeat([]groupSizes{of(3<<20, 3<<20)}, 5), []int{0, 2, 4, 5}},
		{"many", slices.Repeat([]groupSizes{of(1, 1)}, wire.SectionGroups+1), []int{0, wire.SectionGroups, wire.SectionGroups + 1}},
	} {
		if got := sections(c.all); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

// A place in the space of the file is that in the base's content, less what is not unpacked.
func TestSpace(t *testing.T) {
	t.Parallel()
	parts := []part{
		{offset: 0, size: 5, at: 0, content: 5},
		{offset: 5, size: 10, packed: true, at: 5, content: 100},
		{offset: 15, size: 10, packed: true, at: 105, content: 100},
		{offset: 25, size: 5, at: 205, content: 5},
		{offset: 30, size: 10, packed: true, at: 210, content: 100},
	}
	s := newSpace(nil, parts)
	for _, c := range []struct {
		at, n  int64
		lo, hi int
	}{
		{0, 5, 0, 0}, {4, 2, 0, 1}, {5, 1, 0, 1}, {104, 2, 0, 2}, {204, 1, 1, 2}, {205, 5, 2, 2}, {209, 2, 2, 3}, {0, 310, 0, 3}, {50, 0, 0, 0},
	} {
		if lo, hi := s.within(c.at, c.n); lo != c.lo || hi != c.hi {
			t.Errorf("%d bytes at %d: blocks %d to %d, want %d to %d", c.n, c.at, lo, hi, c.lo, c.hi)
		}
	}
	s.use([]int32{1})
	s.use([]int32{1})
	extents, most := s.settle()
	if want := []wire.Extent{{Offset: 15, Packed: 10, Content: 100}}; !slices.Equal(extents, want) || most != 100 || s.work != 200 {
		t.Errorf("%+v, %d, work %d", extents, most, s.work)
	}
	for at, want := range map[int64]int64{0: 0, 4: 4, 105: 15, 204: 114, 205: 115, 209: 119} {
		if got := s.place(at); got != want {
			t.Errorf("place %d: %d, want %d", at, got, want)
		}
	}
}
