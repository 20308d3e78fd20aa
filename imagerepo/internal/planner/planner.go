// Package planner makes the plan of a run: a pure function of the images, of what the
// mirror holds, of its documents and of the policy.
package planner

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"time"

	"puavo-image-repository/imagerepo/internal/mirror"
	"puavo-image-repository/imagerepo/internal/source"
	"puavo-image-repository/imagerepo/plan"
	"puavo-image-repository/meta"
)

// ErrOther, in Input.Failed, is for a series that is not to be built, and stays as it is.
var ErrOther = errors.New("not to be built")

// Input is all that a plan is made of.
type Input struct {
	Found     source.Found
	Series    []meta.SeriesConfig // sorted by name, see Group
	Holds     mirror.Inventory
	Documents []meta.Series // what the mirror publishes
	Policy    plan.Policy
	Torrents  plan.Torrents // with seeds, see package torrents
	Now       time.Time
	Failed    map[string]error // series of which it is already known that they cannot be built
	Suspect   []string         // paths in the mirror of files that are damaged
}

// planner makes a plan.
type planner struct {
	in      Input
	plan    plan.Plan
	images  map[meta.Name]*plan.Image
	deltas  map[string]*plan.Delta
	retired []meta.Name
	failed  Files                    // those of the series that failed
	choices map[string][]plan.Choice // by series, where the policy decides
}

// New makes the plan, all but its estimate. A series of which nothing can be made is
// left out of it, with all that only it needs.
func New(in Input) plan.Plan {
	in.Failed = maps.Clone(in.Failed)
	if in.Failed == nil {
		in.Failed = make(map[string]error)
	}
	for {
		p := &planner{
			in:     in,
			plan:   plan.Plan{Series: []plan.Series{}, Images: []plan.Image{}, Deltas: []plan.Delta{}, Remove: []plan.Removal{}},
			images: make(map[meta.Name]*plan.Image), deltas: make(map[string]*plan.Delta), failed: make(Files),
		}
		series, err := p.add()
		if err == nil {
			p.collect()
			p.addCompact()
			p.addTorrents()
			p.addRemovals()
			return p.plan
		}
		in.Failed[series] = err
	}
}

// add adds all series that have not failed. It returns the first that does.
func (p *planner) add() (failed string, err error) {
	series, left := p.choose()
	if p.in.Policy.KeepSignatures {
		p.addRetired(left)
	}
	var good []meta.SeriesConfig
	for _, s := range series {
		if reason := p.in.Failed[s.Name]; reason != nil {
			if !errors.Is(reason, ErrOther) {
				p.plan.Failed = append(p.plan.Failed, plan.Failure{Name: s.Name, Reason: reason.Error(), Err: reason})
			}
			p.failed.Add(s, p.in.Documents)
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

// addRetired finds the images that left and whose signatures are there, or can be made of
// their files in the mirror. left are those that left since they are not kept.
func (p *planner) addRetired(left map[meta.Name]bool) {
	for file, record := range p.in.Holds.Records {
		n, err := meta.ParseName(file)
		if err != nil || !record.Summed() {
			continue
		}
		if _, found := p.in.Found.Images[n]; (found || p.in.Found.Unusable[n] != nil) && !left[n] {
			continue
		}
		signed := p.in.Holds.Signed(n, record.Sums.Size)
		if stamp, there := p.in.Holds.Has(file); !signed && !(there && stamp.Size == record.Sums.Size && p.in.Holds.Owns(file)) {
			continue
		}
		p.retired = append(p.retired, n)
		p.images[n] = &plan.Image{Name: n, File: file, Size: record.Sums.Size, Action: plan.Retired, Sign: !signed}
	}
}

// addSeries adds a series and its images.
func (p *planner) addSeries(s meta.SeriesConfig) error {
	if err := checkSeries(s, p.usable); err != nil {
		return err
	}
	if len(s.Images) == 0 && len(p.choices[s.Name]) > 0 {
		return fmt.Errorf("%w: the --keep options keep none of the %d images of the series; keep at least one", plan.ErrConfig, len(p.choices[s.Name]))
	}
	planned := plan.Series{Name: s.Name, Deltas: make(map[string][]string), Choices: p.choices[s.Name]}
	for _, name := range s.Images {
		if im := p.images[name]; im == nil || im.Action == plan.BaseOnly {
			p.images[name] = p.placed(name)
		}
		if stamp, there := p.in.Holds.Has(name.String()); there && stamp.Size != p.images[name].Size && !p.in.Holds.Owns(name.String()) {
			return mirror.Foreign(name.String())
		}
		planned.Images = append(planned.Images, name.String())
	}
	p.plan.Series = append(p.plan.Series, planned)
	return nil
}

// usable returns an error for an image that is missing or not usable, after where it
// is named.
func (p *planner) usable(n meta.Name, where string) error {
	if reason := p.in.Found.Unusable[n]; reason != nil {
		return reason
	}
	if _, found := p.in.Found.Images[n]; !found {
		return fmt.Errorf("%w: %s%s is not in the image directory: %w", plan.ErrConfig, where, n, fs.ErrNotExist)
	}
	return nil
}

// image returns what is planned of an image.
func (p *planner) image(name meta.Name, action plan.Action) *plan.Image {
	stamp := p.in.Found.Images[name]
	record := p.in.Holds.Records[name.String()]
	return &plan.Image{
		Name: name, File: name.String(), Size: stamp.Size, Action: action,
		Read:    !record.Known(stamp) || record.Conf == nil,
		Touched: !record.Known(stamp) && record.Summed() && record.Sums.Size == stamp.Size && record.Conf != nil,
	}
}

// placed returns what is planned of an image that is published.
func (p *planner) placed(name meta.Name) *plan.Image {
	im := p.image(name, plan.Link)
	stamp, there := p.in.Holds.Has(im.File)
	record, wanted := p.in.Holds.Records[im.File], p.in.Found.Images[name]
	switch {
	case !there:
	case stamp == wanted, record.Known(wanted) && record.Copy == stamp:
		im.Action = plan.Keep
	case p.in.Holds.Owns(im.File) && stamp.Size != im.Size:
		im.Action = plan.Replace
	default:
		im.Action = plan.Check
	}
	return im
}

// collect puts images and deltas into the plan in their orders.
func (p *planner) collect() {
	for _, im := range p.images {
		p.plan.Images = append(p.plan.Images, *im)
	}
	slices.SortFunc(p.plan.Images, func(a, b plan.Image) int { return a.Name.Compare(b.Name) })
	for _, file := range slices.Sorted(maps.Keys(p.deltas)) {
		p.plan.Deltas = append(p.plan.Deltas, *p.deltas[file])
	}
	slices.SortStableFunc(p.plan.Deltas, func(a, b plan.Delta) int { return a.Base.Compare(b.Base) })
	for n := range p.images {
		p.adopt(n.String())
	}
	for f := range p.deltas {
		p.adopt(f)
	}
}

// adopt notes whether a file that is wanted is there and listed, and no record says
// that it is the tool's own.
func (p *planner) adopt(name string) {
	if _, there := p.in.Holds.Has(name); there && p.in.Holds.Records[name] == nil && p.in.Holds.Listed[name] {
		p.plan.Adopted = true
	}
}
