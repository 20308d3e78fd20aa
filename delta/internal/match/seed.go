package match

import (
	"encoding/binary"
	"math"
	"math/bits"

	"puavo-image-repository/delta/internal/kernel"
)

// seedLen is the length of a seed in bytes.
const seedLen = 32

// The least and most places that are looked at in one batch.
const (
	least = 128
	most  = 2 << 10
)

// samples is a batch of sampled seeds: where they start, their hashes, and where the
// base may have them. They are taken in batches so that the table's cache misses overlap.
type samples struct {
	n    int
	pos  [256]int
	hash [256]uint64
	base [256]int
	mask [most / 32]uint32 // of the places that are looked at
}

// threshold is below which the product of a seed's first four bytes is, see
// kernel.Sampled, if it is one of those in 1<<sampling that are sampled.
func threshold(sampling int) int32 { return math.MinInt32 + 1<<(32-sampling) }

// scan collects the sampled seeds of data that start in the n places from at on, or
// the first of them if there are very many. It returns the next place to look at, and
// the length of data if no seed starts there or later.
func (s *samples) scan(data []byte, at, n int, threshold int32) (next int) {
	s.n = 0
	if len(data)-at < seedLen {
		return len(data)
	}
	n = min(n, most, len(data)-at-seedLen+1)
	kernel.Sampled(s.mask[:], data[at:], n, threshold)
	next = s.take(at, n)
	for i, p := range s.pos[:s.n] {
		s.hash[i] = seedHash(data[p:])
	}
	return next
}

// take collects the places whose bits are set in the mask of n places from at on, as
// far as they fit, and returns the next place to look at.
func (s *samples) take(at, n int) (next int) {
	for i, word := range s.mask[:(n+31)/32] {
		for ; word != 0; word &= word - 1 {
			p := at + 32*i + bits.TrailingZeros32(word)
			if s.n == len(s.pos) {
				return p
			}
			s.pos[s.n] = p
			s.n++
		}
	}
	return at + n
}

// seedHash mixes the 32 bytes of a seed well enough that its low bits choose a
// slot and its high ones are the tag.
func seedHash(seed []byte) uint64 {
	_ = seed[seedLen-1]
	x := fold(binary.LittleEndian.Uint64(seed[0:])^0x9e3779b97f4a7c15, binary.LittleEndian.Uint64(seed[8:])^0xd6e8feb86659fd93)
	y := fold(binary.LittleEndian.Uint64(seed[16:])^0xa0761d6478bd642f, binary.LittleEndian.Uint64(seed[24:])^0xe7037ed1a0b428db)
	return fold(x^0x8ebc6af09c88c6e3, y^0x589965cc75374cc3)
}

// fold multiplies to 128 bits and adds the halves without carry.
func fold(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi ^ lo
}
