package pull

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo/pull/internal/differ"
	"puavo-image-repository/imagerepo/pull/internal/filler"
	"puavo-image-repository/imagerepo/pull/internal/selection"
	"puavo-image-repository/meta"
)

// madePath is where deltas are made.
const madePath = private + "/made"

// targets is to how many images of a series deltas are made, as by a build.
const targets = 3

// made is a delta that this run has made.
type made struct {
	file   string // its path in the copy
	target meta.Name
	sums   cksum.Sums
}

// errLost is the error for a delta that was made by a run before, and is damaged.
var errLost = errors.New("a delta that was made here is damaged, and is made again")

// upstreamHas returns the digests of all images and deltas of upstreams, by their paths.
func (c *copied) upstreamHas() map[string]cksum.Sums {
	var all []meta.Series
	for _, e := range c.look {
		all = append(all, e.Series...)
	}
	return filesOf(all)
}

// withMade returns series with those deltas that the copy has and upstream lacks, if they are
// still wanted and both of their images are what they were.
func (c *copied) withMade(chosen, has []meta.Series) []meta.Series {
	if !c.options.MakeDeltas {
		return chosen
	}
	there, upstream := filesOf(has), c.upstreamHas()
	next := filesOf(chosen)
	same := func(n meta.Name) bool {
		return next[n.String()].SHA512 == there[n.String()].SHA512 && there[n.String()].Size > 0
	}
	return c.addTo(chosen, func(p selection.Pair) (meta.Diff, bool) {
		file := meta.DeltaPath(meta.DeltaName(p.Base, p.Target))
		_, theirs := upstream[file]
		sums, ours := there[file]
		return meta.Diff{Filename: path.Base(file), Base: p.Base, File: meta.File{Sums: sums}},
			ours && !theirs && !c.lost[file] && same(p.Base) && same(p.Target)
	})
}

// addTo returns series with those of the missing deltas that find has.
func (c *copied) addTo(series []meta.Series, find func(selection.Pair) (meta.Diff, bool)) (all []meta.Series) {
	for _, s := range series {
		s.Images = slices.Clone(s.Images)
		for _, pair := range c.pairs(s) {
			diff, ok := find(pair)
			if im, _ := s.Image(pair.Target); ok {
				im.Diffs = append(slices.Clip(im.Diffs), diff)
				slices.SortFunc(im.Diffs, func(a, b meta.Diff) int { return a.Base.Compare(b.Base) })
			}
		}
		all = append(all, s)
	}
	return all
}

// pairs returns the deltas that a series should have and lacks.
func (c *copied) pairs(s meta.Series) []selection.Pair {
	return selection.Pairs(s.Images, targets, c.options.Policy.Deltas, func(p selection.Pair) bool {
		im, _ := s.Image(p.Target)
		_, has := im.Diff(p.Base)
		return has
	})
}

// setUpMade adds the deltas that this run has made.
func (c *copied) setUpMade(f *filler.Filler) error {
	f.Made = make(map[string]string)
	for file, m := range c.made {
		f.Made[file] = m.file
		f.Payload[file] = filler.Payload{Sums: m.sums, Image: m.target}
	}
	for name := range f.Missing {
		if _, known := f.Payload[name]; !known && path.Ext(name) != ".torrent" {
			if c.lost == nil {
				c.lost = make(map[string]bool)
			}
			c.lost[name] = true
			return fmt.Errorf("%s: %w", name, errLost)
		}
	}
	return nil
}

// addDeltas makes the deltas that the copy lacks, and publishes them.
func (c *copied) addDeltas(ctx context.Context, t target, s *Summary) (err error) {
	c.made = make(map[string]made)
	defer func() {
		err = errors.Join(err, c.root.RemoveAll(madePath))
		c.made = nil
	}()
	if err := c.root.MkdirAll(madePath, 0o777); err != nil {
		return err
	}
	room := t.most - selection.Bytes(t.series)
	for _, series := range t.series {
		if err := c.makeDeltas(ctx, series, &room); err != nil {
			return err
		}
	}
	if len(c.made) == 0 {
		return nil
	}
	s.Made = len(c.made)
	more := c.addTo(t.series, func(p selection.Pair) (meta.Diff, bool) {
		name := meta.DeltaName(p.Base, p.Target)
		m, ok := c.made[meta.DeltaPath(name)]
		return meta.Diff{Filename: name, Base: p.Base, File: meta.File{Sums: m.sums}}, ok
	})
	_, sum, err := c.publish(ctx, more, c.options.Grace, c.options.AllowRemoval)
	s.Files, s.Written, s.Removed, s.Sent = s.Files+sum.Files, s.Written+sum.Written, s.Removed+sum.Removed, s.Sent+sum.Sent
	s.Changed = true
	return err
}

// makeDeltas makes the deltas that a series lacks, one base after the other. room is how many
// bytes may still be taken.
func (c *copied) makeDeltas(ctx context.Context, s meta.Series, room *int64) (err error) {
	byBase := make(map[meta.Name][]meta.Name)
	for _, p := range c.pairs(s) {
		if !c.isUseless(s, p) {
			byBase[p.Base] = append(byBase[p.Base], p.Target)
		}
	}
	images := &differ.Images{Dir: c.root, Sums: make(map[meta.Name]cksum.Sums)}
	defer func() { err = errors.Join(err, images.Close()) }()
	for _, im := range s.Images {
		images.Sums[im.Name] = im.Sums
	}
	for _, im := range s.Images {
		err := c.makeFrom(ctx, images, im.Name, byBase[im.Name], room)
		if errors.Is(err, differ.ErrImage) || errors.Is(err, fs.ErrNotExist) {
			c.options.Log.Warn("no deltas are made of an image that is damaged; --reverify digest gets it again", "reason", err)
		} else if err != nil {
			return err
		}
	}
	return ctx.Err()
}

// makeFrom makes the deltas from one base.
func (c *copied) makeFrom(ctx context.Context, images *differ.Images, base meta.Name, all []meta.Name, room *int64) error {
	if len(all) == 0 {
		return ctx.Err()
	}
	b, err := images.Base(ctx, base)
	if err != nil {
		return err
	}
	defer b.Close()
	for _, target := range all {
		name := meta.DeltaName(base, target)
		if c.options.Stage != nil {
			c.options.Stage("delta_make", meta.DeltaPath(name))
		}
		file := path.Join(madePath, name)
		sums, worth, err := b.Make(ctx, target, file)
		if err != nil {
			return err
		}
		if worth && sums.Size > *room {
			worth, err = false, c.root.Remove(file)
		}
		if err != nil {
			return err
		}
		if !worth {
			c.setUseless(meta.DeltaPath(name), images.Sums[base], images.Sums[target])
			continue
		}
		*room -= sums.Size
		c.made[meta.DeltaPath(name)] = made{file, target, sums}
		if c.options.Got != nil {
			c.options.Got(File{Name: meta.DeltaPath(name), Size: sums.Size, From: c.options.Dir, Made: true})
		}
	}
	return ctx.Err()
}

// isUseless reports whether a delta was made before, and not published.
func (c *copied) isUseless(s meta.Series, p selection.Pair) bool {
	base, _ := s.Image(p.Base)
	target, _ := s.Image(p.Target)
	return c.record.Useless[meta.DeltaPath(meta.DeltaName(p.Base, p.Target))] == digestsOf(base.Sums, target.Sums)
}

// setUseless remembers a delta that is not published.
func (c *copied) setUseless(file string, base, target cksum.Sums) {
	if c.record.Useless == nil {
		c.record.Useless = make(map[string]string)
	}
	c.record.Useless[file] = digestsOf(base, target)
}

// digestsOf identifies the images of a delta.
func digestsOf(base, target cksum.Sums) string {
	return base.SHA512.String() + " " + target.SHA512.String()
}

// listedUseless returns the deltas that are not worth it, and whose images upstreams still list.
func (c *copied) listedUseless() map[string]string {
	listed, kept := c.upstreamHas(), make(map[string]string)
	for file, digests := range c.record.Useless {
		base, version, err := meta.ParseOldDeltaName(path.Base(file))
		target := base
		target.Version = version
		if err == nil && digests == digestsOf(listed[base.String()], listed[target.String()]) {
			kept[file] = digests
		}
	}
	return kept
}
