package selection

import (
	"slices"

	"puavo-image-repository/meta"
)

// Pair is a delta that could be made.
type Pair struct{ Base, Target meta.Name }

// Pairs returns the deltas that these images should have and that have does not report, the
// nearest bases first: to the newest targets from the bases nearest images, All or a number.
func Pairs(images []meta.Image, targets, bases int, have func(Pair) bool) (missing []Pair) {
	for i := max(0, len(images)-targets); i < len(images); i++ {
		near := slices.Clone(images[:i])
		slices.Reverse(near)
		near = append(near, images[i+1:]...)
		if bases != All {
			near = near[:min(bases, len(near))]
		}
		for _, base := range near {
			if p := (Pair{base.Name, images[i].Name}); !have(p) && canName(p) {
				missing = append(missing, p)
			}
		}
	}
	return missing
}

// canName reports whether a delta can have a name, which has prefix and architecture once: both
// images must have the same.
func canName(p Pair) bool { return p.Base.Series() == p.Target.Series() }
