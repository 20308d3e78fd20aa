package planner

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"puavo-image-repository/imagerepo/internal/mirror"
	"puavo-image-repository/imagerepo/internal/source"
	"puavo-image-repository/imagerepo/plan"
	"puavo-image-repository/meta"
)

// Group says which images form which series, sorted by name, each with its images
// oldest first.
func Group(found source.Found, config plan.Config) []meta.SeriesConfig {
	series := slices.Clone(config.Series)
	if config.ScanRest {
		series = slices.DeleteFunc(series, func(s meta.SeriesConfig) bool { return len(s.Images) == 0 })
	}
	if len(series) == 0 {
		series = seriesByName(found)
	}
	slices.SortFunc(series, func(a, b meta.SeriesConfig) int { return strings.Compare(a.Name, b.Name) })
	return series
}

// seriesByName groups images by prefix and arch.
func seriesByName(found source.Found) (series []meta.SeriesConfig) {
	groups := make(map[string][]meta.Name)
	for _, n := range found.Names() {
		groups[n.Series()] = append(groups[n.Series()], n)
	}
	for name, images := range groups {
		series = append(series, meta.SeriesConfig{Name: name, Images: images})
	}
	return series
}

// choose returns the series with the images that the policy keeps, and which images none
// of them keeps.
func (p *planner) choose() (series []meta.SeriesConfig, left map[meta.Name]bool) {
	left = make(map[meta.Name]bool)
	if p.in.Policy.Keep == (plan.Retention{}) {
		return p.in.Series, left
	}
	kept := make(map[meta.Name]bool)
	p.choices = make(map[string][]plan.Choice)
	for _, s := range p.in.Series {
		choices := p.in.Policy.Keep.Choose(s.Images)
		p.choices[s.Name] = choices
		images := s.Images
		s.Images = nil // a new slice: the other belongs to the input
		for i, n := range images {
			if choices[i].Kept() {
				s.Images = append(s.Images, n)
				kept[n] = true
			}
			left[n] = true
		}
		series = append(series, s)
	}
	maps.DeleteFunc(left, func(n meta.Name, _ bool) bool { return kept[n] })
	return series, left
}

// checkSeries returns an error for a series that contradicts itself, or of which
// usable returns an error for an image or a base.
func checkSeries(s meta.SeriesConfig, usable func(n meta.Name, where string) error) error {
	for i, n := range s.Images {
		if err := usable(n, ""); err != nil {
			return err
		}
		if i > 0 && s.Images[i-1].Version == n.Version {
			return fmt.Errorf("%w: %s and %s have the same version; a series can have it only once", plan.ErrInput, s.Images[i-1], n)
		}
	}
	for _, n := range s.Images {
		for _, base := range s.Extra[n] {
			if err := usable(base, fmt.Sprintf("extra_rdiffs of %s: ", n)); err != nil {
				return err
			}
		}
	}
	return nil
}

// Files are the names of files, and of series, that belong to some series.
type Files map[string]bool

// Add adds the files of a series: its images, by its configuration and its document,
// the deltas in that, and all that has the name of a series of one of its images.
func (f Files) Add(s meta.SeriesConfig, documents []meta.Series) {
	f[s.Name], f[s.Name+".json"] = true, true
	add := func(n meta.Name) { f[n.String()], f[n.Series()] = true, true }
	for _, n := range s.Images {
		add(n)
	}
	i := slices.IndexFunc(documents, func(d meta.Series) bool { return d.Name == s.Name })
	if i < 0 {
		return
	}
	for _, im := range documents[i].Images {
		add(im.Name)
		for _, d := range im.Diffs {
			f[d.Filename] = true
		}
		for _, c := range im.Compact {
			f[c.Filename] = true
		}
	}
}

// Has reports whether a file is one of them, or belongs to one of the series by its
// name.
func (f Files) Has(name string) bool {
	if file, ok := mirror.FileOf(name); ok {
		return f.Has(file)
	}
	if f[name] {
		return true
	}
	n, err := meta.ParseOldName(name)
	if err != nil {
		n, _, err = meta.ParseOldDeltaName(name)
	}
	if err != nil {
		n, err = compactName(name)
	}
	return err == nil && f[n.Series()]
}

// FilesOf returns the files of the series that failed.
func FilesOf(failed map[string]error, series []meta.SeriesConfig, documents []meta.Series) Files {
	files := make(Files)
	for _, s := range series {
		if failed[s.Name] != nil {
			files.Add(s, documents)
		}
	}
	return files
}
