package farm

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"puavo-image-repository/imagerepo"
	"puavo-image-repository/imagerepo/farm/internal/board"
	"puavo-image-repository/imagerepo/farm/internal/queue"
	"puavo-image-repository/imagerepo/internal/work"
)

// offer offers jobs, and waits until the queue has them.
func (p *place) offer(jobs ...work.Job) *batch {
	p.t.Helper()
	o := work.Offer{Mirror: p.t.TempDir()}
	for _, j := range jobs {
		o.Jobs = append(o.Jobs, work.Item{Job: j, Seconds: 1})
	}
	b, err := p.farm.Offer(p.t.Context(), o)
	if err != nil {
		p.t.Fatal(err)
	}
	p.await("a full queue", func() bool { return b.(*batch).queued() == len(jobs) })
	return b.(*batch)
}

// queued returns how many jobs the queue has, -1 while that changes.
func (b *batch) queued() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.open)+len(b.surplus) > 0 {
		return -1
	}
	return len(b.numbers)
}

// A job leaves the queue when it has ended, however that was, and not when another worker must do
// it.
func TestEnded(t *testing.T) {
	j := sample(work.RDiff, 1, 1<<20)
	for name, c := range map[string]struct {
		end  func(b *batch)
		left int
	}{
		"too large":           {func(b *batch) { b.report(report{Worker: "w0", Job: j.ID(), TooLarge: true}) }, 0},
		"comes back":          {func(b *batch) { b.act(board.Actions{Back: []board.Back{{ID: j.ID()}}}) }, 0},
		"taken over":          {func(b *batch) { b.TakeOver(1) }, 0},
		"failed":              {func(b *batch) { b.report(report{Worker: "w0", Job: j.ID(), Error: "no luck"}) }, 1},
		"of another":          {func(b *batch) { b.report(report{Worker: "w1", Job: j.ID(), TooLarge: true}) }, 1},
		"to be put there too": {func(b *batch) { b.put(j.ID()); b.report(report{Worker: "w0", Job: j.ID(), TooLarge: true}) }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t)
			b := p.offer(j)
			defer b.Close()
			w, other := p.begun("w0"), p.begun("w1")
			task, err := w.next(t.Context(), t.Context())
			if err != nil || w.checkIn(t.Context()) != nil {
				t.Fatal(err)
			}
			c.end(b)
			p.await("the queue", func() bool { return b.queued() == c.left })
			task.message.Back(0) // what the worker says after that brings no job back
			got := 0
			for range 2 {
				other.empty = other.empty.AddDate(-1, 0, 0)
				if _, err := other.next(t.Context(), t.Context()); err == nil {
					got++
				} else if !errors.Is(err, queue.ErrEmpty) {
					t.Error(err)
				}
			}
			if got != c.left {
				t.Errorf("another worker gets %d jobs, want %d", got, c.left)
			}
		})
	}
}

// When all jobs of a batch have ended, the queue is empty, before it is cleared.
func TestQueueEmpties(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	for i := range 2 {
		p.worker(fmt.Sprint("w", i))
	}
	p.found(2)
	p.same(emptying{p.busy(), p}, some())
}

// emptying is a farm of which the queue is empty when its batches end.
type emptying struct {
	imagerepo.Farm
	*place
}

func (e emptying) Offer(ctx context.Context, o imagerepo.Offer) (imagerepo.Batch, error) {
	b, err := e.Farm.Offer(ctx, o)
	return emptyingBatch{b, e.place}, err
}

type emptyingBatch struct {
	imagerepo.Batch
	*place
}

func (e emptyingBatch) Close() error {
	b := e.farm.current()
	e.await("an empty queue", func() bool { return b.queued() == 0 })
	return e.Batch.Close()
}

// What is still to be put into the queue when the batch is closed, or is on its way there, does not
// stay there.
func TestClosed(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	j := sample(work.RDiff, 1, 1<<20)
	b := p.offer(j)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	w := p.begun("w0")
	for name, do := range map[string]func() error{
		"to be put": func() error {
			b.settled(func() { b.open = []work.ID{j.ID()} })
			if b.settle(t.Context()); b.attempts[j.ID()] != 1 {
				t.Errorf("the job was put %d times", b.attempts[j.ID()])
			}
			return nil
		},
		"on its way": func() error { return b.send(t.Context(), "late", work.Item{Job: j}) },
	} {
		if err := do(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := w.conn.Next(t.Context(), "w0", 1<<40, w.cache.Holds); !errors.Is(err, queue.ErrEmpty) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
