package farm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"puavo-image-repository/imagerepo/farm/internal/queue"
	"puavo-image-repository/imagerepo/internal/work"
	"puavo-image-repository/imagerepo/serve"
)

// batch is what is in work.
type batch struct {
	farm   *Farm
	mirror *serve.Handler

	mu      sync.Mutex
	closed  bool
	jobs    map[work.ID]work.Item
	checks  map[work.ID]*verifying // of those of kind Verify
	left    int                    // jobs of the offer that were neither taken nor have a result
	results []work.Result
	changed chan struct{} // closed, and replaced, when left or results have changed

	// What the queue has, and what it must have.
	numbers  map[work.ID]uint64 // there
	attempts map[work.ID]int    // how often it was put there
	open     []work.ID          // to be put there
	surplus  []uint64           // to be removed there
}

// verifying is a compact delta that another worker applies.
type verifying struct {
	result work.Result
	back   func() // ends that it is served
}

// Offer hands jobs over, see package work. There is one batch at a time.
func (f *Farm) Offer(ctx context.Context, o work.Offer) (work.Batch, error) {
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	h, err := serve.Open(o.Mirror)
	if err != nil {
		return nil, err
	}
	b := &batch{
		farm: f, mirror: h, jobs: make(map[work.ID]work.Item), checks: make(map[work.ID]*verifying),
		changed: make(chan struct{}), numbers: make(map[work.ID]uint64), attempts: make(map[work.ID]int),
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.batch != nil {
		return nil, errors.Join(errors.New("the farm has a batch already"), h.Close())
	}
	f.store.Begin(h, o.Files, o.Scratch)
	now := time.Now()
	for _, it := range o.Jobs {
		id := it.ID()
		if _, twice := b.jobs[id]; twice {
			continue
		}
		b.jobs[id] = it
		b.left++
		f.board.Add(now, id, it)
		b.open = append(b.open, id)
	}
	f.batch = b
	f.wakeUp()
	return b, nil
}

// Close ends the batch.
func (b *batch) Close() error {
	f := b.farm
	f.mu.Lock()
	f.batch = nil
	f.mu.Unlock()
	f.board.Clear()
	f.store.End()
	b.mu.Lock()
	b.closed = true
	for _, r := range b.results {
		r.Close()
	}
	for _, v := range b.checks {
		v.result.Close()
	}
	b.results, b.checks = nil, nil
	b.mu.Unlock()
	if f.conn.Connected() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := f.jobs.Clear(ctx); err != nil {
			f.options.Log.Debug("the queue keeps jobs, which workers find out not to be wanted", "reason", err)
		}
	}
	return b.mirror.Close()
}

// put has jobs put into the queue.
func (b *batch) put(ids ...work.ID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, id := range ids {
		if _, ours := b.jobs[id]; ours && !slices.Contains(b.open, id) {
			b.open = append(b.open, id)
		}
	}
	b.farm.wakeUp()
}

// settle changes the queue to what it must have. What fails is left for the next time. One
// goroutine calls it.
func (b *batch) settle(ctx context.Context) {
	for b.farm.conn.Connected() && ctx.Err() == nil {
		b.mu.Lock()
		var err error
		switch {
		case b.closed: // by now the queue is empty, or will be
			b.mu.Unlock()
			return
		case len(b.surplus) > 0:
			number := b.surplus[0]
			b.mu.Unlock()
			if err = b.farm.jobs.Remove(ctx, number); err == nil {
				b.settled(func() { b.surplus = slices.DeleteFunc(b.surplus, func(n uint64) bool { return n == number }) })
			}
		case len(b.open) > 0:
			id := b.open[0]
			it := b.jobs[id]
			b.attempts[id]++
			key := fmt.Sprintf("%s.%d", id, b.attempts[id])
			b.drop(id)
			b.mu.Unlock()
			err = b.send(ctx, key, it)
		default:
			b.mu.Unlock()
			return
		}
		if err != nil {
			b.farm.options.Log.Debug("the queue cannot be changed", "reason", err)
			return
		}
	}
}

func (b *batch) settled(change func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	change()
}

// drop has a job taken out of the queue. The caller holds the mutex.
func (b *batch) drop(id work.ID) {
	if number := b.numbers[id]; number > 0 {
		b.surplus = append(b.surplus, number)
		delete(b.numbers, id)
	}
}

// send puts a job into the queue.
func (b *batch) send(ctx context.Context, key string, it work.Item) error {
	id := it.ID()
	number, err := b.farm.jobs.Put(ctx, queue.Item{
		ID: key, Urgent: it.Kind == work.Verify, Base: it.Base.BLAKE3.String(), Memory: it.Memory(1), Not: b.farm.board.Not(id), Data: it.JSON(),
	})
	if err != nil {
		return err
	}
	closed := false
	b.settled(func() {
		closed = b.closed
		b.numbers[id] = number
		if !slices.Contains(b.open, id) { // it was taken meanwhile
			b.drop(id)
		}
		b.unopen(id)
	})
	if closed { // Close may have emptied the queue before
		return b.farm.jobs.Remove(ctx, number)
	}
	return nil
}

// unopen has a job not put into the queue. The caller holds the mutex.
func (b *batch) unopen(id work.ID) {
	b.open = slices.DeleteFunc(b.open, func(other work.ID) bool { return other == id })
}

// ended has a job taken out of the queue that has ended. Its worker may not have done that yet, or
// another one may have it.
func (b *batch) ended(id work.ID) {
	b.settled(func() {
		b.unopen(id)
		b.drop(id)
	})
	b.farm.wakeUp()
}

// lost says that the queue was lost, so that all must be put there that waits.
func (b *batch) lost() {
	b.settled(func() {
		clear(b.numbers)
		b.surplus = nil
	})
	b.put(b.farm.board.Open()...)
}

// Take takes a job back.
func (b *batch) Take(j work.Job) bool {
	id := j.ID()
	if !b.farm.board.Take(id) {
		return false
	}
	b.taken(id)
	return true
}

// TakeOver takes jobs back that workers may have begun.
func (b *batch) TakeOver(n int) (jobs []work.Job) {
	for _, id := range b.farm.board.TakeOver(n) {
		b.farm.store.Forget(id)
		jobs = append(jobs, b.taken(id))
	}
	return jobs
}

// taken notes that a job was taken back.
func (b *batch) taken(id work.ID) work.Job {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.unopen(id)
	b.drop(id) // a worker that gets it nevertheless is stopped
	b.left--
	b.note()
	b.farm.wakeUp()
	return b.jobs[id].Job
}

// Idle has jobs come back that no worker begins.
func (b *batch) Idle() { b.farm.board.Idle(time.Now()) }

// note wakes up who waits for a result. The caller holds the mutex.
func (b *batch) note() {
	close(b.changed)
	b.changed = make(chan struct{})
}

// Next returns the next result.
func (b *batch) Next(ctx context.Context) (work.Result, error) {
	for {
		b.mu.Lock()
		left, changed := b.left, b.changed
		if len(b.results) > 0 {
			r := b.results[0]
			b.results = b.results[1:]
			b.mu.Unlock()
			return b.trusted(r), nil
		}
		b.mu.Unlock()
		if left == 0 {
			return work.Result{}, io.EOF
		}
		select {
		case <-ctx.Done():
			return work.Result{}, ctx.Err()
		case <-changed:
		}
	}
}

// trusted returns the result, or where its maker turned out wrong since, that it must be made
// again; where its verifier did, that it must be checked.
func (b *batch) trusted(r work.Result) work.Result {
	switch {
	case r.Err != nil:
	case b.Distrusted(r.Maker):
		r.Close()
		return work.Result{Job: r.Job, Err: fmt.Errorf("%s made it, and was wrong", r.Maker)}
	case b.Distrusted(r.Verifier):
		r.Verifier, r.Check = "", true
	}
	return r
}

// deliver has Next return a result.
func (b *batch) deliver(r work.Result) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		r.Close()
		return
	}
	b.results = append(b.results, r)
	b.left--
	b.note()
}

// Distrusted reports whether a worker was wrong.
func (b *batch) Distrusted(worker string) bool { return worker != "" && b.farm.board.Barred(worker) }

// Checked says what came of applying a result here.
func (b *batch) Checked(r work.Result, wrong error) {
	b.farm.rechecked.Add(1)
	switch {
	case wrong == nil && r.Accuser != "":
		b.bar(r.Accuser, "it said that a right delta is wrong")
	case wrong != nil:
		b.bar(r.Maker, "it made a wrong delta")
		if r.Verifier != "" {
			b.bar(r.Verifier, "it said that a wrong delta is right")
		}
	}
}

func (b *batch) bar(worker, reason string) {
	b.farm.options.Log.Warn("the worker gets no more jobs", "worker", worker, "reason", reason)
	b.act(b.farm.board.Bar(time.Now(), worker, reason))
}

// isRechecked reports whether the builder also applies a delta that a worker has applied. No worker
// can know it before.
func (b *batch) isRechecked() bool { return rand.Float64() < b.farm.options.Recheck }
