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
	for _, c := range slices.Concat(deltas(series, uses), images(series, uses)) {
		if left <= most {
			break
		}
		left -= c.Size
		gone[c.File] = true
		dropped = append(dropped, c.Dropped)
	}
	return Without(series, gone), dropped
}

// deltas returns all deltas, those to drop first before the others.
func deltas(series []meta.Series, uses Uses) []candidate {
	byFile := make(map[string]candidate)
	for _, s := range series {
		for _, im := range s.Images {
			for _, d := range im.Diffs {
				file := meta.DeltaPath(d.Filename)
				c := candidate{Dropped{file, d.Sums.Size, "no device uses its base"}, math.Inf(1), ""}
				if n := uses.Of(d.Base); n > 0 {
					c.weight, c.Reason = float64(d.Sums.Size)/float64(n), "too many bytes for each device that uses its base"
				}
				byFile[file] = c
			}
		}
	}
	return sorted(byFile, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(b.weight, a.weight), cmp.Compare(b.Size, a.Size), cmp.Compare(a.File, b.File))
	})
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
			kept.Images = append(kept.Images, im)
		}
		left = append(left, kept)
	}
	return left
}
