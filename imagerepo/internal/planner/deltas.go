package planner

import (
	"fmt"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo/internal/state"
	"puavo-image-repository/imagerepo/plan"
	"puavo-image-repository/meta"
)

// addDeltas adds the deltas of the series at i of the plan.
func (p *planner) addDeltas(i int, s meta.SeriesConfig) error {
	for j, target := range s.Images {
		for _, base := range p.in.Policy.BasesOf(s, j, p.retired) {
			if p.images[base] == nil {
				p.images[base] = p.image(base, plan.BaseOnly)
			}
			file, err := p.addDelta(base, target)
			if err != nil {
				return err
			}
			deltas := p.plan.Series[i].Deltas
			deltas[target.String()] = append(deltas[target.String()], file)
		}
	}
	return nil
}

func (p *planner) addDelta(base, target meta.Name) (file string, err error) {
	file = meta.DeltaName(base, target)
	if d := p.deltas[file]; d != nil {
		if d.Target != target {
			return "", fmt.Errorf("%w: deltas from %s to %s and to %s would have the same name, %s; remove one from extra_rdiffs", plan.ErrConfig, base, d.Target, target, file)
		}
		return file, nil
	}
	b, t := p.images[base], p.images[target]
	d := &plan.Delta{
		File: file, Base: base, Target: target, BaseSize: b.Size, TargetSize: t.Size, Retired: b.Action == plan.Retired,
	}
	d.Action, d.Size = p.action(file, b, t)
	p.deltas[file] = d
	return file, nil
}

// action returns what to do about a delta, and its size where that is known.
func (p *planner) action(file string, base, target *plan.Image) (a plan.Action, size int64) {
	stamp, there := p.in.Holds.Has(file)
	record := p.in.Holds.Records[file]
	if isNew(base) || isNew(target) {
		switch {
		case record != nil && record.Dropped, record.Summed() && record.Stamp.Matches(stamp):
			return plan.Await, 0 // the record holds if they are what the delta was made of
		case there:
			return plan.Check, 0
		default:
			return plan.Make, 0
		}
	}
	a = Decide(p.in.Policy, record, stamp, p.in.Holds.Records[base.File].Sums, p.in.Holds.Records[target.File].Sums)
	if a != plan.Keep && a != plan.Drop {
		return a, 0
	}
	if base.Touched || target.Touched {
		a = plan.Await
	}
	return a, record.Sums.Size
}

// isNew reports whether only reading an image gives its digests.
func isNew(im *plan.Image) bool { return im.Read && !im.Touched }

// Decide says what to do about a delta between images with these digests: Make, Keep,
// Drop or Check. It has a record, and a file in the mirror with this stamp, both of
// which may be missing.
func Decide(p plan.Policy, record *state.Record, file state.Stamp, base, target cksum.Sums) plan.Action {
	of := record != nil && record.Base == base.BLAKE3 && record.Target == target.BLAKE3
	right := of && !record.Dropped && record.Summed() && record.Stamp.Matches(file)
	switch {
	case of && record.Dropped && p.TooLarge(record.Sums.Size, target.Size):
		return plan.Drop
	case right && p.TooLarge(file.Size, target.Size):
		return plan.Drop
	case right:
		return plan.Keep
	case file != state.Stamp{}:
		return plan.Check
	default:
		return plan.Make
	}
}
