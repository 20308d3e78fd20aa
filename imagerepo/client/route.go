package client

import (
	"fmt"
	"maps"
	"slices"

	"puavo-image-repository/imagerepo/client/internal/imagedir"
	"puavo-image-repository/meta"
)

// LocalImage is an image in the images directory.
type LocalImage struct {
	Name meta.Name
	// File is its file's name: that of the image, or the temporary one of an image that
	// was made on the way to another, and is complete.
	File string
	Size int64 // bytes
}

// localImages returns the images in the images directory, oldest first.
func localImages(dir *imagedir.Dir) (local []LocalImage, err error) {
	all, err := dir.Images()
	for _, im := range all {
		local = append(local, LocalImage(im))
	}
	return local, err
}

// Step makes one image from a delta, or downloads the full image.
type Step struct {
	Image *meta.Image
	Diff  *meta.Diff // nil: the full image
}

// file returns what the step downloads: its path in the mirror, and what the meta
// says of it.
func (s Step) file() (path string, f meta.File) {
	if s.Diff == nil {
		return s.Image.Name.String(), s.Image.File
	}
	return meta.DeltaPath(s.Diff.Filename), s.Diff.File
}

// Route leads to an image: the full image, or deltas, each of which starts from
// what the one before makes. A route without steps leads to an image that is local
// under its temporary name.
type Route struct {
	Base  LocalImage // zero for the full image
	Steps []Step
}

// Bytes returns how many bytes the route downloads.
func (r Route) Bytes() (n int64) {
	for _, s := range r.Steps {
		_, f := s.file()
		n += f.Sums.Size
	}
	return n
}

// String says what the image is made from.
func (r Route) String() string {
	switch {
	case len(r.Steps) == 0:
		return "what an earlier run has made"
	case r.Steps[0].Diff == nil:
		return "the full image"
	case len(r.Steps) == 1:
		return fmt.Sprintf("the delta from %s", r.Base.Name)
	}
	return fmt.Sprintf("%d deltas in a row from %s", len(r.Steps), r.Base.Name)
}

// Limits exclude routes from a choice. The zero Limits exclude downgrades.
type Limits struct {
	Downgrades bool            // allows steps to an older image
	Steps      int             // of a route at most; 0 is no limit
	Failed     map[string]bool // paths in the mirror that must not be downloaded
}

// diskWork is how many bytes of an image that is made cost as much as one byte that
// is downloaded: a step over a small delta is not free.
const diskWork = 64

// cost returns the cost of a step, in bytes to download.
func (s Step) cost() float64 {
	_, f := s.file()
	return float64(f.Sums.Size) + float64(s.Image.Sums.Size)/diskWork
}

// candidate is the cheapest route to an image that was found so far.
type candidate struct {
	Route
	cost float64
}

// ChooseRoute returns the cheapest route to an image of a series from the local
// images, and false if there is none. A local image whose size is not the one that
// the series says is no base.
//
// It is the algorithm of Bellman and Ford: after round n it knows the cheapest route
// of at most n steps to each image. Of two that cost the same it takes the one with
// fewer steps, and the full image rather than a delta.
func ChooseRoute(series *meta.Series, target *meta.Image, local []LocalImage, l Limits) (Route, bool) {
	best := make(map[meta.Name]candidate)
	for _, im := range local {
		if listed, ok := series.Image(im.Name); !ok || listed.Sums.Size == im.Size {
			best[im.Name] = candidate{Route: Route{Base: im}}
		}
	}
	if full := (Step{Image: target}); !l.Failed[target.Name.String()] {
		better(best, candidate{Route{Steps: []Step{full}}, full.cost()})
	}
	rounds := len(series.Images)
	if l.Steps > 0 {
		rounds = min(rounds, l.Steps)
	}
	for found := true; found && rounds > 0; rounds-- {
		best, found = round(series, best, l)
	}
	c, ok := best[target.Name]
	return c.Route, ok
}

// round returns the best candidates with one step more, and whether any is new.
func round(series *meta.Series, best map[meta.Name]candidate, l Limits) (next map[meta.Name]candidate, found bool) {
	next = maps.Clone(best)
	for i := range series.Images {
		for _, s := range steps(&series.Images[i], l) {
			if from, ok := best[s.Diff.Base]; ok {
				steps := append(slices.Clip(from.Steps), s)
				found = better(next, candidate{Route{from.Base, steps}, from.cost + s.cost()}) || found
			}
		}
	}
	return next, found
}

// better adds a candidate if it is the best to its image so far, and reports whether
// it is.
func better(best map[meta.Name]candidate, c candidate) bool {
	image := c.Steps[len(c.Steps)-1].Image.Name
	if old, ok := best[image]; ok && old.cost <= c.cost {
		return false
	}
	best[image] = c
	return true
}

// steps returns the deltas to an image that the limits allow.
func steps(im *meta.Image, l Limits) (all []Step) {
	for i := range im.Diffs {
		d := &im.Diffs[i]
		if (l.Downgrades || d.Base.Version <= im.Name.Version) && !l.Failed[meta.DeltaPath(d.Filename)] {
			all = append(all, Step{im, d})
		}
	}
	return all
}
