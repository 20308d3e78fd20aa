// Package selection chooses what a copy of a repository has of the images and deltas that
// its upstream has, and how each image gets there. All of it is pure: series and numbers in,
// series and reasons out.
//
//	upstream ── Policy.Choose ── Fit ── series of the copy ── Ways ── how each image comes
//
// # Choose
//
// A series is chosen if its name matches a glob. Of its images, the newest are chosen, those
// since a version, and at any age those that devices use. Of the deltas to a chosen image, all
// are chosen, or those from its nearest bases and from the images that devices use. The nearest
// are the newest before the image, then those that follow, as for the builder.
// Compact deltas are chosen likewise; one without a base is chosen wherever deltas are.
//
// # Fit
//
// Where there is too little room, compact deltas go before the others, since not all clients
// can use them, and deltas before images. The first delta to go is that with
// the most bytes for each device that needs it, those that no device needs before all others,
// and of these the largest. Then the oldest images go that no device uses. The newest image
// of a series, and those in use, stay. If these alone are too large, nothing fits.
//
// # Keep-list
//
// A keep-list has the versions that devices use, one a line, with the number of the devices
// before or after it; without one it is 1. A version is the name of an image, with or without
// .img, or its date and time alone, 2022-01-20-173248 or 14 digits, for all series. Lines add
// up. Empty lines, and what follows a #, say nothing.
//
//	puavo-os-amxa-buster-2022-01-20-173248-amd64.img 120
//	     17 20220117120001
package selection

import (
	"slices"

	"puavo-image-repository/imagerepo/plan"
	"puavo-image-repository/meta"
)

// All, as a number of images or bases, is no limit.
const All = -1

// Policy says what is chosen. The zero Policy chooses the images of all series, without deltas.
type Policy struct {
	Series plan.Globs // of names; none is all
	Images int        // of each series, the newest; less than 1 is all
	Since  string     // the version of the oldest image, or the beginning of one; "" is no limit
	Deltas int        // to each image, from its nearest bases; All, or 0
	Uses   Uses       // by devices
}

// IsWhole reports whether a policy chooses all that an upstream has.
func (p Policy) IsWhole() bool {
	return len(p.Series) == 0 && p.Images < 1 && p.Since == "" && p.Deltas == All
}

// Choose returns what is chosen of these series. They stay as they are.
func (p Policy) Choose(series []meta.Series) (chosen []meta.Series) {
	for _, s := range series {
		if p.Series.Match(s.Name) {
			chosen = append(chosen, meta.Series{Name: s.Name, Images: p.images(s)})
		}
	}
	return chosen
}

func (p Policy) images(s meta.Series) (chosen []meta.Image) {
	for i, im := range s.Images { // oldest first
		recent := p.Images < 1 || i >= len(s.Images)-p.Images
		if recent && im.Name.Version >= p.Since || p.Uses.Of(im.Name) > 0 {
			im.Diffs, im.Compact = p.diffs(im), p.compact(im)
			chosen = append(chosen, im)
		}
	}
	return chosen
}

// diffs returns the chosen deltas to an image, in their order.
func (p Policy) diffs(im meta.Image) (chosen []meta.Diff) {
	if p.Deltas == 0 {
		return nil
	}
	var bases []meta.Name
	for _, d := range im.Diffs {
		bases = append(bases, d.Base)
	}
	bases = nearest(bases, im.Name, p.Deltas)
	for _, d := range im.Diffs {
		if slices.Contains(bases, d.Base) || p.Uses.Of(d.Base) > 0 {
			chosen = append(chosen, d)
		}
	}
	return chosen
}

// compact returns the chosen compact deltas to an image, in their order.
func (p Policy) compact(im meta.Image) (chosen []meta.Compact) {
	if p.Deltas == 0 {
		return nil
	}
	var bases []meta.Name
	for _, c := range im.Compact {
		if c.Base != (meta.Name{}) {
			bases = append(bases, c.Base)
		}
	}
	bases = nearest(bases, im.Name, p.Deltas)
	for _, c := range im.Compact {
		if c.Base == (meta.Name{}) || slices.Contains(bases, c.Base) || p.Uses.Of(c.Base) > 0 {
			chosen = append(chosen, c)
		}
	}
	return chosen
}

// nearest returns the most of these bases that are nearest to an image. It changes bases.
func nearest(bases []meta.Name, target meta.Name, most int) []meta.Name {
	slices.SortFunc(bases, meta.Name.Compare)
	after, _ := slices.BinarySearchFunc(bases, target, meta.Name.Compare)
	slices.Reverse(bases[:after])
	if most != All && len(bases) > most {
		bases = bases[:most]
	}
	return bases
}
