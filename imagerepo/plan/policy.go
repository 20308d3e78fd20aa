package plan

import (
	"slices"
	"time"

	"puavo-image-repository/meta"
)

// Policy says which images are published, which deltas are made, and how long orphans are
// kept.
type Policy struct {
	Targets    int     `json:"targets"`    // for how many of the newest images
	Bases      int     `json:"bases"`      // from how many others at most, the nearest; 0: from all
	Downgrades bool    `json:"downgrades"` // also to an older image
	MaxRatio   float64 `json:"max_ratio"`  // the largest share of its target that a delta may have; 0: any
	// KeepSignatures says that an image that left the image directory stays a base, by
	// its signature. That is made while the image's file is in the mirror, so the image
	// must leave in a run with this policy, or be in its grace.
	KeepSignatures bool `json:"keep_signatures"`
	// Grace is how long an orphan is kept after it lost its name, for clients that
	// have read the meta before.
	Grace time.Duration `json:"grace"` // nanoseconds
	// Keep says which images of each series are published. The others leave the mirror as
	// those do that left the image directory.
	Keep Retention `json:"keep,omitzero"`
	// Compact says which compact deltas are published.
	Compact Compact `json:"compact,omitzero"`
}

// TooLarge reports whether a delta of size bytes is not worth having for a target of
// targetSize bytes.
func (p Policy) TooLarge(size, targetSize int64) bool {
	return p.MaxRatio > 0 && float64(size) > p.MaxRatio*float64(targetSize)
}

// BasesOf returns the bases wanted for the image at i of a series: for the newest
// images all others, sorted, with those retired images that could have been in the
// series, and then the extra ones.
func (p Policy) BasesOf(s meta.SeriesConfig, i int, retired []meta.Name) []meta.Name {
	target := s.Images[i]
	var bases []meta.Name
	if i >= len(s.Images)-p.Targets {
		others := slices.Concat(s.Images[:i], s.Images[i+1:])
		for _, n := range retired {
			if n.Series() == target.Series() && !slices.Contains(s.Images, n) {
				others = append(others, n)
			}
		}
		bases = p.nearest(others, target)
	}
	for _, extra := range s.Extra[target] {
		if extra != target && !slices.Contains(bases, extra) {
			bases = append(bases, extra)
		}
	}
	return bases
}

// nearest returns the images that may be bases of the target and are nearest to it,
// sorted. The nearest are the newest before it, then those that follow.
func (p Policy) nearest(images []meta.Name, target meta.Name) []meta.Name {
	slices.SortFunc(images, meta.Name.Compare)
	after, _ := slices.BinarySearchFunc(images, target, meta.Name.Compare)
	near := slices.Clone(images[:after])
	slices.Reverse(near)
	if p.Downgrades {
		near = append(near, images[after:]...)
	}
	if p.Bases > 0 && len(near) > p.Bases {
		near = near[:p.Bases]
	}
	slices.SortFunc(near, meta.Name.Compare)
	return near
}
