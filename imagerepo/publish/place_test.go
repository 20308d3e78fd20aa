package publish

import (
	"path/filepath"
	"testing"
	"time"

	"puavo-image-repository/imagerepo"
	"puavo-image-repository/imagerepo/internal/mirrortest"
	"puavo-image-repository/imagerepo/plan"
	"puavo-image-repository/imagerepo/trust"
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
type place struct {
	*mirrortest.Place
	t                         testing.TB
	dir, images, mirror, dest string
	keys                      *mirrortest.Keys
}

func newPlace(t testing.TB, images ...string) *place {
	t.Helper()
	p := mirrortest.New(t, images...)
	return &place{p, t, p.Dir, p.Images, p.Mirror, p.Dest, nil}
}

func (p *place) must(err error)               { p.t.Helper(); p.Must(err) }
func (p *place) put(name string, data []byte) { p.t.Helper(); p.Put(name, data) }
func (p *place) replace(name string)          { p.t.Helper(); p.Replace(name) }
func (p *place) leave(names ...string)        { p.t.Helper(); p.Leave(names...) }
func (p *place) read(name string) []byte      { p.t.Helper(); return p.Read(name) }
func (p *place) write(name, data string)      { p.t.Helper(); p.Write(name, data) }
func (p *place) has(name string) bool         { p.t.Helper(); return p.Has(name) }
func (p *place) copyDest(name string) string  { p.t.Helper(); return p.CopyDest(name) }
func (p *place) root() string                 { return filepath.Join(p.dir, "keys", "1.root.json") }

func (p *place) update(mirror, root string) (string, error) { return p.Update(mirror, root) }

// sign makes the place one whose mirror is signed.
func (p *place) sign() {
	p.t.Helper()
	p.CopyKeys()
	p.keys = p.Keys
}

// openKeys has the place sign with keys of its own.
func (p *place) openKeys() {
	p.t.Helper()
	p.OpenKeys()
	p.keys = p.Keys
}

// build builds the mirror, and signs it where the place has keys.
func (p *place) build() {
	p.t.Helper()
	p.Build(func(o *imagerepo.Options) {
		o.Torrents = plan.Torrents{Of: plan.TorrentsOfAll, Seeds: []string{"https://images.example.org"}}
		o.Sign = nil
		if p.keys != nil {
			o.Sign = p.keys.Sign
		}
	})
}

func (p *place) options() Options {
	return Options{MirrorDir: p.mirror, Destination: p.dest, Jobs: 2, NoSync: true, Grace: time.Hour}
}

func (p *place) publish(o Options) (Plan, Summary) {
	p.t.Helper()
	pl, s, err := Run(p.t.Context(), o)
	p.must(err)
	return pl, s
}

func keyOptions(dir string) trust.Options             { return mirrortest.KeyOptions(dir) }
func holds(dir string) error                          { return mirrortest.Holds(dir) }
func tree(t testing.TB, dir string) map[string]string { t.Helper(); return mirrortest.Tree(t, dir) }
func differ(got, want map[string]string) string       { return mirrortest.Difference(got, want) }
