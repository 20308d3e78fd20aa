// Package loss counts the images that a change to the published files removes. A change that
// removes a whole series, or more than half of all images and at least two, is probably a
// mistake: the directory is the wrong one, or a disk is not mounted. An image does not count
// if its series gets a newer one, which supersedes it.
package loss

import (
	"maps"
	"slices"

	"puavo-image-repository/meta"
)

// Loss is what a change removes. The zero Loss is nothing.
type Loss struct {
	all, gone map[meta.Name]bool // an image can be in several series
	emptied   bool
}

// Of returns what the published series lose. stays reports whether an image stays; arriving
// maps the names of series to the newest version that is not published yet.
func Of(published []meta.Series, stays func(meta.Name) bool, arriving map[string]string) *Loss {
	l := &Loss{all: make(map[meta.Name]bool), gone: make(map[meta.Name]bool)}
	for _, s := range published {
		lost := 0
		for _, im := range s.Images {
			l.all[im.Name] = true
			newest := max(arriving[s.Name], arriving[im.Name.Series()])
			if !stays(im.Name) && newest <= im.Name.Version {
				l.gone[im.Name] = true
				lost++
			}
		}
		l.emptied = l.emptied || lost > 0 && lost == len(s.Images)
	}
	return l
}

// Between returns what is lost when one edition of the documents replaces another.
func Between(before, after []meta.Series) *Loss {
	was, is := names(before), names(after)
	arriving := make(map[string]string)
	for _, s := range after {
		for _, im := range s.Images {
			if !was[im.Name] {
				arriving[s.Name] = max(arriving[s.Name], im.Name.Version)
				arriving[im.Name.Series()] = max(arriving[im.Name.Series()], im.Name.Version)
			}
		}
	}
	return Of(before, func(n meta.Name) bool { return is[n] }, arriving)
}

func names(series []meta.Series) map[meta.Name]bool {
	all := make(map[meta.Name]bool)
	for _, s := range series {
		for _, im := range s.Images {
			all[im.Name] = true
		}
	}
	return all
}

// Has reports whether an image was counted.
func (l *Loss) Has(n meta.Name) bool { return l.all[n] }

// Add counts a series that no document names, by its images and those of them that are gone.
func (l *Loss) Add(images, gone []meta.Name) {
	for _, n := range images {
		l.all[n] = true
	}
	for _, n := range gone {
		l.gone[n] = true
	}
	l.emptied = l.emptied || len(gone) > 0 && len(gone) == len(images)
}

// TooMuch reports whether the loss needs a permission.
func (l *Loss) TooMuch() bool { return l.emptied || len(l.gone) >= 2 && 2*len(l.gone) > len(l.all) }

// Gone returns the images that are lost, sorted.
func (l *Loss) Gone() []meta.Name { return slices.SortedFunc(maps.Keys(l.gone), meta.Name.Compare) }

// All returns how many images were published.
func (l *Loss) All() int { return len(l.all) }
