package client

import (
	"fmt"
	"maps"
	"slices"

	"puavo-image-repository/imagerepo/client/internal/imagedir"
	"puavo-image-repository/meta"
)

// LocalImage is an image of the images directory.
type LocalImage = imagedir.Image

// Step makes one image, of a delta or as it is fetched.
type Step struct {
	Image *meta.Image
	Diff  *meta.Diff // nil: the full image is fetched
}

// file returns what the step fetches: its path in the mirror, and what the meta
// says of it.
func (s Step) file() (path string, f meta.File) {
	if s.Diff == nil {
		return s.Image.Name.String(), s.Image.File
	}
	return meta.DeltaPath(s.Diff.Filename), s.Diff.File
}

// Route is a way to an image: the full image, or deltas, each of which starts from
// what the one before made. One without steps has it there, under its temporary
// name.
type Route struct {
	Base  LocalImage // the zero one for the full image
	Steps []Step
}

// Bytes returns how many bytes the route fetches.
func (r Route) Bytes() (n int64) {
	for _, s := range r.Steps {
		_, f := s.file()
		n += f.Sums.Size
	}
	return n
}

// String tells what the image is made of.
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

// Limits keep ways out of a choice. The zero Limits keep out downgrades.
type Limits struct {
	Downgrades bool            // steps to an older image are allowed
	Steps      int             // at most so many; 0 is no limit
	Failed     map[string]bool // paths in the mirror that are not to be fetched
}

// diskWork is how many bytes of an image that is made cost as much as one byte
// that is fetched: a step over a small delta is not for nothing.
const diskWork = 64

// cost of a step, in bytes to fetch.
func (s Step) cost() float64 {
	_, f := s.file()
	return float64(f.Sums.Size) + float64(s.Image.Sums.Size)/diskWork
}

// way is the cheapest route to an image that was found so far.
type way struct {
	Route
	cost float64
}

// ChooseRoute returns the cheapest way to an image of a series from the images
// that are there, and false if there is none. An image that is there with another
// size than the series says is no start.
//
// It is the algorithm of Bellman and Ford: after round n it knows the cheapest
// way of at most n steps to each image. Of two that cost the same it takes the
// one with fewer steps, and the full image rather than a delta.
func ChooseRoute(series *meta.Series, target *meta.Image, have []LocalImage, l Limits) (Route, bool) {
	best := make(map[meta.Name]way)
	for _, im := range have {
		if listed, ok := series.Image(im.Name); !ok || listed.Sums.Size == im.Size {
			best[im.Name] = way{Route: Route{Base: im}}
		}
	}
	if full := (Step{Image: target}); !l.Failed[target.Name.String()] {
		better(best, way{Route{Steps: []Step{full}}, full.cost()})
	}
	rounds := len(series.Images)
	if l.Steps > 0 {
		rounds = min(rounds, l.Steps)
	}
	for found := true; found && rounds > 0; rounds-- {
		best, found = round(series, best, l)
	}
	w, ok := best[target.Name]
	return w.Route, ok
}

// round returns the best ways with one step more, and whether there are new ones.
func round(series *meta.Series, best map[meta.Name]way, l Limits) (next map[meta.Name]way, found bool) {
	next = maps.Clone(best)
	for i := range series.Images {
		for _, s := range steps(&series.Images[i], l) {
			if from, ok := best[s.Diff.Base]; ok {
				steps := append(slices.Clip(from.Steps), s)
				found = better(next, way{Route{from.Base, steps}, from.cost + s.cost()}) || found
			}
		}
	}
	return next, found
}

// better takes a way up if it is the best to its image so far.
func better(best map[meta.Name]way, w way) bool {
	image := w.Steps[len(w.Steps)-1].Image.Name
	if old, ok := best[image]; ok && old.cost <= w.cost {
		return false
	}
	best[image] = w
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
