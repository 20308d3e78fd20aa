// Package match finds what a base and a target have in common: the heart of
// package delta, whose documentation explains how it works.
package match

import (
	"context"
	"fmt"
	"math/bits"
	"sync/atomic"

	"puavo-image-repository/delta/mmap"
)

// Match says that Len bytes of the target from Target are those of the base from
// Base.
type Match struct{ Target, Base, Len int }

// Effort trades time for the number and length of the matches.
type Effort struct {
	// Sampling is the densest sampling: one seed in 1<<Sampling.
	Sampling int
	// Gap is the length in bytes of the shortest match that the gap search takes;
	// 0 leaves the search out.
	Gap int
	// Slack is how far in bytes, at most, the gap search looks around the place
	// where it expects the gap's content.
	Slack int
	// Patience is how long the gap search goes byte by byte where nothing matches:
	// each 1<<Patience bytes its steps get longer by one.
	Patience int
}

const (
	positionBits = 40 // of a slot; the other 24 are the tag

	// MaxBase is the size of the largest base, in bytes.
	MaxBase = 1<<positionBits - 1
	// MinMemory is the least memory of an Index, in bytes.
	MinMemory = 64 << 10

	// step is the number of bytes between two checks of the context.
	step = 1 << 20
)

// Index finds the sampled seeds and the runs of a base. It never changes: any number of Finders
// may use it concurrently, until Close.
type Index struct {
	base []byte
	// slots are position+1 in the low bits and a tag from the seed's hash in the
	// high ones; 0 is empty. There is a power of two of them.
	slots []uint64
	free  func()
	runs  runs
	// threshold selects the seeds that are sampled.
	threshold int32
}

// New makes the index of base in at most memory bytes, but MinMemory at least.
// parts is how many parts of it are read at the same time; the index does not
// depend on it.
func New(ctx context.Context, base []byte, memory int64, effort Effort, parts int) (*Index, error) {
	x, err := Begin(base, memory, effort)
	if err != nil {
		return nil, err
	}
	size := max(len(base)/max(parts, 1)+1, step)
	var starts []int
	for at := 0; at < len(base); at += size {
		starts = append(starts, at)
	}
	err = Parallel(starts, func(at int) error { return x.From(at).to(ctx, min(at+size, len(base))) })
	if err != nil {
		x.Close()
		return nil, err
	}
	return x, nil
}

// Begin makes the index that New makes, with nothing of base in it yet.
func Begin(base []byte, memory int64, effort Effort) (*Index, error) {
	if int64(len(base)) > MaxBase {
		return nil, fmt.Errorf("a base of %d bytes is more than the %d that an index can hold", len(base), int64(MaxBase))
	}
	slots, sampling := geometry(int64(len(base)), memory, effort.Sampling)
	table, free, err := mmap.Alloc[uint64](slots)
	if err != nil {
		return nil, err
	}
	return &Index{base: base, slots: table, free: free, threshold: threshold(sampling)}, nil
}

// Close frees the index's memory. Nobody may use the index after it.
func (x *Index) Close() { x.free() }

// geometry chooses the number of slots, a power of two, and the sampling, one seed
// in 1<<sampling, so that each expected sample has two slots or more.
func geometry(size, memory int64, densest int) (slots int64, sampling int) {
	most := int64(1) << (bits.Len64(uint64(max(memory, MinMemory)/8)) - 1)
	for sampling = densest; 2*(size>>sampling) > most; sampling++ {
	}
	slots = MinMemory / 8
	for slots < most && slots < 2*(size>>sampling) {
		slots *= 2
	}
	return slots, sampling
}

// Adder adds a part of the base to an index, from the part's start on, in one step or
// more. Adders of different parts may work concurrently: the index does not depend on the
// order, nor on where the parts end.
type Adder struct {
	index *Index
	at    int // seeds that start before are added
	place int // runs that are found before are added
	batch samples
}

// From returns an Adder that begins at a place of the base. It looks back as far as a
// run may have begun that reaches beyond that.
func (x *Index) From(at int) *Adder { return &Adder{index: x, at: at, place: max(0, at-maxOverlap)} }

// To adds the longest runs of the base up to hi, and the sampled seeds that start there.
// Seeds within a run are left out: they are all alike, or as many as its period is long.
// It reads up to 127 bytes behind hi, and a run that begins before that to its end.
func (a *Adder) To(ctx context.Context, hi int) error {
	return mmap.Guard(func() error { return a.to(ctx, hi) })
}

func (a *Adder) to(ctx context.Context, hi int) error {
	base := a.index.base
	for a.at < hi {
		if err := ctx.Err(); err != nil {
			return err
		}
		end := min(a.at+stretch, hi)
		r := nextRun(base, a.place, end)
		if r.length() == 0 {
			a.place = end
		} else {
			a.index.runs.add(base, r)
			end, a.place = min(max(a.at, r.start), end), max(r.end-maxOverlap, r.place+1)
		}
		a.seeds(end)
		a.at = max(end, r.end-seedLen+1)
	}
	return nil
}

// seeds adds the sampled seeds that start before hi.
func (a *Adder) seeds(hi int) {
	for x := a.index; a.at < hi; {
		a.at = a.batch.scan(x.base, a.at, hi-a.at, x.threshold)
		x.insert(&a.batch)
	}
}

// insert stores samples. Of several that want one slot the one with the lowest
// position gets it, whoever comes first.
func (x *Index) insert(s *samples) {
	mask := uint64(len(x.slots) - 1)
	for i, h := range s.hash[:s.n] {
		slot := &x.slots[h&mask]
		want := h>>positionBits<<positionBits | uint64(s.pos[i]+1)
		for {
			have := atomic.LoadUint64(slot)
			if have != 0 && have&MaxBase <= want&MaxBase {
				break
			}
			if atomic.CompareAndSwapUint64(slot, have, want) {
				break
			}
		}
	}
}

// lookup returns where in the base a seed of that hash may stand, or -1.
func (x *Index) lookup(hash uint64) int {
	slot := x.slots[hash&uint64(len(x.slots)-1)]
	if slot == 0 || (slot^hash)>>positionBits != 0 {
		return -1
	}
	return int(slot&MaxBase) - 1
}
