package compactdelta

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"time"

	"puavo-image-repository/imagerepo/internal/lockfile"
	"puavo-image-repository/imagerepo/internal/mirror"
	"puavo-image-repository/imagerepo/plan"
	"puavo-image-repository/meta"
)

// errTime is why a context ended whose time is over.
var errTime = errors.New("the time is over")

// Run makes the compact deltas that the policy wants and a mirror lacks, and publishes each. It
// returns the plan that it followed, and what came of it. What was published before an error
// stays published. What cannot be made now is left for another run, without an error: where an
// image is not what is published of it, where the disk has too little room, or the time is over.
// If another process holds the lock of the mirror for ten minutes, the error wraps ErrLocked.
func Run(ctx context.Context, o Options) (Plan, Summary, error) {
	start := time.Now()
	if err := o.check(); err != nil || o.Policy.Compact == (plan.Compact{}) {
		return Plan{}, Summary{}, err
	}
	view, err := mirror.View(o.MirrorDir)
	if err != nil {
		return Plan{}, Summary{}, err
	}
	defer view.Close()
	p, err := planOf(o, view)
	if err != nil {
		return p, Summary{}, err
	}
	rate := view.LastRun().CompactRate
	r := &run{options: o, start: start, rate: rate, recorded: rate, work: newProgress(p, o)}
	r.maker = maker{mirror: view, effort: o.Effort, work: r.work}
	err = r.makeAll(ctx, p)
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	return p, r.summary(p), advise(err)
}

// advise adds to the errors of a disk what to do.
func advise(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w; make room and run again: what is published stays", err)
	}
	return err
}

// run is what a run has done.
type run struct {
	options Options
	start   time.Time
	maker   maker
	work    *progress

	mu      sync.Mutex // guards what follows, where a farm works too
	results []Result
	changed bool
	begun   bool // whether any was begun

	rate         float64 // of work, as far as it is known
	recorded     float64 // in the mirror
	done, worked float64 // work and seconds of those that were made
}

// makeAll makes those that are to be made, one after another.
func (r *run) makeAll(ctx context.Context, p Plan) error {
	var open []Delta
	for _, d := range p.Deltas {
		if d.Need != nil {
			open = append(open, d)
		}
	}
	if len(open) == 0 {
		return ctx.Err()
	}
	lock, err := r.maker.mirror.LockMaking()
	if errors.Is(err, lockfile.ErrHeld) {
		r.options.Log.Warn("another run makes compact deltas; they are left to it", "reason", err)
		r.leave("another run makes compact deltas", open...)
		return ctx.Err()
	} else if err != nil {
		return err
	}
	defer lock.Release()
	limited := ctx
	if r.options.Time > 0 {
		var cancel context.CancelFunc
		limited, cancel = context.WithDeadlineCause(ctx, r.start.Add(r.options.Time), errTime)
		defer cancel()
	}
	if err := r.makeOpen(ctx, limited, open); err != nil {
		r.leave("the run ended before", r.without(open)...)
		return err
	}
	return r.remember(ctx)
}

// makeOpen makes those that are to be made, with a farm if there is one.
func (r *run) makeOpen(ctx, limited context.Context, open []Delta) error {
	if r.options.Farm != nil {
		return r.makeWithFarm(ctx, limited, open)
	}
	return r.makeHere(ctx, limited, open)
}

func (r *run) makeHere(ctx, limited context.Context, open []Delta) error {
	for _, d := range open {
		if err := r.one(ctx, limited, d); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// without returns those that have no result.
func (r *run) without(open []Delta) []Delta {
	return slices.DeleteFunc(slices.Clone(open), func(d Delta) bool {
		return slices.ContainsFunc(r.results, func(res Result) bool { return res.File == d.File })
	})
}

// one makes one, unless there is no time or no room for it, and drops or publishes it.
func (r *run) one(ctx, limited context.Context, d Delta) error {
	r.mu.Lock()
	reason := r.noTime(limited, d)
	if room := r.noRoom(d); reason == "" && room != "" {
		r.options.Log.Warn("the compact delta is left out", "delta", d.File, "reason", room)
		reason = room
	}
	if reason != "" {
		r.leave(reason, d)
	}
	r.begun = r.begun || reason == ""
	r.mu.Unlock()
	if reason != "" {
		return ctx.Err()
	}
	begin := time.Now()
	m, err := r.maker.make(limited, d)
	took := time.Since(begin)
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case limited.Err() != nil:
		r.slow(float64(d.Need.work) / took.Seconds())
		r.leave(fmt.Sprintf("the time for compact deltas was over after %v of work on it", took.Round(time.Second)), d)
		return nil
	case isFault(err):
		r.leaveOut("the compact delta is left out", err, d)
		return nil
	case err != nil:
		return fmt.Errorf("compact delta %s: %w", d.File, err)
	}
	defer m.Close()
	r.done, r.worked = r.done+float64(d.Need.work), r.worked+took.Seconds()
	r.rate = r.done / r.worked
	defer r.work.publishing(d)()
	return r.finish(ctx, d, m, took)
}

// noTime returns why there is no time for one, "" if there is.
func (r *run) noTime(limited context.Context, d Delta) string {
	if r.options.Time == 0 {
		return ""
	}
	left := time.Until(r.start.Add(r.options.Time))
	expected := time.Duration(float64(d.Need.work) / r.rate * float64(time.Second))
	switch {
	case left <= 0 || limited.Err() != nil:
		return "the time for compact deltas is over"
	case r.rate > 0 && expected >= left:
		return fmt.Sprintf("it is expected to take %v, and %v of the time for compact deltas are left",
			expected.Round(time.Second), left.Round(time.Second))
	}
	return ""
}

// noRoom returns why there is no room for the scratch files of one, "" if there is.
func (r *run) noRoom(d Delta) string {
	room := free(r.options.MirrorDir)
	if d.Need.Scratch <= room || r.options.IgnoreSpace {
		return ""
	}
	return fmt.Sprintf("its scratch files need about %d MiB in %s, and %d MiB are free; make room, or try it with --ignore-space",
		d.Need.Scratch>>20, r.options.MirrorDir, room>>20)
}

// slow notes the rate of one that was given up, which is less than this.
func (r *run) slow(bound float64) {
	if r.rate == 0 || bound < r.rate {
		r.rate = bound
	}
}

// finish drops or publishes what was made.
func (r *run) finish(ctx context.Context, d Delta, m *made, took time.Duration) error {
	result := Result{File: d.File, Action: plan.Make, Size: m.sums.Size, Rival: d.Rival, Seconds: took.Seconds()}
	do := func(l *locked) error { return l.publish(ctx, d, m) }
	if !isWorth(m.sums.Size, d.Rival) {
		result.Action = plan.Drop
		do = func(l *locked) error { return l.drop(d, m.sums.Size) }
	}
	err := r.withLock(ctx, do)
	if reason, ok := errors.AsType[outdated](err); ok {
		r.leaveOut("the compact delta is not published", reason, d)
		return nil
	} else if err != nil {
		return fmt.Errorf("publishing the compact delta %s: %w", d.File, err)
	}
	r.options.Log.Info("compact delta", "file", d.File, "action", string(result.Action), "bytes", result.Size, "share", fmt.Sprintf("%.3f", result.Share()))
	r.results = append(r.results, result)
	if r.options.Done != nil {
		r.options.Done(result)
	}
	return nil
}

// withLock takes the lock of the mirror to record the rate, and to do something else.
func (r *run) withLock(ctx context.Context, do func(*locked) error) error {
	changed, err := withLock(ctx, r.options, func(l *locked) error {
		if err := l.remember(r.rate); err != nil {
			return err
		}
		return do(l)
	})
	r.changed = r.changed || changed
	if err == nil {
		r.recorded = r.rate
	}
	return err
}

// leaveOut leaves one for another run, with a warning.
func (r *run) leaveOut(message string, reason error, d Delta) {
	r.options.Log.Warn(message, "delta", d.File, "reason", reason)
	r.leave(reason.Error(), d)
}

// leave leaves some for another run.
func (r *run) leave(reason string, all ...Delta) {
	for _, d := range all {
		r.work.skip(d)
		r.options.Log.Info("compact delta", "file", d.File, "action", string(plan.Omit), "reason", reason)
		r.results = append(r.results, Result{File: d.File, Action: plan.Omit, Rival: d.Rival, Reason: reason})
	}
}

// remember records the rate. Where nothing was begun since all is expected to take too long, it
// grows, so that a run that was slow for once does not keep all others from trying.
func (r *run) remember(ctx context.Context) error {
	if !r.begun {
		r.rate *= 1.25
	}
	if r.rate == r.recorded {
		return ctx.Err()
	}
	return r.withLock(ctx, func(*locked) error { return nil })
}

// summary returns what the run did.
func (r *run) summary(p Plan) Summary {
	order := make(map[string]int)
	for i, d := range p.Deltas {
		order[d.File] = i
	}
	slices.SortStableFunc(r.results, func(a, b Result) int { return cmp.Compare(order[a.File], order[b.File]) })
	s := Summary{Seconds: time.Since(r.start).Seconds(), Changed: r.changed, Deltas: r.results}
	for _, d := range p.Deltas {
		if d.There() {
			s.Kept++
		}
	}
	for _, d := range r.results {
		switch d.Action {
		case plan.Make:
			s.Made++
			s.Bytes += d.Size
		case plan.Drop:
			s.Dropped++
		default:
			s.Left++
		}
	}
	return s
}

// path returns where in the mirror a compact delta lies.
func (d *Delta) path() string { return meta.CompactPath(d.File) }
