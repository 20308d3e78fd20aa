package imagerepo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"puavo-image-repository/delta"
	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/base"
	"puavo-image-repository/imagerepo/internal/meter"
	"puavo-image-repository/imagerepo/internal/pool"
	"puavo-image-repository/imagerepo/internal/work"
	"puavo-image-repository/imagerepo/plan"
)

// farmRate is the bytes of both images that a core of a worker goes over in a second, before it is
// known better.
const farmRate = 20 << 20

// away are the deltas that a farm makes. A nil one has none.
type away struct {
	maker *maker
	batch work.Batch

	mu     sync.Mutex
	handed map[string]bool        // the files of those that were handed over, and not taken over since
	open   map[work.ID]plan.Delta // those of them that have no result
	left   []plan.Delta           // those that must be made here, after all
}

// has reports whether a worker makes a delta, or has made it, so that there is nothing to do here.
func (a *away) has(j *job) bool {
	if a == nil {
		return false
	}
	a.mu.Lock()
	handed := a.handed[j.delta.File]
	a.mu.Unlock()
	return handed && !a.batch.Take(j.work())
}

// take returns the delta of a result, once.
func (a *away) take(id work.ID) (d plan.Delta, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	d, ok = a.open[id]
	delete(a.open, id)
	return d, ok
}

// makes says that a delta is made here, after all.
func (a *away) makes(d plan.Delta) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.handed, d.File)
}

// makeHere has a delta made here when the workers are done.
func (a *away) makeHere(d plan.Delta) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.left = append(a.left, d)
}

// work returns the job for a farm that makes this delta: the same that is made here.
func (j *job) work() work.Job {
	ratio := cmp.Or(j.maker.policy.MaxRatio, 1)
	return work.Job{
		Format: work.Format, Kind: work.RDiff, Effort: cmp.Or(j.maker.effort, delta.Default),
		Index:  j.maker.schedule.Sweep([]plan.Delta{j.delta}).Index,
		Base:   work.File{Size: j.delta.BaseSize, BLAKE3: j.fresh.Base},
		Target: work.File{Size: j.delta.TargetSize, BLAKE3: j.fresh.Target},
		Limit:  max(1, int64(ratio*float64(j.delta.TargetSize))),
	}
}

// makeWithFarm makes the deltas of groups here and on a farm. What a farm cannot do is done here.
func (m *maker) makeWithFarm(ctx context.Context, groups [][]plan.Delta) error {
	a, offer := m.offer(groups)
	if len(offer.Jobs) == 0 {
		return m.makeGroups(ctx, groups)
	}
	var err error
	if a.batch, err = m.farm.Offer(ctx, offer); err != nil {
		m.log.Warn("the farm cannot be used; all deltas are made here", "reason", err)
		return m.makeGroups(ctx, groups)
	}
	m.away = a
	here := func(ctx context.Context) error {
		if err := m.makeGroups(ctx, groups); err != nil {
			return err
		}
		return a.takeOver(ctx)
	}
	there := func(ctx context.Context) error { // as many are verified at a time as are made
		return pool.Each(ctx, m.schedule.Jobs, make([]struct{}, m.schedule.Jobs), func(ctx context.Context, _ struct{}) error { return a.collect(ctx) })
	}
	err = work.Share(ctx, a.batch, here, there)
	m.away = nil
	if closing := a.batch.Close(); closing != nil {
		m.log.Warn("the farm did not end well", "reason", closing)
	}
	if err != nil {
		return err
	}
	return m.makeGroups(ctx, byBase(a.left))
}

// takeOver makes here what workers have not done yet, some deltas at a time, so that nothing takes
// longer than without workers.
func (a *away) takeOver(ctx context.Context) error {
	m := a.maker
	for {
		var deltas []plan.Delta
		jobs := a.batch.TakeOver(m.schedule.Jobs)
		for _, j := range jobs {
			if d, ok := a.take(j.ID()); ok {
				deltas = append(deltas, d)
				a.makes(d)
			}
		}
		if len(jobs) == 0 {
			return ctx.Err()
		}
		if err := m.makeGroups(ctx, byBase(deltas)); err != nil {
			return err
		}
	}
}

// byBase groups deltas by their bases, each of which one group at a time may use.
func byBase(all []plan.Delta) [][]plan.Delta {
	slices.SortStableFunc(all, func(a, b plan.Delta) int { return cmp.Compare(a.Base.String(), b.Base.String()) })
	return plan.Plan{Deltas: all}.Bases()
}

// offer returns what can be handed over: the deltas that are made from images.
func (m *maker) offer(groups [][]plan.Delta) (*away, work.Offer) {
	a := &away{maker: m, handed: make(map[string]bool), open: make(map[work.ID]plan.Delta)}
	o := work.Offer{Files: make(map[work.File]string), Mirror: m.mirror.Dir, Scratch: m.mirror.Scratch}
	for _, d := range slices.Concat(groups...) {
		j := m.job(nil, d)
		if action, _ := j.decide(); d.Retired || action != plan.Make {
			continue
		}
		w := j.work()
		if _, twice := a.open[w.ID()]; twice {
			continue
		}
		o.Jobs = append(o.Jobs, work.Item{Job: w, Seconds: float64(w.Size()) / farmRate})
		o.Files[w.Base], o.Files[w.Target] = d.Base.String(), d.Target.String()
		a.open[w.ID()], a.handed[d.File] = d, true
	}
	return a, o
}

// collect verifies what the farm makes, and puts it into the mirror, until nothing is left.
func (a *away) collect(ctx context.Context) error {
	for {
		r, err := a.batch.Next(ctx)
		if errors.Is(err, io.EOF) {
			return ctx.Err()
		} else if err != nil {
			return err
		}
		d, ok := a.take(r.ID())
		if !ok {
			r.Close()
			continue
		}
		if err := a.accept(ctx, r, d); err != nil {
			return err
		}
	}
}

// accept puts a delta into the mirror that a worker has made, if it is right; else it is made here.
func (a *away) accept(ctx context.Context, r work.Result, d plan.Delta) error {
	defer r.Close()
	m := a.maker
	if r.Err != nil {
		m.log.Info("no worker has made the delta; making it here", "delta", d.File, "reason", r.Err)
		a.makeHere(d)
		return nil
	}
	from := base.Image(m.source.File(d.Base), d.BaseSize, delta.Options{}, m.progress) // of its own: others close theirs
	from.SumsAsWritten = m.schedule.Scarce
	defer from.Close()
	j := m.job(from.Sweep(1)[0], d)
	defer j.lane.Leave()
	err := j.put(ctx, func(ctx context.Context, f *atomicfile.File) (base.Verified, error) {
		if _, err := io.Copy(f, m.progress.At(0).Reader(ctx, r.Reader())); err != nil {
			return base.Verified{}, err
		}
		return j.lane.Check(ctx, j.target, f, r.Size)
	})
	if errors.Is(err, base.ErrWrong) && j.changed() == nil && ctx.Err() == nil {
		a.batch.Checked(r, err)
		m.log.Warn("a worker has made a wrong delta; making it here", "delta", d.File, "worker", r.Maker, "reason", err)
		a.makeHere(d)
		return nil
	}
	if err == nil {
		a.batch.Checked(r, nil)
		m.progress.At(meter.Diff).Add(d.TargetSize)
		m.log.Info("made by a worker", "delta", d.File, "worker", r.Maker, "bytes", fmt.Sprint(r.Size))
	}
	return j.tolerate(ctx, err)
}
