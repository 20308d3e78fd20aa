package publish

import (
	"path/filepath"
	"testing"
	"time"

	"puavo-image-repository/imagerepo"
	"puavo-image-repository/imagerepo/internal/mirrortest"
	"puavo-image-repository/imagerepo/plan"
)

const (
	image1 = mirrortest.Image1
	image2 = mirrortest.Image2
	image3 = mirrortest.Image3
	image4 = mirrortest.Image4
	other  = mirrortest.Other
	series = mirrortest.Series
)

// place is where a mirror is built and published.
type place struct{ *mirrortest.Place }

func newPlace(t testing.TB, images ...string) *place {
	t.Helper()
	return &place{mirrortest.New(t, images...)}
}

// root returns the path of the root that clients trust.
func (p *place) root() string { return filepath.Join(p.Dir, "keys", "1.root.json") }

// build builds the mirror with torrents, and signs it where the place has keys.
func (p *place) build() {
	p.T.Helper()
	p.Build(func(o *imagerepo.Options) {
		o.Torrents = plan.Torrents{Of: plan.TorrentsOfAll, Seeds: []string{"https://images.example.org"}}
	})
}

func (p *place) options() Options {
	return Options{MirrorDir: p.Mirror, Destination: p.Dest, Jobs: 2, NoSync: true, Grace: time.Hour}
}

func (p *place) publish(o Options) (Plan, Summary) {
	p.T.Helper()
	pl, s, err := Run(p.T.Context(), o)
	p.Must(err)
	return pl, s
}
