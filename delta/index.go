package delta

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/bits"
	"math/rand/v2"
)

const (
	// seedLen is the length of a seed in bytes: as many as a 32-bit gear hash
	// remembers, since each new byte shifts it by one bit.
	seedLen = 32

	// The least memory an Index is made for, in bytes, and the densest sampling:
	// one seed in 1<<minSampling.
	minMemory   = 64 << 10
	minSampling = 4

	positionBits = 40 // of a slot; the other 24 are the tag
	maxBase      = 1<<positionBits - 1

	// step is how many bytes are scanned between two looks at the context.
	step = 1 << 20
)

// gear holds a random word for each byte. The seed is part of the format of
// nothing, but the same input shall give the same delta.
var gear = func() (g [256]uint32) {
	r := rand.New(rand.NewPCG(0x7273, 0x0236))
	for i := range g {
		g[i] = r.Uint32()
	}
	return g
}()

// An Index knows where sampled seeds of a base are. It is not changed once it
// is made, so any number of goroutines may Diff against it at the same time. It
// refers to the base's bytes, which must stay as they are.
type Index struct {
	base []byte
	// slots are position+1 in the low bits and a tag from the seed's hash in the
	// high ones; 0 is empty. There is a power of two of them.
	slots []uint64
	// limit tells which seeds are sampled: those whose rolling hash is below it.
	limit uint32
}

// NewIndex makes the index of base, of at most 1 TiB, in about memory bytes and
// never more, except that it takes 64 KiB at least. It returns ctx's error when
// that ends first.
func NewIndex(ctx context.Context, base []byte, memory int64) (*Index, error) {
	if int64(len(base)) > maxBase {
		return nil, fmt.Errorf("a base of %d bytes is more than the %d that an index can hold", len(base), int64(maxBase))
	}
	slots, sampling := geometry(int64(len(base)), memory)
	x := &Index{base: base, slots: make([]uint64, slots), limit: 1 << (32 - sampling)}
	var batch samples
	for at := 0; at+seedLen <= len(base); {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		at = batch.scan(base, at, len(batch.pos), x.limit)
		x.insert(&batch)
	}
	return x, nil
}

// geometry chooses the number of slots, a power of two, and the sampling, one
// seed in 1<<sampling, so that there are two slots or more for each sample that
// is to be expected.
func geometry(size, memory int64) (slots int64, sampling int) {
	most := int64(1) << (bits.Len64(uint64(max(memory, minMemory)/8)) - 1)
	for sampling = minSampling; 2*(size>>sampling) > most; sampling++ {
	}
	slots = minMemory / 8
	for slots < most && slots < 2*(size>>sampling) {
		slots *= 2
	}
	return slots, sampling
}

// samples is a batch of sampled seeds: where they start, and their hashes. They
// are taken in batches so that the table's cache misses overlap.
type samples struct {
	n    int
	pos  [64]int
	hash [64]uint64
}

// scan collects the sampled seeds that start at or after at, up to most of
// them, and returns where the next seed to look at starts. It looks at about a
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

// insert stores the samples whose slots are empty.
func (x *Index) insert(s *samples) {
	mask := uint64(len(x.slots) - 1)
	for i, h := range s.hash[:s.n] {
		if slot := &x.slots[h&mask]; *slot == 0 {
			*slot = h>>positionBits<<positionBits | uint64(s.pos[i]+1)
		}
	}
}

// lookup returns where in the base a seed of that hash may stand, or -1.
func (x *Index) lookup(hash uint64) int {
	slot := x.slots[hash&uint64(len(x.slots)-1)]
	if slot == 0 || (slot^hash)>>positionBits != 0 {
		return -1
	}
	return int(slot&maxBase) - 1
}
