package match

import (
	"encoding/binary"
	"math/bits"
	"math/rand/v2"
)

// seedLen is the length of a seed in bytes: as many as a 32-bit gear hash
// remembers, since each new byte shifts it by one bit.
const seedLen = 32

// gear holds a random word for each byte, the same in every run.
var gear = func() (g [256]uint32) {
	r := rand.New(rand.NewPCG(0x7273, 0x0236))
	for i := range g {
		g[i] = r.Uint32()
	}
	return g
}()

// samples is a batch of sampled seeds: where they start, and their hashes. They
// are taken in batches so that the table's cache misses overlap.
type samples struct {
	n    int
	pos  [64]int
	hash [64]uint64
}

// scan collects the sampled seeds of data that start at or after at, up to most
// of them, and returns where the next seed to look at starts. It looks at about a
// step of bytes at once.
func (s *samples) scan(data []byte, at, most int, limit uint32) (next int) {
	s.n = 0
	end := min(at+step, len(data))
	if end-at < seedLen {
		return len(data)
	}
	var h uint32
	warm := at + seedLen - 1
	for _, c := range data[at:warm] {
		h = h<<1 + gear[c]
	}
	for i, c := range data[warm:end] {
		h = h<<1 + gear[c]
		if h < limit {
			s.pos[s.n] = at + i
			if s.n++; s.n == most {
				end = warm + i + 1
				break
			}
		}
	}
	for i, p := range s.pos[:s.n] {
		s.hash[i] = seedHash(data[p:])
	}
	if end == len(data) {
		return end
	}
	return end - seedLen + 1
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
