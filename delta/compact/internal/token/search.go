package token

import (
	"encoding/binary"
	"math/bits"
)

const (
	longestMatch = 2048 // bytes
	shortMatch   = 64   // the same, in a block whose work is over its limit
	listed       = 8    // matches that a search keeps, a power of two
	preferable   = 3    // the longest of those that the compressor chooses from
	widest       = 8    // bytes of the longest grams
	slots        = 32   // positions whose matches are held, more than any look ahead
	deeper       = 8    // how much deeper the search for a match is that was not expected

	// maxRank is how many earlier positions with the same three bytes the compressor looks
	// at, and lazyRank how many when it holds a match of longLazy bytes.
	maxRank  = 2048
	lazyRank = 512
)

// match is a length and a distance; there is none if they are 0.
type match struct{ length, distance int }

// longer returns m with more bytes before it, as far as there may be.
func (m match) longer(more int) match { return match{min(m.length+more, longestMatch), m.distance} }

// slot holds what was found for a position.
type slot struct {
	position int
	need     int // the length that was asked for
	match
	gaveUp bool // the search ended before it was sure
}

// search finds matches in a block.
type search struct {
	tables
	depth int // candidates that are looked at, for each length
	work  int // that was done in this block
	limit int // of the work
	most  int // bytes of the longest match

	chains [widest + 1]chain
	held   [slots]slot

	list   [listed]match // the last matches that longest found, in a ring
	found  int           // how many there were
	gaveUp bool          // the last walk along a chain ended before its end
}

// begin prepares the search in a block, for a depth and an allowance of work for each byte.
func (s *search) begin(content []byte, depth, allowance int) {
	s.build(content)
	s.setChains()
	s.depth, s.most = depth, longestMatch
	s.work, s.limit = 0, allowance*len(content)
	for i := range s.held {
		s.held[i].position = -1
	}
}

// spend adds to the work. Once it is over its limit, searches are as short as can be.
func (s *search) spend(work int) {
	s.work += work
	if s.work > s.limit {
		s.depth, s.most = 1, shortMatch
	}
}

func load(content []byte, at int) uint64 { return binary.LittleEndian.Uint64(content[at:]) }

// common counts the bytes that are the same at x and at distance, up to most.
func (s *search) common(x, distance, most int) int {
	for k := 0; k < most; k += 8 {
		if diff := load(s.content, x+k) ^ load(s.content, x+k-distance); diff != 0 {
			return min(most, k+bits.TrailingZeros64(diff)/8)
		}
	}
	return most
}

// rankAt returns how many positions p3 leads through from x to a distance, from where the
// same three bytes stand.
func (s *search) rankAt(x, distance int) int { return int(s.rank[x] - s.rank[x-distance]) }

// chain is a way through a table.
type chain struct {
	table []uint16
	width int // bytes of its grams
	depth int // candidates that are looked at, for one of the search's depth
}

// setChains sets the chain for each length that a match must have: that with the widest
// grams that fit. It is looked up, as a switch would be mispredicted.
func (s *search) setChains() {
	for need := range s.chains {
		switch {
		case need < 5:
			s.chains[need] = chain{s.p3, 3, 4}
		case need < widest:
			s.chains[need] = chain{s.p5, 5, 1}
		default:
			s.chains[need] = chain{s.p8, widest, 1}
		}
	}
}

func (s *search) chainFor(need int) *chain { return &s.chains[min(uint(need), widest)] }

// walk returns the nearest match of need bytes at x, of at most most, among the candidates
// that c leads to from a distance on by the gram at x+at.
func (s *search) walk(c *chain, x, at, distance, need, most int) match {
	content, table := s.content, c.table
	far := min(x, farthest)
	head, unlike := load(content, x), uint(64-8*min(need, widest))&63
	depth := c.depth * s.depth
	tried := 0
	s.gaveUp = false
	for distance <= far {
		if tried == depth {
			s.gaveUp = true
			break
		}
		tried++
		y := x - distance
		step := table[y+at]
		if (head^load(content, y))<<unlike == 0 {
			n := s.common(x, distance, most)
			if n >= need {
				s.spend(tried + n/64)
				if s.rankAt(x, distance) > maxRank {
					return match{}
				}
				return match{n, distance}
			}
			s.work += n / 64
			// The first n bytes are alike, so that the grams in them lead on as well. The
			// longest of the steps is the best, and one that leads nowhere ends the search.
			for _, k := range [2]int{0, n - widest} {
				if other := table[y+k]; other-1 > step-1 {
					step, at = other, k
				}
			}
		}
		if step == 0 {
			break
		}
		distance += int(step)
	}
	s.spend(tried)
	return match{}
}

// next returns the nearest match of need bytes at x, of at most most, that is farther than
// a match of need-1 bytes whose distance is given; 0 is the distance of none.
func (s *search) next(x, need, distance, most int) match {
	s.gaveUp = false
	if need > most {
		return match{}
	}
	c := s.chainFor(need)
	at := need - c.width
	first := int(c.table[x+at])
	if first == 0 {
		return match{}
	}
	// All grams of the match must have stood there. The one that was last seen farthest
	// away leads past most candidates.
	step := max(at/4, 1)
	for k := at - 1; k >= 0; k -= step {
		if k < step {
			k = 0
		}
		d := int(c.table[x-distance+k])
		if d == 0 {
			return match{}
		}
		if d += distance; d > first {
			at, first = k, d
		}
	}
	return s.walk(c, x, at, first, need, most)
}

// longest fills the list for x: the nearest match of each length from need on.
func (s *search) longest(x, need int) {
	s.found = 0
	most := min(s.n-x, s.most)
	m, most := s.first(x, need, most)
	for m.length != 0 {
		s.push(m)
		m = s.next(x, m.length+1, m.distance, most)
	}
	gaveUp := s.gaveUp
	switch d := int(s.p2[x]); {
	case s.found == 1:
		longest := s.list[0]
		if m := s.closer(x, longest); m.length != 0 {
			s.found = 0
			s.push(m)
			s.push(longest)
		}
	case s.found == 0 && need <= 2 && d != 0:
		s.push(match{2, d})
	}
	s.gaveUp = gaveUp
}

// first returns the nearest match of 8 bytes at x, or if there is none the nearest of 5, or of
// need, and how many bytes a match may have after what is known then.
func (s *search) first(x, need, most int) (m match, _ int) {
	if need <= widest && most >= widest {
		if d := int(s.p8[x]); d != 0 {
			if m = s.walk(&s.chains[widest], x, 0, d, widest, most); m.length != 0 {
				return m, most
			}
		}
		if s.p8[x] == 0 || !s.gaveUp {
			most = widest - 1
		}
	}
	if need <= 5 && most >= 5 {
		if d := int(s.p5[x]); d != 0 {
			if m = s.walk(&s.chains[5], x, 0, d, 5, most); m.length != 0 {
				return m, most
			}
		}
		if s.p5[x] == 0 || !s.gaveUp {
			most = 4
		}
	}
	return s.next(x, max(need, 3), 0, most), most
}

func (s *search) push(m match) {
	s.list[s.found%listed] = m
	s.found++
}

// nth returns the match that only n of the list are longer than; there is one for each n
// below found and listed.
func (s *search) nth(n int) match { return s.list[uint(s.found-1-n)%listed] }

// closer returns the nearest match that is a byte shorter than m, where it could be cheaper.
func (s *search) closer(x int, m match) match {
	if 4 <= m.length && m.length <= 9 && m.distance > 2048 || 10 <= m.length && m.length <= 34 && m.distance > 16384 {
		return s.next(x, m.length-1, 0, m.length-1)
	}
	return match{}
}

// cheaper reports whether the compressor prefers o to the longer match m, since it is
// written in fewer bytes.
func cheaper(m, o match) bool {
	switch {
	case o.length == 0:
		return false
	case m.length == 10 && m.distance > 16384 && o.length == 8 && o.distance <= 2048:
		return true
	case o.length != m.length-1:
		return false
	case 4 <= m.length && m.length <= 9:
		return m.distance > 2048 && o.distance <= 2048
	case 10 <= m.length && m.length <= 34:
		return m.distance > 16384 && o.distance <= 16384
	}
	return false
}

// best returns the match at x that the compressor is expected to prefer, if it has need
// bytes. What is found for a position is found once.
func (s *search) best(x, need int) match {
	h := &s.held[x%slots]
	switch {
	case h.position == x && h.length >= need:
		return h.match
	case h.position == x && (h.length != 0 || need >= h.need):
		return match{}
	}
	*h = slot{position: x, need: need}
	if !s.possible(x, need) {
		return match{}
	}
	s.longest(x, need)
	h.gaveUp = s.gaveUp
	if s.found == 0 {
		return match{}
	}
	h.match = s.preferred()
	if h.length < need {
		return match{}
	}
	return h.match
}

// preferred returns the match of the list that the compressor is expected to prefer.
func (s *search) preferred() match {
	longest := s.nth(0)
	for n := 1; n < min(s.found, preferable); n++ {
		if o := s.nth(n); cheaper(longest, o) {
			return o
		}
	}
	return longest
}

// possible reports whether the grams at both ends of a match of need bytes stood before.
func (s *search) possible(x, need int) bool {
	switch {
	case x+need > s.n:
		return false
	case need == 2:
		return s.p3[x] != 0 || s.p2[x] != 0
	}
	c := s.chainFor(need)
	return c.table[x] != 0 && c.table[x+need-c.width] != 0
}

// refined returns m, a match that was found from its second or third byte on, or one that is cheaper.
func (s *search) refined(x int, m match) match {
	if o := s.closer(x, m); cheaper(m, o) {
		return o
	}
	return m
}

// extends reports whether the match at x at a distance could begin a byte before.
func (s *search) extends(x, distance int) bool {
	return x > distance && s.content[x-1] == s.content[x-1-distance] && s.rankAt(x-1, distance) <= maxRank
}
