package imagerepo

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"puavo-image-repository/delta"
)

// Estimate is what a run is expected to take.
type Estimate struct {
	Seconds float64 `json:"seconds"` // by the last run's rate, or that of a usual machine
	Read    int64   `json:"read"`    // bytes of images and deltas, from the disk or its cache
	Write   int64   `json:"write"`   // bytes
	Memory  int64   `json:"memory"`  // bytes at the peak, besides mapped files
	Space   int64   `json:"space"`   // bytes that the mirror grows by, before anything is removed
	Free    int64   `json:"free"`    // bytes that its disk has
	Orphans int64   `json:"orphans"` // bytes of files that nothing names any more and that wait for their removal
}

// ErrSpace is wrapped by the error for a disk that will most likely not do.
var ErrSpace = errors.New("not enough free space")

// checkSpace compares what the run needs with what there is.
func (e Estimate) checkSpace(dir string) error {
	if e.Space <= e.Free {
		return nil
	}
	return fmt.Errorf("%w: the run needs about %d MiB for %s and its disk has %d MiB; make room, or see with --ignore-space how far it gets",
		ErrSpace, e.Space>>20, dir, e.Free>>20)
}

const (
	// usualRate is the work that a core does in a second, in bytes as the meter
	// counts them, where no run has shown it: as measured on a server.
	usualRate = 350 << 20
	// usualShare is the share of its target that a delta is expected to have where
	// none shows it.
	usualShare = 1. / 3
)

// estimate foretells what the plan takes, but for the time and the free space.
// Where copies is set, images cannot be linked into the mirror.
func (p Plan) estimate(b budget, copies bool) Estimate {
	e := Estimate{Memory: b.peak(p.groups())}
	for _, im := range p.Images {
		if copies && (im.Action == Link || im.Action == Replace) {
			e.Read += im.Size
			e.Write += im.Size
		}
		if im.Action == Check {
			e.Read += im.Size
		}
		if im.Read {
			e.Read += im.Size
			e.Write += delta.SignatureSize(im.Size)
		}
	}
	share := p.share()
	for _, d := range p.Deltas {
		switch d.Action {
		case Make: // the target is read, and the base when the delta is verified
			e.Read += d.baseSize + d.TargetSize
			e.Write += int64(share * float64(d.TargetSize))
		case Check:
			e.Read += d.baseSize
		}
	}
	for _, old := range p.Remove {
		if !old.Due.IsZero() {
			e.Orphans += old.Size
		}
	}
	e.Space = e.Write
	return e
}

// work returns how much the meter will count.
func (p Plan) work() (n int64) {
	for _, im := range p.Images {
		if im.Action == Link || im.Action == Replace {
			n += im.Size
		}
		if im.Read {
			n += im.Size
		}
		if im.Action == Check {
			n += im.Size
		}
	}
	for _, d := range p.Deltas {
		n += d.cost()
	}
	return n
}

// toDo returns how much of the work remains after what is kept as it is.
func (p Plan) toDo() int64 {
	n := p.work()
	for _, d := range p.Deltas {
		if !d.open() {
			n -= d.cost()
		}
	}
	return n
}

// share returns the share of its target that a delta is expected to have: the
// middle one of those that are known.
func (p Plan) share() float64 {
	var known []float64
	for _, d := range p.Deltas {
		if d.Action == Keep {
			known = append(known, float64(d.Size)/float64(d.TargetSize))
		}
	}
	if len(known) == 0 {
		return usualShare
	}
	slices.Sort(known)
	return known[len(known)/2]
}

// foretell completes the plan's estimate by what the machine and the last run
// tell.
func (r *run) foretell() error {
	copies, free, err := disks(r.ImageDir, r.MirrorDir)
	if err != nil {
		return err
	}
	e := r.plan.estimate(r.budget, copies)
	e.Free = free
	rate := float64(usualRate * runtime.NumCPU())
	if r.mirror != nil {
		rate = cmp.Or(r.mirror.LastRun().Rate, rate)
	}
	e.Seconds = float64(r.plan.toDo()) / rate
	r.plan.Estimate = e
	return nil
}

// disks tells whether images must be copied, because the two directories are on
// different disks, and the space in bytes that the mirror's has.
func disks(imageDir, mirrorDir string) (copies bool, free int64, err error) {
	for {
		if _, err := os.Stat(mirrorDir); !errors.Is(err, fs.ErrNotExist) || mirrorDir == filepath.Dir(mirrorDir) {
			break
		}
		mirrorDir = filepath.Dir(mirrorDir) // it is to be made
	}
	var images, mirror unix.Stat_t
	var disk unix.Statfs_t
	if err := errors.Join(unix.Stat(imageDir, &images), unix.Stat(mirrorDir, &mirror), unix.Statfs(mirrorDir, &disk)); err != nil {
		return false, 0, fmt.Errorf("looking at the disks of %s and %s: %w", imageDir, mirrorDir, err)
	}
	return images.Dev != mirror.Dev, int64(disk.Bavail) * disk.Bsize, nil
}

// budget divides the memory that a run may take, besides mapped files, among its
// jobs.
type budget struct {
	memory int64 // bytes
	jobs   int
}

const (
	runMemory  = 48 << 20 // bytes of the process itself
	jobMemory  = 16 << 20 // of a job, for digests and buffers
	coreMemory = 12 << 20 // of a diff, for each core

	// leastIndex is the index for which a job less is run.
	leastIndex = 1 << 20
	// usualIndex and the share of the base that it is otherwise are what the index
	// of a base takes if it may: more makes hardly any delta smaller.
	usualIndex = 64 << 20
	baseShare  = 16

	// blockMemory is what a block of a signature takes: as an entry in the table of
	// blocks, and as a place in the target when the delta is verified.
	blockMemory = 16 + 8
)

// diffMemory is what a job takes besides its index.
func diffMemory() int64 { return jobMemory + coreMemory*int64(runtime.GOMAXPROCS(0)) }

// MinMemory returns the least memory that a run may be given on this machine, in
// bytes.
func MinMemory() int64 { return runMemory + diffMemory() + leastIndex }

// newBudget returns the budget of a run that may take so much memory, a quarter
// of the machine's where that is 0, with at most so many jobs.
func newBudget(memory int64, jobs int) (budget, error) {
	if memory == 0 {
		memory = max(machineMemory()/4, MinMemory())
	}
	if memory < MinMemory() {
		return budget{}, fmt.Errorf("a run needs %d MiB of memory or more on this machine, not %d", (MinMemory()+1<<20-1)>>20, memory>>20)
	}
	jobs = max(jobs, 1)
	for jobs > 1 && (memory-runMemory)/int64(jobs) < diffMemory()+leastIndex {
		jobs--
	}
	return budget{memory, jobs}, nil
}

// index returns how much the index of a base of size bytes may take.
func (b budget) index(size int64) int64 {
	most := (b.memory-runMemory)/int64(b.jobs) - diffMemory()
	// That of a small base takes at most a byte for each of it, rounded up to a power
	// of two, and 64 KiB at least.
	return min(max(usualIndex, size/baseShare), 2*size+64<<10, most)
}

// need returns how much the deltas from one base take.
func (b budget) need(group []PlannedDelta) int64 {
	if d := group[0]; d.Retired {
		return diffMemory() + d.baseSize/int64(delta.Kept.BlockLen)*blockMemory
	}
	return diffMemory() + b.index(group[0].baseSize)
}

// check reports, as an error, a base that does not fit.
func (b budget) check(groups [][]PlannedDelta) error {
	for _, g := range groups {
		if need := runMemory + b.need(g); need > b.memory {
			return fmt.Errorf("deltas by the signature of %s need %d MiB of memory, %d MiB are allowed; allow more by --memory, or leave --keep-signatures out",
				g[0].Base, need>>20, b.memory>>20)
		}
	}
	return nil
}

// peak returns how much a run takes at most.
func (b budget) peak(groups [][]PlannedDelta) int64 {
	var needs []int64
	for _, g := range groups {
		if slices.ContainsFunc(g, PlannedDelta.open) {
			needs = append(needs, b.need(g))
		}
	}
	slices.Sort(needs)
	sum := int64(runMemory)
	for _, n := range needs[max(0, len(needs)-b.jobs):] {
		sum += n
	}
	return min(sum, b.memory)
}

// machineMemory returns the memory in bytes that this process may take.
func machineMemory() int64 {
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) != nil {
		return 0
	}
	total := int64(info.Totalram) * int64(info.Unit)
	// A container may have less.
	if data, err := os.ReadFile("/sys/fs/cgroup/memory.max"); err == nil {
		if limit, err := strconv.ParseInt(string(bytes.TrimSpace(data)), 10, 64); err == nil {
			total = min(total, limit)
		}
	}
	return total
}
