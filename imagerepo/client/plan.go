package client

import (
	"cmp"
	"context"
	"slices"

	"puavo-image-repository/imagerepo/client/internal/hold"
	"puavo-image-repository/imagerepo/client/internal/imagedir"
	"puavo-image-repository/imagerepo/client/internal/route"
	"puavo-image-repository/imagerepo/client/internal/source"
	"puavo-image-repository/imagerepo/internal/diskspace"
	"puavo-image-repository/meta"
)

// Plan says what Update would do.
type Plan struct {
	Mirror   string    `json:"mirror"` // where the image would come from
	Image    meta.Name `json:"image"`
	UpToDate bool      `json:"up_to_date"` // nothing would be done
	Disabled bool      `json:"disabled"`   // nothing will be done, since updates are disabled
	// Held says that nothing will be installed until the hold has ended; nil if there is none.
	// The rest is what would be done without it.
	Held *Held `json:"held,omitempty"`
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

// File is a file that would be downloaded, or was.
type File struct {
	Mirror string    `json:"mirror"`
	Path   string    `json:"path"`
	Size   int64     `json:"size"`  // bytes
	Makes  meta.Name `json:"makes"` // the image that is made of it
}

// newFile returns the file of a step.
func newFile(s Step) File {
	path, f := s.File()
	return File{Mirror: s.Mirror, Path: path, Size: f.Sums.Size, Makes: s.Image.Name}
}

// maxCandidates is how many candidates a plan has at most.
const maxCandidates = 5

// Check returns whether Update would do something: the Plan without candidates.
func Check(ctx context.Context, o Options) (Plan, error) {
	return plan(ctx, o, func(*mirrors, *offer, []LocalImage) ([]Candidate, error) { return []Candidate{}, nil })
}

// NewPlan returns what Update would do, from the first mirror that answers and has
// the image. It changes nothing, takes no lock, and reads no image: a wrong one
// counts as right unless it is known to be wrong.
func NewPlan(ctx context.Context, o Options) (Plan, error) {
	return plan(ctx, o, func(ms *mirrors, of *offer, local []LocalImage) ([]Candidate, error) {
		begun, err := ms.dir.Begun()
		if err != nil {
			return nil, err
		}
		return candidates(ms.dir, source.Choice{
			Wanted: &of.Wanted, Sources: ms.sources(ctx, of), Bases: local, Begun: begun, Failures: source.NewFailures(begun),
			Downgrades: ms.options.Image != "", Steps: route.MaxSteps,
		}), ctx.Err()
	})
}

// chooser returns the candidates of an offer that start from local images.
type chooser func(ms *mirrors, of *offer, local []LocalImage) ([]Candidate, error)

// plan returns a Plan with the candidates of a chooser.
func plan(ctx context.Context, o Options, choose chooser) (Plan, error) {
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
	ms, err := newMirrors(ctx, o, dir)
	if err != nil {
		return Plan{}, err
	}
	defer ms.close()
	err = ms.each(ctx, func(m mirror) error {
		of, err := fetchOffer(ctx, o, dir, m)
		if err != nil {
			return err
		}
		p, err = planOffer(ms, of, choose)
		return err
	})
	return p, err
}

func planOffer(ms *mirrors, of *offer, choose chooser) (Plan, error) {
	o, dir := ms.options, ms.dir
	p := Plan{Mirror: of.mirror.String(), Image: of.Target.Name, Disabled: dir.Disabled(), Candidates: []Candidate{}}
	var err error
	if p.Available, err = diskspace.Free(dir.Files); err != nil {
		return Plan{}, err
	}
	if state := hold.Read(dir.Files); !state.Ends(of.Target.Name) {
		if p.Held, err = newHeld(o, dir, state, of.Series); err != nil {
			return Plan{}, err
		}
	}
	if newer, err := hasNewer(o, dir, of); err != nil || newer {
		p.UpToDate = newer
		return p, err
	}
	local, err := notWrong(dir, of.Series)
	if err != nil {
		return Plan{}, err
	}
	if slices.ContainsFunc(local, func(l LocalImage) bool {
		return l.File == of.Target.Name.String() && l.Size == of.Target.Sums.Size
	}) {
		p.UpToDate = installer(o, dir).IsInUse(of.Target.Name)
		return p, nil
	}
	p.Candidates, err = choose(ms, of, local)
	return p, err
}

// notWrong returns the local images that are not known to be wrong.
func notWrong(dir *imagedir.Dir, series *meta.Series) ([]LocalImage, error) {
	all, err := dir.Images()
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
func candidates(dir *imagedir.Dir, c source.Choice) []Candidate {
	all := []Candidate{}
	for len(all) < maxCandidates {
		r, ok := c.Route()
		if !ok {
			break
		}
		all = append(all, newCandidate(dir, c, r))
		if len(r.Steps) == 0 || r.Steps[0].Diff == nil {
			break
		}
		c.Failures = c.Failures.WithoutFile(dearest(r))
	}
	return all
}

// dearest returns the step of a route that downloads the most.
func dearest(r Route) Step {
	return slices.MaxFunc(r.Steps, func(a, b Step) int {
		_, fa := a.File()
		_, fb := b.File()
		return cmp.Compare(fa.Sums.Size, fb.Sums.Size)
	})
}

func newCandidate(dir *imagedir.Dir, choice source.Choice, r Route) Candidate {
	c := Candidate{Route: r, Base: r.Base.File, Files: []File{}, Disk: roomFor(dir, r)}
	for _, s := range r.Steps {
		c.Files = append(c.Files, newFile(s))
		c.Fetch += choice.Fetch(s)
	}
	return c
}
