package pull

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"slices"
	"strings"
	"syscall"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo/internal/diskspace"
	"puavo-image-repository/imagerepo/internal/edition/record"
	"puavo-image-repository/imagerepo/internal/mirror"
	"puavo-image-repository/imagerepo/pull/internal/selection"
	"puavo-image-repository/meta"
)

// target is what the copy gets.
type target struct {
	series  []meta.Series
	dropped []Dropped
	most    int64         // bytes that all files may take
	first   []meta.Series // what it has in the meantime, to make room; nil if there is room
}

// chosen returns what was chosen of all upstreams, sorted by name.
func (c *copied) chosen() (all []meta.Series) {
	for _, e := range c.look {
		all = append(all, c.options.Policy.Choose(e.Series)...)
	}
	slices.SortFunc(all, func(a, b meta.Series) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// target returns what the copy gets, unless it must not.
func (c *copied) target(ctx context.Context) (t target, err error) {
	has, err := c.has()
	if err != nil {
		return t, err
	}
	there, err := c.owned(ctx)
	if err != nil {
		return t, err
	}
	most, err := c.most(there)
	if err != nil {
		return t, err
	}
	t.most = most
	t.series, t.dropped = selection.Fit(c.withMade(c.chosen(), has), c.options.Policy.Uses, most)
	if n := selection.Bytes(t.series); n > most {
		return t, fmt.Errorf("%w: the newest images and those in use take %d bytes, and %d may be taken; choose fewer, or allow more", syscall.ENOSPC, n, most)
	}
	if err := c.guard(has, t.series); err != nil {
		return t, err
	}
	if there+newBytes(has, t.series) > most {
		t.first = shrink(has, t.series)
	}
	return t, nil
}

// most returns how many bytes all files may take. Those of the copy take there bytes already.
func (c *copied) most(there int64) (int64, error) {
	most := int64(math.MaxInt64)
	if c.options.MaxSize > 0 {
		most = c.options.MaxSize
	}
	if c.options.Reserve == 0 {
		return most, nil
	}
	root := c.root
	if root.IsZero() {
		return most, nil // a plan, for a directory that does not exist
	}
	free, err := diskspace.Free(root)
	return min(most, max(free-c.options.Reserve, -there)+there), err
}

// owned returns how many bytes images and deltas take that runs have put there, orphans too.
func (c *copied) owned(ctx context.Context) (n int64, err error) {
	if c.root.IsZero() {
		return 0, ctx.Err()
	}
	data, err := c.root.ReadFile(record.Name, record.Most)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, ctx.Err()
	} else if err != nil {
		return 0, err
	}
	known, err := record.Parse(data)
	if err != nil {
		return 0, nil // whoever publishes says so
	}
	for name := range known.Files {
		if isImage(name) || strings.HasSuffix(name, ".rdiff") || strings.HasSuffix(name, mirror.CompactExt) {
			n += diskspace.Used(c.root, name)
		}
	}
	return n, ctx.Err()
}

// filesOf returns the digests of all files of these series.
func filesOf(series []meta.Series) map[string]cksum.Sums {
	all := make(map[string]cksum.Sums)
	for _, s := range series {
		for _, im := range s.Images {
			all[im.Name.String()] = im.Sums
			for _, d := range im.Diffs {
				all[meta.DeltaPath(d.Filename)] = d.Sums
			}
			for _, c := range im.Compact {
				all[meta.CompactPath(c.Filename)] = c.Sums
			}
		}
	}
	return all
}

// newBytes returns how many bytes come where one edition follows another.
func newBytes(before, after []meta.Series) (n int64) {
	has := filesOf(before)
	for name, sums := range filesOf(after) {
		if has[name].SHA512 != sums.SHA512 {
			n += sums.Size
		}
	}
	return n
}

// shrink returns what stays of an edition in the next. A series that would have no image keeps
// its newest.
func shrink(has, next []meta.Series) (left []meta.Series) {
	wanted := filesOf(next)
	gone := make(map[string]bool)
	for name, sums := range filesOf(has) {
		gone[name] = wanted[name].SHA512 != sums.SHA512
	}
	for _, s := range has {
		kept := slices.ContainsFunc(s.Images, func(im meta.Image) bool { return !gone[im.Name.String()] })
		if newest := s.Newest(); !kept && newest != nil {
			gone[newest.Name.String()] = false
		}
	}
	return selection.Without(has, gone)
}
