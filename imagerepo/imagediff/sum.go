package imagediff

import (
	"path"
	"slices"
	"strings"
)

// Sum is what became of several files. The bytes are those of regular files: of added and
// removed ones, and of ones whose content or type changed.
type Sum struct {
	Added        int    `json:"added"`
	AddedBytes   uint64 `json:"added_bytes"`
	Removed      int    `json:"removed"`
	RemovedBytes uint64 `json:"removed_bytes"`
	Changed      int    `json:"changed"`
	OldBytes     uint64 `json:"changed_old_bytes"` // of the changed ones, as they were
	NewBytes     uint64 `json:"changed_new_bytes"` // and as they are
}

// Add counts a change.
func (s *Sum) Add(c Change) {
	switch c.Kind {
	case Added:
		s.Added++
		s.AddedBytes += c.New.Size
	case Removed:
		s.Removed++
		s.RemovedBytes += c.Old.Size
	case Changed:
		s.Changed++
		if slices.Contains(c.What, Content) || slices.Contains(c.What, Type) {
			s.OldBytes += c.Old.Size
			s.NewBytes += c.New.Size
		}
	}
}

// DirectorySum is what became of all that is below a directory.
type DirectorySum struct {
	Path string `json:"path"`
	Sum
}

// Directories sums changes by directory. Each directory counts all below it, so a file
// counts in several. The zero Directories counts in the root alone.
type Directories struct {
	Depth int // of the deepest directories that are counted: 0 is the root, 1 is /usr
	sums  map[string]*Sum
}

// Add counts a change in the directories that it is in.
func (d *Directories) Add(c Change) {
	if d.sums == nil {
		d.sums = make(map[string]*Sum)
	}
	for dir := path.Dir(c.Path); ; dir = path.Dir(dir) {
		if depthOf(dir) <= d.Depth {
			if d.sums[dir] == nil {
				d.sums[dir] = new(Sum)
			}
			d.sums[dir].Add(c)
		}
		if dir == "/" {
			return
		}
	}
}

// depthOf returns how many directories are above one.
func depthOf(dir string) int {
	if dir == "/" {
		return 0
	}
	return strings.Count(dir, "/")
}

// All returns the directories in which something changed, a directory before those in it.
func (d *Directories) All() []DirectorySum {
	all := make([]DirectorySum, 0, len(d.sums))
	for dir, sum := range d.sums {
		all = append(all, DirectorySum{dir, *sum})
	}
	slices.SortFunc(all, func(a, b DirectorySum) int {
		return slices.Compare(strings.Split(strings.TrimSuffix(a.Path, "/"), "/"), strings.Split(strings.TrimSuffix(b.Path, "/"), "/"))
	})
	return all
}
