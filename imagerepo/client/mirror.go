package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"puavo-image-repository/imagerepo/client/internal/imagedir"
	"puavo-image-repository/imagerepo/internal/fetch"
	"puavo-image-repository/imagerepo/internal/tuf"
	"puavo-image-repository/meta"
)

// mirror gives the meta of a mirror, and its files.
type mirror struct {
	*fetch.Mirror
	signed *tuf.Documents // nil where no root is trusted
}

// eachMirror calls use with one mirror after the other until it succeeds, or
// fails for a reason that no other mirror mends. Only what one mirror says of its
// files counts for them.
func eachMirror(ctx context.Context, o Options, dir *imagedir.Dir, use func(m mirror) error) error {
	root, err := o.trusted()
	if err != nil {
		return err
	}
	var failed []error
	for i, where := range o.Mirrors {
		err := useMirror(ctx, where, o, func(m *fetch.Mirror) error {
			signed, err := refresh(ctx, m, root, dir)
			if err != nil {
				return err
			}
			return use(mirror{m, signed})
		})
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

func useMirror(ctx context.Context, where string, o Options, use func(m *fetch.Mirror) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m, err := fetch.Open(where, fetch.Options{
		CACertificate: o.CACertificate, Rate: o.Rate, Patience: o.Patience, Log: o.Log,
	})
	if err != nil {
		return err
	}
	defer m.Close()
	return use(m)
}

// trusted returns the root that is to be trusted, nil for none.
func (o Options) trusted() ([]byte, error) {
	if o.Trust == "" {
		return nil, nil
	}
	const most = 1 << 20
	f, err := os.Open(o.Trust)
	if err != nil {
		return nil, fmt.Errorf("the root to trust: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, most))
	if err != nil {
		return nil, fmt.Errorf("the root to trust: %w", err)
	}
	if err := tuf.CheckRoot(data); err != nil {
		return nil, fmt.Errorf("%s is no root to trust: %w", o.Trust, err)
	}
	return data, nil
}

// refresh verifies the metadata of a mirror, if a root is trusted. What is verified
// is remembered if the images directory is locked.
func refresh(ctx context.Context, m *fetch.Mirror, root []byte, dir *imagedir.Dir) (*tuf.Documents, error) {
	if root == nil {
		return nil, nil
	}
	kept, err := dir.Sub(tuf.ClientDir)
	if err != nil {
		return nil, err
	}
	if !kept.IsZero() {
		defer kept.Close()
	}
	signed, err := tuf.Client{Root: root, Dir: kept, ReadOnly: !dir.Locked()}.Refresh(ctx, reader(m))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", m, err)
	}
	return signed, nil
}

// reader returns the tuf.ReadFunc of a mirror.
func reader(m *fetch.Mirror) tuf.ReadFunc {
	return func(ctx context.Context, name string, most int64) ([]byte, error) {
		data, err := m.Document(ctx, name, most)
		if errors.Is(err, fetch.ErrTooLarge) {
			err = fmt.Errorf("%w (%w)", err, tuf.ErrEndlessData)
		}
		return data, err
	}
}

// document returns a document, verified where a root is trusted.
func (m mirror) document(ctx context.Context, name string) ([]byte, error) {
	if m.signed != nil {
		return m.signed.Read(ctx, name, meta.MaxDocument)
	}
	return m.Document(ctx, name, meta.MaxDocument)
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
	data, err := m.document(ctx, "index.json")
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
	data, err := m.document(ctx, meta.SeriesPath(name))
	if err != nil {
		return nil, err
	}
	s, err := meta.ParseSeries(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", meta.SeriesPath(name), err)
	}
	return &s, nil
}
