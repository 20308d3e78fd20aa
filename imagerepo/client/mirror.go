package client

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"puavo-image-repository/imagerepo/client/internal/fetch"
	"puavo-image-repository/meta"
)

// maxDocument bounds the size of a JSON document, in bytes.
const maxDocument = 64 << 20

// mirror gives the meta of a mirror, and its files.
type mirror struct{ *fetch.Mirror }

// eachMirror calls use with one mirror after the other until it succeeds, or
// fails for a reason that no other mirror mends. Only what one mirror says of its
// files counts for them.
func eachMirror(ctx context.Context, o Options, use func(m mirror) error) error {
	var failed []error
	for i, where := range o.Mirrors {
		err := useMirror(where, o, use)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case isSettled(err):
			return err
		case i < len(o.Mirrors)-1:
			o.Log.Warn("trying the next mirror", "reason", err)
		}
		failed = append(failed, err)
	}
	return errors.Join(failed...)
}

// settled is an error that no other mirror mends.
type settled struct{ error }

func (s settled) Unwrap() error { return s.error }

func isSettled(err error) bool {
	_, ok := errors.AsType[settled](err)
	return ok
}

func useMirror(where string, o Options, use func(m mirror) error) error {
	m, err := fetch.Open(where, fetch.Options{
		CACertificate: o.CACertificate, Rate: o.Rate, Patience: o.Patience, Log: o.Log,
	})
	if err != nil {
		return err
	}
	defer m.Close()
	return use(mirror{m})
}

// find returns the image that is wanted, and its series. guide is an image that
// leads to the series; named says that it is itself the one that is wanted, and
// not the newest.
func (m mirror) find(ctx context.Context, guide meta.Name, named bool) (*meta.Series, *meta.Image, error) {
	series, err := m.seriesOf(ctx, guide)
	if err != nil {
		return nil, nil, err
	}
	target := series.Newest()
	if named {
		target, _ = series.Image(guide)
	}
	if target == nil {
		return nil, nil, fmt.Errorf("%w: %s is not in the series %s of the mirror", ErrNoImage, guide, series.Name)
	}
	return series, target, nil
}

// seriesOf returns the series that an image is in. Most often it has the name
// that the image's name gives; where not, the index is asked. An image that is in
// no series leads to the one whose name its name gives.
func (m mirror) seriesOf(ctx context.Context, n meta.Name) (*meta.Series, error) {
	own, ownErr := m.series(ctx, n.Series())
	if ownErr == nil && has(own, n) {
		return own, nil
	} else if ownErr != nil && !errors.Is(ownErr, fs.ErrNotExist) {
		return nil, ownErr
	}
	index, err := m.index(ctx)
	if err != nil {
		return nil, err
	}
	for _, e := range index.Series {
		if e.Name == n.Series() {
			continue
		}
		if s, err := m.series(ctx, e.Name); err != nil || has(s, n) {
			return s, err
		}
	}
	if ownErr != nil {
		return nil, fmt.Errorf("%w: %s is in no series of the mirror: %w", ErrNoImage, n, ownErr)
	}
	return own, nil
}

func has(s *meta.Series, n meta.Name) bool {
	_, ok := s.Image(n)
	return ok
}

// index returns the index; mirrors of the predecessor have none.
func (m mirror) index(ctx context.Context) (meta.Index, error) {
	data, err := m.Document(ctx, "index.json", maxDocument)
	if errors.Is(err, fs.ErrNotExist) {
		return meta.Index{}, nil
	} else if err != nil {
		return meta.Index{}, err
	}
	index, err := meta.ParseIndex(data)
	if err != nil {
		return meta.Index{}, fmt.Errorf("index.json: %w", err)
	}
	return index, nil
}

// series returns the series of that name.
func (m mirror) series(ctx context.Context, name string) (*meta.Series, error) {
	data, err := m.Document(ctx, meta.SeriesPath(name), maxDocument)
	if err != nil {
		return nil, err
	}
	s, err := meta.ParseSeries(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", meta.SeriesPath(name), err)
	}
	return &s, nil
}
