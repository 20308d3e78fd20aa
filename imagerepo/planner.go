package imagerepo

import (
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"puavo-image-repository/imagerepo/internal/mirror"
	"puavo-image-repository/imagerepo/internal/state"
	"puavo-image-repository/meta"
)

// planInput is all that a plan is made of.
type planInput struct {
	found  Scanned
	series []meta.SeriesConfig
	holds  mirror.Inventory
	policy Policy
	now    time.Time
	// failed are series of which it is known already that nothing can be made, and
	// published what the documents say of a series.
	failed    map[string]error
	suspect   []string // paths in the mirror of what is not as it should be
	published func(series string) (meta.Series, bool)
}

// planner makes a plan.
type planner struct {
	planInput
	Plan
	byName  map[meta.Name]Image // those found
	images  map[meta.Name]*PlannedImage
	deltas  map[string]*PlannedDelta
	retired []meta.Name
	kept    map[string]bool // names of files, and of series, of series that failed
}

// newPlan makes the plan, all but the estimate. A series of which nothing can be made
// is left out of it, with all that only it needs.
func newPlan(in planInput) Plan {
	in.failed = maps.Clone(in.failed)
	if in.failed == nil {
		in.failed = make(map[string]error)
	}
	byName := make(map[meta.Name]Image, len(in.found.Images))
	for _, im := range in.found.Images {
		byName[im.Name] = im
	}
	for {
		p := &planner{
			planInput: in, byName: byName,
			Plan:   Plan{Series: []PlannedSeries{}, Images: []PlannedImage{}, Deltas: []PlannedDelta{}, Remove: []PlannedRemove{}},
			images: make(map[meta.Name]*PlannedImage), deltas: make(map[string]*PlannedDelta), kept: make(map[string]bool),
		}
		series, err := p.add()
		if err == nil {
			p.collect()
			p.addRemovals()
			return p.Plan
		}
		in.failed[series] = err
	}
}

// add adds all series that have not failed. It returns the first that does.
func (p *planner) add() (failed string, err error) {
	if p.policy.KeepSignatures {
		p.addRetired()
	}
	var good []meta.SeriesConfig
	for _, s := range p.series {
		if reason := p.failed[s.Name]; reason != nil {
			p.addFailed(s, reason)
			continue
		}
		if err := p.addSeries(s); err != nil {
			return s.Name, err
		}
		good = append(good, s)
	}
	for i, s := range good {
		if err := p.addDeltas(i, s); err != nil {
			return s.Name, err
		}
	}
	return "", nil
}

// usable returns an error for an image that is not there or not usable, after where it
// is named.
func (p *planner) usable(n meta.Name, where string) error {
	if reason := p.found.Unusable[n]; reason != nil {
		return reason
	}
	if p.byName[n].Name != n {
		return fmt.Errorf("%w: %s%s is not in the image directory: %w", ErrConfig, where, n, fs.ErrNotExist)
	}
	return nil
}

// addFailed has all files of a series stay that failed.
func (p *planner) addFailed(s meta.SeriesConfig, reason error) {
	p.Failed = append(p.Failed, FailedSeries{s.Name, reason.Error(), reason})
	maps.Copy(p.kept, filesOf(s, p.published))
}

// filesOf returns the names of the files that belong to a series, by its document,
// and those of the series that its images have by their names.
func filesOf(s meta.SeriesConfig, published func(series string) (meta.Series, bool)) map[string]bool {
	files := map[string]bool{s.Name: true, s.Name + ".json": true}
	add := func(n meta.Name) { files[n.String()], files[n.Series()] = true, true }
	for _, n := range s.Images {
		add(n)
	}
	doc, _ := published(s.Name)
	for _, im := range doc.Images {
		add(im.Name)
		for _, d := range im.Diffs {
			files[d.Filename] = true
		}
	}
	return files
}

// keeps reports whether a file is among those of filesOf, or of such a series by its
// name.
func keeps(files map[string]bool, name string) bool {
	if files[name] {
		return true
	}
	n, err := meta.ParseName(name)
	if err != nil {
		n, _, err = meta.ParseDeltaName(name)
	}
	return err == nil && files[n.Series()]
}

// addRetired finds the images that left and whose signatures are there.
func (p *planner) addRetired() {
	for file, record := range p.holds.Records {
		n, err := meta.ParseName(file)
		if err != nil || !record.Summed() || !p.holds.Signed(n, record.Sums.Size) {
			continue
		}
		if p.byName[n].Name == n || p.found.Unusable[n] != nil {
			continue
		}
		p.retired = append(p.retired, n)
		p.images[n] = &PlannedImage{Image: Image{Name: n}, File: file, Size: record.Sums.Size, Action: Retired}
	}
}

// addSeries adds a series and its images.
func (p *planner) addSeries(s meta.SeriesConfig) error {
	if err := checkSeries(s, p.usable); err != nil {
		return err
	}
	planned := PlannedSeries{Name: s.Name, Deltas: make(map[string][]string)}
	for _, name := range s.Images {
		if im := p.images[name]; im == nil || im.Action == BaseOnly {
			p.images[name] = p.placed(name)
		}
		if stamp, there := p.holds.Has(name.String()); there && stamp.Size != p.images[name].Size && !p.holds.Owns(name.String()) {
			return foreign(name.String())
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
				p.images[base] = p.planned(base, BaseOnly)
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

// planned returns an image as it is planned.
func (p *planner) planned(name meta.Name, action Action) *PlannedImage {
	im := p.byName[name]
	record := p.holds.Records[name.String()]
	signed := p.holds.Signed(name, im.Stamp.Size)
	return &PlannedImage{
		Image: im, File: name.String(), Size: im.Stamp.Size, Action: action,
		Read:    !record.Known(im.Stamp) || record.Conf == nil || !signed,
		Touched: !record.Known(im.Stamp) && record.Summed() && record.Sums.Size == im.Stamp.Size && record.Conf != nil && signed,
	}
}

// placed returns an image that is published.
func (p *planner) placed(name meta.Name) *PlannedImage {
	im := p.planned(name, Link)
	stamp, there := p.holds.Has(im.File)
	record := p.holds.Records[im.File]
	switch {
	case !there:
	case stamp == im.Stamp, record.Known(im.Stamp) && record.Copy == stamp:
		im.Action = Keep
	case p.holds.Owns(im.File) && stamp.Size != im.Size:
		im.Action = Replace
	default:
		im.Action = Check
	}
	return im
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
	stamp, there := p.holds.Has(file)
	record := p.holds.Records[file]
	switch {
	case b.Read && !b.Touched || t.Read && !t.Touched:
		d.Action = Make
		if record != nil || there {
			d.Action = Check
		}
	default:
		d.Action = p.policy.decide(record, stamp, p.holds.Records[b.File].Sums, p.holds.Records[t.File].Sums)
	}
	if d.Action == Keep || d.Action == Drop {
		d.Size = record.Sums.Size
	}
	p.deltas[file] = d
	return file, nil
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
	for n := range p.images {
		p.adopts(n.String())
	}
	for f := range p.deltas {
		p.adopts(f)
	}
}

// adopts notes whether a file that is wanted is there and listed, and no record tells
// that it is the tool's own.
func (p *planner) adopts(name string) {
	if _, there := p.holds.Has(name); there && p.holds.Records[name] == nil && p.holds.Listed[name] {
		p.Adopted = true
	}
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
	for _, name := range p.holds.Names() {
		published, known := wanted[name]
		if stamp, there := p.holds.Has(name); !published && !keeps(p.kept, name) {
			p.addRemoval(name, stamp, there, known)
		}
	}
	slices.Sort(p.Unowned)
	slices.SortFunc(p.Remove, func(a, b PlannedRemove) int { return strings.Compare(a.Path, b.Path) })
}

// addRemoval plans to remove a file, with its record unless that is wanted, or tells
// that it stays since it is not the tool's own.
func (p *planner) addRemoval(name string, stamp state.Stamp, there, recordWanted bool) {
	file := mirror.PathOf(name)
	switch {
	case there && !p.holds.Owns(name):
		if p.holds.Listed[name] {
			p.Unowned = append(p.Unowned, file)
		}
	case there, !recordWanted && p.holds.Records[name] != nil:
		p.Remove = append(p.Remove, PlannedRemove{
			Path: file, Size: stamp.Size, Due: p.due(name), name: name, forget: !recordWanted,
		})
	}
}

// due returns when a file that nothing names any more is to be removed, zero for
// at once. Meta is no payload: whoever has it needs no other copy. What is damaged
// is of no use to anybody.
func (p *planner) due(name string) time.Time {
	since := p.now
	if record := p.holds.Records[name]; record != nil && record.Unnamed != 0 {
		if since = time.Unix(record.Unnamed, 0); since.After(p.now) { // a clock went back
			since = p.now
		}
	}
	due := since.Add(p.policy.Grace)
	if path.Ext(name) == ".json" || slices.Contains(p.suspect, mirror.PathOf(name)) || !due.After(p.now) {
		return time.Time{}
	}
	return due
}
