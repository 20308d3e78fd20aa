package imagerepo

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"puavo-image-repository/imagerepo/internal/apart"
	"puavo-image-repository/imagerepo/internal/ledger"
	"puavo-image-repository/imagerepo/internal/meter"
	"puavo-image-repository/imagerepo/internal/mirror"
	"puavo-image-repository/imagerepo/internal/published"
	"puavo-image-repository/meta"
)

// run is the state of one Build.
type run struct {
	Options
	start  time.Time
	found  Scanned
	mirror *mirror.Mirror
	budget budget
	ledger *ledger.Ledger
	docs   *published.Documents
	holds  mirror.Inventory // what the mirror held before
	plan   Plan
	confs  map[meta.Name]map[string]json.RawMessage // of the images that are read
	meter  *meter.Meter

	mu      sync.Mutex
	failed  map[string]error // by series
	omitted map[string]bool  // deltas
	summary Summary

	publishing sync.Mutex // held while documents are written and signed
	changed    atomic.Bool
}

func newRun(o Options) *run {
	return &run{
		Options: o, start: time.Now(), ledger: ledger.Empty(),
		confs:  make(map[meta.Name]map[string]json.RawMessage),
		failed: make(map[string]error), omitted: make(map[string]bool),
		summary: Summary{Deltas: []DeltaResult{}, Removals: []string{}},
	}
}

func (r *run) build(ctx context.Context) (err error) {
	if err := r.scan(); err != nil {
		return err
	}
	if _, err := os.Stat(r.MirrorDir); errors.Is(err, fs.ErrNotExist) {
		// No mirror is made if nothing can be put there.
		if err := cmp.Or(r.makePlan(ctx), r.unbuildable()); err != nil {
			return err
		}
	}
	if r.mirror, err = mirror.Open(r.MirrorDir, r.NoSync, r.Log); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.mirror.Close()) }()
	defer func() { err = r.remember(err) }()
	if err := r.makePlan(ctx); err != nil {
		return err
	}
	if err := cmp.Or(r.readConfs(ctx), r.unbuildable()); err != nil {
		return err
	}
	if err := r.plan.Estimate.checkSpace(r.MirrorDir); err != nil && !r.IgnoreSpace {
		return err
	}
	r.meter = meter.New(r.plan.work(), r.Progress)
	for _, stage := range []func(context.Context) error{
		r.withdraw, r.compareImages, r.linkImages, r.readImages, r.settleImages, r.makeDeltas, r.recheckFailed, r.publish, r.remove,
	} {
		if err := stage(ctx); err != nil {
			return err
		}
	}
	return r.seriesError()
}

// built returns how many series have not failed.
func (r *run) built() (n int) {
	for _, s := range r.plan.Series {
		if r.failed[s.Name] == nil {
			n++
		}
	}
	return n
}

// unbuildable returns an error where there is nothing to build and nothing published.
func (r *run) unbuildable() error {
	if len(r.plan.Series) > 0 || r.docs != nil && len(r.docs.All()) > 0 {
		return nil
	}
	return r.seriesError()
}

// remember records how the run went, and returns its error.
func (r *run) remember(err error) error {
	last := r.mirror.LastRun()
	now := mirror.Run{
		Began: r.start, Seconds: time.Since(r.start).Seconds(), Rate: last.Rate, Success: last.Success,
		Flushed: last.Flushed, Options: last.Options,
	}
	partly, ok := errors.AsType[*SeriesError](err)
	if err != nil && !(ok && partly.Built > 0) {
		now.Error = err.Error()
		_ = r.mirror.PutRun(now) // the error that matters is known
		return err
	}
	now.Flushed = !r.NoSync
	if err != nil {
		now.Error = err.Error()
	} else {
		now.Success = time.Now()
	}
	if work := r.plan.toDo(); work > 1<<30 {
		now.Rate = float64(work) / now.Seconds
	}
	options, marshalErr := json.Marshal(r.Options)
	now.Options = options
	return cmp.Or(err, marshalErr, r.mirror.PutRun(now))
}

// scan finds the images. It looks at the image directory alone, so that nothing is
// made for one of which nothing can be made.
func (r *run) scan() (err error) {
	if r.budget, err = newBudget(r.Memory, r.Jobs); err != nil {
		return err
	}
	if err := apart.Check(r.ImageDir, r.MirrorDir); err != nil {
		return err
	}
	r.found, err = Scan(os.DirFS(r.ImageDir))
	for _, reason := range r.found.Skipped {
		r.Log.Warn("skipped", "reason", reason)
	}
	if err != nil {
		return fmt.Errorf("image directory %s: %w", r.ImageDir, err)
	}
	for _, im := range slices.Clone(r.found.Images) {
		if err := private(r.ImageDir, im.Name); err != nil && !r.FollowLinks {
			r.found.refuse(im.Name, err)
		}
	}
	r.ImageDir, err = filepath.Abs(r.ImageDir) // to be remembered
	return err
}

// makePlan makes the plan for what the mirror, if there is one, holds.
func (r *run) makePlan(ctx context.Context) (err error) {
	if r.mirror != nil {
		if err := r.look(); err != nil {
			return err
		}
	}
	r.skipUnseen()
	if err := r.planAgain(); err != nil {
		return err
	}
	if r.mirror != nil && (r.plan.Adopted || r.mirror.LastRun().Success.IsZero()) {
		r.plan.LeftAlone = mirror.OtherTools(r.mirror.Root.FS())
	}
	if err := r.budget.check(r.plan.groups()); err != nil {
		return err
	}
	return ctx.Err()
}

// planAgain makes the plan, without the series that are known to have failed.
func (r *run) planAgain() error {
	r.plan = newPlan(planInput{
		found: r.found, series: groupSeries(r.found, r.Config), holds: r.holds, policy: r.Policy, now: r.start,
		failed: r.failed, suspect: r.Suspect, published: r.publishedSeries,
	})
	for _, f := range r.plan.Failed {
		if r.Strict {
			return f.err
		}
		r.failed[f.Name] = f.err
	}
	if err := r.checkRemovals(); err != nil {
		return err
	}
	return r.foretell()
}

func (r *run) publishedSeries(name string) (meta.Series, bool) {
	if r.docs == nil {
		return meta.Series{}, false
	}
	return r.docs.Series(name)
}

// look finds out what the mirror holds.
func (r *run) look() (err error) {
	var damaged []string
	if r.ledger, damaged, err = ledger.Load(r.mirror.State); err != nil {
		return err
	}
	if r.docs, err = published.Load(r.mirror.Root, func(name string) bool { return r.Adopt || r.ledger.Has(name) }); err != nil {
		return err
	}
	listed := r.docs.Names()
	damaged = append(damaged, r.ledger.TakeOver(r.docs.Sums, listed, r.sameImages())...)
	for _, name := range damaged {
		r.Log.Warn("a damaged record, the file is read again", "file", mirror.PathOf(name))
		listed[name] = mirror.IsOurName(name) // that it is there is known all the same
	}
	for _, file := range r.Suspect {
		if err := r.suspect(path.Base(file)); err != nil {
			return err
		}
	}
	r.holds, err = mirror.Look(r.mirror.Root.FS(), r.ledger.All(), listed)
	r.holds.All = r.Adopt
	return err
}

// sameImages reports whether the last run was of the same image directory.
func (r *run) sameImages() bool {
	last, err := Remembered(r.MirrorDir)
	if err != nil {
		return false
	}
	then, thenErr := os.Stat(last.ImageDir)
	now, nowErr := os.Stat(r.ImageDir)
	return thenErr == nil && nowErr == nil && os.SameFile(then, now)
}

// skipUnseen leaves out images that cannot be looked at, such as links to a disk that
// is not mounted, unless the mirror has them or a series file names them.
func (r *run) skipUnseen() {
	for n, reason := range r.found.Unusable {
		_, there := r.holds.Has(n.String())
		named := slices.ContainsFunc(r.Config.Series, func(s meta.SeriesConfig) bool { return slices.Contains(s.Images, n) })
		if errors.Is(reason, errUnseen) && !there && !named {
			r.Log.Warn("skipped", "reason", reason)
			delete(r.found.Unusable, n)
		} else if errors.Is(reason, errUnseen) && there {
			r.found.Unusable[n] = fmt.Errorf("%w; it is in the mirror, and would leave it: mount what it is on, or remove it here", reason)
		}
	}
}

// suspect forgets what is known of a file of the mirror that is not as it should
// be, so that it is examined and made again. That cannot be done of an image that
// is damaged in the image directory itself.
func (r *run) suspect(name string) error {
	if !r.ledger.Has(name) {
		return nil
	}
	if path.Ext(name) != ".img" {
		r.ledger.Suspect(name)
		return nil
	}
	source, err := os.Stat(filepath.Join(r.ImageDir, name))
	if err != nil {
		return nil // it left, or the plan says what is to be said
	}
	copied, err := r.mirror.Root.Stat(name)
	if err == nil && os.SameFile(source, copied) {
		return fmt.Errorf("%s is the same file and damaged too; put the right image there and run again, or build if it is meant to be as it is",
			filepath.Join(r.ImageDir, name))
	}
	r.ledger.SuspectCopy(name)
	return nil
}
