package encode

import (
	"bytes"
	"hash/maphash"

	"puavo-image-repository/delta/compact/internal/wire"
)

// segment is a part of the target: bytes of the base as they are, or a part that has
// content.
type segment struct {
	part
	kept bool
	base int64 // of what is kept, its offset in the base
}

// segments returns the parts of the target, those kept of the base joined.
func segments(base, target Image) []segment {
	k := newKeeper(base)
	var all []segment
	for _, p := range target.parts() {
		off, kept := k.find(target.Bytes[p.offset:p.offset+p.size], p.packed)
		if kept && len(all) > 0 {
			last := &all[len(all)-1]
			if last.kept && last.base+last.size == off && last.size+p.size <= wire.GroupTarget {
				last.size += p.size
				continue
			}
		}
		all = append(all, segment{part: p, kept: kept, base: off})
	}
	return all
}

// keeper finds parts of a target in the base as they are.
type keeper struct {
	base   []byte
	seed   maphash.Seed
	blocks map[uint64]Block // the first with a hash
	next   int64            // where in the base the part after the last is expected
}

func newKeeper(base Image) *keeper {
	k := &keeper{base: base.Bytes, seed: maphash.MakeSeed(), blocks: make(map[uint64]Block, len(base.Blocks))}
	for _, b := range base.Blocks {
		h := maphash.Bytes(k.seed, base.Bytes[b.Offset:b.Offset+b.Size])
		if _, known := k.blocks[h]; !known {
			k.blocks[h] = b
		}
	}
	return k
}

// find returns where the base has the bytes of a part: where they are expected, or, for a
// block, as a block.
func (k *keeper) find(b []byte, block bool) (offset int64, found bool) {
	n := int64(len(b))
	defer func() {
		if found {
			k.next = offset
		}
		k.next += n
	}()
	if k.has(k.next, b) {
		return k.next, true
	}
	if !block {
		return 0, false
	}
	other, known := k.blocks[maphash.Bytes(k.seed, b)]
	return other.Offset, known && other.Size == n && k.has(other.Offset, b)
}

func (k *keeper) has(offset int64, b []byte) bool {
	return offset <= int64(len(k.base)-len(b)) && bytes.Equal(k.base[offset:offset+int64(len(b))], b)
}

// group is a part of the target that is made without others.
type group struct {
	segments []segment
	target   int64    // its offset in the target
	length   int64    // bytes of the target
	at       int64    // the offset of its content in that of all segments
	content  int64    // bytes of content
	record   [2]int64 // where a scratch file has what is known of it
}

// groups cuts the target in groups.
func groups(segments []segment) (all []group) {
	var g group
	start, blocks := 0, 0
	for i, s := range segments {
		content := s.content
		if i > start && (g.content+content > wire.Content || blocks == wire.GroupBlocks ||
			i-start == wire.GroupOps || g.length+s.size > wire.GroupTarget) {
			g.segments = segments[start:i]
			all = append(all, g)
			g = group{target: g.target + g.length, at: g.at + g.content}
			start, blocks = i, 0
		}
		g.length += s.size
		g.content += content
		if s.packed && !s.kept {
			blocks++
		}
	}
	if start < len(segments) {
		g.segments = segments[start:]
		all = append(all, g)
	}
	return all
}
