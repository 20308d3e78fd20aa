package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"syscall"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo/client/internal/digestcache"
	"puavo-image-repository/imagerepo/client/internal/imagedir"
	"puavo-image-repository/imagerepo/client/internal/stats"
	"puavo-image-repository/imagerepo/internal/assemble"
	"puavo-image-repository/imagerepo/internal/diskspace"
	"puavo-image-repository/meta"
)

// search makes an image by the cheapest way that works.
type search struct {
	*update
	*offer
	limits Limits
	failed []cksum.Digest512 // deltas that did not lead to an image
	bad    []string          // files that are no start
}

// newSearch begins a search. What an earlier run has given up for what it could not
// complete is not tried again: else what it has made would be given up for that.
func newSearch(u *update, o *offer) *search {
	w := &search{update: u, offer: o, limits: Limits{Downgrades: u.Image != "", Failed: make(map[string]bool)}}
	for _, im := range o.series.Images {
		for _, d := range assemble.GivenUp(u.dir.Files, im.Name) {
			if !slices.Contains(w.failed, d) {
				w.failed = append(w.failed, d)
			}
		}
	}
	for _, im := range o.series.Images {
		for _, d := range im.Diffs {
			if slices.Contains(w.failed, d.Sums.SHA512) {
				w.limits.Failed[meta.DeltaPath(d.Filename)] = true
			}
		}
	}
	return w
}

// refused is why a way did not lead to the image. The next choice is made without
// what was wrong with it.
type refused struct{ error }

func (r refused) Unwrap() error { return r.error }

// run makes the image, and returns the way that led to it.
func (w *search) run(ctx context.Context) (Route, error) {
	var failed []error
	for {
		have, err := w.starts()
		if err != nil {
			return Route{}, err
		}
		route, ok := ChooseRoute(w.series, w.target, have, w.limits)
		if !ok {
			return Route{}, errors.Join(failed...)
		}
		err = w.follow(ctx, route)
		switch {
		case err == nil:
			return route, nil
		case ctx.Err() != nil:
			return Route{}, ctx.Err()
		}
		err = fmt.Errorf("%s from %s: %w", w.target.Name, route, err)
		if errors.Is(err, ErrIncomplete) {
			return Route{}, err
		}
		if _, ok := errors.AsType[refused](err); !ok {
			return Route{}, settled{w.advise(err)}
		}
		w.Log.Warn("a way to the image failed", "reason", err)
		failed = append(failed, err)
	}
}

// starts returns the images that a way can start from. The one that is wanted, if
// it is there under its name, is not right.
func (w *search) starts() ([]LocalImage, error) {
	all, err := w.dir.Images()
	return slices.DeleteFunc(all, func(l LocalImage) bool {
		return l.File == w.target.Name.String() || slices.Contains(w.bad, l.File)
	}), err
}

// follow makes the image by a route, and gives it its name.
func (w *search) follow(ctx context.Context, r Route) error {
	if err := w.dir.Sweep(append(made(r.Steps), w.target.Name, r.Base.Name)...); err != nil {
		return err
	}
	if err := w.room(r); err != nil {
		return err
	}
	if err := w.checkBase(ctx, r.Base); err != nil {
		return err
	}
	base := r.Base.File
	for i, s := range r.Steps {
		if err := w.step(ctx, base, s, progress(w.Progress, r.Steps, i)); err != nil {
			return w.judge(err, r, s)
		}
		if base = assemble.PartialName(s.Image.Name); i == len(r.Steps)-1 {
			break
		}
		if err := w.between(s.Image, r.Steps[i:]); err != nil {
			return err
		}
	}
	w.phase(stats.ImageSync)
	return w.dir.Install(w.target.Name, w.target.Sums)
}

// made returns the names of the images that steps make.
func made(steps []Step) (names []meta.Name) {
	for _, s := range steps {
		names = append(names, s.Image.Name)
	}
	return names
}

// checkBase compares the image that a route starts from with its digest, if the
// mirror still tells of it.
func (w *search) checkBase(ctx context.Context, base LocalImage) error {
	im, ok := w.series.Image(base.Name)
	if !ok {
		return nil
	}
	err := w.check(ctx, base.File, im.Sums)
	if err == nil || ctx.Err() != nil {
		return err
	}
	w.bad = append(w.bad, base.File)
	if errors.Is(err, digestcache.ErrWrong) {
		err = fmt.Errorf("%w: %w", ErrVerify, err)
	}
	return refused{err}
}

// judge takes note of what is not to be tried again after a step has failed, if
// there is then another way that may succeed.
func (w *search) judge(err error, r Route, s Step) error {
	switch {
	case errors.Is(err, ErrIncomplete): // nor would it come by another way
		return err
	case !errors.Is(err, syscall.ENOSPC):
		path, file := s.file()
		w.limits.Failed[path] = true
		if s.Diff != nil {
			w.failed = append(w.failed, file.Sums.SHA512)
		}
		return refused{err}
	}
	return w.tooLarge(err, r)
}

// tooLarge takes note that there is no room for a route. One of a single step
// takes the least.
func (w *search) tooLarge(err error, r Route) error {
	if len(r.Steps) > 1 {
		w.limits.Steps = 1
		return refused{err}
	}
	return err
}

// advise tells what to do about a disk that is full.
func (w *search) advise(err error) error {
	if errors.Is(err, syscall.ENOSPC) {
		return fmt.Errorf("%w; make room in %s", err, w.Dir)
	}
	return err
}

// room is an error if there is no room for what a route makes. What an earlier
// run has made of it takes none any more.
func (w *search) room(r Route) error {
	room, err := diskspace.Free(w.dir.Files)
	if err != nil {
		return err
	}
	if need := need(w.dir, r); need > room {
		return w.tooLarge(fmt.Errorf("%w: it takes %d bytes more, and %d are free", syscall.ENOSPC, need, room), r)
	}
	return nil
}

// need returns how many bytes a route takes at once, besides what is there. While
// an image is made, the one before it on the way is needed.
func need(dir *imagedir.Dir, r Route) (most int64) {
	var before int64
	for _, s := range r.Steps {
		left := s.Image.Sums.Size - diskspace.Used(dir.Files, assemble.PartialName(s.Image.Name))
		most = max(most, before+left)
		before = max(left, 0)
	}
	return most
}

// progress returns the callback for one of some steps.
func progress(report func(done, total int64), steps []Step, step int) func(done, total int64) {
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

// step makes one image under its temporary name. base is the file of the base.
func (w *search) step(ctx context.Context, base string, s Step, progress func(done, total int64)) error {
	path, file := s.file()
	phase := stats.RdiffFetch
	if s.Diff == nil {
		phase, base = stats.ImageDownload, ""
	}
	err := assemble.Make(ctx, assemble.Job{
		Dir: w.dir.Files, Image: s.Image.Name, Sums: s.Image.Sums, Base: base,
		Mirror: w.mirror.Mirror, Source: path, SourceSums: file.Sums, GivenUp: w.failed, Log: w.Log,
		Progress: func(done, total int64) {
			w.stats.Phase(w.image, phase, done, total)
			progress(done, total)
		},
	})
	if err == nil && s.Diff != nil { // both were done meanwhile
		w.stats.Phase(w.image, stats.RdiffChecksum, 1, 1)
		w.stats.Phase(w.image, stats.ImagePatch, 1, 1)
	}
	return err
}

// between keeps an image on the way to another as a start, for the next step or
// another run, and removes the one before. left are the step that made it and
// those that follow. Its journal stays, for a disk on which nothing more can be
// written.
func (w *search) between(im *meta.Image, left []Step) error {
	if err := w.dir.Digests.Learn(assemble.PartialName(im.Name), im.Sums); err != nil {
		return err
	}
	return w.dir.Sweep(made(left)...)
}
