package compactdelta

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"golang.org/x/sync/semaphore"

	"puavo-image-repository/cksum"
	"puavo-image-repository/delta"
	"puavo-image-repository/delta/compact"
	"puavo-image-repository/imagerepo/internal/compacts"
	"puavo-image-repository/imagerepo/internal/work"
	"puavo-image-repository/meta"
)

// farmed is what a farm does for a run.
type farmed struct {
	run    *run
	batch  work.Batch
	handed map[work.ID]string // the files that were handed over
	open   map[work.ID]Delta  // those that have no result
	left   []Delta            // to be made here, after all
	// memory has the bytes for what is made and applied here at the same time, most in all.
	memory *semaphore.Weighted
	most   int64
	// believed are those that were published and not applied here.
	believed []believed
}

type believed struct {
	Delta
	result work.Result // closed
}

// makeWithFarm makes compact deltas here and on a farm. What a farm cannot do is done here.
func (r *run) makeWithFarm(ctx, limited context.Context, open []Delta) error {
	most := limitsOf(r.options, 0).memory
	f := &farmed{run: r, handed: make(map[work.ID]string), open: make(map[work.ID]Delta), memory: semaphore.NewWeighted(most), most: most}
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
	here := func(ctx context.Context) error {
		for _, d := range open {
			if j := r.job(d); f.handed[j.ID()] == d.File && !f.batch.Take(j) {
				continue
			}
			if err := f.within(ctx, d.Need.Memory, func() error { return r.one(ctx, limited, d) }); err != nil {
				return err
			}
		}
		return nil
	}
	there := func(ctx context.Context) error { return f.collect(ctx, limited) }
	err = work.Share(ctx, f.batch, here, there)
	if judged := f.judge(ctx, limited); err == nil {
		err = judged
	}
	if err != nil {
		return err
	}
	return r.makeHere(ctx, limited, f.left)
}

// within does something that takes so much memory, when there is as much.
func (f *farmed) within(ctx context.Context, memory int64, do func() error) error {
	memory = min(memory, f.most)
	if err := f.memory.Acquire(ctx, memory); err != nil {
		return err
	}
	defer f.memory.Release(memory)
	return do()
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
	r := f.run
	for {
		res, err := f.batch.Next(limited)
		switch {
		case errors.Is(err, io.EOF):
			return ctx.Err()
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil: // the time is over
			r.mu.Lock()
			defer r.mu.Unlock()
			for _, d := range f.open {
				if f.batch.Take(r.job(d)) {
					r.leave("the time for compact deltas was over", d)
				} else if len(r.without([]Delta{d})) > 0 && d.File != r.work.current() {
					r.leave("the time for compact deltas was over while a worker made it", d)
				}
			}
			return nil
		}
		d, ok := f.open[res.ID()]
		delete(f.open, res.ID())
		if !ok {
			res.Close()
			continue
		}
		if err := f.accept(ctx, res, d); err != nil {
			return fmt.Errorf("compact delta %s: %w", d.File, err)
		}
	}
}

// accept publishes one that a worker has made, if it is right.
func (f *farmed) accept(ctx context.Context, res work.Result, d Delta) error {
	r := f.run
	defer res.Close()
	if res.Err != nil {
		r.options.Log.Info("no worker has made the compact delta; making it here", "delta", d.File, "reason", res.Err)
		f.left = append(f.left, d)
		return nil
	}
	m, err := f.received(ctx, res, d)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, compacts.ErrWrong) || errors.Is(err, compacts.ErrOther):
		f.batch.Checked(res, err)
		r.options.Log.Warn("a worker has made a wrong compact delta; making it here", "delta", d.File, "worker", res.Maker, "reason", err)
		f.left = append(f.left, d)
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
	return m, f.within(ctx, work.ApplyMemory, func() error { return f.run.applyAgain(ctx, m, d) })
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
// turned out wrong since. What is wrong is withdrawn, and made here.
func (f *farmed) judge(ctx, limited context.Context) error {
	r := f.run
	for _, b := range f.believed {
		if !f.batch.Distrusted(b.result.Maker) && !f.batch.Distrusted(b.result.Verifier) {
			continue
		}
		err := r.published(ctx, b.Delta)
		if !errors.Is(err, compacts.ErrWrong) && !errors.Is(err, compacts.ErrOther) {
			if err != nil && !isFault(err) {
				return err
			}
			continue
		}
		f.batch.Checked(b.result, err)
		r.options.Log.Warn("a published compact delta is wrong; withdrawing it, and making it here", "delta", b.File, "maker", b.result.Maker, "verifier", b.result.Verifier)
		if err := r.withLock(ctx, func(l *locked) error { return l.withdraw(ctx, b.File) }); err != nil {
			return err
		}
		r.forget(b.File)
		if err := r.one(ctx, limited, b.Delta); err != nil {
			return err
		}
	}
	return ctx.Err()
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
