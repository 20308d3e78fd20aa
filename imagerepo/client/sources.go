package client

import (
	"context"
	"slices"
	"time"

	"puavo-image-repository/imagerepo/client/internal/discover"
	"puavo-image-repository/imagerepo/client/internal/source"
	"puavo-image-repository/imagerepo/internal/fetch"
	"puavo-image-repository/meta"
)

// sources returns where the files of what a mirror offers can be fetched from, the
// nearest first.
func (ms *mirrors) sources(ctx context.Context, of *offer) (all source.Sources) {
	if stored := source.Stored(ms.dir.Files); len(stored) > 0 {
		if m, err := ms.open(ms.options.Dir, false); err == nil {
			all = append(all, source.Source{Mirror: m, Images: of.Images, Stored: stored})
		}
	}
	for _, where := range ms.payload(ctx) {
		m, err := ms.open(where, true)
		if err != nil {
			ms.options.Log.Warn("not using a payload mirror", "reason", err)
			continue
		}
		all = append(all, source.Source{Mirror: m, Images: of.Images})
	}
	all = append(all, source.Source{Mirror: of.mirror.Mirror, Images: of.Images})
	return append(all, ms.others(ctx, of)...)
}

// payload returns the hosts for payload: those of the options, and those that DNS
// names.
func (ms *mirrors) payload(ctx context.Context) []string {
	all := slices.Clone(ms.options.PayloadMirrors)
	if !ms.options.Discover {
		return all
	}
	found, err := discover.Local().Find(ctx)
	if err != nil && ctx.Err() == nil {
		ms.options.Log.Warn("going on without an image server nearby", "reason", err)
	}
	return append(all, found...)
}

// others returns what the other mirrors have of an offer.
func (ms *mirrors) others(ctx context.Context, of *offer) (all source.Sources) {
	for _, where := range ms.options.Mirrors {
		m, err := ms.open(where, false)
		if err != nil || m == of.mirror.Mirror {
			continue
		}
		series, err := ms.alsoOffered(ctx, m, of)
		if err != nil {
			ms.options.Log.Info("going on without another mirror", "mirror", m, "reason", err)
			continue
		}
		all = append(all, source.Source{Mirror: m, Images: source.Index(series)})
	}
	return all
}

// brief is how long another mirror may take to say what it has. It might save a long
// download, but must not hold up a short one.
const brief = 10 * time.Second

// alsoOffered returns the series in which another mirror has the wanted image. What is
// recorded of the signed metadata stays what the mirror of the offer says.
func (ms *mirrors) alsoOffered(ctx context.Context, m *fetch.Mirror, of *offer) (*meta.Series, error) {
	ctx, cancel := context.WithTimeout(ctx, brief)
	defer cancel()
	signed, err := refresh(ctx, m, ms.root, ms.dir, true)
	if err != nil {
		return nil, err
	}
	return mirror{m, signed}.seriesOf(ctx, of.Target.Name)
}
