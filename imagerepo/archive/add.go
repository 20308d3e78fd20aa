package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo/archive/internal/catalog"
	"puavo-image-repository/imagerepo/archive/internal/content"
	"puavo-image-repository/imagerepo/archive/internal/group"
	"puavo-image-repository/imagerepo/archive/internal/maker"
	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/apart"
	"puavo-image-repository/imagerepo/internal/diskspace"
	"puavo-image-repository/imagerepo/internal/meter"
	"puavo-image-repository/imagerepo/internal/sharing"
	"puavo-image-repository/imagerepo/internal/source"
	"puavo-image-repository/meta"
)

// Addition is an image that comes into the archive.
type Addition struct {
	Group   string `json:"group"`
	Version string `json:"version"`
	File    string `json:"file"`
	Size    int64  `json:"size"` // bytes
	// Same is the group and the version with the same content, with a slash between: it is
	// stored once.
	Same string `json:"same,omitempty"`
	// Inserted says that the archive has a newer version.
	Inserted bool `json:"inserted,omitempty"`
}

// AddPlan is what Add does.
type AddPlan struct {
	Store string     `json:"store"`
	Dir   string     `json:"dir"`
	Add   []Addition `json:"add"`
	Kept  int        `json:"kept"` // images that the archive has
	// Refused are images that are not added, with the reasons.
	Refused []string `json:"refused,omitempty"`
	Way     string   `json:"way"`   // how images come: reflink or copy
	Saved   int64    `json:"saved"` // bytes that are stored once instead of twice
	Space   int64    `json:"space"` // bytes of the disk that are needed, at most at a time
	Free    int64    `json:"free"`  // bytes
}

// ErrRefused is wrapped by the error for images that could not be added, while others were.
var ErrRefused = errors.New("some images were not added")

// PlanAdd returns what Add would do. It changes nothing. It reads an image where another has
// the same size.
func (s *Store) PlanAdd(ctx context.Context, dir string) (AddPlan, error) {
	p, _, err := s.planAdd(ctx, dir)
	return p, err
}

func (s *Store) planAdd(ctx context.Context, dir string) (p AddPlan, from *source.Dir, err error) {
	p = AddPlan{Store: s.path, Dir: dir, Add: []Addition{}}
	if apart.Overlap(dir, s.path) && !strictlyInside(s.path, dir) {
		return p, nil, fmt.Errorf("the images %s are in the archive %s, or the same; choose another directory", dir, s.path)
	}
	if from, err = source.Open(dir, true); err != nil {
		return p, nil, err
	}
	for _, n := range from.Names() {
		if err := ctx.Err(); err != nil {
			return p, from, err
		}
		if why := from.Unusable[n]; why != nil {
			p.Refused = append(p.Refused, why.Error())
			continue
		}
		if err := s.planImage(&p, from, n); err != nil {
			return p, from, err
		}
	}
	if err := s.findSame(ctx, &p, from); err != nil {
		return p, from, err
	}
	p.Way = s.way(from, p)
	p.Space = s.addSpace(p)
	p.Free, err = freeAt(s.path)
	return p, from, err
}

// freeAt returns how much room a directory has, or that in which it will be made.
func freeAt(path string) (int64, error) {
	dir, err := atomicfile.Open(diskspace.Existing(path))
	if err != nil {
		return 0, err
	}
	defer dir.Close()
	return diskspace.Free(dir)
}

// strictlyInside reports whether a path is below dir.
func strictlyInside(path, dir string) bool {
	a, errA := filepath.EvalSymlinks(path)
	b, errB := filepath.EvalSymlinks(dir)
	if errA != nil || errB != nil {
		return false
	}
	rel, err := filepath.Rel(b, a)
	return err == nil && rel != "." && rel != ".." && !strings.HasPrefix(rel, "../")
}

// planImage adds an image to the plan.
func (s *Store) planImage(p *AddPlan, from *source.Dir, n meta.Name) error {
	stamp := from.Stamp(n)
	a := Addition{Group: n.Series(), Version: n.Version, File: n.String(), Size: stamp.Size}
	if slices.ContainsFunc(p.Add, func(o Addition) bool { return o.Group == a.Group && o.Version == a.Version }) {
		p.Refused = append(p.Refused, fmt.Sprintf("%s: another image is version %s of %s too; rename one", n, a.Version, a.Group))
		return nil
	}
	if !s.isGroup(a.Group) {
		p.Add = append(p.Add, a)
		return nil
	}
	g, err := s.open(a.Group)
	if err != nil {
		return err
	}
	defer g.Close()
	has, ok := g.C.Find(a.Version)
	switch {
	case ok && (has.Size != a.Size || has.Name != a.File):
		p.Refused = append(p.Refused, fmt.Sprintf("%s: the archive has another version %s of %s, of %d bytes; give the image a new version", n, a.Version, a.Group, has.Size))
	case ok:
		p.Kept++
	default:
		a.Inserted = a.Version < g.C.Newest().Version
		p.Add = append(p.Add, a)
	}
	return nil
}

// findSame finds images with the content of another, which the archive has whole or gets
// before it.
func (s *Store) findSame(ctx context.Context, p *AddPlan, from *source.Dir) error {
	type known struct {
		name   string
		digest cksum.Digest256
	}
	bySize := make(map[int64][]known)
	for g := range s.others("") {
		v := g.C.Newest()
		bySize[v.Size] = append(bySize[v.Size], known{g.Name + "/" + v.Version, v.BLAKE3})
	}
	sizes := make(map[int64]int)
	for _, a := range p.Add {
		sizes[a.Size]++
	}
	for i := range p.Add {
		a := &p.Add[i]
		if len(bySize[a.Size]) == 0 && sizes[a.Size] < 2 {
			continue
		}
		f, err := os.Open(filepath.Join(from.Path, a.File))
		if err != nil {
			return err
		}
		sums, err := content.Digest(ctx, f, cksum.Sums{BLAKE3: cksum.Digest256{1}}, nil)
		f.Close()
		if err != nil {
			return err
		}
		all := bySize[a.Size]
		if k := slices.IndexFunc(all, func(k known) bool { return k.digest == sums.BLAKE3 }); k >= 0 {
			a.Same = all[k].name
			p.Saved += a.Size
		}
		bySize[a.Size] = append(all, known{a.Group + "/" + a.Version, sums.BLAKE3})
	}
	return nil
}

// way returns how images most likely come.
func (s *Store) way(from *source.Dir, p AddPlan) string {
	if len(p.Add) > 0 && sharing.Reflinks(filepath.Join(from.Path, p.Add[0].File), diskspace.Existing(s.path)) {
		return sharing.Reflink.String()
	}
	return sharing.Copy.String()
}

// addSpace returns how much room the additions take at most at a time, and in the end.
func (s *Store) addSpace(p AddPlan) (most int64) {
	var grown int64
	last := make(map[string]int64) // the size of the newest of each group
	for g := range s.others("") {
		last[g.Name] = g.C.Newest().Size
	}
	for _, a := range p.Add {
		comes := a.Size
		if p.Way == sharing.Reflink.String() || a.Same != "" {
			comes = 0
		}
		if a.Inserted {
			most = max(most, grown+comes+2*last[a.Group]+a.Size/deltaShare)
			grown += a.Size / deltaShare
			continue
		}
		most = max(most, grown+comes+last[a.Group]/deltaShare)
		grown += comes + last[a.Group]/deltaShare - last[a.Group]
		last[a.Group] = a.Size
	}
	return most
}

// Add adds the images of a directory, which may be a mirror, that the archive lacks: the oldest
// first. Each is complete before the next begins. It returns what it planned. Where some were
// refused, the error wraps ErrRefused.
func (s *Store) Add(ctx context.Context, dir string) (AddPlan, error) {
	p, err := s.PlanAdd(ctx, dir) // first of all without changing anything
	if err != nil {
		return p, err
	}
	unlock, err := s.lock(ctx)
	if err != nil {
		return p, err
	}
	defer unlock()
	p, from, err := s.planAdd(ctx, dir)
	if err != nil {
		return p, err
	}
	if _, err := s.checkSpace(s.dir, p.Space); err != nil {
		return p, err
	}
	var total int64
	for _, a := range p.Add {
		total += a.Size*meter.Copy + maker.Work(a.Size)*meter.Diff
	}
	m := s.meter(total)
	for _, a := range p.Add {
		if err := s.addOne(ctx, from, a, m); err != nil {
			return p, fmt.Errorf("adding %s: %w", a.File, err)
		}
	}
	if len(p.Refused) > 0 {
		return p, fmt.Errorf("%w: %s", ErrRefused, strings.Join(p.Refused, "; "))
	}
	return p, ctx.Err()
}

// addOne adds an image.
func (s *Store) addOne(ctx context.Context, from *source.Dir, a Addition, m *meter.Meter) error {
	g, err := s.create(ctx, a.Group)
	if err != nil {
		return err
	}
	defer g.Close()
	name, err := meta.ParseName(a.File)
	if err != nil {
		return err
	}
	v, err := s.bring(ctx, g, from, name, a, m)
	if err != nil {
		return err
	}
	next := g.C.Clone()
	at, _ := slices.BinarySearchFunc(next.Versions, v, func(o, v catalog.Version) int { return strings.Compare(o.Version, v.Version) })
	next.Versions = slices.Insert(next.Versions, at, v)
	free := at
	if at == len(next.Versions)-1 {
		free = at - 1
	}
	changes := arrangement(g.C, next.Versions, free, s.o.MaxChain)
	arrange := &arranger{s, g, next.Versions, map[string]catalog.Version{v.Version: v}, m, nil}
	if err := arrange.work(ctx, changes); err != nil {
		return err
	}
	if err := g.Commit(ctx, next); err != nil {
		return err
	}
	s.o.Log.Info("added", "group", a.Group, "version", a.Version, "size", a.Size)
	return nil
}

// bring brings an image into its group, as <version>.img.new, flushed.
func (s *Store) bring(ctx context.Context, g *group.Group, from *source.Dir, name meta.Name, a Addition, m *meter.Meter) (v catalog.Version, err error) {
	defer m.Begin("archive_copy", a.Group+"/"+a.Version+".img")()
	file := a.Version + ".img" + catalog.New
	in, err := from.Open(name)
	if err != nil {
		return v, err
	}
	defer in.Close()
	sums, linked, err := s.bringSame(ctx, g, in, a, file, m)
	if err == nil && !linked {
		sums, err = s.copy(ctx, g, in, file, m)
	}
	if err != nil {
		return v, err
	}
	if err := from.Unchanged(name); err != nil {
		return v, err
	}
	stamp := from.Stamp(name)
	return catalog.Version{
		Version: a.Version, Name: a.File, Size: sums.Size, BLAKE3: sums.BLAKE3, SHA256: sums.SHA256,
		Stored: catalog.Stored{Form: catalog.Whole, Size: sums.Size, BLAKE3: sums.BLAKE3},
		Added:  s.o.Now().UTC().Round(time.Second), Modified: time.Unix(0, stamp.MTime).UTC(),
	}, nil
}

// wanted are the digests that a version has.
var wanted = cksum.Sums{SHA256: cksum.Digest256{1}, BLAKE3: cksum.Digest256{1}}

// bringSame links an image from another group that has the same content, and reports whether
// it did.
func (s *Store) bringSame(ctx context.Context, g *group.Group, in io.Reader, a Addition, file string, m *meter.Meter) (sums cksum.Sums, linked bool, err error) {
	name, version, ok := strings.Cut(a.Same, "/")
	if !ok || name == a.Group {
		return sums, false, nil
	}
	other, err := s.open(name)
	if err != nil {
		return sums, false, err
	}
	defer other.Close()
	i := other.C.Index(version)
	if i < 0 || other.C.Versions[i].Stored.Form != catalog.Whole {
		return sums, false, nil
	}
	has := other.C.Versions[i]
	if sums, err = content.Digest(ctx, in, wanted, m.At(meter.Compare).Add); err != nil || sums.BLAKE3 != has.BLAKE3 {
		return sums, false, err
	}
	if err := s.link(ctx, other, g, has.File(), file, has.Stored); err != nil {
		s.o.Log.Warn("an equal image of another group cannot be shared; it is stored again", "group", name, "version", version, "reason", err)
		return sums, false, ctx.Err()
	}
	return sums, true, nil
}

// copy makes a reflink of an image, or copies it, and returns its digests.
func (s *Store) copy(ctx context.Context, g *group.Group, in *os.File, file string, m *meter.Meter) (sums cksum.Sums, err error) {
	if _, err := in.Seek(0, io.SeekStart); err != nil {
		return sums, err
	}
	f, err := g.Dir.Begin(file, file)
	if err != nil {
		return sums, err
	}
	defer f.Discard()
	count := m.At(meter.Copy)
	if f.Clone(in) == nil {
		sums, err = content.Digest(ctx, f, wanted, count.Add)
	} else {
		sums, err = content.Digest(ctx, io.TeeReader(in, f), wanted, count.Add)
	}
	if err != nil {
		return sums, err
	}
	return sums, errors.Join(f.Sync(), f.Keep())
}
