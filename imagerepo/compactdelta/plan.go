package compactdelta

import (
	"cmp"
	"context"
	"slices"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo/internal/ledger"
	"puavo-image-repository/imagerepo/internal/mirror"
	"puavo-image-repository/imagerepo/internal/planner"
	"puavo-image-repository/imagerepo/internal/published"
	"puavo-image-repository/imagerepo/internal/state"
	"puavo-image-repository/imagerepo/plan"
	"puavo-image-repository/meta"
)

// Plan is what a run will do.
type Plan struct {
	// Deltas are all that are wanted: those to make in the order in which they are made, and
	// then the others, by name.
	Deltas   []Delta  `json:"deltas"`
	Estimate Estimate `json:"estimate"`
}

// Delta is what is planned of a compact delta.
type Delta struct {
	plan.CompactDelta
	Need *Need `json:"need,omitempty"` // of one to make

	base, target cksum.Sums // the size, and, of images that were read, the digests
}

// weight is what orders those to make: the size of the rdiff delta, a share of which is saved.
func (d *Delta) weight() int64 {
	if d.isFull() {
		return d.Rival / 4
	}
	return d.Rival
}

// isFull reports whether it needs no base.
func (d *Delta) isFull() bool { return d.Base == meta.Name{} }

// MakePlan returns what Run would do after a build that follows a plan. It changes nothing.
func MakePlan(ctx context.Context, o Options, build plan.Plan) (Plan, error) {
	if err := o.check(); err != nil {
		return Plan{}, err
	}
	var rate float64
	if view, err := mirror.View(o.MirrorDir); err == nil {
		rate = view.LastRun().CompactRate
		view.Close()
	}
	sizes := make(map[meta.Name]cksum.Sums)
	for _, im := range build.Images {
		sizes[im.Name] = cksum.Sums{Size: im.Size}
	}
	return newPlan(build.Compact, sizes, limitsOf(o, rate)), ctx.Err()
}

// planOf makes the plan for what a mirror publishes.
func planOf(o Options, view *mirror.Mirror) (Plan, error) {
	known, _, err := ledger.Load(view.State)
	if err != nil {
		return Plan{}, err
	}
	docs, err := published.Load(view.Root, known.Has)
	if err != nil {
		return Plan{}, err
	}
	wanted, images := decided(docs.All(), known.All(), o.Policy.Compact, o.Series)
	return newPlan(wanted, images, limitsOf(o, view.LastRun().CompactRate)), nil
}

// newPlan makes the plan of what is wanted, and decided about. images are all that are.
func newPlan(wanted []plan.CompactDelta, images map[meta.Name]cksum.Sums, l limits) Plan {
	p := Plan{Deltas: []Delta{}}
	for _, w := range wanted {
		d := Delta{CompactDelta: w, base: images[w.Base], target: images[w.Target]}
		if w.Rival == 0 { // of an rdiff delta that is not made yet
			d.Rival = w.TargetSize / usualDelta
		}
		if !w.There() && w.Action != plan.Drop {
			d.Action = plan.Make
			d.Need = l.need(&d)
		}
		p.Deltas = append(p.Deltas, d)
	}
	slices.SortFunc(p.Deltas, inOrder)
	p.Estimate = l.estimate(p.Deltas)
	return p
}

// usualDelta is how many times an image is larger than an rdiff delta to it whose size is not
// known.
const usualDelta = 3

// inOrder compares two for the order that they have in a plan.
func inOrder(a, b Delta) int {
	if a.Need == nil || b.Need == nil {
		if a.Need == b.Need {
			return cmp.Compare(a.File, b.File)
		}
		return map[bool]int{true: 1, false: -1}[a.Need == nil]
	}
	return cmp.Or(cmp.Compare(b.weight(), a.weight()), cmp.Compare(a.File, b.File))
}

// decided returns the compact deltas that are wanted for what is published, decided by that and
// by records, and what is published of all images.
func decided(series []meta.Series, records map[string]*state.Record, policy plan.Compact, globs plan.Globs) ([]plan.CompactDelta, map[meta.Name]cksum.Sums) {
	images, there := make(map[meta.Name]cksum.Sums), make(map[string]int64)
	for _, s := range series {
		for _, im := range s.Images {
			images[im.Name] = im.Sums
			for _, c := range im.Compact {
				there[c.Filename] = c.Sums.Size
			}
		}
	}
	var all []plan.CompactDelta
	for _, c := range planner.Compact(series, policy) {
		if len(globs) > 0 {
			c.Series = slices.DeleteFunc(c.Series, func(name string) bool { return !globs.Match(name) })
		}
		if len(c.Series) == 0 {
			continue
		}
		if size, ok := there[c.File]; ok {
			c.Action, c.Size = plan.Keep, size
		} else if r := records[c.File]; isDropped(r, images[c.Base], images[c.Target]) {
			c.Action, c.Size = plan.Drop, r.Sums.Size
		}
		all = append(all, c)
	}
	return all, images
}

// isDropped reports whether a record says that a compact delta of these images is not worth
// having.
func isDropped(r *state.Record, base, target cksum.Sums) bool {
	return r != nil && r.Dropped && r.Base == base.BLAKE3 && r.Target == target.BLAKE3
}

// isWorth reports whether a compact delta of that size is worth having.
func isWorth(size, rival int64) bool { return float64(size) <= worth*float64(rival) }

// worth is the largest share that a compact delta may have of what clients fetch without it.
const worth = 0.85
