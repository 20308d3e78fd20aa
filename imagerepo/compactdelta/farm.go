package compactdelta

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"sync"

	"puavo-image-repository/cksum"
	"puavo-image-repository/delta"
	"puavo-image-repository/delta/compact"
	"puavo-image-repository/imagerepo/internal/compacts"
	"puavo-image-repository/imagerepo/internal/pool"
	"puavo-image-repository/imagerepo/internal/work"
	"puavo-image-repository/meta"
)

// farmed is what a farm does for a run.
type farmed struct {
	run    *run
	batch  work.Batch
	handed map[work.ID]string // the files that were handed over
	back   chan Delta         // those to be made here, after all; closed when no more come
	memory *pool.Shared       // for what is made and applied here at the same time
	// believed are those that were published and not applied here.
	believed []believed

	mu   sync.Mutex
	open map[work.ID]Delta // those that workers may have: neither taken back, nor with a result
}

type believed struct {
	Delta
	result work.Result // closed
}

// makeWithFarm makes compact deltas here and on a farm. What a farm cannot do is done here.
func (r *run) makeWithFarm(ctx, limited context.Context, open []Delta) error {
	f, offer := r.offer(open)
	var err error
	if f.batch, err = r.options.Farm.Offer(limited, offer); err != nil {
		r.options.Log.Warn("the farm cannot be used; all compact deltas are made here", "reason", err)
		return r.makeHere(ctx, limited, open)
	}
	defer func() {
		if err := f.batch.Close(); err != nil {
			r.options.Log.Warn("the farm did not end well", "reason", err)
		}
	}()
	here := func(ctx context.Context) error { return f.here(ctx, limited, open) }
	there := func(ctx context.Context) error {
		defer close(f.back)
		limited, cancel := context.WithCancel(limited)
		defer cancel()
		defer context.AfterFunc(ctx, cancel)()
		return f.collect(ctx, limited)
	}
	err = work.Share(ctx, f.batch, here, there)
	if judged := f.judge(ctx, limited); err == nil {
		err = judged
	}
	return err
}

// offer returns what can be handed over.
func (r *run) offer(open []Delta) (*farmed, work.Offer) {
	f := &farmed{
		run: r, handed: make(map[work.ID]string), open: make(map[work.ID]Delta), back: make(chan Delta, len(open)),
		memory: pool.NewShared(limitsOf(r.options, 0).memory),
	}
	offer := work.Offer{Files: make(map[work.File]string), Mirror: r.options.MirrorDir, Scratch: r.maker.mirror.Scratch}
	for _, d := range open {
		j := r.job(d)
		if f.handed[j.ID()] != "" { // images with the same content
			continue
		}
		offer.Jobs = append(offer.Jobs, work.Item{Job: j, Seconds: d.Need.Seconds * float64(d.Need.cores)})
		offer.Files[j.Target] = d.Target.String()
		if !d.isFull() {
			offer.Files[j.Base] = d.Base.String()
		}
		f.handed[j.ID()], f.open[j.ID()] = d.File, d
	}
	return f, offer
}

// here makes what no worker has begun, and after that what comes back from them.
func (f *farmed) here(ctx, limited context.Context, open []Delta) error {
	for _, d := range open {
		if !f.take(limited, d) {
			continue
		}
		if err := f.make(ctx, limited, d); err != nil {
			return err
		}
	}
	f.batch.Idle()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case d, more := <-f.back:
			if !more {
				return ctx.Err()
			}
			if err := f.make(ctx, limited, d); err != nil {
				return err
			}
		}
	}
}

// make makes one here.
func (f *farmed) make(ctx, limited context.Context, d Delta) error {
	return f.memory.With(ctx, d.Need.Memory, func() error { return f.run.one(ctx, limited, d) })
}

// take reports whether one is made here now. One for which there is no time or no room here is left
// to workers as long as they may begin it.
func (f *farmed) take(limited context.Context, d Delta) bool {
	r, j := f.run, f.run.job(d)
	if f.handed[j.ID()] != d.File {
		return true
	}
	r.mu.Lock()
	possible := r.noTime(limited, d) == "" && r.noRoom(d) == ""
	r.mu.Unlock()
	if !possible || !f.batch.Take(j) {
		return false
	}
	f.ended(j.ID())
	return true
}

// ended notes that workers do not have a job any more, and returns its delta, once.
func (f *farmed) ended(id work.ID) (d Delta, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	d, ok = f.open[id]
	delete(f.open, id)
	return d, ok
}

// job returns the job that makes a compact delta.
func (r *run) job(d Delta) work.Job {
	j := work.Job{
		Format: work.Format, Kind: work.Compact, Effort: cmp.Or(r.options.Effort, delta.Default), Index: d.Need.index,
		Target: work.File{Size: d.target.Size, BLAKE3: d.target.BLAKE3}, Limit: int64(worth*float64(d.Rival)) + 1,
	}
	if !d.isFull() {
		j.Base = work.File{Size: d.base.Size, BLAKE3: d.base.BLAKE3}
	}
	return j
}

// collect publishes what the farm makes, until all that was handed over has a result.
func (f *farmed) collect(ctx, limited context.Context) error {
	for {
		res, err := f.batch.Next(limited)
		switch {
		case errors.Is(err, io.EOF) || err != nil && ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			f.leave()
			return nil
		}
		d, ok := f.ended(res.ID())
		if !ok {
			res.Close()
			continue
		}
		if err := f.accept(ctx, limited, res, d); err != nil {
			return fmt.Errorf("compact delta %s: %w", d.File, err)
		}
	}
}

// leave leaves what workers have when the time is over.
func (f *farmed) leave() {
	r := f.run
	f.mu.Lock()
	defer f.mu.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, d := range f.open {
		reason := "the time for compact deltas was over while a worker made it"
		if f.batch.Take(r.job(d)) {
			reason = "the time for compact deltas is over"
		}
		r.leave(reason, d)
		delete(f.open, id)
	}
}

// accept publishes one that a worker has made, if it is right.
func (f *farmed) accept(ctx, limited context.Context, res work.Result, d Delta) error {
	r := f.run
	defer res.Close()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if res.Err != nil {
		r.options.Log.Info("no worker has made the compact delta; making it here", "delta", d.File, "reason", res.Err)
		f.back <- d
		return nil
	}
	if res.Check && limited.Err() != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.leave("the time for compact deltas was over before it was applied", d)
		return nil
	}
	m, err := f.received(ctx, res, d)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, compacts.ErrWrong) || errors.Is(err, compacts.ErrOther):
		f.batch.Checked(res, err)
		r.options.Log.Warn("a worker has made a wrong compact delta; making it here", "delta", d.File, "worker", res.Maker, "reason", err)
		f.back <- d
		return nil
	case isFault(err):
		r.mu.Lock()
		defer r.mu.Unlock()
		r.leaveOut("the compact delta is left out", err, d)
		return nil
	case err != nil:
		return err
	}
	if res.Check {
		f.batch.Checked(res, nil)
	} else {
		m.believed = true
		f.believed = append(f.believed, believed{d, res})
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.begun = true
	r.work.meter.Add(d.Need.work)
	return r.finish(ctx, d, m, 0)
}

// received returns a compact delta that has arrived, which it applies if that was not done.
func (f *farmed) received(ctx context.Context, res work.Result, d Delta) (*made, error) {
	head, err := compact.Open(res.Reader())
	if _, disk := errors.AsType[*fs.PathError](err); disk {
		return nil, err
	} else if err != nil {
		return nil, fmt.Errorf("%w: %w", compacts.ErrWrong, err)
	}
	m := &made{file: res.File, info: head.Info()}
	if m.info.Target != (compact.Object{Size: d.target.Size, BLAKE3: d.target.BLAKE3}) {
		return nil, fmt.Errorf("%w: it makes another target", compacts.ErrOther)
	}
	if m.sums, err = cksum.Read(ctx, res.Reader()); err != nil || !res.Check {
		return m, err
	}
	return m, f.memory.With(ctx, work.ApplyMemory, func() error { return f.run.applyAgain(ctx, m, d) })
}

// applyAgain applies a compact delta that was not made here.
func (r *run) applyAgain(ctx context.Context, m *made, d Delta) error {
	k := r.maker
	k.work = newProgress(Plan{}, Options{}) // that of what is made here is another
	base := &image{close: func() error { return nil }}
	if !d.isFull() {
		var err error
		if base, err = k.openOne(d.Base, d.base); err != nil {
			return err
		}
	}
	return errors.Join(k.apply(ctx, m, d, base), base.close())
}

// judge applies what was published and not applied here, where a worker that made or applied it
// turned out wrong since. What is wrong is withdrawn, and made here. What remains is right.
func (f *farmed) judge(ctx, limited context.Context) error {
	var right []string
	for len(f.believed) > 0 {
		// Each that is wrong may show that another worker was.
		i := max(0, slices.IndexFunc(f.believed, f.isDoubtful))
		b := f.believed[i]
		f.believed = slices.Delete(f.believed, i, i+1)
		if f.isDoubtful(b) {
			ok, err := f.check(ctx, limited, b)
			if err != nil {
				return err
			} else if !ok {
				continue
			}
		}
		right = append(right, b.File)
	}
	if ctx.Err() != nil || len(right) == 0 {
		return ctx.Err()
	}
	return f.run.withLock(ctx, func(l *locked) error { return l.trust(right) })
}

func (f *farmed) isDoubtful(b believed) bool {
	return f.batch.Distrusted(b.result.Maker) || f.batch.Distrusted(b.result.Verifier)
}

// check applies one that is published, and reports whether it is right. One that is wrong it
// withdraws, and makes here.
func (f *farmed) check(ctx, limited context.Context, b believed) (right bool, err error) {
	r := f.run
	err = r.published(ctx, b.Delta)
	switch wrong := errors.Is(err, compacts.ErrWrong) || errors.Is(err, compacts.ErrOther); {
	case err == nil:
		return true, nil
	case ctx.Err() != nil:
		return false, ctx.Err()
	case !wrong && isFault(err):
		return false, nil // the next build applies it
	case !wrong:
		return false, err
	}
	f.batch.Checked(b.result, err)
	r.options.Log.Warn("a published compact delta is wrong; withdrawing it, and making it here", "delta", b.File, "maker", b.result.Maker, "verifier", b.result.Verifier)
	if err := r.withLock(ctx, func(l *locked) error { return l.withdraw(ctx, b.File) }); err != nil {
		return false, err
	}
	r.forget(b.File)
	return false, r.one(ctx, limited, b.Delta)
}

// published applies a compact delta of the mirror.
func (r *run) published(ctx context.Context, d Delta) error {
	file, err := r.maker.mirror.Root.Open(meta.CompactPath(d.File))
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	return r.applyAgain(ctx, &made{file: file, sums: cksum.Sums{Size: info.Size()}}, d)
}

// forget removes the result of one that is made again.
func (r *run) forget(file string) {
	for i, res := range r.results {
		if res.File == file {
			r.results = append(r.results[:i], r.results[i+1:]...)
			return
		}
	}
}
