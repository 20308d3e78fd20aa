package imagerepo

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo/internal/mirror"
	"puavo-image-repository/imagerepo/internal/state"
	"puavo-image-repository/meta"
)

// Action is what a plan does about a file.
type Action string

const (
	// Of an image: Link puts it into the mirror, Replace puts it in the place of
	// another content of that name, after withdrawing that from the meta. BaseOnly
	// leaves an image out that only extra_rdiffs names, as a base. Retired is that
	// of an image that left the image directory and still serves as a base, by its
	// signature.
	Link     Action = "link"
	Replace  Action = "replace"
	BaseOnly Action = "base"
	Retired  Action = "retired"
	// Of a delta: Make makes it; Check keeps it if it proves right, which no record
	// tells, and makes it if not; Drop leaves it out as not worth having.
	Make  Action = "make"
	Check Action = "check"
	Drop  Action = "drop"
	// Of both: Keep leaves it as it is.
	Keep Action = "keep"
)

// Plan is what a run will do. Making one changes nothing, and the same input
// gives the same plan.
type Plan struct {
	Series []PlannedSeries `json:"series"`
	Images []PlannedImage  `json:"images"` // sorted by name
	Deltas []PlannedDelta  `json:"deltas"` // those of one base beside each other
	Remove []PlannedRemove `json:"remove"` // sorted by path

	// Adopted says that the mirror, or part of it, was not made by the tool or that
	// its records are lost, and is taken over. LeftAlone are the folders of the tool
	// that made it, of no use any more.
	Adopted   bool     `json:"adopted"`
	LeftAlone []string `json:"left_alone,omitempty"`

	Estimate Estimate `json:"estimate"`
}

// groups returns the deltas by their bases.
func (p Plan) groups() (groups [][]PlannedDelta) {
	for _, d := range p.Deltas {
		if n := len(groups); n > 0 && groups[n-1][0].Base == d.Base {
			groups[n-1] = append(groups[n-1], d)
		} else {
			groups = append(groups, []PlannedDelta{d})
		}
	}
	return groups
}

// PlannedSeries is a series with its images, oldest first, and the deltas of
// each in the order they have in the meta.
type PlannedSeries struct {
	Name   string              `json:"name"`
	Images []string            `json:"images"`
	Deltas map[string][]string `json:"deltas"` // by image
}

// PlannedImage is an image of the image directory.
type PlannedImage struct {
	Image  `json:"-"`
	File   string `json:"file"`
	Size   int64  `json:"size"`
	Action Action `json:"action"`
	// Read says that the image must be read for its digests and its signature;
	// Touched that these are known and one digest may tell that they still hold.
	Read    bool `json:"read"`
	Touched bool `json:"touched,omitempty"`
}

// PlannedDelta is a delta between two images.
type PlannedDelta struct {
	File         string    `json:"file"`
	Base, Target meta.Name `json:"-"`
	Action       Action    `json:"action"`
	Size         int64     `json:"size,omitempty"` // where it is known
	TargetSize   int64     `json:"target_size"`
	// Retired says that of the base only the signature is left.
	Retired  bool  `json:"retired,omitempty"`
	baseSize int64 // bytes
}

// open reports whether there is something to do about a delta.
func (d PlannedDelta) open() bool { return d.Action != Keep && d.Action != Drop }

// PlannedRemove is a file of an earlier run that nothing will name any more.
type PlannedRemove struct {
	Path string `json:"path"` // in the mirror
	Size int64  `json:"size"`
	// Due is when it is removed; zero is now.
	Due    time.Time `json:"due,omitzero"`
	name   string
	forget bool // the record is removed too
}

// Policy says which deltas are made, and for how long files are kept that nothing
// names any more.
type Policy struct {
	Targets    int     `json:"targets"`    // for how many of the newest images
	Bases      int     `json:"bases"`      // from how many others at most, the nearest; 0: from all
	Downgrades bool    `json:"downgrades"` // also to an older image
	MaxRatio   float64 `json:"max_ratio"`  // the largest share of its target that a delta may have
	// KeepSignatures says that an image that left the image directory stays a base,
	// by its signature.
	KeepSignatures bool          `json:"keep_signatures"`
	Grace          time.Duration `json:"grace"` // nanoseconds
}

// tooLarge reports whether a delta of that size is not worth having.
func (p Policy) tooLarge(delta, target int64) bool {
	return float64(delta) > p.MaxRatio*float64(target)
}

// bases returns the bases wanted for the image at i of a series: of the newest
// images all others, sorted, with those retired images that could have been in
// the series, and then the extra ones.
func (p Policy) bases(s meta.SeriesConfig, i int, retired []meta.Name) []meta.Name {
	target := s.Images[i]
	var bases []meta.Name
	if i >= len(s.Images)-p.Targets {
		others := slices.Concat(s.Images[:i], s.Images[i+1:])
		for _, n := range retired {
			if n.Series() == target.Series() && !slices.Contains(s.Images, n) {
				others = append(others, n)
			}
		}
		bases = p.nearest(others, target)
	}
	for _, extra := range s.Extra[target] {
		if extra != target && !slices.Contains(bases, extra) {
			bases = append(bases, extra)
		}
	}
	return bases
}

// nearest returns those of the images that may be bases of the target and are
// nearest to it, sorted. The nearest are the newest before it; after them come the
// ones that follow.
func (p Policy) nearest(images []meta.Name, target meta.Name) []meta.Name {
	slices.SortFunc(images, meta.Name.Compare)
	after, _ := slices.BinarySearchFunc(images, target, meta.Name.Compare)
	near := slices.Clone(images[:after])
	slices.Reverse(near)
	if p.Downgrades {
		near = append(near, images[after:]...)
	}
	if p.Bases > 0 && len(near) > p.Bases {
		near = near[:p.Bases]
	}
	slices.SortFunc(near, meta.Name.Compare)
	return near
}

// planner makes a plan.
type planner struct {
	Plan
	policy  Policy
	held    mirror.Held
	now     time.Time
	found   map[meta.Name]Image
	retired []meta.Name
	images  map[meta.Name]*PlannedImage
	deltas  map[string]*PlannedDelta
}

// newPlan makes the plan for the images of the image directory, their series,
// and what the mirror holds, all but the estimate.
func newPlan(images []Image, series []meta.SeriesConfig, held mirror.Held, policy Policy, now time.Time) (Plan, error) {
	p := planner{
		policy: policy, held: held, now: now, found: make(map[meta.Name]Image, len(images)),
		images: make(map[meta.Name]*PlannedImage), deltas: make(map[string]*PlannedDelta),
		Plan: Plan{Series: []PlannedSeries{}, Images: []PlannedImage{}, Deltas: []PlannedDelta{}, Remove: []PlannedRemove{}},
	}
	for _, im := range images {
		p.found[im.Name] = im
	}
	if policy.KeepSignatures {
		p.addRetired()
	}
	for _, s := range series {
		if err := p.addSeries(s); err != nil {
			return Plan{}, err
		}
	}
	for i, s := range series {
		if err := p.addDeltas(i, s); err != nil {
			return Plan{}, err
		}
	}
	p.collect()
	p.addRemovals()
	return p.Plan, nil
}

// addRetired finds the images that left and whose signatures are there.
func (p *planner) addRetired() {
	for file, record := range p.held.Records {
		n, err := meta.ParseName(file)
		if err != nil || p.found[n].Name == n || !record.Known(record.Stamp) || !p.held.Signed(n, record.Sums.Size) {
			continue
		}
		p.retired = append(p.retired, n)
		p.images[n] = &PlannedImage{Image: Image{Name: n}, File: file, Size: record.Sums.Size, Action: Retired}
	}
}

// addSeries adds a series and its images.
func (p *planner) addSeries(s meta.SeriesConfig) error {
	planned := PlannedSeries{Name: s.Name, Deltas: make(map[string][]string)}
	for _, name := range s.Images {
		if err := p.addImage(name); err != nil {
			return err
		}
		planned.Images = append(planned.Images, name.String())
	}
	p.Series = append(p.Series, planned)
	return nil
}

// addDeltas adds the deltas of the series at i of the plan.
func (p *planner) addDeltas(i int, s meta.SeriesConfig) error {
	for j, target := range s.Images {
		for _, base := range p.policy.bases(s, j, p.retired) {
			if p.images[base] == nil {
				p.images[base] = p.image(base, BaseOnly)
			}
			file, err := p.addDelta(base, target)
			if err != nil {
				return err
			}
			deltas := p.Series[i].Deltas
			deltas[target.String()] = append(deltas[target.String()], file)
		}
	}
	return nil
}

// image returns an image as it is planned.
func (p *planner) image(name meta.Name, action Action) *PlannedImage {
	im := p.found[name]
	record := p.held.Records[name.String()]
	signed := p.held.Signed(name, im.Stamp.Size)
	return &PlannedImage{
		Image: im, File: name.String(), Size: im.Stamp.Size, Action: action,
		Read:    !record.Known(im.Stamp) || record.Conf == nil || !signed,
		Touched: record != nil && !record.Known(im.Stamp) && record.Known(record.Stamp) && record.Sums.Size == im.Stamp.Size && signed,
	}
}

// addImage adds an image that is published.
func (p *planner) addImage(name meta.Name) error {
	if p.images[name] != nil {
		return nil
	}
	im := p.image(name, Link)
	record := p.held.Records[im.File]
	if stamp, there := p.held.Files[im.File]; there {
		switch {
		case stamp == im.Stamp, record.Known(im.Stamp) && record.Copy == stamp:
			im.Action = Keep
		case p.held.Owned(im.File):
			im.Action = Replace
		default:
			return fmt.Errorf("%s in the mirror is not the image of that name and was not put there by this tool; take it over with --adopt, or move it away", im.File)
		}
	}
	p.images[name] = im
	return nil
}

func (p *planner) addDelta(base, target meta.Name) (file string, err error) {
	file = meta.DeltaName(base, target)
	if d := p.deltas[file]; d != nil {
		if d.Target != target {
			return "", fmt.Errorf("%w: deltas from %s to %s and to %s would have one name, %s; drop one from extra_rdiffs", ErrConfig, base, d.Target, target, file)
		}
		return file, nil
	}
	b, t := p.images[base], p.images[target]
	d := &PlannedDelta{
		File: file, Base: base, Target: target, TargetSize: t.Size, baseSize: b.Size, Retired: b.Action == Retired,
	}
	record, stamp := p.held.Records[file], p.held.Files[meta.DeltaPath(file)]
	switch {
	case b.Read || t.Read:
		d.Action = Make
		if record != nil || stamp != (state.Stamp{}) {
			d.Action = Check
		}
	default:
		d.Action = p.policy.decide(record, stamp, p.held.Records[b.File].Sums, p.held.Records[t.File].Sums)
	}
	if d.Action == Keep || d.Action == Drop {
		d.Size = record.Sums.Size
	}
	p.deltas[file] = d
	return file, nil
}

// decide says what to do about a delta between images of these digests, with its
// record and the stamp of the file in the mirror, which may both be missing.
func (p Policy) decide(record *state.Record, file state.Stamp, base, target cksum.Sums) Action {
	there := file != state.Stamp{}
	of := record != nil && record.Base == base.BLAKE3 && record.Target == target.BLAKE3
	switch {
	case of && record.Dropped && p.tooLarge(record.Sums.Size, target.Size):
		return Drop
	case of && !record.Dropped && record.Known(file) && p.tooLarge(file.Size, target.Size):
		return Drop
	case of && !record.Dropped && record.Known(file):
		return Keep
	case there:
		return Check
	default:
		return Make
	}
}

// collect puts images and deltas into the plan in their orders.
func (p *planner) collect() {
	for _, im := range p.images {
		p.Images = append(p.Images, *im)
	}
	slices.SortFunc(p.Images, func(a, b PlannedImage) int { return a.Name.Compare(b.Name) })
	for _, file := range slices.Sorted(maps.Keys(p.deltas)) {
		p.Deltas = append(p.Deltas, *p.deltas[file])
	}
	slices.SortStableFunc(p.Deltas, func(a, b PlannedDelta) int { return a.Base.Compare(b.Base) })
}

// addRemovals plans to remove what is the tool's own and not wanted any more.
func (p *planner) addRemovals() {
	wanted := make(map[string]bool) // true: the file, false: its record alone
	for _, s := range p.Series {
		wanted[s.Name+".json"] = true
	}
	for _, im := range p.Images {
		wanted[im.File] = im.Action != BaseOnly && im.Action != Retired
	}
	for _, d := range p.Deltas {
		wanted[d.File] = d.Action != Drop
	}
	for _, name := range p.held.Own() {
		published, known := wanted[name]
		stamp, there := p.held.Files[mirror.PathOf(name)]
		if published || known && (!there || !p.held.Placed(name)) {
			continue
		}
		p.Remove = append(p.Remove, PlannedRemove{
			Path: mirror.PathOf(name), Size: stamp.Size, Due: p.due(name), name: name, forget: !known,
		})
	}
	slices.SortFunc(p.Remove, func(a, b PlannedRemove) int { return strings.Compare(a.Path, b.Path) })
}

// due returns when a file that nothing names any more is to be removed, zero for
// at once. Meta is no payload: whoever has it needs no other copy.
func (p *planner) due(name string) time.Time {
	since := p.now
	if record := p.held.Records[name]; record != nil && record.Unnamed != 0 {
		if since = time.Unix(record.Unnamed, 0); since.After(p.now) { // a clock went back
			since = p.now
		}
	}
	due := since.Add(p.policy.Grace)
	if path.Ext(name) == ".json" || !due.After(p.now) {
		return time.Time{}
	}
	return due
}
