package planner

import (
	"cmp"
	"fmt"
	"runtime"
	"slices"

	"puavo-image-repository/delta"
	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/budget"
	"puavo-image-repository/imagerepo/internal/diskspace"
	"puavo-image-repository/imagerepo/internal/meter"
	"puavo-image-repository/imagerepo/plan"
)

const (
	// usualRate is the work that a core does in a second, in bytes as progress counts
	// them, where no run has shown it: as measured on a server.
	usualRate = 350 << 20
	// usualShare is the share of its target that a delta is expected to have where
	// none shows it.
	usualShare = 1. / 3
)

// Estimate returns what the plan is expected to need, carried out by a schedule. Rate
// is the work that the last run did in a second, in bytes, 0 where that is not known.
func Estimate(p plan.Plan, s budget.Schedule, mirrorDir string, rate float64) (plan.Estimate, error) {
	dir, err := atomicfile.Open(diskspace.Existing(mirrorDir))
	if err != nil {
		return plan.Estimate{}, err
	}
	defer dir.Close()
	e := volume(p, s)
	if e.Free, err = diskspace.Free(dir); err != nil {
		return plan.Estimate{}, err
	}
	e.Memory = s.Peak()
	e.Seconds = float64(Remaining(p)) / cmp.Or(rate, float64(usualRate*runtime.NumCPU()))
	return e, nil
}

// CheckSpace returns an error for a run that needs more space than its disk has.
func CheckSpace(e plan.Estimate, mirrorDir string) error {
	if e.Space <= e.Free {
		return nil
	}
	copies := ""
	if e.Copies > 0 {
		copies = fmt.Sprintf(", %d MiB of it for copies of images that cannot be linked there,", e.Copies>>20)
	}
	return fmt.Errorf("%w: the run needs about %d MiB for %s%s but the disk has %d MiB; make room, or start anyway with --ignore-space",
		plan.ErrSpace, e.Space>>20, mirrorDir, copies, e.Free>>20)
}

// volume estimates what a plan reads and writes, carried out by a schedule.
func volume(p plan.Plan, s budget.Schedule) (e plan.Estimate) {
	for _, im := range p.Images {
		if im.Copied {
			e.Copies += im.Size
			e.Read += im.Size
			e.Write += im.Size
		}
		if im.Action == plan.Check {
			e.Read += im.Size
		}
		if im.Read {
			e.Read += im.Size
		}
		if im.Sign {
			e.Read += im.Size
			e.Write += delta.SignatureSize(im.Size)
		}
	}
	for _, g := range budget.Groups(p) {
		e.Read += s.Reads(g)
	}
	share := usualDelta(p)
	again := int64(1) // a delta is read again for its digests
	if s.Scarce {
		again = 0
	}
	for _, d := range p.Deltas {
		switch {
		case !d.Open():
		case d.Action == plan.Check:
			e.Read += (1 + again) * d.Size
		default:
			size := int64(share * float64(d.TargetSize))
			e.Read += again * size
			e.Write += size
		}
	}
	for _, c := range p.Compact {
		if c.Action == plan.Check {
			e.Read += 2*c.Size + c.TargetSize // at most: its base is about as large as its target
		}
	}
	for _, t := range p.Torrents {
		if t.Read {
			e.Read += t.Size
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

// Work returns the work that is expected of a plan, in the units of package meter. That an
// image gets a link, or a delta is kept as it is, is none. readCost is what ReadCost returns.
func Work(p plan.Plan, readCost int64) (n int64) {
	for _, im := range p.Images {
		n += im.Size * imageCost(im, readCost)
	}
	for _, g := range p.Bases() {
		making := func(d plan.Delta) bool { return d.Open() && d.Action != plan.Check && !d.Retired }
		if slices.ContainsFunc(g, making) {
			n += g[0].BaseSize * meter.Index
		}
		for _, d := range g {
			n += DeltaWork(d)
		}
	}
	for _, t := range p.Torrents {
		if t.Read {
			n += t.Size * meter.Pieces
		}
	}
	return n
}

// ReadCost returns the cost of a byte of the images that a plan has read for their digests,
// readers at a time on so many cores. Each image has one core: where fewer are read than there
// are cores, or one is left at the end, the others wait, and a byte takes longer.
func ReadCost(p plan.Plan, readers, cores int) int64 {
	var sizes []int64
	for _, im := range p.Images {
		if im.Read && !im.Touched {
			sizes = append(sizes, im.Size)
		}
	}
	slices.Sort(sizes)
	busy, sum := make([]int64, min(readers, cores)), int64(0)
	for _, size := range slices.Backward(sizes) { // in the order in which they are read
		sum += size
		busy[slices.Index(busy, slices.Min(busy))] += size
	}
	if sum == 0 {
		return meter.Digest
	}
	return int64(meter.Digest * float64(slices.Max(busy)) * float64(cores) / float64(sum))
}

// imageCost returns the cost of a byte of an image. One that was touched is expected to be
// what it was.
func imageCost(im plan.Image, readCost int64) (cost int64) {
	if im.Copied {
		cost += meter.Copy
	}
	switch {
	case im.Touched:
		cost += meter.Compare
	case im.Read:
		cost += readCost
	}
	if im.Action == plan.Check {
		cost += meter.Compare
	}
	if im.Sign {
		cost += meter.Sign
	}
	return cost
}

// DeltaWork returns the work for a delta, in the units of package meter.
func DeltaWork(d plan.Delta) int64 {
	switch {
	case !d.Open():
		return 0
	case d.Action == plan.Check:
		return d.TargetSize*meter.Verify + SumsWork(d)
	}
	return d.TargetSize*(meter.Diff+meter.Verify) + SumsWork(d)
}

// SumsWork returns the part of the work for a delta that its digests are, of the size that
// deltas usually have.
func SumsWork(d plan.Delta) int64 { return int64(usualShare * float64(d.TargetSize) * meter.Digest) }

// bytesOf returns the bytes of a plan that are linked, read, diffed and made.
func bytesOf(p plan.Plan) (n int64) {
	for _, im := range p.Images {
		if im.Action == plan.Link || im.Action == plan.Replace {
			n += im.Size
		}
		if im.Read {
			n += im.Size
		}
		if im.Action == plan.Check {
			n += im.Size
		}
		if im.Sign {
			n += im.Size
		}
	}
	for _, d := range p.Deltas {
		n += d.Work()
	}
	for _, t := range p.Torrents {
		if t.Read {
			n += t.Size
		}
	}
	return n
}

// Remaining returns how many bytes of work remain after what is kept as it is, which is what
// the rate of the last run in run.json is of. It counts every byte once, whatever its cost.
func Remaining(p plan.Plan) int64 {
	n := bytesOf(p)
	for _, d := range p.Deltas {
		if !d.Open() {
			n -= d.Work()
		}
	}
	return n
}

// usualDelta returns the share of its target that a delta is expected to have: the median
// of those that are known.
func usualDelta(p plan.Plan) float64 {
	var known []float64
	for _, d := range p.Deltas {
		if d.Size > 0 && d.Action != plan.Drop {
			known = append(known, float64(d.Size)/float64(d.TargetSize))
		}
	}
	if len(known) == 0 {
		return usualShare
	}
	slices.Sort(known)
	return known[len(known)/2]
}
