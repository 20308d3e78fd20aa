package lzma

import "math/bits"

func bitLen(n uint32) int { return bits.Len32(n) }

// coder is a range coder.
type coder struct {
	out     []byte
	low     uint64
	width   uint32
	cache   byte  // the last byte that may still get a carry
	pending int64 // bytes, the cache and those of 0xff behind it
}

func newCoder(dst []byte) coder { return coder{out: dst, width: 1<<32 - 1, pending: 1} }

func (c *coder) bit(p *prob, bit uint32) {
	bound := c.width >> probBits * uint32(*p)
	if bit == 0 {
		c.width = bound
		*p += (maxProb - *p) >> moveBits
	} else {
		c.low += uint64(bound)
		c.width -= bound
		*p -= *p >> moveBits
	}
	if c.width < topValue {
		c.width <<= 8
		c.shift()
	}
}

// direct codes the low n bits of a number, all as likely.
func (c *coder) direct(number uint32, n int) {
	for n--; n >= 0; n-- {
		c.width >>= 1
		if number>>n&1 != 0 {
			c.low += uint64(c.width)
		}
		if c.width < topValue {
			c.width <<= 8
			c.shift()
		}
	}
}

// shift writes the top byte of low, when it is known whether it gets a carry.
func (c *coder) shift() {
	if uint32(c.low) < 0xff<<24 || c.low>>32 != 0 {
		carry := byte(c.low >> 32)
		for b := c.cache; c.pending > 0; c.pending-- {
			c.out = append(c.out, b+carry)
			b = 0xff
		}
		c.cache = byte(c.low >> 24)
	}
	c.pending++
	c.low = c.low & 0xffffff << 8
}

func (c *coder) finish() []byte {
	for range 5 {
		c.shift()
	}
	return c.out
}

// tree codes a number of n bits, the highest first.
func (c *coder) tree(probs []prob, number uint32, n int) {
	m := uint32(1)
	for n--; n >= 0; n-- {
		b := number >> n & 1
		c.bit(&probs[m], b)
		m = m<<1 | b
	}
}

// reverse codes a number of n bits, the lowest first.
func (c *coder) reverse(probs []prob, number uint32, n int) {
	m := uint32(1)
	for range n {
		b := number & 1
		c.bit(&probs[m], b)
		m = m<<1 | b
		number >>= 1
	}
}

// Prices are in sixteenths of a bit.
const (
	priceBits = 4
	reduce    = 4 // bits of a probability that do not matter for its price
	infinite  = 1 << 30
)

// prices are those of a 0, by its probability.
var prices = func() (all [maxProb >> reduce]uint32) {
	for i := range all {
		w := uint32(i<<reduce + 1<<(reduce-1))
		n := uint32(0)
		for range priceBits {
			w *= w
			n <<= 1
			for w >= 1<<16 {
				w >>= 1
				n++
			}
		}
		all[i] = probBits<<priceBits - 15 - n
	}
	return all
}()

func price0(p prob) uint32 { return prices[p>>reduce] }

func price1(p prob) uint32 { return prices[(maxProb-p)>>reduce] }

func price(p prob, bit uint32) uint32 {
	if bit == 0 {
		return price0(p)
	}
	return price1(p)
}

func treePrice(probs []prob, number uint32, n int) (sum uint32) {
	for m := number | 1<<n; m > 1; m >>= 1 {
		sum += price(probs[m>>1], m&1)
	}
	return sum
}

func reversePrice(probs []prob, number uint32, n int) (sum uint32) {
	m := uint32(1)
	for range n {
		b := number & 1
		sum += price(probs[m], b)
		m = m<<1 | b
		number >>= 1
	}
	return sum
}

// trailing returns how many bytes of zeros a number starts with, the lowest first.
func trailing(x uint64) int { return bits.TrailingZeros64(x) / 8 }
