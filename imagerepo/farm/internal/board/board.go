// Package board is what the builder knows of its jobs and workers: who works on what, since when,
// and what must be done about it. It sends nothing, and knows the time by its arguments.
//
//	waiting --a worker lists it--> working --its result, or TakeOver--> ended
//	 ^  |  |                          |
//	 |  |  +--Take--> ended           | fails, is slow, is no longer listed
//	 |  |                             v
//	 |  |       +--- no --- did three workers try it? --- yes --> back
//	 +--|-------+
//	    +--nobody begins it, and the builder is idle--> back
//
// The time of a job stands still while its worker fetches images: a link may be slow, and the worker
// not. Fetching has a limit of its own, by the bytes of the images.
//
// A job that comes back has ended here: whoever offered it does it. A job to verify also comes
// back when no worker is left that may do it.
package board

import (
	"bytes"
	"cmp"
	"maps"
	"slices"
	"sync"
	"time"

	"puavo-image-repository/imagerepo/internal/work"
)

type state int

const (
	waiting state = iota
	working
	ended
)

type entry struct {
	state   state
	item    work.Item
	since   time.Time     // it waits, or its worker has it
	heard   time.Time     // its worker has listed it
	waits   bool          // for images, as its worker said then
	fetched time.Duration // of the time in which it waited for images
	worker  string
	not     []string // workers that may not do it
	reasons []string // of those that tried it
}

// Worker is what is known of a worker.
type Worker struct {
	Name    string    `json:"worker"`
	Done    int       `json:"done"`
	Failed  int       `json:"failed"`
	Running int       `json:"running"`
	Seconds float64   `json:"seconds"` // that its jobs took in all, with fetching
	Barred  string    `json:"barred,omitempty"`
	Gone    bool      `json:"gone,omitempty"`
	Heard   time.Time `json:"heard"`
}

// Board can be used concurrently.
type Board struct {
	limits Limits

	mu      sync.Mutex
	jobs    map[work.ID]*entry
	workers map[string]*Worker
	idle    bool
	ratio   float64 // of the time that jobs took to that they were expected to take
}

// New returns an empty board.
func New(l Limits) *Board {
	return &Board{limits: l, jobs: make(map[work.ID]*entry), workers: make(map[string]*Worker), ratio: 1}
}

// Clear forgets the jobs.
func (b *Board) Clear() {
	b.mu.Lock()
	defer b.mu.Unlock()
	clear(b.jobs)
	b.idle = false
}

// Add adds a job, which some workers may not do.
func (b *Board) Add(now time.Time, id work.ID, it work.Item, not ...string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.jobs[id] = &entry{item: it, since: now, not: not}
}

// Idle says that the builder has nothing else to do: jobs that nobody begins come back.
func (b *Board) Idle(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.idle {
		return
	}
	b.idle = true
	for _, e := range b.jobs {
		if e.state == waiting {
			e.since = now
		}
	}
}

// Take ends a job that no worker has begun, and reports whether there was one.
func (b *Board) Take(id work.ID) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.jobs[id]
	if e == nil || e.state != waiting {
		return false
	}
	e.state = ended
	return true
}

// TakeOver ends up to n jobs of kind work.RDiff, and returns them: first those that no worker has
// begun, then those that were begun last.
func (b *Board) TakeOver(n int) (ids []work.ID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for id, e := range b.jobs {
		if e.item.Kind == work.RDiff && e.state != ended {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, func(a, c work.ID) int {
		x, y := b.jobs[a], b.jobs[c]
		return cmp.Or(cmp.Compare(x.state, y.state), y.since.Compare(x.since), bytes.Compare(a[:], c[:]))
	})
	ids = ids[:min(n, len(ids))]
	for _, id := range ids {
		b.jobs[id].state = ended
	}
	return ids
}

// Not returns the workers that may not do a job.
func (b *Board) Not(id work.ID) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if e := b.jobs[id]; e != nil {
		return slices.Clone(e.not)
	}
	return nil
}

// worker returns a worker, which is heard of now.
func (b *Board) worker(now time.Time, name string) *Worker {
	w := b.workers[name]
	if w == nil {
		w = &Worker{Name: name}
		b.workers[name] = w
	}
	w.Heard, w.Gone = now, false
	return w
}

// Heard notes what a worker works on, and for which of these jobs it still fetches images. It returns
// the jobs that the worker must stop, and whether it gets no more.
func (b *Board) Heard(now time.Time, worker string, running, fetching []work.ID) (stop []work.ID, barred bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	w := b.worker(now, worker)
	w.Running = 0
	waits := make(map[work.ID]bool)
	for _, id := range fetching {
		waits[id] = true
	}
	for _, id := range running {
		if !b.may(now, w, id) {
			stop = append(stop, id)
			continue
		}
		w.Running++
		b.jobs[id].listed(now, waits[id])
	}
	return stop, w.Barred != ""
}

// may reports whether a worker may work on a job, which it has from then on.
func (b *Board) may(now time.Time, w *Worker, id work.ID) bool {
	e := b.jobs[id]
	switch {
	case e == nil || e.state == ended || w.Barred != "":
		return false
	case e.state == working && e.worker != w.Name:
		return false
	case e.state == waiting && slices.Contains(e.not, w.Name):
		return false
	case e.state == waiting:
		e.state, e.worker, e.since, e.heard, e.waits, e.fetched = working, w.Name, now, now, false, 0
	}
	return true
}

// Has reports whether a worker has a job.
func (b *Board) Has(id work.ID, worker string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.jobs[id]
	return e != nil && e.state == working && e.worker == worker
}

// End ends a job of which its worker has sent the result, and reports whether it had it.
func (b *Board) End(now time.Time, id work.ID, worker string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.jobs[id]
	if e == nil || e.state != working || e.worker != worker {
		return false
	}
	e.state = ended
	w := b.worker(now, worker)
	took := now.Sub(e.since)
	w.Done++
	w.Seconds += took.Seconds()
	if e.item.Seconds > 0 { // since it was listed last it was worked on, whatever it waited for then
		b.ratio = 0.8*b.ratio + 0.2*min((took-e.fetched).Seconds()/e.item.Seconds, 100)
	}
	return true
}

// Back is a job that comes back, with what those who tried it said.
type Back struct {
	ID      work.ID
	Reasons []string
}

// Again is a job that another worker must do, and why.
type Again struct {
	ID             work.ID
	Worker, Reason string
}

// Actions are what must be done.
type Actions struct {
	Again []Again // put into the queue again
	Back  []Back  // done by whoever offered them
}

// Fail notes that a worker cannot do a job.
func (b *Board) Fail(now time.Time, id work.ID, worker, reason string) (a Actions) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if e := b.jobs[id]; e != nil && e.state == working && e.worker == worker {
		b.worker(now, worker)
		b.fail(now, id, e, reason, &a)
	}
	return a
}

func (b *Board) fail(now time.Time, id work.ID, e *entry, reason string, a *Actions) {
	if w := b.workers[e.worker]; w != nil {
		w.Failed++
	}
	e.not, e.reasons = append(e.not, e.worker), append(e.reasons, e.worker+": "+reason)
	if len(e.reasons) >= b.limits.Workers {
		e.state = ended
		a.Back = append(a.Back, Back{id, e.reasons})
		return
	}
	a.Again = append(a.Again, Again{id, e.worker, reason})
	e.state, e.worker, e.since = waiting, "", now
}

// Bar gives a worker no more jobs, and takes those that it has.
func (b *Board) Bar(now time.Time, worker, reason string) (a Actions) {
	b.mu.Lock()
	defer b.mu.Unlock()
	w := b.workers[worker]
	if w == nil {
		w = &Worker{Name: worker, Heard: now}
		b.workers[worker] = w
	}
	if w.Barred == "" {
		w.Barred = reason
	}
	for id, e := range b.jobs {
		if e.state == working && e.worker == worker {
			b.fail(now, id, e, "it is not trusted any more", &a)
		}
	}
	return a
}

// Barred reports whether a worker gets no more jobs.
func (b *Board) Barred(worker string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	w := b.workers[worker]
	return w != nil && w.Barred != ""
}

// Open returns the jobs that wait for a worker.
func (b *Board) Open() (ids []work.ID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for id, e := range b.jobs {
		if e.state == waiting {
			ids = append(ids, id)
		}
	}
	return ids
}

// Others reports whether workers but this one can do jobs.
func (b *Board) Others(worker string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.others(worker)
}

func (b *Board) others(not ...string) bool {
	for _, w := range b.workers {
		if !w.Gone && w.Barred == "" && !slices.Contains(not, w.Name) {
			return true
		}
	}
	return false
}

// Workers returns what is known of the workers, by name.
func (b *Board) Workers() (all []Worker) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(b.workers)) {
		all = append(all, *b.workers[name])
	}
	return all
}

// Left returns how many jobs are not ended, and the seconds that they are expected to take one
// core.
func (b *Board) Left() (jobs int, seconds float64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range b.jobs {
		if e.state != ended {
			jobs++
			seconds += e.item.Seconds * b.ratio
		}
	}
	return jobs, seconds
}
