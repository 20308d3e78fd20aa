package sums

// Weak is a kind of weak sum.
type Weak bool

const (
	Rollsum   Weak = false
	RabinKarp Weak = true
)

const (
	charOffset = 31 // rollsum adds it to each byte
	mult       = 0x08104225
	seed       = 1 // of RabinKarp, so that the length counts
)

// Powers of mult.
const (
	mult2 = mult * mult & 0xffffffff
	mult3 = mult2 * mult & 0xffffffff
	mult4 = mult2 * mult2 & 0xffffffff
)

// Sum returns the sum of a block.
func (k Weak) Sum(block []byte) uint32 {
	if k == RabinKarp {
		return rabinKarp(block)
	}
	return rollsum(block)
}

func rabinKarp(block []byte) uint32 {
	h := uint32(seed)
	for len(block) >= 8 {
		b := block[:8]
		lo := uint32(b[0])*mult3 + uint32(b[1])*mult2 + uint32(b[2])*mult + uint32(b[3])
		hi := uint32(b[4])*mult3 + uint32(b[5])*mult2 + uint32(b[6])*mult + uint32(b[7])
		h = (h*mult4+lo)*mult4 + hi
		block = block[8:]
	}
	for _, c := range block {
		h = h*mult + uint32(c)
	}
	return h
}

func rollsum(block []byte) uint32 {
	var a, b uint32
	for len(block) >= 8 {
		x := block[:8]
		x0, x1, x2, x3 := uint32(x[0]), uint32(x[1]), uint32(x[2]), uint32(x[3])
		x4, x5, x6, x7 := uint32(x[4]), uint32(x[5]), uint32(x[6]), uint32(x[7])
		b += 8*a + 8*x0 + 7*x1 + 6*x2 + 5*x3 + 4*x4 + 3*x5 + 2*x6 + x7 + 36*charOffset
		a += x0 + x1 + x2 + x3 + x4 + x5 + x6 + x7 + 8*charOffset
		block = block[8:]
	}
	for _, c := range block {
		a += uint32(c) + charOffset
		b += a
	}
	return b<<16 | a&0xffff
}

// Suffix returns the length of the shortest end of data, of at most most bytes,
// that has this sum and that accept takes, 0 for none.
func (k Weak) Suffix(data []byte, most int, sum uint32, accept func(end []byte) bool) int {
	h, power := uint32(0), uint32(1) // RabinKarp without seed, M^n
	a, b := uint32(0), uint32(0)     // rollsum
	for n := 1; n <= min(most, len(data)); n++ {
		c := uint32(data[len(data)-n])
		h += c * power
		power *= mult
		a += c + charOffset
		b += uint32(n) * (c + charOffset)
		is := b<<16|a&0xffff == sum
		if k == RabinKarp {
			is = h+power*seed == sum
		}
		if is && accept(data[len(data)-n:]) {
			return n
		}
	}
	return 0
}

// Roller rolls sums of windows of one length.
type Roller struct {
	kind  Weak
	n     int
	leave [256]uint32 // what a byte that leaves takes from the sum
}

// NewRoller returns a Roller for windows of n bytes, n at least 1.
func (k Weak) NewRoller(n int) *Roller {
	r := &Roller{kind: k, n: n}
	power := uint32(1)
	for i := range 32 {
		if n>>i&1 == 1 {
			power *= powers[i]
		}
	}
	for c := range uint32(len(r.leave)) {
		if k == RabinKarp {
			r.leave[c] = power * (c + (mult-1)*seed)
		} else {
			r.leave[c] = uint32(n) * (c + charOffset)
		}
	}
	return r
}

// powers holds mult^(2^i).
var powers = func() (p [32]uint32) {
	p[0] = mult
	for i := 1; i < len(p); i++ {
		p[i] = p[i-1] * p[i-1]
	}
	return p
}()

// Roll sets sums[i] to the sum of the window that starts at data[i]. sums[0] must
// be set, and data must hold the last window.
func (r *Roller) Roll(sums []uint32, data []byte) {
	steps := len(sums) - 1
	out, in := data[:steps], data[r.n:][:steps]
	if r.kind == RabinKarp {
		r.rabinKarp(sums, out, in)
	} else {
		r.rollsum(sums, out, in)
	}
}

// rabinKarp takes two steps at a time, so that only one multiplication in two waits
// for the last.
func (r *Roller) rabinKarp(sums []uint32, out, in []byte) {
	h := sums[0]
	sums = sums[1:]
	in, sums = in[:len(out)], sums[:len(out)]
	i := 0
	for ; i < len(out)-1; i += 2 {
		d := uint32(in[i]) - r.leave[out[i]]
		e := uint32(in[i+1]) - r.leave[out[i+1]]
		sums[i] = h*mult + d
		h = h*mult2 + (d*mult + e)
		sums[i+1] = h
	}
	if i < len(out) {
		sums[i] = h*mult + uint32(in[i]) - r.leave[out[i]]
	}
}

func (r *Roller) rollsum(sums []uint32, out, in []byte) {
	a, b := sums[0]&0xffff, sums[0]>>16
	sums = sums[1:]
	in, sums = in[:len(out)], sums[:len(out)]
	for i, c := range out {
		a += uint32(in[i]) - uint32(c)
		b += a - r.leave[c]
		sums[i] = b<<16 | a&0xffff
	}
}
