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

// search makes an image by the cheapest route that works. What a route has failed
// by is excluded from the next choice.
type search struct {
	options Options
	dir     *imagedir.Dir
	report  *report
	offer   *offer

	limits  Limits
	givenUp []cksum.Digest512 // deltas that did not lead to an image
	bad     []string          // files that are no base
}

// newSearch begins a search. It excludes the deltas that an earlier run has given
// up for an image that is not complete yet: else the choice would fall on them
// again, and what has been made by another route would be lost.
func newSearch(o Options, dir *imagedir.Dir, r *report, of *offer) *search {
	w := &search{options: o, dir: dir, report: r, offer: of}
	w.limits, w.givenUp = limitsOf(o, dir, of)
	return w
}

// limitsOf returns the limits that a search begins with, and the deltas that an
// earlier run has given up.
func limitsOf(o Options, dir *imagedir.Dir, of *offer) (Limits, []cksum.Digest512) {
	limits := Limits{Downgrades: o.Image != "", Failed: make(map[string]bool)}
	var givenUp []cksum.Digest512
	for _, im := range of.series.Images {
		for _, d := range assemble.GivenUp(dir.Files, im.Name) {
			if !slices.Contains(givenUp, d) {
				givenUp = append(givenUp, d)
			}
		}
	}
	for _, im := range of.series.Images {
		for _, d := range im.Diffs {
			if slices.Contains(givenUp, d.Sums.SHA512) {
				limits.Failed[meta.DeltaPath(d.Filename)] = true
			}
		}
	}
	return limits, givenUp
}

// routeError is the error of a route that did not lead to the image, though another
// one may.
type routeError struct{ error }

func (e routeError) Unwrap() error { return e.error }

// run makes the image, and returns the route that led to it.
func (w *search) run(ctx context.Context) (Route, error) {
	var failed []error
	for {
		bases, err := w.bases()
		if err != nil {
			return Route{}, err
		}
		route, ok := ChooseRoute(w.offer.series, w.offer.target, bases, w.limits)
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
		err = fmt.Errorf("%s from %s: %w", w.offer.target.Name, route, err)
		if errors.Is(err, ErrIncomplete) {
			return Route{}, err
		}
		if _, ok := errors.AsType[routeError](err); !ok {
			return Route{}, permanent{w.advise(err)}
		}
		w.options.Log.Warn("a way to the image failed", "reason", err)
		failed = append(failed, err)
	}
}

// bases returns the local images that a route can start from. The target is none
// under its own name: it was found to be wrong.
func (w *search) bases() ([]LocalImage, error) {
	all, err := localImages(w.dir)
	return slices.DeleteFunc(all, func(l LocalImage) bool {
		return l.File == w.offer.target.Name.String() || slices.Contains(w.bad, l.File)
	}), err
}

// follow makes the image by a route, and gives it its name.
func (w *search) follow(ctx context.Context, r Route) error {
	target := w.offer.target
	if err := w.dir.Sweep(append(made(r.Steps), target.Name, r.Base.Name)...); err != nil {
		return err
	}
	if err := w.checkRoom(r); err != nil {
		return err
	}
	if err := w.checkBase(ctx, r.Base); err != nil {
		return err
	}
	base := r.Base.File
	for i, s := range r.Steps {
		if err := w.makeStep(ctx, base, s, stepProgress(w.options.Progress, r.Steps, i)); err != nil {
			return w.exclude(err, r, s)
		}
		if base = assemble.PartialName(s.Image.Name); i == len(r.Steps)-1 {
			break
		}
		if err := w.keepStep(s.Image, r.Steps[i:]); err != nil {
			return err
		}
	}
	w.report.phase(stats.ImageSync)
	return w.dir.Install(target.Name, target.Sums)
}

// made returns the names of the images that steps make.
func made(steps []Step) (names []meta.Name) {
	for _, s := range steps {
		names = append(names, s.Image.Name)
	}
	return names
}

// checkBase compares the base of a route with its digest, if the mirror lists it.
func (w *search) checkBase(ctx context.Context, base LocalImage) error {
	im, ok := w.offer.series.Image(base.Name)
	if !ok {
		return nil
	}
	err := w.dir.Digests.Check(ctx, base.File, im.Sums, func(done, total int64) {
		w.report.progress(stats.ImageChecksum, done, total)
	})
	if err == nil || ctx.Err() != nil {
		return err
	}
	w.bad = append(w.bad, base.File)
	if errors.Is(err, digestcache.ErrWrong) {
		err = fmt.Errorf("%w: %w", ErrVerify, err)
	}
	return routeError{err}
}

// makeStep makes one partial image complete. base is the file of the base.
func (w *search) makeStep(ctx context.Context, base string, s Step, progress func(done, total int64)) error {
	path, file := s.file()
	phase := stats.RdiffFetch
	if s.Diff == nil {
		phase, base = stats.ImageDownload, ""
	}
	err := assemble.Make(ctx, assemble.Job{
		Dir: w.dir.Files, Image: s.Image.Name, Sums: s.Image.Sums, Base: base,
		Mirror: w.offer.mirror.Mirror, Source: path, SourceSums: file.Sums, GivenUp: w.givenUp, Log: w.options.Log,
		Progress: func(done, total int64) {
			w.report.progress(phase, done, total)
			progress(done, total)
		},
	})
	if err == nil && s.Diff != nil { // both happened during the download
		w.report.progress(stats.RdiffChecksum, 1, 1)
		w.report.progress(stats.ImagePatch, 1, 1)
	}
	return err
}

// keepStep records a complete partial image as a base, for the next step or another
// run, and removes the one before. rest are the step that made it and those that
// follow. Its journal stays: on a full disk the record may be lost.
func (w *search) keepStep(im *meta.Image, rest []Step) error {
	if err := w.dir.Digests.Learn(assemble.PartialName(im.Name), im.Sums); err != nil {
		return err
	}
	return w.dir.Sweep(made(rest)...)
}

// exclude excludes from the next choice what a step has failed by, unless no other
// route would do better.
func (w *search) exclude(err error, r Route, s Step) error {
	switch {
	case errors.Is(err, ErrIncomplete): // the network fails other routes too
		return err
	case noRoom(err):
		return w.excludeLong(err, r)
	case isLocal(err): // the fault of no source
		return err
	}
	path, file := s.file()
	w.limits.Failed[path] = true
	if s.Diff != nil {
		w.givenUp = append(w.givenUp, file.Sums.SHA512)
	}
	return routeError{err}
}

// excludeLong excludes routes of several steps if there was no room for one. A
// single step takes the least room.
func (w *search) excludeLong(err error, r Route) error {
	if len(r.Steps) > 1 {
		w.limits.Steps = 1
		return routeError{err}
	}
	return err
}

// noRoom reports whether an error says that there is no room.
func noRoom(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// isLocal reports whether an error is the fault of the images directory or its disk.
func isLocal(err error) bool {
	_, local := errors.AsType[*assemble.LocalError](err)
	return local
}

// advise says what to do about a fault of the images directory.
func (w *search) advise(err error) error {
	for _, c := range []struct {
		errno  syscall.Errno
		advice string
	}{
		{syscall.ENOSPC, "make room in %s"},
		{syscall.EDQUOT, "make room in %s, or raise the quota of its owner"},
		{syscall.EFBIG, "%s is on a file system, or this process has a limit, that does not allow files of this size"},
		{syscall.EROFS, "%s is read-only; mount it so that it can be written"},
		{syscall.EIO, "the disk of %s may be failing; see the messages of the kernel"},
	} {
		if errors.Is(err, c.errno) {
			return fmt.Errorf("%w; "+c.advice, err, w.options.Dir)
		}
	}
	return err
}

// checkRoom returns an error if there is no room for what a route makes.
func (w *search) checkRoom(r Route) error {
	free, err := diskspace.Free(w.dir.Files)
	if err != nil {
		return err
	}
	if need := roomFor(w.dir, r); need > free {
		return w.excludeLong(fmt.Errorf("%w: it takes %d bytes more, and %d are free", syscall.ENOSPC, need, free), r)
	}
	return nil
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
