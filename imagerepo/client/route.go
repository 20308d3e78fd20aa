package client

import (
	"cmp"
	"fmt"
	"slices"

	"puavo-image-repository/meta"
)

// Route is a way to an image: over a delta from an image that is there, or the
// full image.
type Route struct {
	Target *meta.Image
	Diff   *meta.Diff // nil: the full image
}

// Bytes returns how many bytes the route fetches.
func (r Route) Bytes() int64 {
	_, f := r.file()
	return f.Sums.Size
}

// file returns what the route fetches: its path in the mirror, and what the meta
// says of it.
func (r Route) file() (name string, f meta.File) {
	if r.Diff == nil {
		return r.Target.Name.String(), r.Target.File
	}
	return meta.DeltaPath(r.Diff.Filename), r.Diff.File
}

// String tells what the route starts from.
func (r Route) String() string {
	if r.Diff == nil {
		return "the full image"
	}
	return fmt.Sprintf("the delta from %s", r.Diff.Base)
}

// Routes returns the ways to an image of a series from the local images, from
// the cheapest to the full image. A delta that is not smaller than the image is
// no way, nor is one whose base has another size than the series says.
func Routes(series *meta.Series, target *meta.Image, local []LocalImage) []Route {
	var routes []Route
	for i := range target.Diffs {
		d := &target.Diffs[i]
		if d.Sums.Size < target.Sums.Size && usable(series, d.Base, local) {
			routes = append(routes, Route{target, d})
		}
	}
	slices.SortStableFunc(routes, func(a, b Route) int { return cmp.Compare(a.Bytes(), b.Bytes()) })
	return append(routes, Route{Target: target})
}

// usable reports whether a base is there with the size that the series tells, if
// it does.
func usable(series *meta.Series, base meta.Name, local []LocalImage) bool {
	i := slices.IndexFunc(local, func(l LocalImage) bool { return l.Name == base })
	if i < 0 {
		return false
	}
	im, listed := series.Image(base)
	return !listed || im.Sums.Size == local[i].Size
}
