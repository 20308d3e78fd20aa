package token

import (
	"errors"
	"math/bits"

	"puavo-image-repository/delta/compact/internal/lzo"
)

// reference is a second decoder, written from the package documentation, as plainly as that
// and with nothing of the first one but the trained start, its probabilities read as it says.
type reference struct {
	low, high, code uint64
	in              []byte

	cells  []refCell
	detail map[uint32]refCell

	content        []byte
	p2, p3, p5, p8 []int
	rank           []int
	depth          int
	spent          bool
	work, limit    int
	held           map[int]*refHeld
	literals       int
}

type refCell struct {
	p, s  int
	check uint32
}

type refHeld struct {
	need   int
	found  match
	unsure bool
}

var none match

func newReference(stream []byte, start []byte) *reference {
	r := &reference{high: 1<<32 - 1, in: stream, detail: map[uint32]refCell{}}
	for range 4 {
		r.shiftIn()
	}
	for i := range len(start) / 2 {
		v := int(start[i])
		p := 65536 - (8+(255-v)%8)<<((255-v)/8)
		if v <= 96 {
			p = (8 + v%8) << (v / 8)
		}
		r.cells = append(r.cells, refCell{p: p, s: int(start[len(start)/2+i])})
	}
	return r
}

func (r *reference) shiftIn() {
	r.code = r.code << 8 & (1<<32 - 1)
	if len(r.in) > 0 {
		r.code |= uint64(r.in[0])
		r.in = r.in[1:]
	}
}

func (r *reference) decode(p int) (bit int) {
	middle := r.low + (r.high-r.low)*uint64(p)>>16
	if r.code <= middle {
		bit, r.high = 1, middle
	} else {
		r.low = middle + 1
	}
	for r.low>>24 == r.high>>24 {
		r.low = r.low << 8 & (1<<32 - 1)
		r.high = r.high<<8&(1<<32-1) | 255
		r.shiftIn()
	}
	return bit
}

func (c *refCell) learn(bit int) {
	c.p += (65535*bit - c.p) * ((131072 / (2*c.s + 3)) >> 1) >> 15
	c.p = min(max(c.p, 8), 65528)
	c.s = min(c.s+1, 250)
}

func (r *reference) bit(context int) int {
	c := &r.cells[context]
	bit := r.decode(c.p)
	c.learn(bit)
	return bit
}

func (r *reference) fineBit(context int, finer uint32) int {
	c := &r.cells[context]
	h := finer * 0x9e3779b1
	f := r.detail[h>>16]
	if check := h>>8&255 | 1; f.check != check {
		f = refCell{c.p, 0, check}
	}
	p := f.p
	if f.s < 3 {
		p = (f.p + c.p) / 2
	}
	bit := r.decode(p)
	c.learn(bit)
	f.learn(bit)
	r.detail[h>>16] = f
	return bit
}

// table is the one of grams of w bytes.
func (r *reference) table(w, reach int, hash func(g uint64) uint64) []int {
	t := make([]int, len(r.content))
	last := map[uint64]int{}
	for x := 0; x+w <= len(r.content); x++ {
		g := uint64(0)
		for k := range w {
			g |= uint64(r.content[x+k]) << (8 * k)
		}
		h := hash(g)
		if y, ok := last[h]; ok && x-y <= reach {
			t[x] = x - y
		}
		last[h] = x
	}
	return t
}

func (r *reference) tables() {
	const m = 0x9e3779b97f4a7c15
	r.p2 = r.table(2, 1024, func(g uint64) uint64 { return g })
	r.p3 = r.table(3, 49151, func(g uint64) uint64 { return g << 8 * 0x9e3779b1 % (1 << 32) >> 16 })
	r.p5 = r.table(5, 49151, func(g uint64) uint64 { return g << 24 * m >> 48 })
	r.p8 = r.table(8, 49151, func(g uint64) uint64 { return g * m >> 48 })
	r.rank = make([]int, len(r.content))
	for x, d := range r.p3 {
		r.rank[x] = 1
		if d != 0 {
			r.rank[x] = r.rank[x-d] + 1
		}
	}
}

func (r *reference) rankOf(x, d int) int { return (r.rank[x] - r.rank[x-d]) & 0xffff }

func (r *reference) alike(x, d, most int) (k int) {
	for k < most && r.content[x+k] == r.content[x+k-d] {
		k++
	}
	return k
}

func (r *reference) tableFor(need int) (t []int, w, candidates int) {
	switch {
	case need < 5:
		return r.p3, 3, 4 * r.depth
	case need < 8:
		return r.p5, 5, r.depth
	}
	return r.p8, 8, r.depth
}

// The numbers of the first contexts.
const (
	refShort   = 8 * 5 * 21 * 21
	refLong    = refShort + 2*5*5*6*13
	refOut     = refLong + 16*5*6*4
	refLiteral = refOut + 40
	refStart   = refLiteral + 40
	refList    = refStart + 1
	refLess    = refList + 8
	refFar     = refLess + 8
	refLength  = refFar + 16
)

func (r *reference) zGuess(x int) (z int) {
	for ; z < 20 && x+z < len(r.content); z++ {
		m := r.best(x+z, 2)
		if !refWritable(m, z) {
			continue
		}
		m, a, b := r.later(x+z, m, z)
		if a.gain+b.gain == 0 || r.cells[refLazy(m, a, b)].p >= 32768 {
			break
		}
	}
	return z
}

func (r *reference) shortOrLong(x int, m match) int {
	n := r.literals
	class := refClass(m.distance)
	if m.length > 3 {
		u := 2 * r.unsure(x)
		if n >= 4 {
			u++
		}
		return refLong + ((refS(m.length)*5+class)*6+bits.Len(uint(r.rankOf(x, m.distance)>>7)))*4 + u
	}
	g := func(n int) int {
		for i, most := range []int{3, 18, 273} {
			if n <= most {
				return i
			}
		}
		return 3
	}
	c, z, shown := 3, 0, 5
	if m.distance <= 2048 || m.length == 3 && m.distance <= 3072 && n >= 4 {
		c = 2
	}
	if m.length == 2 || c == 3 && n < 4 || c == 2 && n >= 4 {
		z = r.zGuess(x + m.length)
		shown = min(z, 4)
	}
	margin := c + g(n) + g(z) - m.length - g(n+m.length+z) + 5
	return refShort + ((((m.length-2)*5+class)*5+min(n, 4))*6+shown)*13 + margin
}

var errReference = errors.New("refused")

func (r *reference) other(x int, m match) (match, error) {
	d := 0
	if m != none {
		depth := r.depth
		if !r.spent {
			r.depth *= 8
		}
		list, _ := r.longest(x, 2)
		if !r.spent {
			r.depth = depth
		}
		for i := 0; i < 8 && i < len(list) && d == 0; i++ {
			if r.bit(refList+i) == 1 {
				d = list[len(list)-1-i].distance
			}
		}
	}
	if d == 0 {
		for i := range 16 {
			d = d*2 + r.bit(refFar+i)
		}
	}
	if d < 1 || d > min(x, 49151) {
		return none, errReference
	}
	most := r.alike(x, d, min(2048, len(r.content)-x))
	l, i := most, 0
	for ; i < 8 && r.bit(refLess+i) == 0; i++ {
		l--
	}
	if i == 8 {
		l = 0
		for i := range 12 {
			l = l*2 + r.bit(refLength+i)
		}
	}
	if l > most || !refWritable(match{l, d}, r.literals) {
		return none, errReference
	}
	return match{l, d}, nil
}

// at decodes what stands at x: a match or literals.
func (r *reference) at(x int) (_ match, literals int, _ error) {
	m := r.best(x, 2)
	if !refWritable(m, r.literals) {
		if r.p3[x] == 0 || r.bit(refStart) == 0 {
			return none, 1, nil
		}
		m, err := r.other(x, none)
		return m, 0, err
	}
	m, a, b := r.later(x, m, r.literals)
	if a.gain+b.gain > 0 {
		lazy := refLazy(m, a, b)
		s, q := refS(m.length), 0
		if a.gain >= 3 {
			q = bits.Len(uint(r.rankOf(x+1, a.distance) >> 5))
		}
		finer := (((lazy*5+min(r.literals, 4))*16+s)*8+q)*4 + r.unsure(x) + 2*r.unsure(x+1)
		if r.fineBit(lazy, uint32(finer)) == 0 {
			return none, 1, nil
		}
	}
	switch {
	case r.bit(r.shortOrLong(x, m)) == 1:
		return m, 0, nil
	case r.bit(refOut+refK(m)) == 1:
		return none, m.length, nil
	case r.bit(refLiteral+refK(m)) == 1:
		return none, 1, nil
	}
	m, err := r.other(x, m)
	return m, 0, err
}

// block decodes a block.
func (r *reference) block(content []byte, effort Effort) (tokens []lzo.Token, err error) {
	if len(content) == 0 {
		return nil, nil
	}
	r.content, r.held = content, map[int]*refHeld{}
	r.depth, r.spent, r.work, r.limit = effort.Depth, false, 0, effort.Allowance*len(content)
	r.tables()
	r.literals = 1
	add := func(l, d int) {
		if l > 0 {
			tokens = append(tokens, lzo.Token{Length: uint32(l), Distance: uint32(d)})
		}
	}
	for x := 1; x < len(content); {
		m, literals, err := r.at(x)
		if err != nil {
			return nil, err
		}
		x += m.length + literals
		r.literals += literals
		if m != none {
			add(r.literals, 0)
			add(m.length, m.distance)
			r.literals = 0
		}
	}
	add(r.literals, 0)
	return tokens, nil
}
