package compact_test

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"

	"puavo-image-repository/delta/compact"
	"puavo-image-repository/delta/compact/internal/piece"
	"puavo-image-repository/delta/compact/internal/wire"
	"puavo-image-repository/testdata"
)

// forgery is a compact delta taken apart.
type forgery struct {
	head     *wire.Head
	sections []forgedSection
}

type forgedSection struct {
	table   []byte
	streams wire.StreamSet
}

// table is the number of the table of a section, which is before its streams.
const tableOf = -1

func (s *forgedSection) stream(n int) *[]byte {
	if n == tableOf {
		return &s.table
	}
	return &s.streams[n]
}

// forge takes a file apart.
func forge(t testing.TB, file []byte) *forgery {
	t.Helper()
	r := bytes.NewReader(file)
	head, err := wire.Read(r)
	if err != nil {
		t.Fatal(err)
	}
	f := &forgery{head: head}
	src := bufio.NewReader(r)
	var pieces piece.Reader
	for range head.Sections {
		var s forgedSection
		for n := tableOf; n < wire.StreamCount; n++ {
			b, err := pieces.Read(src, nil, piece.Most)
			if err != nil {
				t.Fatal(err)
			}
			*s.stream(n) = b
		}
		f.sections = append(f.sections, s)
	}
	if _, err := src.ReadByte(); err != io.EOF {
		t.Fatalf("bytes behind the sections, %v", err)
	}
	return f
}

// bytes puts it together, with the lengths and the digest that the head needs.
func (f *forgery) bytes(t testing.TB) []byte {
	t.Helper()
	var sections []byte
	for i := range f.sections {
		before := len(sections)
		for n := tableOf; n < wire.StreamCount; n++ {
			b := *f.sections[i].stream(n)
			sections = append(append(sections, 0), numbers(uint64(len(b)))...) // stored
			sections = append(sections, b...)
		}
		f.head.Sections[i].Length = int64(len(sections) - before)
	}
	b, err := f.head.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	return append(b, sections...)
}

// numbers returns varints.
func numbers(all ...uint64) (b []byte) {
	for _, n := range all {
		b = binary.AppendUvarint(b, n)
	}
	return b
}

// forged returns a delta of one group that makes length bytes from a base, as its streams
// say.
func forged(base []byte, length int64, s wire.StreamSet) *forgery {
	h := &wire.Head{
		Depth: 32, Allowance: 8, Block: wire.MaxBlock, Coded: wire.MaxRatio * length, Unpacked: wire.Unpackable(length),
		Groups: []wire.Group{{Length: length}}, Sections: []wire.Section{{Groups: 1}},
	}
	h.Base.Size, h.Target.Size = int64(len(base)), length
	var table []byte
	for _, b := range s {
		table = binary.AppendUvarint(table, uint64(len(b)))
	}
	return &forgery{h, []forgedSection{{table, s}}}
}

// What is beyond a limit is refused, at once and in little memory.
func TestLimits(t *testing.T) {
	base := words(1, 1<<20)
	block := pack(make([]byte, 1<<20))
	extents := func(n int, h *wire.Head) {
		for i := range n {
			h.Extents = append(h.Extents, wire.Extent{Offset: int64(i * len(block)), Packed: len(block), Content: 1 << 20})
		}
	}
	blocks := bytes.Repeat(block, 60)
	many := func(n int, all ...uint64) []byte { return bytes.Repeat(numbers(all...), n) }
	const ceiling = 16 << 20
	for _, c := range []struct {
		name   string
		base   []byte
		length int64
		head   func(h *wire.Head)
		s      wire.StreamSet
		want   string
	}{
		{"the reserved operation", base, 10, nil, wire.StreamSet{numbers(10<<2 | 3)}, "not known"},
		{"an operation of nothing", base, 10, nil, wire.StreamSet{numbers(0<<2 | 2)}, "limit"},
		{"more content than a group has", base, 64 << 20, nil, wire.StreamSet{numbers(wire.Content<<2|2, 1<<2|2)}, "limit"},
		{"more blocks", base, 64 << 20, nil, wire.StreamSet{many(65, 1<<2|1)}, "limit"},
		{"more operations", base, 64 << 20, nil, wire.StreamSet{many(4097, 1<<2, 0)}, "limit"},
		{"a larger block", base, 64 << 20, nil, wire.StreamSet{numbers((1<<20+1)<<2 | 1)}, "limit"},
		{"kept bytes outside of the base", base, 10, nil, wire.StreamSet{numbers(10<<2, 1<<21)}, "of a base of"},
		{"kept bytes before it", base, 10, nil, wire.StreamSet{numbers(10<<2, 1)}, "of a base of"},
		{"a group that is too short", base, 10, nil, wire.StreamSet{numbers(9<<2, 0)}, "1 bytes less"},
		{"a group that is too long", base, 10, nil, wire.StreamSet{numbers(11<<2, 0)}, "-1 bytes less"},
		{"a copy outside of the base", base, 10, nil, wire.StreamSet{numbers(10<<2 | 2), numbers(0), numbers(10), numbers(1 << 21)}, "a copy of"},
		{"a copy before it", base, 10, nil, wire.StreamSet{numbers(10<<2 | 2), numbers(0), numbers(10), numbers(1<<1 | 1)}, "a copy of"},
		{"differences before it", base, 10, nil, wire.StreamSet{numbers(10<<2 | 2), numbers(1), numbers(9), numbers(0), nil, make([]byte, 1)}, "another digest"},
		{"differences outside", base, 10, nil, wire.StreamSet{numbers(10<<2 | 2), numbers(0, 10), numbers(0, 0), numbers(1<<21, 0), nil, make([]byte, 10)}, "a copy of"},
		{"too few differences", base, 10, nil, wire.StreamSet{numbers(10<<2 | 2), numbers(1), numbers(9), numbers(0)}, "too few differences"},
		{"too few literals", base, 10, nil, wire.StreamSet{numbers(10<<2 | 2), numbers(10)}, "too few literals"},
		{"literals too many", base, 10, nil, wire.StreamSet{numbers(10<<2 | 2), numbers(10), nil, nil, make([]byte, 11)}, "that no command has"},
		{"differences too many", base, 10, nil, wire.StreamSet{numbers(10<<2 | 2), numbers(10), nil, nil, make([]byte, 10), make([]byte, 1)}, "that no command has"},
		{"commands of nothing", base, 10, nil, wire.StreamSet{numbers(10<<2 | 2), many(200_000, 0), many(200_000, 0), many(200_000, 1)}, "too many"},
		{"commands too many", base, 10, nil, wire.StreamSet{numbers(10<<2 | 2), numbers(10, 1), nil, nil, make([]byte, 10)}, "too many"},
		{"tokens too many", base, 10, nil, wire.StreamSet{numbers(10<<2, 0), nil, nil, nil, nil, nil, make([]byte, 10)}, "behind its end"},
		{"a block of zeros", base, 5000, nil, wire.StreamSet{numbers((1<<20)<<2 | 1), numbers(0, 1<<20-1), nil, nil, nil, nil, nil}, "more is packed"},
		{"more packed than said", base, 5000, func(h *wire.Head) { h.Coded = 9 }, wire.StreamSet{numbers(10<<2 | 1)}, "more is packed"},
		{"more unpacked than said", blocks, 10, func(h *wire.Head) { extents(1, h); h.Unpacked = 9 },
			wire.StreamSet{numbers(10<<2 | 2), numbers(0), numbers(10), numbers(1)}, "more of the base"},
		{"more unpacked than a group may", blocks, 60, func(h *wire.Head) { extents(60, h); h.Unpacked = wire.Unpackable(60) },
			wire.StreamSet{numbers(60<<2 | 2), many(60, 0), many(60, 1), append(numbers(1), many(59, (1<<20-1)<<1)...)}, "more of the base"},
		{"an extent that is no block", base, 10, func(h *wire.Head) { h.Extents = []wire.Extent{{Offset: 5, Packed: 10, Content: 100}} },
			wire.StreamSet{numbers(10<<2 | 2), numbers(0), numbers(10), numbers(20)}, "the block at 5 of the base"},
		{"an extent of another length", blocks, 10, func(h *wire.Head) { extents(1, h); h.Extents[0].Content-- },
			wire.StreamSet{numbers(10<<2 | 2), numbers(0), numbers(10), numbers(20)}, "the block at 0 of the base"},
		{"an extent outside of the base", base, 10, func(h *wire.Head) { h.Extents = []wire.Extent{{Offset: 1<<20 - 5, Packed: 10, Content: 100}} }, wire.StreamSet{}, "extent 0"},
		{"an empty extent", base, 10, func(h *wire.Head) { h.Extents = []wire.Extent{{Offset: 0, Packed: 10, Content: 0}} }, wire.StreamSet{}, "extent 0"},
		{"an extent longer than its content", base, 10, func(h *wire.Head) { h.Extents = []wire.Extent{{Offset: 0, Packed: 101, Content: 100}} }, wire.StreamSet{}, "extent 0"},
		{"more content than a target is worth", base, 10, func(h *wire.Head) { h.Coded = 321 }, wire.StreamSet{}, "worth"},
		{"more unpacked than it is worth", base, 10, func(h *wire.Head) { h.Unpacked = 1 << 30 }, wire.StreamSet{}, "worth"},
		{"depth 0", base, 10, func(h *wire.Head) { h.Depth = 0 }, wire.StreamSet{}, "depth 0"},
		{"an empty group", base, 10, func(h *wire.Head) { h.Groups = append(h.Groups, wire.Group{}); h.Sections[0].Groups++ }, wire.StreamSet{}, "group 1 is empty"},
		{"a group too many", base, 10, func(h *wire.Head) { h.Groups = append(h.Groups, wire.Group{Length: 1}) }, wire.StreamSet{}, "groups of"},
		{"an empty section", base, 10, func(h *wire.Head) { h.Sections[0].Groups = 0 }, wire.StreamSet{}, "section 0"},
		{"a target of another size", base, 10, func(h *wire.Head) { h.Target.Size++ }, wire.StreamSet{}, "groups of"},
	} {
		f := forged(c.base, c.length, c.s)
		if c.head != nil {
			c.head(f.head)
		}
		file := f.bytes(t)
		var got []byte
		var err error
		n := testdata.Allocated(func() { got, err = decode(t, file, c.base, compact.DecodeOptions{Cores: 1, Trusted: true}) })
		if n > ceiling {
			t.Errorf("%s: %d bytes of memory", c.name, n)
		}
		if err == nil || len(got) > 0 || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %d bytes, %v, want %q", c.name, len(got), err, c.want)
		}
	}
}

// The digest of the target is compared, unless the caller does that.
func TestTargetDigest(t *testing.T) {
	t.Parallel()
	base, target := noise(1, 5000), noise(2, 5000)
	f := forge(t, encode(t, raw(base), raw(target), 2))
	f.head.Target.BLAKE3[0] ^= 1
	file := f.bytes(t)
	if _, err := decode(t, file, base, compact.DecodeOptions{}); !errors.Is(err, compact.ErrFormat) || !strings.Contains(err.Error(), "a target with another digest") {
		t.Errorf("by Decode: %v", err)
	}
	got, err := decode(t, file, base, compact.DecodeOptions{Compared: true})
	if err != nil || !bytes.Equal(got, target) {
		t.Errorf("by the caller: %d bytes, %v", len(got), err)
	}
}
