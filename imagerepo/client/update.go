package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"puavo-image-repository/imagerepo/client/internal/cost"
	"puavo-image-repository/imagerepo/client/internal/digestcache"
	"puavo-image-repository/imagerepo/client/internal/discover"
	"puavo-image-repository/imagerepo/client/internal/hold"
	"puavo-image-repository/imagerepo/client/internal/imagedir"
	"puavo-image-repository/imagerepo/client/internal/install"
	"puavo-image-repository/imagerepo/client/internal/route"
	"puavo-image-repository/imagerepo/client/internal/source"
	"puavo-image-repository/imagerepo/client/internal/stats"
	"puavo-image-repository/imagerepo/internal/fetch"
	"puavo-image-repository/meta"
)

// update is the state of one Update.
type update struct {
	options  Options
	dir      *imagedir.Dir
	mirrors  *mirrors
	report   report
	offered  meta.Name        // the wanted image, zero until a mirror has named it
	end      time.Time        // when Options.MaxTime is over
	failures *source.Failures // of all searches, nil before the first
}

// from updates from one mirror.
func (u *update) from(ctx context.Context, m mirror) (Result, error) {
	u.report.phase(stats.ChecksumsFetch)
	of, err := u.mirrors.offer(ctx, m)
	if err != nil {
		return Result{}, err
	}
	u.report.image, u.offered = of.Target.Name.String(), of.Target.Name
	state := hold.Read(u.dir.Files)
	if !state.Ends(of.Target.Name) {
		return u.stay(ctx, of, state)
	}
	if newer, err := hasNewer(u.options, u.dir, of); err != nil {
		return Result{}, err
	} else if newer {
		result := newResult()
		result.UpToDate = true
		return result, u.dir.Sweep()
	}
	return u.to(ctx, of, state)
}

// to makes the wanted image and puts it to use, which ends a hold.
func (u *update) to(ctx context.Context, of *offer, state hold.State) (Result, error) {
	result := newResult()
	isLocal, err := u.hasTarget(ctx, of.Target)
	if err != nil {
		return Result{}, err
	}
	if !isLocal {
		if result.Route, err = u.make(ctx, of); err != nil {
			return Result{}, err
		}
		result.Made, result.Base = true, result.Route.Base.File
		for _, s := range result.Route.Steps {
			result.Files = append(result.Files, newFile(s))
		}
	}
	if err := u.dir.Sweep(); err != nil {
		return Result{}, err
	}
	if result.Installed, err = u.install(ctx, of.Target.Name); err != nil {
		return Result{}, err
	}
	if state.Held {
		if err := hold.Remove(u.dir.Files); err != nil {
			return Result{}, permanent{err}
		}
	}
	result.UpToDate = isLocal && !result.Installed
	removed, err := u.prune(of, of.Target.Name, result.Route.Base.Name)
	result.Removed = append(result.Removed, removed...)
	return result, err
}

// stay installs nothing, since updates are held, but completes the rollback that an
// earlier run has begun.
func (u *update) stay(ctx context.Context, of *offer, state hold.State) (_ Result, err error) {
	result := newResult()
	if result.Held, err = newHeld(u.options, u.dir, state, of.Series); err != nil {
		return Result{}, err
	}
	if err := u.dir.Sweep(of.Target.Name); err != nil {
		return Result{}, err
	}
	kept := state.Hold.Image
	if kept != (meta.Name{}) && u.dir.Digests.Pending() == kept {
		if result.Installed, err = u.install(ctx, kept); err != nil {
			return Result{}, err
		}
	}
	removed, err := u.prune(of, result.Held.Image)
	result.Removed = append(result.Removed, removed...)
	return result, err
}

// install puts an image to use, and reports whether it did. No other mirror mends its
// error.
func (u *update) install(ctx context.Context, image meta.Name) (bool, error) {
	installed, err := installer(u.options, u.dir).Install(ctx, image)
	if err != nil {
		err = permanent{err}
	}
	return installed, err
}

// installer returns what puts an image to use, as the options ask.
func installer(o Options, dir *imagedir.Dir) install.Installer {
	return install.Installer{
		Dir: dir, DefaultLink: o.DefaultLink, GrubLabels: o.GrubLabels,
		PreInstall: o.PreInstall, PostInstall: o.PostInstall, Output: o.HookOutput, Log: o.Log,
	}
}

// make makes the wanted image, over all sources. What has failed for another offer in
// this run is not tried again.
func (u *update) make(ctx context.Context, of *offer) (Route, error) {
	if u.failures == nil {
		begun, err := u.dir.Begun()
		if err != nil {
			return Route{}, err
		}
		u.failures = source.NewFailures(begun)
	}
	all := u.mirrors.sources(ctx, of)
	if err := ctx.Err(); err != nil {
		return Route{}, err
	}
	w := &search{
		options: u.options, dir: u.dir, report: &u.report, offer: of, sources: all, mirrors: u.mirrors, end: u.end,
		failures: u.failures, steps: route.MaxSteps,
	}
	return w.run(ctx)
}

// errFaster suspends a step since another way turned out to be faster.
var errFaster = errors.New("another way is faster")

const (
	// maxTurns is how often a search leaves a step for a faster way.
	maxTurns = 2
	// worthTurning is how much of the time another way must save.
	worthTurning = 0.2
)

// measured measures a step of a route while it is made.
type measured struct {
	*search
	route Route
	at    int
	takes cost.Step
	meter *cost.Meter
	slow  func(left int64) error // looks for a source that is too slow
	rate  float64                // that is known since the last read, or 0
}

// measure begins to measure a step.
func (w *search) measure(r Route, at int) *measured {
	m := &measured{search: w, route: r, at: at, meter: cost.Start(w.mirrors.known), slow: w.watch(r, at)}
	if begun, err := w.dir.Begun(); err == nil {
		m.takes = w.choice(nil, begun, w.failures).Takes(r)[at]
	}
	return m
}

func (m *measured) came(n int, waited time.Duration) { m.rate = m.meter.Came(n, waited) }

// left looks at the rate. Once that of the first megabytes is known, it ends a step if
// another way to the image is faster, and compact deltas are among them.
func (m *measured) left(bytes int64) error {
	if m.rate > 0 {
		m.mirrors.known.Rate, m.rate = m.rate, 0
		if faster, err := m.isFaster(bytes); faster || err != nil {
			return cmp.Or(err, errFaster)
		}
	}
	return m.slow(bytes)
}

// isFaster reports whether a route that would be chosen now is faster than the rest of this
// one, of which so many bytes of the current file are left.
func (m *measured) isFaster(left int64) (bool, error) {
	if m.options.traffic() || m.turns >= maxTurns || !m.sources.HasCompact(&m.offer.Wanted) {
		return false, nil
	}
	other, ok, err := m.choose(m.failures)
	if err != nil || !ok || other.Steps == nil || sameFile(other.Steps[0], m.route.Steps[m.at]) {
		return false, err
	}
	begun, err := m.dir.Begun()
	if err != nil {
		return false, err
	}
	c := m.choice(nil, begun, m.failures)
	rest := c.Takes(Route{Steps: m.route.Steps[m.at:]})
	rest[0].Fetch = left
	model := m.mirrors.model()
	return model.Time(c.Takes(other)) < (1-worthTurning)*model.Time(rest), nil
}

// sameFile reports whether two steps fetch the same file of the same mirror.
func sameFile(a, b Step) bool {
	_, fa := a.File()
	_, fb := b.File()
	return a.Mirror == b.Mirror && fa.Sums.SHA512 == fb.Sums.SHA512
}

// end remembers what was measured. It is only an estimate that this serves, so an error of
// the disk does not matter.
func (m *measured) end(err error) {
	m.mirrors.known = m.meter.End(m.mirrors.known, m.takes, err == nil)
	_ = m.mirrors.known.Write(m.dir.Files)
}

// hasTarget reports whether the directory has the wanted image, and it is right.
func (u *update) hasTarget(ctx context.Context, target *meta.Image) (bool, error) {
	file := target.Name.String()
	if info, err := u.dir.Files.Lstat(file); err != nil || info.Size() != target.Sums.Size {
		return false, nil
	}
	err := u.dir.Digests.Check(ctx, file, target.Sums, func(done, total int64) {
		u.report.progress(stats.ImageChecksum, done, total)
	})
	if errors.Is(err, digestcache.ErrWrong) {
		u.options.Log.Warn("the image in the directory is damaged; making it again", "reason", err)
		return false, nil
	}
	return err == nil, err
}

// prune removes old images of the series as Options.Keep asks, but not those that are
// protected.
func (u *update) prune(of *offer, protected ...meta.Name) ([]meta.Name, error) {
	if u.options.Keep == 0 {
		return nil, nil
	}
	series, err := ofSeries(u.dir, of)
	if err != nil {
		return nil, err
	}
	removed, err := u.dir.Prune(series, u.options.Keep, protected...)
	if err != nil {
		err = permanent{fmt.Errorf("%s is installed, but old images could not be removed: %w", of.Target.Name, err)}
	}
	return removed, err
}

// sources returns where the files of what a mirror offers can be fetched from, the
// nearest first.
func (ms *mirrors) sources(ctx context.Context, of *offer) source.Sources {
	all := ms.stored(of)
	for _, where := range ms.payload(ctx) {
		m, err := ms.open(where, true)
		if err != nil {
			ms.options.Log.Warn("cannot use a payload mirror", "reason", err)
			continue
		}
		all = append(all, source.Source{Mirror: m, Images: of.Images})
	}
	all = append(all, of.source())
	return append(all, ms.others(ctx, of)...)
}

// source returns the mirror that made the offer.
func (of *offer) source() source.Source {
	return source.Source{Mirror: of.mirror.Mirror, Images: of.Images}
}

// stored returns the images directory if it has deltas.
func (ms *mirrors) stored(of *offer) source.Sources {
	stored := source.Stored(ms.dir.Files)
	if len(stored) == 0 {
		return nil
	}
	m, err := ms.open(ms.options.Dir, false)
	if err != nil {
		return nil
	}
	return source.Sources{{Mirror: m, Images: of.Images, Stored: stored}}
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
		ms.options.Log.Warn("continuing without an image server nearby", "reason", err)
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
			ms.options.Log.Info("continuing without one of the mirrors", "mirror", m, "reason", err)
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
