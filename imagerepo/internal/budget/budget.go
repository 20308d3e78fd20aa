// Package budget divides the memory that a run may use, apart from mapped files, among
// its concurrent work.
//
// What each takes is known before it begins. The size of an index follows from that
// of its base, and from the memory that was asked for, if that is too little: so the
// same images and options give the same deltas on every machine. Where memory is
// short, fewer bases are worked on at a time, then their diffs get fewer cores, then
// fewer deltas are made concurrently, and only then indexes get smaller.
//
//	48 MiB   the process itself
//	12 MiB   of each base or image that is worked on: digests and buffers
//	12 MiB   of each core of each diff: what its finder has found
//	index    64 MiB, or a 16th of its base, rounded down to a power of two; from when
//	         its base is read until its deltas are made
package budget

import (
	"cmp"
	"fmt"
	"math/bits"
	"os"

	"golang.org/x/sys/unix"

	"puavo-image-repository/delta"
	"puavo-image-repository/imagerepo/plan"
)

// Budget is what a run may take.
type Budget struct {
	Memory int64 // bytes
	Jobs   int   // how many images or bases are worked on concurrently
	// given says that Memory was asked for, so that it holds in any case.
	given bool
}

const (
	runMemory  = 48 << 20 // bytes of the process itself
	jobMemory  = 12 << 20 // of an image or base, for digests and buffers
	coreMemory = 12 << 20 // of a diff, for each core

	// leastIndex is the smallest index that a large base gets.
	leastIndex = 1 << 20
	// usualIndex, or this share of a larger base, is what an index takes if it may:
	// more makes hardly any delta smaller.
	usualIndex = 64 << 20
	baseShare  = 16

	// tableMemory is what a block of a signature takes in the table of blocks, and
	// recallMemory what it takes in each delta that is verified.
	tableMemory  = 16
	recallMemory = 8
)

// Least returns the least memory that a run may be given, in bytes.
func Least() int64 { return runMemory + jobMemory + coreMemory + leastIndex }

// New returns the budget of a run that may take memory bytes, with at most the given
// number of jobs. Memory of 0 is a quarter of what the machine and its control groups
// allow, or more if the largest base needs more.
func New(memory int64, jobs int) (Budget, error) {
	if memory != 0 && memory < Least() {
		return Budget{}, fmt.Errorf("a run needs at least %d MiB of memory, not %d", (Least()+1<<20-1)>>20, memory>>20)
	}
	return Budget{cmp.Or(memory, max(machineMemory()/4, Least())), max(jobs, 1), memory != 0}, nil
}

// Index returns how many bytes the index of a base of size bytes takes at most.
func (b Budget) Index(size int64) int64 {
	index := usual(size)
	if b.given {
		index = min(index, b.Memory-runMemory-jobMemory-coreMemory)
	}
	return 1 << (bits.Len64(uint64(index)) - 1) // as a table has it
}

// usual returns what an index may use. That of a small base takes at most a byte for
// each of it, rounded up to a power of two, and 64 KiB at least.
func usual(size int64) int64 { return min(max(usualIndex, size/baseShare), 2*size+64<<10) }

// Check returns an error for a base that does not fit.
func (b Budget) Check(groups [][]plan.Delta) error {
	for _, g := range groups {
		if need := runMemory + b.need(g, 1, 1); g[0].Retired && need > b.Memory {
			return fmt.Errorf("deltas by the signature of %s need %d MiB of memory, but %d MiB are allowed; allow more with --memory, or leave out --keep-signatures",
				g[0].Base, need>>20, b.Memory>>20)
		}
	}
	return nil
}

// need returns how many bytes the deltas from one base take, made so many at a time
// on so many cores each.
func (b Budget) need(group []plan.Delta, width, cores int) int64 {
	return b.index(group) + b.sweep(group, width, cores)
}

// index returns the part of need that deltas from one base have in common.
func (b Budget) index(group []plan.Delta) int64 {
	if d := group[0]; d.Retired {
		return blocks(d) * tableMemory
	}
	return b.Index(group[0].BaseSize)
}

// sweep returns the other part.
func (b Budget) sweep(group []plan.Delta, width, cores int) int64 {
	each := coreMemory * int64(cores)
	if d := group[0]; d.Retired {
		each = coreMemory + blocks(d)*recallMemory // whose finders take little, on all cores
	}
	return jobMemory + each*int64(width)
}

// blocks returns how many blocks the signature of a base has.
func blocks(d plan.Delta) int64 { return d.BaseSize / int64(delta.Kept.BlockLen) }

// machineMemory returns the memory in bytes that this process may take: the machine's,
// or less if its control group, or one above that, has less.
func machineMemory() int64 {
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) != nil {
		return 0
	}
	return min(int64(info.Totalram)*int64(info.Unit), cgroupLimit(os.DirFS("/")))
}
