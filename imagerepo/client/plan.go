package client

import (
	"cmp"
	"context"
	"slices"
	"time"

	"puavo-image-repository/imagerepo/client/internal/cost"
	"puavo-image-repository/imagerepo/client/internal/hold"
	"puavo-image-repository/imagerepo/client/internal/imagedir"
	"puavo-image-repository/imagerepo/client/internal/route"
	"puavo-image-repository/imagerepo/client/internal/source"
	"puavo-image-repository/imagerepo/internal/assemble"
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
	// Candidates are the routes to the image in the order in which they would be tried, and at
	// the end the one that fetches the fewest bytes, if it is none of them.
	// If the directory has the image, there are none; then it would only be put to use.
	Candidates []Candidate `json:"ways"`
	// Rate is how many bytes a second would come, as the last downloads did, if RateKnown; if
	// not, it is a guess until some have come.
	Rate      int64 `json:"rate"`
	RateKnown bool  `json:"rate_known"`
	Available int64 `json:"available"` // bytes that are free for images
}

// Candidate is a route with what it takes now.
type Candidate struct {
	Route `json:"-"`
	Base  string `json:"base"`  // file name of the image that it starts from, "" for none
	Files []File `json:"files"` // to download, in this order
	Fetch int64  `json:"fetch"` // bytes to download, without those that an earlier run has
	Disk  int64  `json:"disk"`  // bytes that must be free, without those that an earlier run takes
	// Seconds is about how long it takes, at the rate of the plan.
	Seconds float64 `json:"seconds"`
	Compact bool    `json:"compact"` // one of the files is a compact delta
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
const maxCandidates = 8

// NewPlan returns what Update would do, from the first mirror that answers and has
// the image. It changes nothing, takes no lock, and reads no image: a wrong one
// counts as right unless it is known to be wrong.
func NewPlan(ctx context.Context, o Options) (Plan, error) {
	return newPlan(ctx, o, (*mirrors).sources)
}

// Check returns whether Update would do something. It is NewPlan that asks no other source
// than the mirror, nor DNS: the candidates are those of the mirror alone.
func Check(ctx context.Context, o Options) (Plan, error) {
	return newPlan(ctx, o, func(ms *mirrors, _ context.Context, of *offer) source.Sources {
		return append(ms.stored(of), of.source())
	})
}

// newPlan returns a Plan over the sources of an offer.
func newPlan(ctx context.Context, o Options, sources func(*mirrors, context.Context, *offer) source.Sources) (Plan, error) {
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
		of, err := ms.offer(ctx, m)
		if err != nil {
			return err
		}
		p, err = planOffer(ms, of, func() source.Sources { return sources(ms, ctx, of) })
		if err == nil {
			err = ctx.Err()
		}
		return err
	})
	return p, err
}

func planOffer(ms *mirrors, of *offer, sources func() source.Sources) (Plan, error) {
	o, dir := ms.options, ms.dir
	p := Plan{Mirror: of.mirror.String(), Image: of.Target.Name, Disabled: dir.Disabled(), Candidates: []Candidate{}}
	p.Rate, p.RateKnown = int64(ms.model().Bandwidth()), ms.known.Rate > 0
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
	p.Candidates, err = ms.candidates(of, local, sources())
	return p, err
}

// candidates returns the candidates of an offer that start from local images.
func (ms *mirrors) candidates(of *offer, local []LocalImage, sources source.Sources) ([]Candidate, error) {
	begun, err := ms.dir.Begun()
	if err != nil {
		return nil, err
	}
	choice := source.Choice{
		Wanted: &of.Wanted, Sources: sources, Bases: local, Begun: begun, Failures: source.NewFailures(begun),
		Downgrades: ms.options.Image != "", Steps: route.MaxSteps, Model: ms.model(),
	}
	return withSmallest(ms.dir, choice, candidates(ms.dir, choice)), nil
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
		if len(r.Steps) == 0 || r.Steps[0].IsFull() {
			break
		}
		c.Failures = c.Failures.WithoutFile(dearest(r))
	}
	return all
}

// withSmallest adds to candidates the one that fetches the fewest bytes, unless it is among
// them: behind the full image, none is looked for.
func withSmallest(dir *imagedir.Dir, c source.Choice, all []Candidate) []Candidate {
	c.Model.Traffic = true
	r, ok := c.Route()
	isSame := func(other Candidate) bool { return slices.EqualFunc(other.Steps, r.Steps, sameFile) }
	if !ok || slices.ContainsFunc(all, isSame) {
		return all
	}
	return append(all, newCandidate(dir, c, r))
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
		c.Compact = c.Compact || s.Compact != nil
	}
	for _, takes := range choice.Takes(r) {
		c.Fetch += takes.Fetch
		c.Seconds += choice.Model.Seconds(takes)
	}
	return c
}

// roomFor returns how many bytes must be free for a route. While an image is made,
// the one before it is needed. What an earlier run has made takes its room already.
func roomFor(dir *imagedir.Dir, r Route) (most int64) {
	var before int64
	for _, s := range r.Steps {
		left := s.Image.Sums.Size - diskspace.Used(dir.Files, assemble.PartialName(s.Image.Name))
		most = max(most, before+left)
		before = max(left, 0)
	}
	return most
}

// stepProgress returns the callback for one of several steps.
func stepProgress(report func(done, total int64), steps []Step, step int) func(done, total int64) {
	if report == nil {
		return func(int64, int64) {}
	}
	var before, all int64
	for i, s := range steps {
		if i < step {
			before += s.Image.Sums.Size
		}
		all += s.Image.Sums.Size
	}
	return func(done, _ int64) { report(before+done, all) }
}

// model returns how ways are compared.
func (ms *mirrors) model() cost.Model {
	return cost.Model{Known: ms.known, Limit: ms.options.Rate, Traffic: ms.options.traffic()}
}

// offer is fetchOffer. If no rate is known, the documents tell one, if they are large.
func (ms *mirrors) offer(ctx context.Context, m mirror) (*offer, error) {
	before, begun := ms.fetched.Load(), time.Now()
	of, err := fetchOffer(ctx, ms.options, ms.dir, m)
	if ms.known.Rate == 0 {
		ms.known.Rate = cost.RateOf(ms.fetched.Load()-before, time.Since(begun))
	}
	return of, err
}
