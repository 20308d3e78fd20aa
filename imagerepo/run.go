package imagerepo

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo/internal/budget"
	"puavo-image-repository/imagerepo/internal/compacts"
	"puavo-image-repository/imagerepo/internal/diskspace"
	"puavo-image-repository/imagerepo/internal/ledger"
	"puavo-image-repository/imagerepo/internal/meter"
	"puavo-image-repository/imagerepo/internal/mirror"
	"puavo-image-repository/imagerepo/internal/orphans"
	"puavo-image-repository/imagerepo/internal/planner"
	"puavo-image-repository/imagerepo/internal/published"
	"puavo-image-repository/imagerepo/internal/sharing"
	"puavo-image-repository/imagerepo/internal/signature"
	"puavo-image-repository/imagerepo/internal/source"
	"puavo-image-repository/imagerepo/internal/state"
	"puavo-image-repository/imagerepo/internal/torrents"
	"puavo-image-repository/imagerepo/plan"
	"puavo-image-repository/meta"
)

// run finds out what there is, makes the plan of it, and has the stages carry it out.
type run struct {
	options  Options
	start    time.Time
	budget   budget.Budget
	source   *source.Dir
	series   []meta.SeriesConfig
	confs    *confs
	mirror   *mirror.Mirror // nil where there is none yet
	ledger   *ledger.Ledger
	docs     *published.Documents // nil likewise
	holds    mirror.Inventory     // what the mirror held before
	plan     plan.Plan
	schedule budget.Schedule // of the plan
	failed   *failures
	results  *results
	torrents plan.Torrents    // with seeds
	compacts *compacts.Keeper // nil until those were checked
}

func newRun(o Options) *run {
	wanted, _ := torrents.Complete(o.Torrents, o.URL) // was checked
	return &run{options: o, torrents: wanted, start: time.Now(), ledger: ledger.Empty(), failed: newFailures(o.Strict, o.Log), results: newResults(o.Log, o.DeltaMade)}
}

// foresee makes the plan and changes nothing.
func (r *run) foresee(ctx context.Context) error {
	if err := r.scan(); err != nil {
		return err
	}
	view, err := mirror.View(r.options.MirrorDir)
	if err == nil {
		defer view.Close()
		r.mirror = view
	} else if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := r.makePlan(ctx); err != nil {
		return err
	}
	tmp := diskspace.Existing(filepath.Join(r.options.MirrorDir, mirror.TmpPath("")))
	for i := range r.plan.Images {
		im := &r.plan.Images[i]
		im.Copied = placed(*im) && sharing.Likely(r.source.File(im.Name), tmp) == sharing.Copy
	}
	return cmp.Or(r.estimate(), r.failed.err())
}

func (r *run) build(ctx context.Context) (err error) {
	if err := r.scan(); err != nil {
		return err
	}
	if _, err := os.Stat(r.options.MirrorDir); errors.Is(err, fs.ErrNotExist) {
		// No mirror is made if nothing can be put there.
		if err := cmp.Or(r.makePlan(ctx), r.unbuildable()); err != nil {
			return err
		}
	}
	if err := r.open(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.mirror.Close()) }()
	defer func() { err = r.remember(err) }()
	if err := cmp.Or(r.makePlan(ctx), r.unbuildable()); err != nil {
		return err
	}
	s := r.stages()
	defer s.bases.close()
	defer func() { err = errors.Join(err, s.linker.discard()) }()
	if err := s.linker.prepare(ctx, r.plan.Images); err != nil {
		return err
	}
	if err := r.estimate(); err != nil {
		return err
	}
	if err := planner.CheckSpace(r.plan.Estimate, r.options.MirrorDir); err != nil && !r.options.IgnoreSpace {
		return err
	}
	s.progress.Expect(planner.Work(r.plan, s.reader.cost))
	if err := r.carryOut(ctx, s); err != nil {
		return err
	}
	return r.failed.err()
}

// open opens the mirror. That removes what a dead run has left there, and so, of links to
// images, changes the change times of these.
func (r *run) open() error {
	var inodes []uint64
	for _, stamp := range r.source.Images {
		inodes = append(inodes, stamp.Inode)
	}
	recorded := func(meta.Name, state.Stamp, state.Stamp) error { return nil } // no record is read yet
	return r.source.Renaming(func() (err error) {
		r.mirror, err = mirror.Open(r.options.MirrorDir, r.options.NoSync, r.options.Log)
		return err
	}, recorded, inodes...)
}

// estimate adds to the plan what it is expected to need.
func (r *run) estimate() (err error) {
	var rate float64
	if r.mirror != nil {
		rate = r.mirror.LastRun().Rate
	}
	r.plan.Estimate, err = planner.Estimate(r.plan, r.schedule, r.options.MirrorDir, rate)
	if enough := r.schedule.Short(); enough > 0 {
		r.options.Log.Warn("--memory is low for the index of a base, so deltas get larger",
			"allowed", fmt.Sprintf("%dm", r.options.Memory>>20), "enough", fmt.Sprintf("%dm", enough>>20))
	}
	return err
}

// stages are what carries out a plan, each with the things it needs.
type stages struct {
	progress  *meter.Meter
	publisher *publisher
	reader    *reader
	linker    *linker
	signer    *signature.Signer
	maker     *maker
	remover   *orphans.Remover
	torrents  *torrents.Maker
	bases     bases
}

func (r *run) stages() stages {
	o, m := r.options, r.mirror.Root
	progress := meter.New(0, o.Progress) // of what is known when the linker is prepared
	progress.Tell(r.tell)
	r.docs.SetPage(published.Page{Omit: o.NoPage, Root: o.Root, Ledger: r.ledger, Log: o.Log})
	r.docs.KeepBestBefore(o.BestBefore)
	// One digest for all: what is read at the same time, images or deltas, can share its work.
	from, sums := r.bases(progress), new(cksum.Group).Read
	publisher := &publisher{docs: r.docs, ledger: r.ledger, root: m, sign: o.Sign, log: o.Log, bestBefore: o.BestBefore}
	publisher.torrents = &torrents.Maker{
		Root: m, Ledger: r.ledger, Holds: r.holds, Torrents: r.torrents, Listed: r.docs.Listed, Withdraw: publisher.withdraw,
		Progress: progress.At(meter.Pieces), Jobs: r.budget.Jobs, Log: o.Log,
	}
	linker := &linker{
		source: r.source, root: m, ledger: r.ledger, holds: r.holds, failed: r.failed,
		publisher: publisher, progress: progress, jobs: r.budget.Jobs, log: o.Log, shared: make(map[meta.Name]sharing.Shared),
	}
	return stages{progress: progress, publisher: publisher, linker: linker, bases: from, torrents: publisher.torrents,
		reader: &reader{
			source: r.source, root: m, ledger: r.ledger, holds: r.holds, confs: r.confs, failed: r.failed,
			publisher: publisher, progress: progress, jobs: r.budget.Jobs, schedule: r.schedule, bases: from, digest: sums, done: o.ImageRead,
			cost: planner.ReadCost(r.plan, r.schedule.Readers, runtime.GOMAXPROCS(0)),
		},
		signer: &signature.Signer{Root: m, Ledger: r.ledger, Progress: progress.At(meter.Sign), Jobs: r.budget.Jobs, Log: o.Log},
		maker: &maker{
			source: r.source, mirror: r.mirror, ledger: r.ledger, holds: r.holds, failed: r.failed, results: r.results,
			publisher: publisher, progress: progress, schedule: r.schedule, bases: from, digest: sums, policy: o.Policy, log: o.Log,
			farm: o.Farm, effort: o.Effort,
		},
		remover: &orphans.Remover{
			Root: m, Ledger: r.ledger, Wants: r.failed.wantsDelta, RemoveFile: linker.removeFile, Removed: r.results.removed, Grace: o.Policy.Grace,
		},
	}
}

// carryOut has each stage do its part of the plan.
func (r *run) carryOut(ctx context.Context, s stages) error {
	defer func() { r.results.changed = r.results.changed || s.publisher.changed || r.ledger.Changed() }()
	if err := s.publisher.withdrawReplaced(ctx, r.plan.Images); err != nil {
		return err
	}
	unread, err := s.reader.compare(ctx, r.plan.Images)
	r.confs.warn()
	if err != nil {
		return err
	}
	if err := s.linker.link(ctx, r.plan.Images, unread); err != nil {
		return err
	}
	if err := s.reader.read(ctx, unread); err != nil {
		return err
	}
	if err := s.linker.settle(ctx, r.plan.Images); err != nil {
		return err
	}
	if err := r.offer(ctx, s.torrents); err != nil {
		return err
	}
	p, err := r.sign(ctx, s.signer, s.progress)
	if err != nil {
		return err
	}
	if err := s.maker.makeDeltas(ctx, p); err != nil {
		return err
	}
	if err := s.publisher.recheck(ctx, slices.Sorted(maps.Keys(r.failed.kept()))); err != nil || r.failed.built() == 0 {
		return err
	}
	if err := r.checkCompact(ctx, s.progress); err != nil {
		return err
	}
	if err := s.torrents.Make(ctx, r.wantedTorrents()); err != nil {
		return err
	}
	kept := planner.FilesOf(r.failed.kept(), r.series, r.docs.All())
	left := s.remover.Of(p, kept)
	s.remover.AddCompact(left, r.staleCompact(kept), r.compacts.Wrong)
	if err := s.publisher.publish(ctx, r.edition(), left); err != nil {
		return err
	}
	if archive := r.options.Archive; archive != nil {
		if err := archive(ctx); err != nil {
			return fmt.Errorf("%w: %w", ErrArchive, err)
		}
	}
	return s.remover.Remove(ctx, left, kept)
}

// unbuildable returns an error where nothing can be built and nothing is published.
func (r *run) unbuildable() error {
	if len(r.plan.Series) > 0 || r.docs != nil && len(r.docs.All()) > 0 {
		return nil
	}
	return r.failed.err()
}

// remember records how the run went, and returns its error.
func (r *run) remember(err error) error {
	last := r.mirror.LastRun()
	now := mirror.Run{
		Began: r.start, Seconds: time.Since(r.start).Seconds(), Rate: last.Rate, Success: last.Success,
		Flushed: last.Flushed, Options: last.Options, CompactRate: last.CompactRate,
	}
	partly, ok := errors.AsType[*SeriesError](err)
	if err != nil && !(ok && partly.Built > 0) {
		now.Error = err.Error()
		_ = r.mirror.PutRun(now) // the error that matters is known
		return err
	}
	now.Flushed = !r.options.NoSync
	if err != nil {
		now.Error = err.Error()
	} else {
		now.Success = time.Now()
	}
	if work := planner.Remaining(r.plan); work > 1<<30 {
		now.Rate = float64(work) / now.Seconds
	}
	o := r.options
	options, marshalErr := json.Marshal(remembered{r.source.Path, o.URL, o.Config, o.Policy, o.Effort, o.FollowLinks, o.NoPage, o.BestBefore, o.Torrents})
	now.Options = options
	return cmp.Or(err, marshalErr, r.mirror.PutRun(now))
}

// makePlan makes the plan for what the mirror, if there is one, holds. It reads the
// puavo-conf of new images first, since that is quick and its errors are the
// administrator's to mend, and plans again without the series that they concern.
func (r *run) makePlan(ctx context.Context) error {
	if r.mirror != nil {
		if err := r.look(); err != nil {
			return err
		}
	}
	r.skipUnseen()
	r.series = planner.Group(r.source.Found, r.options.Config)
	if err := r.leaveOthers(); err != nil {
		return err
	}
	if err := r.planOnce(); err != nil {
		return err
	}
	failed := len(r.failed.all())
	defer r.confs.warn()
	for _, im := range r.plan.Images {
		if !im.Read || im.Touched {
			continue
		}
		if err := r.failed.tolerate(ctx, r.confs.read(ctx, im.Name), im.Name); err != nil {
			return err
		}
	}
	if len(r.failed.all()) > failed {
		return cmp.Or(ctx.Err(), r.planOnce())
	}
	return ctx.Err()
}

// planOnce makes the plan without the series that are known to have failed.
func (r *run) planOnce() error {
	in := planner.Input{
		Found: r.source.Found, Series: r.series, Holds: r.holds, Policy: r.options.Policy, Now: r.start,
		Failed: r.failed.kept(), Suspect: r.options.Suspect, Torrents: r.torrents,
	}
	if r.docs != nil {
		in.Documents = r.docs.All()
	}
	r.plan = planner.New(in)
	if err := r.failed.plan(r.plan); err != nil {
		return err
	}
	if !r.options.AllowRemoval {
		if err := planner.CheckRemovals(in, r.plan, r.source.Path); err != nil {
			return err
		}
	}
	if r.mirror != nil && (r.plan.Adopted || r.mirror.LastRun().Success.IsZero()) {
		r.plan.LeftAlone = mirror.OtherTools(r.mirror.Root.FS())
	}
	r.schedule = r.budget.Schedule(r.plan, budget.Free())
	return r.budget.Check(r.plan.Bases())
}

// look finds out what the mirror holds.
func (r *run) look() (err error) {
	var damaged []string
	if r.ledger, damaged, err = ledger.Load(r.mirror.State); err != nil {
		return err
	}
	if r.docs, err = published.Load(r.mirror.Root, func(name string) bool { return r.options.Adopt || r.ledger.Has(name) }); err != nil {
		return err
	}
	listed := r.docs.Names()
	damaged = append(damaged, r.ledger.TakeOver(r.docs.Sums, listed, r.sameImages())...)
	for _, name := range damaged {
		r.options.Log.Warn("a record is damaged; reading the file again", "file", mirror.PathOf(name))
		listed[name] = mirror.IsOurName(name) // that it is there is known all the same
	}
	for _, file := range r.options.Suspect {
		if err := r.suspect(path.Base(file)); err != nil {
			return err
		}
	}
	r.holds, err = mirror.Look(r.mirror.Root.FS(), r.ledger.All(), listed)
	r.holds.All = r.options.Adopt
	return err
}

// sameImages reports whether the last run was of the same image directory.
func (r *run) sameImages() bool {
	last, err := Remembered(r.options.MirrorDir)
	if err != nil {
		return false
	}
	then, thenErr := os.Stat(last.ImageDir)
	now, nowErr := os.Stat(r.source.Path)
	return thenErr == nil && nowErr == nil && os.SameFile(then, now)
}

// tell reports the step that is worked on.
func (r *run) tell(s meter.Step) {
	if r.options.Stage != nil {
		r.options.Stage(s.Stage, s.File)
	}
}
