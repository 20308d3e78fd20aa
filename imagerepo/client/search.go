package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"syscall"
	"time"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo/client/internal/digestcache"
	"puavo-image-repository/imagerepo/client/internal/imagedir"
	"puavo-image-repository/imagerepo/client/internal/pace"
	"puavo-image-repository/imagerepo/client/internal/source"
	"puavo-image-repository/imagerepo/client/internal/stats"
	"puavo-image-repository/imagerepo/internal/assemble"
	"puavo-image-repository/imagerepo/internal/diskspace"
	"puavo-image-repository/imagerepo/internal/fetch"
	"puavo-image-repository/meta"
)

// search makes an image by the cheapest route that works, over all sources.
type search struct {
	options Options
	dir     *imagedir.Dir
	report  *report
	offer   *offer
	sources source.Sources
	mirrors *mirrors  // that remember how fast files come
	end     time.Time // when Options.MaxTime is over

	failures *source.Failures
	steps    int      // of a route at most
	bad      []string // files that are no base
	turns    int      // how often a step was left since another way is faster
}

// routeError is the error of a route that did not lead to the image, though another
// one may.
type routeError struct{ error }

func (e routeError) Unwrap() error { return e.error }

// run makes the image, and returns the route that led to it.
func (w *search) run(ctx context.Context) (Route, error) {
	limited, cancel := context.WithDeadline(ctx, w.end)
	defer cancel()
	var failed []error
	for {
		r, ok, err := w.choose(w.failures)
		switch {
		case err != nil:
			return Route{}, err
		case !ok && w.failures.ForgiveSlow():
			continue
		case !ok:
			return Route{}, w.inVain(failed)
		}
		err = w.follow(limited, r)
		switch {
		case err == nil:
			return r, nil
		case ctx.Err() != nil:
			return Route{}, ctx.Err()
		case errors.Is(err, errFaster):
			w.turns++
			w.options.Log.Info("another way is faster", "image", w.offer.Target.Name, "left", r, "rate", w.mirrors.known.Rate)
			continue
		case limited.Err() != nil:
			return Route{}, permanent{fmt.Errorf("%s is not complete after %v (--max-time): %w", w.offer.Target.Name, w.options.MaxTime, ErrIncomplete)}
		}
		cause := err
		err = fmt.Errorf("%s from %s: %w", w.offer.Target.Name, r, err)
		if _, ok := errors.AsType[routeError](err); !ok {
			return Route{}, permanent{w.advise(err)}
		}
		w.options.Log.Warn("could not use "+r.String(), "reason", cause)
		failed = append(failed, err)
	}
}

// errNoOther is the error for an image to which all routes have failed before.
var errNoOther = errors.New("no other route")

// inVain returns the error for a search that has no route left. If the network has cut
// some off, that is what counts: another run may complete it.
func (w *search) inVain(failed []error) error {
	if len(failed) == 0 {
		return fmt.Errorf("%s: %w", w.offer.Target.Name, errNoOther)
	}
	cut := slices.DeleteFunc(slices.Clone(failed), func(err error) bool { return !errors.Is(err, ErrIncomplete) })
	if len(cut) > 0 {
		failed = cut
	}
	return errors.Join(failed...)
}

// choose returns the cheapest route of those that have not failed, and false if none
// is left.
func (w *search) choose(failures *source.Failures) (Route, bool, error) {
	bases, err := w.bases()
	if err != nil {
		return Route{}, false, err
	}
	begun, err := w.dir.Begun()
	if err != nil {
		return Route{}, false, err
	}
	r, ok := w.choice(bases, begun, failures).Route()
	return r, ok, nil
}

// choice returns what a route is chosen from.
func (w *search) choice(bases []LocalImage, begun map[meta.Name]assemble.Begun, failures *source.Failures) source.Choice {
	return source.Choice{
		Wanted: &w.offer.Wanted, Sources: w.sources, Bases: bases, Begun: begun, Failures: failures,
		Downgrades: w.options.Image != "", Steps: w.steps, Model: w.mirrors.model(),
	}
}

// bases returns the local images that a route can start from. The target is none
// under its own name: it was found to be wrong.
func (w *search) bases() ([]LocalImage, error) {
	all, err := w.dir.Images()
	return slices.DeleteFunc(all, func(l LocalImage) bool {
		return l.File == w.offer.Target.Name.String() || slices.Contains(w.bad, l.File)
	}), err
}

// follow makes the image by a route, and gives it its name.
func (w *search) follow(ctx context.Context, r Route) error {
	target := w.offer.Target
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
		if err := w.makeStep(ctx, base, r, i); err != nil {
			return w.exclude(err, r, s)
		}
		if w.options.Fetched != nil {
			w.options.Fetched(newFile(s))
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
	im, ok := w.offer.Series.Image(base.Name)
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
func (w *search) makeStep(ctx context.Context, base string, r Route, i int) error {
	s := r.Steps[i]
	path, file := s.File()
	phase := stats.RdiffFetch
	if s.IsFull() {
		phase = stats.ImageDownload
	}
	if (s.Base() == meta.Name{}) {
		base = ""
	}
	progress := stepProgress(w.options.Progress, r.Steps, i)
	m := w.measure(r, i)
	err := assemble.Make(ctx, assemble.Job{
		Dir: w.dir.Files, Image: s.Image.Name, Sums: s.Image.Sums, Base: base,
		Mirror: w.sources.Of(s).Mirror, Source: path, SourceSums: file.Sums, Wrong: w.failures.Wrong, Log: w.options.Log,
		Compact: s.Compact != nil, BaseSums: w.sumsOf(s.Base()),
		Progress: func(done, total int64) {
			w.report.progress(phase, done, total)
			progress(done, total)
		},
		Left: m.left, Came: m.came,
	})
	m.end(err)
	if errors.Is(err, fetch.ErrChanged) {
		err = fmt.Errorf("%w: %w", ErrVerify, err)
	}
	if err == nil && !s.IsFull() { // both happened during the download
		w.report.passed(stats.RdiffChecksum)
		w.report.passed(stats.ImagePatch)
	}
	return err
}

// sumsOf returns what the mirror says of the base of a step, which was compared with it;
// zero if it does not say anything.
func (w *search) sumsOf(base meta.Name) cksum.Sums {
	im, ok := w.offer.Series.Image(base)
	if !ok {
		return cksum.Sums{}
	}
	return im.Sums
}

// watch returns what looks at the rate of a step. It ends a step that cannot end in
// time at this rate, if another source may do better.
func (w *search) watch(r Route, i int) func(left int64) error {
	var later int64 // bytes of the steps that follow
	for _, s := range r.Steps[i+1:] {
		_, file := s.File()
		later += file.Sums.Size
	}
	mirror, p := r.Steps[i].Mirror, pace.Over(w.options.rateWindow())
	var next time.Time // when to look again
	return func(left int64) error {
		left += later
		rate, whole := p.Left(left)
		if time.Now().Before(next) || rate <= 0 {
			return nil
		}
		next = time.Now().Add(lookEvery)
		needed := pace.Time(left, rate)
		w.dir.Say(fmt.Sprintf("making %s at %.1f kB/s, %v left", w.offer.Target.Name, rate/1e3, needed.Round(time.Second)))
		if !whole || needed <= time.Until(w.end) {
			return nil
		}
		if w.leaves(mirror, rate) {
			return fmt.Errorf("%w: %.1f kB/s, %d bytes left", source.ErrTooSlow, rate/1e3, left)
		}
		p = pace.Over(w.options.rateWindow()) // to ask again takes another window
		return nil
	}
}

// lookEvery is how often the rate is looked at.
const lookEvery = time.Second

// leaves reports whether a source that is too slow is left for another: unless none is
// left to try, or it is Options.Rate that makes it slow.
func (w *search) leaves(mirror string, rate float64) bool {
	if w.options.Rate > 0 && rate > 0.8*float64(w.options.Rate) {
		return false
	}
	_, ok, err := w.choose(w.failures.Except(mirror))
	return ok && err == nil
}

// keepStep records a complete partial image as a base, for the next step or another
// run, and removes the previous one. rest are the step that made it and those that
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
	case errors.Is(err, errFaster): // nothing is wrong with it
		return err
	case noRoom(err):
		return w.excludeLong(err, r)
	case isLocal(err): // the fault of no source
		return err
	}
	w.failures.Add(s, err)
	return routeError{err}
}

// excludeLong excludes routes of several steps if there was no room for one. A
// single step takes the least room.
func (w *search) excludeLong(err error, r Route) error {
	if len(r.Steps) > 1 {
		w.steps = 1
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
		{syscall.EFBIG, "the file system of %s, or a limit of this process, does not allow files of this size"},
		{syscall.EROFS, imagedir.MountAdvice},
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
		return w.excludeLong(fmt.Errorf("%w: it needs %d bytes more, and %d are free", syscall.ENOSPC, need, free), r)
	}
	return nil
}
