// Package meter counts the work that is done, for progress, and says what is worked on.
//
// Work is counted in units that take about equally long, so that the time left can be
// estimated from the work done: a byte of each kind of work has its cost in units. The costs are
// those of a processor with instructions for SHA; on others a digest costs more.
package meter

import (
	"context"
	"io"
	"slices"
	"sync"
	"sync/atomic"
)

// The costs of a byte, from runs over images of 1.3 to 1.6 GB. Those of copying, comparing,
// signing, indexing and pieces are estimates.
const (
	Compare = 2  // its fastest digest
	Copy    = 6  // it is read and written
	Digest  = 12 // all digests
	Pieces  = 7  // the SHA-1 of pieces, and its fastest digest
	Index   = 2  // of a base
	Sign    = 10 // a signature
	Diff    = 9  // of a target
	Verify  = 3  // a delta is applied while it is made, and what it makes compared
	Apply   = 5  // a delta is applied, and what it makes has its fastest digest made
)

// Step is what is worked on.
type Step struct {
	Stage string // such as image_read
	File  string // by its path in the mirror
}

// Meter counts work of one cost. It can be used concurrently.
type Meter struct {
	work *work
	cost int64 // units
}

// work is what the meters of a run count together.
type work struct {
	done, total atomic.Int64 // units
	progress    func(done, total int64)
	tell        func(Step)

	mu    sync.Mutex // held while tell is called, so that it is told in this order
	steps []*Step    // those that were begun and have not ended, the latest last
}

// New returns a meter for total units of work, each of which costs one. progress, which may
// be nil, is called with each change, in units, from whichever goroutine made it.
func New(total int64, progress func(done, total int64)) *Meter {
	m := &Meter{&work{progress: progress}, 1}
	m.work.total.Store(total)
	return m
}

// Tell has tell called with the step that is worked on whenever that changes, one call at a time: of
// several steps at once, the one that was begun last. It must be called before the first Begin.
func (m *Meter) Tell(tell func(Step)) { m.work.tell = tell }

// At returns the meter of the same work for bytes of this cost.
func (m *Meter) At(cost int64) *Meter { return &Meter{m.work, cost} }

// Add counts n bytes of work.
func (m *Meter) Add(n int64) {
	done := m.work.done.Add(n * m.cost)
	if m.work.progress != nil {
		total := m.work.total.Load()
		m.work.progress(min(done, total), total)
	}
}

// Expect adds n bytes to the work that is expected, or, of a negative n, leaves them out.
func (m *Meter) Expect(n int64) { m.work.total.Add(n * m.cost) }

// Done returns how much work is done, in units.
func (m *Meter) Done() int64 { return m.work.done.Load() }

// Begin says that the work on a file begins. The caller calls end when it has ended.
func (m *Meter) Begin(stage, file string) (end func()) {
	w, s := m.work, &Step{stage, file}
	w.change(func() { w.steps = append(w.steps, s) })
	return func() {
		w.change(func() { w.steps = slices.DeleteFunc(w.steps, func(other *Step) bool { return other == s }) })
	}
}

// change changes the steps, and reports the latest if it changed.
func (w *work) change(steps func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	before := w.latest()
	steps()
	if now := w.latest(); now != nil && now != before && w.tell != nil {
		w.tell(*now)
	}
}

func (w *work) latest() *Step {
	if len(w.steps) == 0 {
		return nil
	}
	return w.steps[len(w.steps)-1]
}

// Reader returns a reader of r that counts what is read, and ends with ctx.
func (m *Meter) Reader(ctx context.Context, r io.Reader) io.Reader { return &reader{ctx, r, m} }

// Writer returns a writer to w that counts what is written.
func (m *Meter) Writer(w io.Writer) io.Writer { return &writer{w, m} }

type reader struct {
	ctx context.Context
	r   io.Reader
	*Meter
}

func (r *reader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := r.r.Read(p)
	r.Add(int64(n))
	return n, err
}

type writer struct {
	w io.Writer
	*Meter
}

func (w *writer) Write(p []byte) (int, error) {
	n, err := w.w.Write(p)
	w.Add(int64(n))
	return n, err
}
