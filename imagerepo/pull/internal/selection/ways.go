package selection

import (
	"slices"

	"puavo-image-repository/meta"
)

// Way is how a missing image gets into a copy: by a delta from a base, or as a whole.
type Way struct {
	Image meta.Name
	Diff  *meta.Diff // nil: it is fetched as a whole
}

// Sourcing is what Ways chooses from.
type Sourcing struct {
	Missing []meta.Image // to be got; their Diffs are all that upstream has
	// Here reports whether the copy has a file, by its path in a mirror: an image, or a delta
	// that it has or gets in any case.
	Here func(file string) bool
}

// Ways returns how each missing image comes, in an order in which each base comes before what
// is made from it. An image that no delta leads to is fetched as a whole, which gives a base
// for others.
//
// Each round takes the cheapest delta from a base that is there, or is got before. Where there
// is none, an image is fetched that nothing missing could make, or else the smallest.
func (s Sourcing) Ways() (ways []Way) {
	left := slices.Clone(s.Missing)
	got := make(map[meta.Name]bool)
	here := func(n meta.Name) bool { return got[n] || s.Here(n.String()) }
	take := func(i int, d *meta.Diff) {
		got[left[i].Name] = true
		ways = append(ways, Way{left[i].Name, d})
		left = slices.Delete(left, i, i+1)
	}
	for len(left) > 0 {
		if i, d := s.cheapest(left, here); d != nil {
			take(i, d)
		} else {
			take(toFetch(left), nil)
		}
	}
	return ways
}

// cheapest returns the delta that takes the fewest bytes to make one of these images from what
// is there, and the index of the image; nil if there is none that is worth it.
func (s Sourcing) cheapest(left []meta.Image, here func(meta.Name) bool) (best int, diff *meta.Diff) {
	least := [2]int64{} // bytes to fetch, then bytes of the delta
	for i := range left {
		for j := range left[i].Diffs {
			d := &left[i].Diffs[j]
			cost := [2]int64{d.Sums.Size, d.Sums.Size}
			if s.Here(meta.DeltaPath(d.Filename)) {
				cost[0] = 0
			}
			worth := cost[0] < left[i].Sums.Size && d.Base != left[i].Name && here(d.Base)
			if worth && (diff == nil || slices.Compare(cost[:], least[:]) < 0) {
				best, diff, least = i, d, cost
			}
		}
	}
	return best, diff
}

// toFetch returns the index of the image to fetch as a whole.
func toFetch(left []meta.Image) (best int) {
	makeable := func(im meta.Image) bool {
		return slices.ContainsFunc(im.Diffs, func(d meta.Diff) bool {
			return d.Base != im.Name && slices.ContainsFunc(left, func(other meta.Image) bool { return other.Name == d.Base })
		})
	}
	for i, im := range left {
		if !makeable(im) {
			return i
		}
		if im.Sums.Size < left[best].Sums.Size {
			best = i
		}
	}
	return best
}
