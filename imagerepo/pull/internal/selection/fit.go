package selection

import (
	"cmp"
	"math"
	"slices"

	"puavo-image-repository/meta"
)

// Dropped is a file for which there is no room.
type Dropped struct {
	File   string `json:"file"` // its path in a mirror
	Size   int64  `json:"size"`
	Reason string `json:"reason"`
}

// Bytes returns the size of all files of these series. One that several name counts once.
func Bytes(series []meta.Series) (n int64) {
	for _, size := range Files(series) {
		n += size
	}
	return n
}

// Files returns the sizes of all files of these series, by their paths in a mirror.
func Files(series []meta.Series) map[string]int64 {
	files := make(map[string]int64)
	for _, s := range series {
		for _, im := range s.Images {
			files[im.Name.String()] = im.Sums.Size
			for _, d := range im.Diffs {
				files[meta.DeltaPath(d.Filename)] = d.Sums.Size
			}
			for _, c := range im.Compact {
				files[meta.CompactPath(c.Filename)] = c.Sums.Size
			}
		}
	}
	return files
}

// candidate is a file that can be dropped.
type candidate struct {
	Dropped
	weight  float64 // of a delta: bytes for each device
	version string  // of an image
}

// Fit returns what is left of these series if they may have at most most bytes, and what was
// dropped, in that order. If that does not suffice, what is left has more bytes.
func Fit(series []meta.Series, uses Uses, most int64) (fits []meta.Series, dropped []Dropped) {
	left := Bytes(series)
	gone := make(map[string]bool)
	for _, c := range slices.Concat(compacts(series, uses), deltas(series, uses), images(series, uses)) {
		if left <= most {
			break
		}
		left -= c.Size
		gone[c.File] = true
		dropped = append(dropped, c.Dropped)
	}
	return Without(series, gone), dropped
}

// compacts returns all compact deltas, those to drop first before the others.
func compacts(series []meta.Series, uses Uses) []candidate {
	byFile := make(map[string]candidate)
	for _, s := range series {
		for _, im := range s.Images {
			for _, d := range im.Compact {
				c := ofDelta(meta.CompactPath(d.Filename), d.Sums.Size, uses.Of(d.Base))
				if d.Base == (meta.Name{}) {
					c.Reason = "the image does instead of it"
				}
				byFile[c.File] = c
			}
		}
	}
	return sorted(byFile, dearest)
}

// deltas returns all rdiff deltas, those to drop first before the others.
func deltas(series []meta.Series, uses Uses) []candidate {
	byFile := make(map[string]candidate)
	for _, s := range series {
		for _, im := range s.Images {
			for _, d := range im.Diffs {
				c := ofDelta(meta.DeltaPath(d.Filename), d.Sums.Size, uses.Of(d.Base))
				byFile[c.File] = c
			}
		}
	}
	return sorted(byFile, dearest)
}

// ofDelta returns a delta whose base that many devices use.
func ofDelta(file string, size int64, devices int) candidate {
	if devices > 0 {
		return candidate{Dropped{file, size, "too many bytes for each device that uses its base"}, float64(size) / float64(devices), ""}
	}
	return candidate{Dropped{file, size, "no device uses its base"}, math.Inf(1), ""}
}

// dearest sorts deltas, those to drop first before the others.
func dearest(a, b candidate) int {
	return cmp.Or(cmp.Compare(b.weight, a.weight), cmp.Compare(b.Size, a.Size), cmp.Compare(a.File, b.File))
}

// images returns the images that can be dropped, the oldest first.
func images(series []meta.Series, uses Uses) []candidate {
	byFile := make(map[string]candidate)
	for _, s := range series {
		for _, im := range s.Images {
			if uses.Of(im.Name) == 0 {
				byFile[im.Name.String()] = candidate{Dropped{im.Name.String(), im.Sums.Size, "old, and no device uses it"}, 0, im.Name.Version}
			}
		}
	}
	for _, s := range series {
		if im := s.Newest(); im != nil {
			delete(byFile, im.Name.String())
		}
	}
	return sorted(byFile, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.version, b.version), cmp.Compare(a.File, b.File))
	})
}

func sorted(byFile map[string]candidate, compare func(a, b candidate) int) (all []candidate) {
	for _, c := range byFile {
		all = append(all, c)
	}
	slices.SortFunc(all, compare)
	return all
}

// Without returns series without some files, and with an image its deltas. They stay as they
// are themselves.
func Without(series []meta.Series, gone map[string]bool) (left []meta.Series) {
	for _, s := range series {
		kept := meta.Series{Name: s.Name, Images: []meta.Image{}}
		for _, im := range s.Images {
			if gone[im.Name.String()] {
				continue
			}
			im.Diffs = slices.DeleteFunc(slices.Clone(im.Diffs), func(d meta.Diff) bool { return gone[meta.DeltaPath(d.Filename)] })
			im.Compact = slices.DeleteFunc(slices.Clone(im.Compact), func(c meta.Compact) bool { return gone[meta.CompactPath(c.Filename)] })
			kept.Images = append(kept.Images, im)
		}
		left = append(left, kept)
	}
	return left
}
