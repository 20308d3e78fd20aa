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
	Disabled bool      `json:"disabled"`   // nor is, since updates are disabled
	// Ways are the ways to the image, the one that would be gone first. There is none
	// where the image is there; then it would only be put to use.
	Ways      []Way `json:"ways"`
	Available int64 `json:"available"` // bytes that are free for images
}

// Way is a route with what it takes now.
type Way struct {
	Route `json:"-"`
	Base  string `json:"base"`  // file name of the image that it starts from, "" for none
	Files []File `json:"files"` // that are fetched, in this order
	Fetch int64  `json:"fetch"` // bytes, without what an earlier run has fetched
	Disk  int64  `json:"disk"`  // bytes that must be free, besides what an earlier run has made
}

// File is a file of a mirror that is fetched.
type File struct {
	Path  string    `json:"path"`
	Size  int64     `json:"size"`  // bytes
	Makes meta.Name `json:"makes"` // the image that is made of it
}

// mostWays is how many ways a plan tells.
const mostWays = 5

// NewPlan returns what Update would do, from the first mirror that tells of the
// image. It changes nothing, takes no lock, and reads no image: one that would
// prove wrong counts as right unless that is known from before.
func NewPlan(ctx context.Context, o Options) (Plan, error) {
	dir, err := imagedir.Open(o.Dir)
	if err != nil {
		return Plan{}, err
	}
	defer dir.Close()
	var p Plan
	err = eachMirror(ctx, o, dir, func(m mirror) error {
		u := &update{Options: o, dir: dir}
		of, err := u.offer(ctx, dir, m)
		if err != nil {
			return err
		}
		p, err = u.plan(of)
		return err
	})
	return p, err
}

func (u *update) plan(o *offer) (Plan, error) {
	p := Plan{Mirror: o.mirror.String(), Image: o.target.Name, Disabled: u.dir.Disabled(), Ways: []Way{}}
	var err error
	if p.Available, err = diskspace.Free(u.dir.Files); err != nil {
		return Plan{}, err
	}
	if newer, err := u.newer(o); err != nil || newer {
		p.UpToDate = newer
		return p, err
	}
	have, err := u.notWrong(o)
	if err != nil {
		return Plan{}, err
	}
	if slices.ContainsFunc(have, func(l LocalImage) bool {
		return l.File == o.target.Name.String() && l.Size == o.target.Sums.Size
	}) {
		p.UpToDate = !u.toInstall(o.target.Name)
		return p, nil
	}
	p.Ways = u.ways(o, have)
	return p, nil
}

// notWrong returns the images that are there and not known to be wrong.
func (u *update) notWrong(o *offer) ([]LocalImage, error) {
	all, err := u.dir.Images()
	return slices.DeleteFunc(all, func(l LocalImage) bool {
		im, ok := o.series.Image(l.Name)
		if !ok {
			return false
		}
		right, known := u.dir.Digests.Known(l.File, im.Sums)
		return known && !right
	}), err
}

// ways returns the cheapest way, and each time the one that would be gone if the
// dearest step of the one before failed, down to the full image.
func (u *update) ways(o *offer, have []LocalImage) []Way {
	limits := newSearch(u, o).limits
	ways := []Way{}
	for len(ways) < mostWays {
		r, ok := ChooseRoute(o.series, o.target, have, limits)
		if !ok {
			break
		}
		ways = append(ways, u.way(r))
		if len(r.Steps) == 0 || r.Steps[0].Diff == nil {
			break
		}
		dearest := slices.MaxFunc(r.Steps, func(a, b Step) int { return int(a.cost() - b.cost()) })
		path, _ := dearest.file()
		limits.Failed[path] = true
	}
	return ways
}

func (u *update) way(r Route) Way {
	w := Way{Route: r, Base: r.Base.File, Files: []File{}, Disk: need(u.dir, r)}
	for _, s := range r.Steps {
		path, f := s.file()
		w.Files = append(w.Files, File{Path: path, Size: f.Sums.Size, Makes: s.Image.Name})
		w.Fetch += assemble.Remaining(u.dir.Files, s.Image.Name, f.Sums)
	}
	return w
}
