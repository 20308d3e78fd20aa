package client

import (
	"context"
	"slices"

	"puavo-image-repository/imagerepo/client/internal/imagedir"
	"puavo-image-repository/imagerepo/internal/assemble"
	"puavo-image-repository/imagerepo/internal/diskspace"
	"puavo-image-repository/meta"
)

// Plan tells what Update would do.
type Plan struct {
	Mirror   string    `json:"mirror"` // where the image would come from
	Image    meta.Name `json:"image"`
	UpToDate bool      `json:"up_to_date"` // nothing would be done
	Disabled bool      `json:"disabled"`   // nothing will be done, since updates are disabled
	// Candidates are the routes to the image in the order in which they would be tried.
	// If the directory has the image, there are none; then it would only be put to use.
	Candidates []Candidate `json:"ways"`
	Available  int64       `json:"available"` // bytes that are free for images
}

// Candidate is a route with what it takes now.
type Candidate struct {
	Route `json:"-"`
	Base  string `json:"base"`  // file name of the image that it starts from, "" for none
	Files []File `json:"files"` // to download, in this order
	Fetch int64  `json:"fetch"` // bytes to download, without those that an earlier run has
	Disk  int64  `json:"disk"`  // bytes that must be free, without those that an earlier run takes
}

// File is a file of a mirror that would be downloaded.
type File struct {
	Path  string    `json:"path"`
	Size  int64     `json:"size"`  // bytes
	Makes meta.Name `json:"makes"` // the image that is made of it
}

// maxCandidates is how many candidates a plan has at most.
const maxCandidates = 5

// NewPlan returns what Update would do, from the first mirror that answers and has
// the image. It changes nothing, takes no lock, and reads no image: a wrong one
// counts as right unless it is known to be wrong.
func NewPlan(ctx context.Context, o Options) (Plan, error) {
	o, err := o.checked()
	if err != nil {
		return Plan{}, err
	}
	dir, err := imagedir.Open(o.Dir)
	if err != nil {
		return Plan{}, err
	}
	defer dir.Close()
	var p Plan
	err = eachMirror(ctx, o, dir, func(m mirror) error {
		of, err := fetchOffer(ctx, o, dir, m)
		if err != nil {
			return err
		}
		p, err = newPlan(o, dir, of)
		return err
	})
	return p, err
}

func newPlan(o Options, dir *imagedir.Dir, of *offer) (Plan, error) {
	p := Plan{Mirror: of.mirror.String(), Image: of.target.Name, Disabled: dir.Disabled(), Candidates: []Candidate{}}
	var err error
	if p.Available, err = diskspace.Free(dir.Files); err != nil {
		return Plan{}, err
	}
	if newer, err := hasNewer(o, dir, of); err != nil || newer {
		p.UpToDate = newer
		return p, err
	}
	local, err := notWrong(dir, of.series)
	if err != nil {
		return Plan{}, err
	}
	if slices.ContainsFunc(local, func(l LocalImage) bool {
		return l.File == of.target.Name.String() && l.Size == of.target.Sums.Size
	}) {
		p.UpToDate = isInUse(o, dir, of.target.Name)
		return p, nil
	}
	limits, _ := limitsOf(o, dir, of)
	p.Candidates = candidates(dir, of, local, limits)
	return p, nil
}

// notWrong returns the local images that are not known to be wrong.
func notWrong(dir *imagedir.Dir, series *meta.Series) ([]LocalImage, error) {
	all, err := localImages(dir)
	return slices.DeleteFunc(all, func(l LocalImage) bool {
		im, ok := series.Image(l.Name)
		if !ok {
			return false
		}
		right, known := dir.Digests.Known(l.File, im.Sums)
		return known && !right
	}), err
}

// candidates returns the cheapest route, and then each time the one that would be
// tried if the dearest step of the one before failed, down to the full image.
func candidates(dir *imagedir.Dir, of *offer, local []LocalImage, limits Limits) []Candidate {
	all := []Candidate{}
	for len(all) < maxCandidates {
		r, ok := ChooseRoute(of.series, of.target, local, limits)
		if !ok {
			break
		}
		all = append(all, newCandidate(dir, r))
		if len(r.Steps) == 0 || r.Steps[0].Diff == nil {
			break
		}
		dearest := slices.MaxFunc(r.Steps, func(a, b Step) int { return int(a.cost() - b.cost()) })
		path, _ := dearest.file()
		limits.Failed[path] = true
	}
	return all
}

func newCandidate(dir *imagedir.Dir, r Route) Candidate {
	c := Candidate{Route: r, Base: r.Base.File, Files: []File{}, Disk: roomFor(dir, r)}
	for _, s := range r.Steps {
		path, f := s.file()
		c.Files = append(c.Files, File{Path: path, Size: f.Sums.Size, Makes: s.Image.Name})
		c.Fetch += assemble.Remaining(dir.Files, s.Image.Name, f.Sums)
	}
	return c
}
