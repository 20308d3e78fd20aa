package lzma

import "encoding/binary"

const (
	depth    = 48 // matches of four bytes that are looked at
	hash2Len = 1 << 16
	hash3Len = 1 << 17
	mul      = 0x9e3779b1
)

// match is one with the shortest distance of its length.
type match struct{ length, distance uint32 }

// finder finds matches. Places are counted from 1 on in its tables; 0 is none.
type finder struct {
	content      []byte
	at           int // the next place
	hash2, hash3 []uint32
	hash4        []uint32
	shift        uint     // of the hash of four bytes
	sons         []uint32 // two of each place: those that are less, and greater
	found        []match
}

func newFinder(content []byte) *finder {
	n := min(max(bitLen(uint32(len(content)))-1, 10), 22)
	return &finder{
		content: content, shift: uint(32 - n), hash2: make([]uint32, hash2Len), hash3: make([]uint32, hash3Len),
		hash4: make([]uint32, 1<<n), sons: make([]uint32, 2*len(content)),
	}
}

// next returns the matches at the next place, longer and farther ones later.
func (f *finder) next() []match {
	f.found = f.found[:0]
	limit := min(len(f.content)-f.at, maxMatch)
	if limit < 4 {
		f.at++
		return nil
	}
	four := binary.LittleEndian.Uint32(f.content[f.at:])
	h2, h3, h4 := four&0xffff, four<<8*mul>>15, four*mul>>f.shift
	p2, p3, p4 := f.hash2[h2], f.hash3[h3], f.hash4[h4]
	now := uint32(f.at + 1)
	f.hash2[h2], f.hash3[h3], f.hash4[h4] = now, now, now
	longest := 1
	for _, p := range [...]uint32{p2, p3} {
		if p > 0 {
			longest = f.take(int(p-1), longest, limit)
		}
	}
	f.tree(p4, max(longest, 3), limit)
	f.at++
	return f.found
}

// take adds the match with a place if it is longer than the longest, and returns which is.
func (f *finder) take(p, longest, limit int) int {
	n := common(f.content[p:], f.content[f.at:], 0, limit)
	if n > longest {
		f.found = append(f.found, match{uint32(n), uint32(f.at - p)})
		return n
	}
	return longest
}

// skip goes on by n places.
func (f *finder) skip(n int) {
	for range n {
		limit := min(len(f.content)-f.at, maxMatch)
		if limit >= 4 {
			four := binary.LittleEndian.Uint32(f.content[f.at:])
			h2, h3, h4 := four&0xffff, four<<8*mul>>15, four*mul>>f.shift
			p4 := f.hash4[h4]
			now := uint32(f.at + 1)
			f.hash2[h2], f.hash3[h3], f.hash4[h4] = now, now, now
			f.tree(p4, maxMatch, limit)
		}
		f.at++
	}
}

// tree puts the place into the tree that begins with p, and adds the matches that are longer
// than the longest.
func (f *finder) tree(p uint32, longest, limit int) {
	content, sons := f.content, f.sons
	at := f.at
	less, greater := 2*at, 2*at+1
	lessLen, greaterLen := 0, 0
	for left := depth; p > 0 && left > 0; left-- {
		q := int(p - 1)
		n := common(content[q:], content[at:], min(lessLen, greaterLen), limit)
		if n > longest {
			longest = n
			f.found = append(f.found, match{uint32(n), uint32(at - q)})
		}
		if n == limit {
			sons[less], sons[greater] = sons[2*q], sons[2*q+1]
			return
		}
		if content[q+n] < content[at+n] {
			sons[less] = p
			less = 2*q + 1
			p = sons[less]
			lessLen = n
		} else {
			sons[greater] = p
			greater = 2 * q
			p = sons[greater]
			greaterLen = n
		}
	}
	sons[less], sons[greater] = 0, 0
}

// common returns how many bytes are the same, of which n are known, to a limit.
func common(a, b []byte, n, limit int) int {
	a, b = a[:min(len(a), limit)], b[:limit]
	for n+8 <= len(b) && n+8 <= len(a) {
		if x := binary.LittleEndian.Uint64(a[n:]) ^ binary.LittleEndian.Uint64(b[n:]); x != 0 {
			return n + trailing(x)
		}
		n += 8
	}
	for n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}
