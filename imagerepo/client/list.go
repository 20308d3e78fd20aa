package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"slices"
	"time"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo/client/internal/digestcache"
	"puavo-image-repository/imagerepo/client/internal/imagedir"
	"puavo-image-repository/imagerepo/client/internal/stats"
	"puavo-image-repository/meta"
)

// Listed is a local image, or one that a mirror offers, or both.
type Listed struct {
	Name   meta.Name `json:"name"`
	Series string    `json:"series"` // the mirror's, or else the one that the name gives
	Size   int64     `json:"size"`   // bytes, of the local image, or else of the mirror's

	Local   bool `json:"local"`   // the directory has it
	Offered bool `json:"offered"` // the mirror has it
	Default bool `json:"default"` // it is the default image
	// State says whether a local image is the same as the mirror's.
	State State `json:"state,omitempty"`
	// Held says that it is kept in use, and HeldSince since when, if that is known. Missed
	// says that it is not installed, for that reason.
	Held      bool      `json:"held,omitempty"`
	HeldSince time.Time `json:"held_since,omitzero"`
	Missed    bool      `json:"missed,omitempty"`

	sums cksum.Sums // the mirror's
}

// State is what is known of a local image.
type State string

// The states.
const (
	Unknown State = ""      // it was not read, or the mirror does not list it
	Right   State = "right" // it is the same as the mirror's
	Wrong   State = "wrong" // it has another size or digest
)

// List returns the local images, and those that the first mirror that answers has in
// their series and in the series of its index, sorted by series and version. It reads
// no image: the state is what the digest cache knows.
func List(ctx context.Context, o Options) ([]Listed, error) {
	o, err := o.checked()
	if err != nil {
		return nil, err
	}
	dir, err := imagedir.Open(o.Dir)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	return list(ctx, o, dir)
}

func list(ctx context.Context, o Options, dir *imagedir.Dir) ([]Listed, error) {
	local, err := dir.Installed()
	if err != nil {
		return nil, err
	}
	ms, err := newMirrors(ctx, o, dir)
	if err != nil {
		return nil, err
	}
	defer ms.close()
	var all []Listed
	err = ms.each(ctx, func(m mirror) error {
		series, err := m.all(ctx, o.Log, local)
		all = merge(series, local)
		return err
	})
	if err != nil {
		return nil, err
	}
	defaultImage, hasDefault := dir.Link(o.DefaultLink).Image()
	for i := range all {
		l := &all[i]
		l.Default = hasDefault && l.Name == defaultImage
		if l.Local && l.Offered {
			l.State = known(dir, l)
		}
	}
	return all, markHeld(o, dir, all)
}

func known(dir *imagedir.Dir, l *Listed) State {
	right, known := dir.Digests.Known(l.Name.String(), l.sums)
	switch {
	case l.Size != l.sums.Size || known && !right:
		return Wrong
	case known:
		return Right
	}
	return Unknown
}

// all returns the series of the index, or without an index those that the names of
// the local images give. It looks at maxSeries of them, and warns if there are more.
func (m mirror) all(ctx context.Context, log *slog.Logger, local []imagedir.Image) (all []*meta.Series, err error) {
	index, missing, err := m.index(ctx)
	if err != nil {
		return nil, err
	}
	names := seriesNames(index, local)
	if len(names) > maxSeries {
		log.Warn("the mirror lists too many series; the rest are ignored", "mirror", m.String(), "series", len(names), "at_most", maxSeries)
		names = names[:maxSeries]
	}
	for _, name := range names {
		s, err := m.series(ctx, name)
		if errors.Is(err, fs.ErrNotExist) && len(index.Series) == 0 {
			continue
		} else if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	switch {
	case len(all) > 0:
		return all, nil
	case missing != nil:
		return nil, m.noRepository(missing, "a series of the local images")
	}
	return nil, fmt.Errorf("%w: %s has no index.json, and no series of the local images", ErrNoImage, m)
}

// seriesNames returns the names of the series of the index, those of the local images
// first, or without an index the latter alone.
func seriesNames(index meta.Index, local []imagedir.Image) (names []string) {
	own := make(map[string]bool)
	for _, l := range local {
		own[l.Name.Series()] = true
	}
	for _, e := range index.Series {
		names = append(names, e.Name)
	}
	if len(names) == 0 {
		names = slices.Collect(maps.Keys(own))
	}
	slices.SortFunc(names, func(a, b string) int {
		switch {
		case own[a] == own[b]:
			return cmp.Compare(a, b)
		case own[a]:
			return -1
		}
		return 1
	})
	return names
}

// merge returns the images of the series and the local ones, each once.
func merge(series []*meta.Series, local []imagedir.Image) (all []Listed) {
	at := make(map[meta.Name]int)
	for _, s := range series {
		for i := range s.Images {
			im := &s.Images[i]
			if _, twice := at[im.Name]; twice {
				continue
			}
			at[im.Name] = len(all)
			all = append(all, Listed{Name: im.Name, Series: s.Name, Size: im.Sums.Size, Offered: true, sums: im.Sums})
		}
	}
	for _, l := range local {
		if i, ok := at[l.Name]; ok {
			all[i].Local, all[i].Size = true, l.Size
			continue
		}
		all = append(all, Listed{Name: l.Name, Series: l.Name.Series(), Size: l.Size, Local: true})
	}
	slices.SortStableFunc(all, func(a, b Listed) int {
		if a.Series != b.Series {
			return cmp.Compare(a.Series, b.Series)
		}
		return a.Name.Compare(b.Name)
	})
	return all
}

// Verify reads the local images and compares them with what the mirror says of them:
// the size and the fastest of the digests, see package cksum.
// It takes the lock, so that the next update knows the result, unless the directory may
// not be written. It returns local images only.
func Verify(ctx context.Context, o Options) ([]Listed, error) {
	o, err := o.checked()
	if err != nil {
		return nil, err
	}
	dir, err := imagedir.Open(o.Dir)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	unlocked, err := dir.LockToRead()
	if err != nil {
		return nil, err
	} else if unlocked != nil {
		o.Log.Warn("cannot lock the images directory, so the result is not recorded", "reason", unlocked)
	}
	all, err := list(ctx, o, dir)
	if err != nil {
		return nil, err
	}
	local := slices.DeleteFunc(all, func(l Listed) bool { return !l.Local })
	if err := verify(ctx, dir.Digests, local, o); err != nil {
		return nil, err
	}
	return local, nil
}

// verify sets the states of local images by reading them.
func verify(ctx context.Context, digests *digestcache.Cache, local []Listed, o Options) error {
	var done, total int64
	for _, l := range local {
		total += l.Size
	}
	for i := range local {
		l := &local[i]
		before := done
		done += l.Size
		if !l.Offered || l.Size != l.sums.Size {
			continue
		}
		see := func(of int64) {
			if o.Progress != nil {
				o.Progress(before+of, total)
			}
			if o.Stage != nil {
				o.Stage(Stage{stats.ImageChecksum, l.Name.String(), of, l.Size})
			}
		}
		digests.Forget(l.Name.String())
		err := digests.Check(ctx, l.Name.String(), l.sums, func(of, _ int64) { see(of) })
		switch {
		case err == nil:
			l.State = Right
		case errors.Is(err, digestcache.ErrWrong):
			l.State = Wrong
		default:
			return err
		}
	}
	return nil
}
