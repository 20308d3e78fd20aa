package compactdelta

import (
	"cmp"
	"fmt"
	"math/bits"
	"path/filepath"
	"runtime"
	"time"

	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/budget"
	"puavo-image-repository/imagerepo/internal/diskspace"
	"puavo-image-repository/imagerepo/internal/mirror"
)

const (
	processMemory = 48 << 20  // bytes of the process itself
	searchMemory  = 32 << 20  // of each core while it searches
	packMemory    = 192 << 20 // of each core while it compresses
	leastIndex    = 64 << 20
	mostIndex     = 2 << 30

	// content is how many bytes an image has unpacked for each of its own, and streams what is
	// written besides for each byte of the rdiff delta.
	content = 2.5
	streams = 3.5

	// usualRate is the work that a core does in a second, in bytes, where no run has shown it.
	usualRate = 12 << 20
	// literal is the work for a byte of an rdiff delta, which is compressed, against that for a
	// byte of base or target.
	literal = 24
)

// MinMemory returns the least that Options.Memory may be, in bytes.
func MinMemory() int64 { return processMemory + packMemory }

func errTooLittle(memory int64) error {
	return fmt.Errorf("making compact deltas takes %d MiB of memory or more, not %d", MinMemory()>>20, memory>>20)
}

// Need is what it is expected to take to make a compact delta.
type Need struct {
	Scratch int64   `json:"scratch"` // bytes on the disk of the mirror, until it is made
	Memory  int64   `json:"memory"`  // bytes at the peak, besides mapped files
	Seconds float64 `json:"seconds"`

	index int64 // bytes of Memory for the search
	cores int
	work  int64 // in bytes, see workOf
}

// Estimate is what a run is expected to need.
type Estimate struct {
	Seconds float64 `json:"seconds"`         // for all, whatever the limit
	Limit   float64 `json:"limit,omitempty"` // of the run, in seconds; 0 is none
	Scratch int64   `json:"scratch"`         // bytes at the peak
	Memory  int64   `json:"memory"`          // likewise
	Free    int64   `json:"free"`            // bytes free on the disk of the mirror
}

// limits are what a run may take, and how fast it is.
type limits struct {
	memory int64
	cores  int
	rate   float64 // work a second, 0 where no run has shown it
	free   int64
	time   time.Duration
}

func limitsOf(o Options, rate float64) limits {
	l := limits{memory: o.Memory, cores: runtime.GOMAXPROCS(0), rate: rate, free: free(o.MirrorDir), time: o.Time}
	if usual, err := budget.New(0, 1); l.memory == 0 && err == nil {
		l.memory = max(usual.Memory, MinMemory())
	}
	return l
}

// free returns how many bytes are free where scratch files are made, 0 if that is not known.
func free(mirrorDir string) int64 {
	dir, err := atomicfile.Open(diskspace.Existing(filepath.Join(mirrorDir, mirror.TmpPath(""))))
	if err != nil {
		return 0
	}
	defer dir.Close()
	n, err := diskspace.Free(dir)
	if err != nil {
		return 0
	}
	return n
}

// workOf returns the work for a compact delta, in bytes.
func workOf(d *Delta) int64 { return d.base.Size + d.target.Size + literal*d.Rival }

// need returns what it takes to make one.
func (l limits) need(d *Delta) *Need {
	n := Need{work: workOf(d), Scratch: int64(content*float64(d.base.Size+d.target.Size) + streams*float64(d.Rival))}
	left := l.memory - processMemory
	n.cores = int(max(1, min(int64(l.cores), left/packMemory)))
	n.index = usualIndex(d.base.Size)
	for n.index > leastIndex && n.index+int64(n.cores)*searchMemory > left {
		n.index /= 2
	}
	n.Memory = processMemory + max(n.index+int64(n.cores)*searchMemory, int64(n.cores)*packMemory)
	n.Seconds = float64(n.work) / cmp.Or(l.rate, usualRate*float64(n.cores))
	return &n
}

// usualIndex returns what the index of a base of size bytes takes if it may.
func usualIndex(size int64) int64 {
	index := min(max(int64(content*float64(size))/8, leastIndex), mostIndex)
	return 1 << (bits.Len64(uint64(index)) - 1)
}

// estimate returns what a run needs for all compact deltas of a plan.
func (l limits) estimate(all []Delta) Estimate {
	e := Estimate{Free: l.free, Limit: l.time.Seconds()}
	for _, d := range all {
		if d.Need != nil {
			e.Seconds += d.Need.Seconds
			e.Scratch, e.Memory = max(e.Scratch, d.Need.Scratch), max(e.Memory, d.Need.Memory)
		}
	}
	return e
}
