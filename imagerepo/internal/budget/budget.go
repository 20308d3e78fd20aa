// Package budget divides the memory that a run may take, besides mapped files, among
// its jobs.
//
// What a job needs is known before it begins. The size of an index is chosen so that
// it fits, and fewer jobs run where they would not fit.
package budget

import (
	"fmt"
	"os"
	"runtime"
	"slices"

	"golang.org/x/sys/unix"

	"puavo-image-repository/delta"
	"puavo-image-repository/imagerepo/plan"
)

// Budget is what a run may take.
type Budget struct {
	Memory int64 // bytes
	Jobs   int   // how many images or bases are worked on concurrently
}

const (
	runMemory  = 48 << 20 // bytes of the process itself
	jobMemory  = 16 << 20 // of a job, for digests and buffers
	coreMemory = 12 << 20 // of a diff, for each core

	// leastIndex is the index for which one job less is run.
	leastIndex = 1 << 20
	// usualIndex, or this share of a larger base, is what an index takes if it may:
	// more makes hardly any delta smaller.
	usualIndex = 64 << 20
	baseShare  = 16

	// blockMemory is what a block of a signature takes: as an entry in the table of
	// blocks, and as a place in the target when the delta is verified.
	blockMemory = 16 + 8
)

// diffMemory is what a job takes besides its index.
func diffMemory() int64 { return jobMemory + coreMemory*int64(runtime.GOMAXPROCS(0)) }

// Least returns the least memory that a run may be given on this machine, in bytes.
func Least() int64 { return runMemory + diffMemory() + leastIndex }

// New returns the budget of a run that may take memory bytes, a quarter of what the
// machine and its control groups allow if that is 0, with at most the given number of jobs.
func New(memory int64, jobs int) (Budget, error) {
	if memory == 0 {
		memory = max(machineMemory()/4, Least())
	}
	if memory < Least() {
		return Budget{}, fmt.Errorf("a run needs %d MiB of memory or more on this machine, not %d", (Least()+1<<20-1)>>20, memory>>20)
	}
	jobs = max(jobs, 1)
	for jobs > 1 && (memory-runMemory)/int64(jobs) < diffMemory()+leastIndex {
		jobs--
	}
	return Budget{memory, jobs}, nil
}

// Index returns how many bytes the index of a base of size bytes may take.
func (b Budget) Index(size int64) int64 {
	most := (b.Memory-runMemory)/int64(b.Jobs) - diffMemory()
	// That of a small base takes at most a byte for each of it, rounded up to a power
	// of two, and 64 KiB at least.
	return min(max(usualIndex, size/baseShare), 2*size+64<<10, most)
}

// ForJobs returns how many bytes all jobs may take together.
func (b Budget) ForJobs() int64 { return b.Memory - runMemory }

// Need returns how many bytes the deltas from one base take.
func (b Budget) Need(group []plan.Delta) int64 {
	if d := group[0]; d.Retired {
		return diffMemory() + d.BaseSize/int64(delta.Kept.BlockLen)*blockMemory
	}
	return diffMemory() + b.Index(group[0].BaseSize)
}

// Check returns an error for a base that does not fit.
func (b Budget) Check(groups [][]plan.Delta) error {
	for _, g := range groups {
		if need := runMemory + b.Need(g); need > b.Memory {
			return fmt.Errorf("deltas by the signature of %s need %d MiB of memory, %d MiB are allowed; allow more by --memory, or leave --keep-signatures out",
				g[0].Base, need>>20, b.Memory>>20)
		}
	}
	return nil
}

// Peak returns how many bytes a run takes at most.
func (b Budget) Peak(groups [][]plan.Delta) int64 {
	var needs []int64
	for _, g := range groups {
		if slices.ContainsFunc(g, plan.Delta.Open) {
			needs = append(needs, b.Need(g))
		}
	}
	slices.Sort(needs)
	sum := int64(runMemory)
	for _, n := range needs[max(0, len(needs)-b.Jobs):] {
		sum += n
	}
	return min(sum, b.Memory)
}

// machineMemory returns the memory in bytes that this process may take: the machine's,
// or less if its control group, or one above that, has less.
func machineMemory() int64 {
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) != nil {
		return 0
	}
	return min(int64(info.Totalram)*int64(info.Unit), cgroupLimit(os.DirFS("/")))
}
