// Package route chooses how a client gets from the images that it has to the one that
// it wants.
//
// The images are nodes. A way leads from one to another: it is a delta in some mirror, an
// rdiff delta or a compact one. The full image is a way from nothing, and so is a compact
// delta that needs no base. A route is a row of ways from a local image, or from nothing,
// to the target; the cheapest is taken. What a way costs, package cost says.
//
// Choose is the algorithm of Bellman and Ford. After round n it knows the cheapest route
// of at most n steps to each image, and n is bounded, so it takes time linear in the
// number of ways.
package route

import (
	"fmt"
	"slices"

	"puavo-image-repository/imagerepo/client/internal/imagedir"
	"puavo-image-repository/meta"
)

// MaxSteps is how many steps a route has at most.
const MaxSteps = 16

// Step makes one image from a delta, or downloads the full image.
type Step struct {
	Image   *meta.Image
	Diff    *meta.Diff    // an rdiff delta; without one and without Compact: the full image
	Compact *meta.Compact // a compact delta
	Mirror  string        // that the file comes from
}

// File returns what the step downloads: its path in the mirror, and what the meta says
// of it.
func (s Step) File() (path string, f meta.File) {
	switch {
	case s.Compact != nil:
		return meta.CompactPath(s.Compact.Filename), s.Compact.File
	case s.Diff != nil:
		return meta.DeltaPath(s.Diff.Filename), s.Diff.File
	}
	return s.Image.Name.String(), s.Image.File
}

// Base returns the image that the step needs, the zero Name if it needs none.
func (s Step) Base() meta.Name {
	switch {
	case s.Compact != nil:
		return s.Compact.Base
	case s.Diff != nil:
		return s.Diff.Base
	}
	return meta.Name{}
}

// IsFull reports whether the step downloads the full image.
func (s Step) IsFull() bool { return s.Diff == nil && s.Compact == nil }

// String says what the step makes its image from.
func (s Step) String() string {
	switch {
	case s.IsFull():
		return "the full image"
	case s.Diff != nil:
		return fmt.Sprintf("the delta from %s", s.Diff.Base)
	case s.Base() == meta.Name{}:
		return "the compact full image"
	}
	return fmt.Sprintf("the compact delta from %s", s.Base())
}

// Route leads to an image: the full image, or deltas, each of which starts from
// what the one before makes. A route without steps leads to an image that is local
// under its temporary name.
type Route struct {
	Base  imagedir.Image // zero for the full image
	Steps []Step
}

// Bytes returns the size of the files that the route downloads.
func (r Route) Bytes() (n int64) {
	for _, s := range r.Steps {
		_, f := s.File()
		n += f.Sums.Size
	}
	return n
}

// String says what the image is made from.
func (r Route) String() string {
	switch {
	case len(r.Steps) == 0:
		return "the partial image of an earlier run"
	case len(r.Steps) == 1:
		return r.Steps[0].String()
	}
	return fmt.Sprintf("%d deltas in a row from %s%s", len(r.Steps), r.Base.Name, r.mix())
}

// mix says how many of several deltas are compact.
func (r Route) mix() string {
	n := 0
	for _, s := range r.Steps {
		if s.Compact != nil {
			n++
		}
	}
	switch n {
	case 0:
		return ""
	case len(r.Steps):
		return ", all compact"
	}
	return fmt.Sprintf(", %d of them compact", n)
}

// Way is a step that can be taken.
type Way struct {
	Step
	Cost float64 // of any unit, the same for all
}

// label is the cheapest route to an image that was found so far.
type label struct {
	cost float64
	way  *Way            // the last one, nil at a base
	base *imagedir.Image // nil for the full image
	from *label          // before the last way, nil at the beginning
}

// Choose returns the cheapest route to an image, of at most most steps, and false if
// none exists. Of two that cost the same it takes the one with fewer steps, then the
// one without a base, then the one whose ways come first.
func Choose(target meta.Name, bases []imagedir.Image, ways []Way, most int) (Route, bool) {
	g := graph{numbers: make(map[meta.Name]int)}
	end := g.number(target)
	for i := range bases {
		g.best[g.number(bases[i].Name)] = &label{base: &bases[i]}
	}
	for i := range ways {
		w := &ways[i]
		switch {
		case w.Base() != meta.Name{}:
			g.edges = append(g.edges, edge{g.number(w.Base()), g.number(w.Image.Name), w})
		case w.Image.Name == target:
			improve(g.best, end, label{cost: w.Cost, way: w})
		}
	}
	for found := true; found && most > 0; most-- {
		found = g.extend()
	}
	if g.best[end] == nil {
		return Route{}, false
	}
	return g.best[end].route(), true
}

// graph is what Choose works on. Images have numbers, so that a round takes no maps.
type graph struct {
	numbers map[meta.Name]int
	best    []*label // by number, nil for an image that cannot be reached
	edges   []edge
}

// edge is a delta between two images.
type edge struct {
	from, to int
	way      *Way
}

func (g *graph) number(image meta.Name) int {
	n, ok := g.numbers[image]
	if !ok {
		n = len(g.best)
		g.numbers[image], g.best = n, append(g.best, nil)
	}
	return n
}

// extend adds one delta to the best routes, and reports whether any is new.
func (g *graph) extend() (found bool) {
	next := slices.Clone(g.best) // so that no route gets two
	for _, e := range g.edges {
		if from := g.best[e.from]; from != nil {
			found = improve(next, e.to, label{from.cost + e.way.Cost, e.way, from.base, from}) || found
		}
	}
	g.best = next
	return found
}

// improve keeps a route if it is the best to its image, and reports whether it is.
func improve(best []*label, image int, l label) bool {
	if old := best[image]; old != nil && old.cost <= l.cost {
		return false
	}
	best[image] = &label{l.cost, l.way, l.base, l.from}
	return true
}

// route returns the ways to a label.
func (l *label) route() (r Route) {
	if l.base != nil {
		r.Base = *l.base
	}
	for ; l != nil && l.way != nil; l = l.from {
		r.Steps = append(r.Steps, l.way.Step)
	}
	slices.Reverse(r.Steps)
	return r
}
