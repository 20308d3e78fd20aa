package token

import "encoding/binary"

const (
	// farthest is how far before itself a match is searched, in bytes.
	farthest = 49151
	// nearPair is the same for a match of two bytes.
	nearPair = 1024

	// padding is how many zeros stand behind the content, so that 8 bytes can be read
	// anywhere in it.
	padding = 8
	// unseen is more than farthest: a head that was never set is as far as that.
	unseen = 1 << 17

	hash32 = 0x9e3779b1
	hash64 = 0x9e3779b97f4a7c15
)

// heads has the last position of each hash, plus unseen.
type heads [1 << 16]uint32

// visit returns the distance to the last position with this hash, 0 if it is too far, and
// puts the position now, plus unseen, in its place. Too far is more than reach. There is
// no branch, which would be mispredicted half of the time.
func (h *heads) visit(hash uint16, now, reach uint32) uint16 {
	d := now - h[hash]
	h[hash] = now
	return uint16(d & uint32(int32(d-reach-1)>>31))
}

// tables has, for each position of a block, the distances to where its next 2, 3, 5 and 8
// bytes stood last.
type tables struct {
	n       int    // bytes of content
	content []byte // with padding

	p2, p3, p5, p8 []uint16
	rank           []uint16 // how many positions p3 leads to, one after another, and 1

	heads2, heads3, heads5, heads8 heads
}

// build fills the tables for a block.
func (t *tables) build(content []byte) {
	n := len(content)
	t.n = n
	t.content = append(append(t.content[:0], content...), make([]byte, padding)...)
	for _, p := range []*[]uint16{&t.p2, &t.p3, &t.p5, &t.p8, &t.rank} {
		if cap(*p) < n {
			*p = make([]uint16, n)
		}
		*p = (*p)[:n]
	}
	clear(t.heads2[:])
	clear(t.heads3[:])
	clear(t.heads5[:])
	clear(t.heads8[:])
	t.fill(max(0, n-7))
	t.fillEnd(max(0, n-7))
}

// fill fills the tables for the positions below end, behind which 7 bytes follow.
func (t *tables) fill(end int) {
	p2, p3, p5, p8, rank := t.p2[:end], t.p3[:end], t.p5[:end], t.p8[:end], t.rank[:end]
	for i := range end {
		v := binary.LittleEndian.Uint64(t.content[i:])
		now := uint32(i + unseen)
		p2[i] = t.heads2.visit(uint16(v), now, nearPair)
		p5[i] = t.heads5.visit(uint16(v<<24*hash64>>48), now, farthest)
		p8[i] = t.heads8.visit(uint16(v*hash64>>48), now, farthest)
		d := t.heads3.visit(uint16(uint32(v)<<8*hash32>>16), now, farthest)
		p3[i] = d
		rank[i] = 0
		rank[i] = rank[i-int(d)] + 1
	}
}

// fillEnd fills the tables for the last positions, where not all grams fit.
func (t *tables) fillEnd(from int) {
	for i := from; i < t.n; i++ {
		v := binary.LittleEndian.Uint64(t.content[i:])
		now := uint32(i + unseen)
		t.p2[i], t.p3[i], t.p5[i], t.p8[i], t.rank[i] = 0, 0, 0, 0, 1
		if i+2 <= t.n {
			t.p2[i] = t.heads2.visit(uint16(v), now, nearPair)
		}
		if i+3 <= t.n {
			t.p3[i] = t.heads3.visit(uint16(uint32(v)<<8*hash32>>16), now, farthest)
			t.rank[i] = 0
			t.rank[i] = t.rank[i-int(t.p3[i])] + 1
		}
		if i+5 <= t.n {
			t.p5[i] = t.heads5.visit(uint16(v<<24*hash64>>48), now, farthest)
		}
	}
}
