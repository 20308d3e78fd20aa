// Package blocks finds the blocks of a base in a target, where of the base only
// the sums in its signature are at hand.
//
// A weak sum is rolled over the target. At each position it is looked up in a
// filter, three bits for a block in one word of 64, which turns nearly all others
// away. The positions are taken in batches, in which no step waits for the one
// before, so that the filter's cache misses overlap. What passes is looked up in
// a hash table of block numbers, and a block with that weak sum is taken if its
// strong sum is that of the window too. Once a block has matched, the one that
// follows it is tried first.
package blocks

import (
	"bytes"
	"context"
	"encoding/binary"
	"math"
	"math/bits"
	"math/rand/v2"
	"slices"

	"puavo-image-repository/delta/internal/match"
	"puavo-image-repository/delta/internal/sums"
	"puavo-image-repository/delta/mmap"
)

const (
	weakLen = 4 // bytes

	// MaxBlocks is the largest number of blocks.
	MaxBlocks = math.MaxUint32

	// maxProbes is how many slots of the table are looked at for one sum. A block
	// that finds no slot within them, which only happens by intent, is omitted.
	maxProbes = 512

	// regionLen is the least number of slots in a region, the part of the table
	// that one goroutine fills. What does not fit at its end goes on at its start.
	regionLen  = 4096
	maxRegions = 64
)

// Form says how the sums are made.
type Form struct {
	Weak                sums.Weak
	MD4                 bool
	BlockLen, StrongLen int // bytes
}

// Table holds the sums of a base's blocks. It never changes: any number of Finders
// may use it concurrently.
type Table struct {
	Form
	sums []byte // as in the file: of each block the weak and the strong sum
	n    int    // blocks

	// slots are a block's number+1 in the low bits and in those that are left as
	// much of the hash as fits; 0 is empty. There is a power of two of them.
	slots      []uint32
	numberBits int
	regions    int

	filter      []uint64 // one word for eight slots
	filterShift int      // of a hash
	free        func()
}

// New makes the table of these sums, which it refers to, on this number of cores;
// the table does not depend on the number. It takes at most MaxBlocks.
func New(ctx context.Context, form Form, sums []byte, cores int) (*Table, error) {
	n := len(sums) / (weakLen + form.StrongLen)
	slots := max(regionLen, power(n+n/2))
	t := &Table{
		Form: form, sums: sums, n: n,
		numberBits:  bits.Len(uint(n)),
		regions:     min(maxRegions, slots/regionLen),
		filterShift: 64 - bits.Len(uint(slots/8-1)),
	}
	if err := t.alloc(slots); err != nil {
		return nil, err
	}
	parts := slices.Collect(ranges(t.regions, cores))
	err := match.Parallel(parts, func(lo int) error {
		return t.fill(ctx, lo, min(lo+(t.regions+cores-1)/cores, t.regions))
	})
	if err != nil {
		t.Close()
		return nil, err
	}
	return t, nil
}

// alloc allocates the table, and its filter.
func (t *Table) alloc(slots int) error {
	table, freeTable, err := mmap.Alloc[uint32](int64(slots))
	if err != nil {
		return err
	}
	filter, freeFilter, err := mmap.Alloc[uint64](int64(slots / 8))
	if err != nil {
		freeTable()
		return err
	}
	t.slots, t.filter, t.free = table, filter, func() { freeTable(); freeFilter() }
	return nil
}

// Close frees the table's memory. Nobody may use the table after it.
func (t *Table) Close() { t.free() }

// ranges yields the start of each part of n.
func ranges(n, parts int) func(yield func(int) bool) {
	size := (n + parts - 1) / parts
	return func(yield func(int) bool) {
		for lo := 0; lo < n && yield(lo); lo += size {
		}
	}
}

// power returns the least power of two that is n or more.
func power(n int) int { return 1 << bits.Len(uint(max(n, 1)-1)) }

// hash mixes a weak sum. The high bits choose a slot of the table and a word of
// the filter, middle ones the word's bits, low ones go into the slot.
func hash(weak uint32) uint64 { return uint64(weak) * 0x9e3779b97f4a7c15 }

// top returns the highest bits of a hash, as a number below n, a power of two.
func top(h uint64, n int) int { return int(h >> (64 - bits.Len(uint(n-1)))) }

// masks are the bits of a word of the filter that a hash can have: three.
var masks = func() (m [1024]uint64) {
	r := rand.New(rand.NewPCG(0x7273, 0x0147))
	for i := range m {
		for bits.OnesCount64(m[i]) < 3 {
			m[i] |= 1 << r.IntN(64)
		}
	}
	return m
}()

func mask(h uint64) uint64 { return masks[h>>24%uint64(len(masks))] }

// fill stores the blocks that belong to the regions from lo to hi.
func (t *Table) fill(ctx context.Context, lo, hi int) error {
	for b := range t.n {
		if b%(1<<16) == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		weak := t.weak(b)
		h := hash(weak)
		if r := top(h, t.regions); r < lo || r >= hi {
			continue
		}
		t.insert(h, weak, b)
		t.filter[h>>t.filterShift] |= mask(h)
	}
	return nil
}

// insert stores a block unless the table has one with the same sums.
func (t *Table) insert(h uint64, weak uint32, b int) {
	same := func(have int) bool { return bytes.Equal(t.strong(have), t.strong(b)) }
	if slot, have := t.probe(h, weak, same); slot >= 0 && have < 0 {
		t.slots[slot] = uint32(h)<<t.numberBits | uint32(b+1)
	}
}

// probe looks for a block with this weak sum that is accepted. It returns the
// slot where it ended, or -1 where it found neither the block nor an empty slot,
// and the block or -1.
func (t *Table) probe(h uint64, weak uint32, accept func(b int) bool) (slot, b int) {
	home := top(h, len(t.slots))
	region := len(t.slots)/t.regions - 1
	tag := uint32(h) << t.numberBits
	for i := range min(maxProbes, region+1) {
		slot := home&^region | (home+i)&region
		e := t.slots[slot]
		if e == 0 {
			return slot, -1
		}
		if (e^tag)>>t.numberBits != 0 {
			continue
		}
		if b := int(e&(1<<t.numberBits-1)) - 1; t.weak(b) == weak && accept(b) {
			return slot, b
		}
	}
	return -1, -1
}

// weak returns the weak sum of a block.
func (t *Table) weak(b int) uint32 {
	return binary.BigEndian.Uint32(t.sums[b*(weakLen+t.StrongLen):])
}

// strong returns the strong sum of a block.
func (t *Table) strong(b int) []byte {
	at := b * (weakLen + t.StrongLen)
	return t.sums[at+weakLen : at+weakLen+t.StrongLen]
}
