package encode

import (
	"cmp"
	"slices"

	"puavo-image-repository/delta/compact/internal/wire"
)

// space is a base with all of its blocks unpacked in their places. Which of them are used
// is found out while copies are collected; the file has the space with these unpacked alone.
type space struct {
	bytes  []byte
	blocks []part
	used   []bool
	shift  []int64 // how many bytes shorter the file's space is, before each block
	work   int64   // bytes of content of blocks, once for each group that uses one
}

func newSpace(bytes []byte, parts []part) *space {
	s := &space{bytes: bytes}
	for _, p := range parts {
		if p.packed {
			s.blocks = append(s.blocks, p)
		}
	}
	s.used = make([]bool, len(s.blocks))
	return s
}

// before returns the number of blocks that start at a place or before.
func (s *space) before(at int64) int {
	i, found := slices.BinarySearchFunc(s.blocks, at, func(p part, at int64) int { return cmp.Compare(p.at, at) })
	if found {
		i++
	}
	return i
}

// within returns the first block that a range has bytes of, and the one behind the last.
func (s *space) within(at, length int64) (lo, hi int) {
	if length == 0 {
		return 0, 0
	}
	lo, hi = s.before(at), s.before(at+length-1)
	if lo > 0 && at < s.blocks[lo-1].at+s.blocks[lo-1].content {
		lo--
	}
	return lo, hi
}

// use says that a group uses blocks.
func (s *space) use(blocks []int32) {
	for _, i := range blocks {
		s.used[i] = true
		s.work += s.blocks[i].content
	}
}

// settle computes the file's space, and returns its blocks and the largest content of one.
func (s *space) settle() (extents []wire.Extent, most int) {
	s.shift = make([]int64, len(s.blocks)+1)
	for i, p := range s.blocks {
		s.shift[i+1] = s.shift[i]
		if s.used[i] {
			extents = append(extents, wire.Extent{Offset: p.offset, Packed: int(p.size), Content: int(p.content)})
			most = max(most, int(p.content))
		} else {
			s.shift[i+1] += p.content - p.size
		}
	}
	return extents, most
}

// place returns the place in the file's space.
func (s *space) place(at int64) int64 { return at - s.shift[s.before(at)] }
