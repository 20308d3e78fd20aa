// Package source knows where the files of an update can be fetched from, what each of
// these sources has, and which have failed. It chooses a route over all of them.
//
// One mirror says which image is wanted and what its digest is. All others are sources
// for images of the same SHA-512 only, so none of them can lead to another image:
//
//	images directory  rdiff deltas that the installed tools have left in rdiffs/
//	payload mirror    is taken to have all files that the mirror names
//	the mirror        has what it says
//	another mirror    has what it says, as far as it means the same images
//
// A file that several sources have is fetched from the first. If that fails, the next
// continues from the same byte.
package source

import (
	"io/fs"
	"path"
	"slices"

	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/client/internal/cost"
	"puavo-image-repository/imagerepo/client/internal/imagedir"
	"puavo-image-repository/imagerepo/client/internal/route"
	"puavo-image-repository/imagerepo/internal/assemble"
	"puavo-image-repository/imagerepo/internal/fetch"
	"puavo-image-repository/meta"
)

// Wanted is the wanted image, and the images that may lead to it.
type Wanted struct {
	Series *meta.Series
	Target *meta.Image
	Images Images // of the series
}

// Images are those of a series, by their names.
type Images map[meta.Name]*meta.Image

// Index returns the images of a series by their names.
func Index(s *meta.Series) Images {
	images := make(Images, len(s.Images))
	for i := range s.Images {
		images[s.Images[i].Name] = &s.Images[i]
	}
	return images
}

// Source is where files can be fetched from.
type Source struct {
	*fetch.Mirror
	Images Images // that it says it has
	// Stored has the sizes of the deltas that lie in the images directory, by their paths
	// in a mirror, if the source is that directory; nil for others.
	Stored map[string]int64
}

// Stored returns the sizes of the deltas in an images directory.
func Stored(dir atomicfile.Dir) map[string]int64 {
	entries, _ := fs.ReadDir(dir.FS(), path.Dir(meta.DeltaPath("delta")))
	stored := make(map[string]int64)
	for _, e := range entries {
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() {
			stored[meta.DeltaPath(e.Name())] = info.Size()
		}
	}
	return stored
}

// Sources are several, those to prefer first.
type Sources []Source

// Of returns the source that the file of a step comes from.
func (all Sources) Of(s route.Step) Source {
	for _, source := range all {
		if source.String() == s.Mirror {
			return source
		}
	}
	return Source{}
}

// steps returns the steps that a source has the files for: deltas, and the wanted
// image.
func (s Source) steps(w *Wanted, downgrades bool) (all []route.Step) {
	mirror := s.String()
	for i := range w.Series.Images {
		im := &w.Series.Images[i]
		theirs, ok := s.Images[im.Name]
		if !ok || theirs.Sums.SHA512 != im.Sums.SHA512 {
			continue
		}
		usable := func(base meta.Name) bool {
			return (downgrades || base.Version <= im.Name.Version) && s.means(w, base)
		}
		for j := range theirs.Diffs {
			if d := &theirs.Diffs[j]; usable(d.Base) && s.has(d) {
				all = append(all, route.Step{Image: im, Diff: d, Mirror: mirror})
			}
		}
		if s.Stored != nil {
			continue
		}
		for j := range theirs.Compact {
			c := &theirs.Compact[j]
			if full := c.Base == (meta.Name{}); full && im == w.Target || !full && usable(c.Base) {
				all = append(all, route.Step{Image: im, Compact: c, Mirror: mirror})
			}
		}
		if im == w.Target {
			all = append(all, route.Step{Image: im, Mirror: mirror})
		}
	}
	return all
}

// HasCompact reports whether any of the sources has a compact delta to an image of a
// series.
func (all Sources) HasCompact(w *Wanted) bool {
	return slices.ContainsFunc(all, func(s Source) bool {
		return slices.ContainsFunc(s.steps(w, true), func(step route.Step) bool { return step.Compact != nil })
	})
}

// has reports whether the source has a delta, as far as that is known.
func (s Source) has(d *meta.Diff) bool {
	size, ok := s.Stored[meta.DeltaPath(d.Filename)]
	return s.Stored == nil || ok && size == d.Sums.Size
}

// means reports whether the source means the wanted image of a name, as far as both
// know it.
func (s Source) means(w *Wanted, n meta.Name) bool {
	theirs, ok := s.Images[n]
	ours, also := w.Images[n]
	return !ok || !also || theirs.Sums.SHA512 == ours.Sums.SHA512
}

// Choice is what a route is chosen from.
type Choice struct {
	Wanted     *Wanted
	Sources    Sources
	Bases      []imagedir.Image             // those of another size than the series says are none
	Begun      map[meta.Name]assemble.Begun // what need not be fetched again
	Failures   *Failures
	Downgrades bool // allows steps to an older image
	Steps      int  // of the route at most
	Model      cost.Model
}

// Route returns the cheapest route to the wanted image of those that have not failed,
// and false if none is left.
func (c Choice) Route() (route.Route, bool) {
	var bases []imagedir.Image
	for _, b := range c.Bases {
		if listed, ok := c.Wanted.Images[b.Name]; !ok || listed.Sums.Size == b.Size {
			bases = append(bases, b)
		}
	}
	return route.Choose(c.Wanted.Target.Name, bases, c.ways(), c.Steps)
}

// ways returns the steps that can be taken, with the bytes that they would fetch.
func (c Choice) ways() (all []route.Way) {
	for _, s := range c.Sources {
		for _, step := range s.steps(c.Wanted, c.Downgrades) {
			_, file := step.File()
			if c.Failures.exclude(step, file.Sums.SHA512) {
				continue
			}
			takes := c.takes(step)
			if c.Begun[step.Image.Name].IsByOthers(step.Image.Sums.SHA512, file.Sums.SHA512) {
				takes.Fetch += worthIt
			}
			all = append(all, route.Way{Step: step, Cost: c.Model.Of(takes)})
		}
	}
	return all
}

// worthIt is how many bytes a file must save that is fetched instead of one that was
// begun: what is whole can be compared with its own digest.
const worthIt = 1 << 20

// Fetch returns how many bytes a step would fetch over the network.
func (c Choice) Fetch(s route.Step) int64 {
	_, file := s.File()
	switch {
	case c.Sources.Of(s).Stored != nil:
		return 0
	case s.Compact != nil:
		return c.Begun[s.Image.Name].LeftOfCompact(s.Image.Sums, file.Sums)
	}
	return c.Begun[s.Image.Name].Left(s.Image.Sums.SHA512, file.Sums)
}

// takes returns what a step takes.
func (c Choice) takes(s route.Step) cost.Step {
	_, file := s.File()
	t := cost.Step{Fetch: c.Fetch(s), Size: file.Sums.Size, Makes: s.Image.Sums.Size}
	if s.Compact != nil {
		t.Compact, t.Coded, t.Unpacked = true, s.Compact.Coded, s.Compact.Unpacked
	}
	return t
}

// Takes returns what the steps of a route take.
func (c Choice) Takes(r route.Route) (all []cost.Step) {
	for _, s := range r.Steps {
		all = append(all, c.takes(s))
	}
	return all
}
