package pull

import (
	"log/slog"
	"testing"
	"time"

	"puavo-image-repository/imagerepo/internal/mirrortest"
)

const (
	image1 = mirrortest.Image1
	image2 = mirrortest.Image2
	image3 = mirrortest.Image3
	image4 = mirrortest.Image4
	other  = mirrortest.Other
	series = mirrortest.Series
)

// place is where a mirror is built and copied.
type place struct{ *mirrortest.Place }

func newPlace(t testing.TB, images ...string) *place {
	t.Helper()
	return &place{mirrortest.New(t, images...)}
}

func (p *place) options() Options {
	return Options{
		Sources: []string{p.Mirror}, Dir: p.Dest, Policy: Policy{Deltas: All}, Jobs: 2, NoSync: true, Grace: time.Hour,
		pauses: []time.Duration{}, Log: slog.New(slog.NewTextHandler(p.T.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})),
	}
}

// pull updates the copy, and checks that all that its documents say holds.
func (p *place) pull(o Options) (Plan, Summary) {
	p.T.Helper()
	pl, s, err := Run(p.T.Context(), o)
	p.Must(err)
	p.Must(mirrortest.Holds(o.Dir))
	return pl, s
}
