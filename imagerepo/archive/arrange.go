package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo/archive/internal/catalog"
	"puavo-image-repository/imagerepo/archive/internal/chain"
	"puavo-image-repository/imagerepo/archive/internal/content"
	"puavo-image-repository/imagerepo/archive/internal/group"
	"puavo-image-repository/imagerepo/archive/internal/maker"
	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/diskspace"
	"puavo-image-repository/imagerepo/internal/meter"
)

// change is a version that gets another file.
type change struct {
	at    int  // in the versions
	whole bool // or else a delta from the next newer version
}

// arrangement returns what must change about the files of versions, of which some may have
// come or gone since those of the catalog: each delta starts from the next newer version, the
// newest version is whole, and no more than most deltas make one, but as many as do already.
// free is the one that is whole and need not be, or -1.
func arrangement(before *catalog.Catalog, versions []catalog.Version, free, most int) (changes []change) {
	is, was := wholes(versions), wholes(before.Versions)
	most = max(most, 1)
	if free >= 0 && chain.CanBeDelta(is, free, most) {
		is[free] = false
	}
	for i := range was {
		most = max(most, chain.Length(was, i))
	}
	for i, whole := range chain.Arrange(is, most) {
		s := versions[i].Stored
		switch {
		case whole && s.Form != catalog.Whole:
			changes = append(changes, change{i, true})
		case !whole && (s.Form == catalog.Whole || s.Parent != versions[i+1].Version):
			changes = append(changes, change{i, false})
		}
	}
	return changes
}

// wholes returns which versions are stored whole.
func wholes(versions []catalog.Version) []bool {
	is := make([]bool, len(versions))
	for i, v := range versions {
		is[i] = v.Stored.Form == catalog.Whole
	}
	return is
}

// maxRatio is the largest share of its version that a delta is worth.
const maxRatio = 0.9

// arranger makes the files of an arrangement.
type arranger struct {
	s        *Store
	g        *group.Group
	versions []catalog.Version          // as they will be
	fresh    map[string]catalog.Version // versions that are whole, in a file that is named with ".new"
	meter    *meter.Meter
	opened   []*content.Content
}

// work makes the files of changes, and sets what is stored of the versions.
func (a *arranger) work(ctx context.Context, changes []change) error {
	defer a.close()
	for _, c := range changes {
		v := &a.versions[c.at]
		worth := !c.whole
		var stored catalog.Stored
		var err error
		if worth {
			stored, worth, err = a.delta(ctx, v, &a.versions[c.at+1])
		}
		if err == nil && !worth {
			stored, err = a.whole(ctx, v)
		}
		if err != nil {
			return fmt.Errorf("version %s of %s: %w", v.Version, a.g.Name, err)
		}
		v.Stored = stored
	}
	return nil
}

// close closes the versions that are mapped.
func (a *arranger) close() {
	for _, c := range a.opened {
		c.Close()
	}
	a.opened = nil
}

// bytes returns all of a version.
func (a *arranger) bytes(ctx context.Context, v *catalog.Version) ([]byte, error) {
	c, err := a.content(ctx, v)
	if err != nil {
		return nil, err
	}
	return c.Bytes(ctx, a.g.Dir)
}

// content opens a version.
func (a *arranger) content(ctx context.Context, v *catalog.Version) (c *content.Content, err error) {
	if fresh, ok := a.fresh[v.Version]; ok {
		var files content.Files
		files, err = content.OpenFiles(ctx, a.g.Dir, []catalog.Step{{Version: fresh, File: fresh.File() + catalog.New}})
		if err != nil {
			return nil, err
		}
		defer files.Close()
		c, err = content.Open(ctx, a.g.Dir, files, 0)
	} else {
		c, err = a.s.contentOf(ctx, a.g, v.Version, a.g.Dir)
	}
	if err == nil {
		a.opened = append(a.opened, c)
	}
	return c, err
}

// delta makes the delta from parent to a version, and reports whether it is worth having.
func (a *arranger) delta(ctx context.Context, v, parent *catalog.Version) (s catalog.Stored, worth bool, err error) {
	defer a.close()
	file := catalog.Version{Version: v.Version, Stored: catalog.Stored{Form: a.s.o.Format}}
	defer a.meter.Begin("archive_delta", a.g.Name+"/"+file.File())()
	if s, ok := a.s.linkDelta(ctx, a.g, v, parent, file.File()); ok {
		return s, true, nil
	}
	base, err := a.bytes(ctx, parent)
	if err != nil {
		return s, false, err
	}
	target, err := a.bytes(ctx, v)
	if err != nil {
		return s, false, err
	}
	count := a.meter.At(meter.Diff)
	return maker.Make(ctx, maker.Job{
		Dir: a.g.Dir, File: file.File() + catalog.New, Form: a.s.o.Format, Parent: parent.Version,
		Base: base, Target: target, BLAKE3: v.BLAKE3, Most: int64(maxRatio * float64(v.Size)),
		Memory: a.s.index(parent.Size), Progress: count.Add,
	})
}

// whole writes a version as a file, unless it is one.
func (a *arranger) whole(ctx context.Context, v *catalog.Version) (s catalog.Stored, err error) {
	s = catalog.Stored{Form: catalog.Whole, Size: v.Size, BLAKE3: v.BLAKE3}
	if _, ok := a.fresh[v.Version]; ok || v.Stored.Form == catalog.Whole {
		return s, nil
	}
	defer a.close()
	c, err := a.content(ctx, v)
	if err != nil {
		return s, err
	}
	name := v.Version + ".img" + catalog.New
	defer a.meter.Begin("archive_restore", a.g.Name+"/"+v.Version+".img")()
	f, err := a.g.Dir.Begin(name, name)
	if err != nil {
		return s, err
	}
	defer f.Discard()
	h := cksum.NewFor(cksum.Sums{BLAKE3: v.BLAKE3})
	from := a.meter.At(meter.Copy).Reader(ctx, io.NewSectionReader(c, 0, c.Size()))
	if _, err := io.Copy(io.MultiWriter(h, f), from); err != nil {
		return s, err
	}
	if got := h.Sums().BLAKE3; got != v.BLAKE3 {
		return s, fmt.Errorf("%w: its BLAKE3 is %s, not %s", ErrWrong, got, v.BLAKE3)
	}
	return s, errors.Join(f.Sync(), f.Keep())
}

// units returns how much work changes are.
func units(versions []catalog.Version, changes []change) (n int64) {
	for _, c := range changes {
		if size := versions[c.at].Size; c.whole {
			n += size * meter.Copy
		} else {
			n += maker.Work(size) * meter.Diff
		}
	}
	return n
}

// deltaShare is what share of its version a delta is expected to take.
const deltaShare = 4

// room returns how many bytes of the disk changes take, before anything is removed, and how
// many of them are temporary files.
func (s *Store) room(g *group.Group, versions []catalog.Version, changes []change) (files, temporary int64) {
	for _, c := range changes {
		v := versions[c.at]
		if c.whole {
			files += v.Size
			temporary = max(temporary, s.temporary(g, v.Version, false))
			continue
		}
		files += v.Size / deltaShare
		temporary = max(temporary, s.temporary(g, v.Version, true)+s.temporary(g, versions[c.at+1].Version, true))
	}
	return files, temporary
}

// temporary returns how many bytes the temporary files for a version of the catalog take, and
// for all its bytes in one file.
func (s *Store) temporary(g *group.Group, version string, all bool) int64 {
	steps, err := g.C.Path(version)
	if err != nil { // it is fresh
		return 0
	}
	p := content.PlanOf(steps, s.reading())
	if v := steps[len(steps)-1]; all && v.Stored.Form == catalog.Rdiff {
		return p.Temporary + v.Size
	}
	return p.Temporary
}

// checkSpace returns an error if a directory has most likely less room than is needed.
func (s *Store) checkSpace(dir atomicfile.Dir, need int64) (free int64, err error) {
	if free, err = diskspace.Free(dir); err != nil {
		return 0, err
	}
	if need > free && !s.o.IgnoreSpace {
		return free, fmt.Errorf("%w in %s: about %d MiB are needed, and %d MiB are free; make room, or try it with --ignore-space",
			ErrSpace, dir.Name(), (need+1<<20-1)>>20, free>>20)
	}
	return free, nil
}

// linkDelta gives a delta its name that another group has already, of the same versions, and
// reports whether there is one.
func (s *Store) linkDelta(ctx context.Context, g *group.Group, v, parent *catalog.Version, file string) (catalog.Stored, bool) {
	for other := range s.others(g.Name) {
		i := slices.IndexFunc(other.C.Versions, func(o catalog.Version) bool { return o.BLAKE3 == v.BLAKE3 && o.Stored.Form == s.o.Format })
		if i < 0 || i+1 >= len(other.C.Versions) || other.C.Versions[i+1].BLAKE3 != parent.BLAKE3 {
			continue
		}
		stored := other.C.Versions[i].Stored
		stored.Parent = parent.Version
		if s.link(ctx, other, g, other.C.Versions[i].File(), file+catalog.New, stored) == nil {
			return stored, true
		}
	}
	return catalog.Stored{}, false
}

// others returns the other groups, open.
func (s *Store) others(name string) func(yield func(*group.Group) bool) {
	return func(yield func(*group.Group) bool) {
		names, _ := s.names()
		for _, other := range names {
			if other == name {
				continue
			}
			g, err := s.open(other)
			if err != nil {
				continue // that is another's fault, as verify reports
			}
			goOn := yield(g)
			g.Close()
			if !goOn {
				return
			}
		}
	}
}

// link gives a file of a group a name in another, if it is what the catalog says.
func (s *Store) link(ctx context.Context, from, to *group.Group, file, name string, want catalog.Stored) error {
	if err := content.Check(ctx, from.Dir, file, want, nil); err != nil {
		return err
	}
	if _, err := to.Dir.Lstat(name); err == nil {
		if err := to.Dir.Remove(name); err != nil {
			return err
		}
	}
	return s.dir.Link(from.Name+"/"+file, to.Name+"/"+name)
}
