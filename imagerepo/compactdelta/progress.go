package compactdelta

import (
	"sync"
	"time"

	"puavo-image-repository/imagerepo/internal/meter"
)

// progress is that of a run, in the units of Need.work. One that is made here counts as it gets on,
// and one that a farm makes when it is done.
type progress struct {
	meter *meter.Meter

	mu   sync.Mutex // guards what follows
	file string     // that is made
	of   int64      // the work for it
	done int64      // of that
}

// encoding is the part of the work that encoding is; the rest is decoding.
const encoding = 0.9

func newProgress(p Plan, o Options) *progress {
	var total int64
	for _, d := range p.Deltas {
		if d.Need != nil {
			total += d.Need.work
		}
	}
	w := &progress{meter: meter.New(total, o.Progress)}
	w.meter.Tell(func(s meter.Step) {
		if o.Stage != nil {
			o.Stage(s.Stage, s.File)
		}
	})
	return w
}

// making says that one is encoded. Of that nothing can be counted, so the progress is that of
// the expected time, and waits when that is over. The caller calls end when it is encoded.
func (w *progress) making(d Delta) (end func()) {
	w.mu.Lock()
	w.file, w.of, w.done = d.File, d.Need.work, 0
	w.mu.Unlock()
	ended := w.meter.Begin("compact_make", d.path())
	stop, all := make(chan struct{}), int64(encoding*float64(d.Need.work))
	var waiting sync.WaitGroup
	waiting.Go(func() { // concurrently with Encode, which takes minutes
		tick := time.NewTicker(500 * time.Millisecond)
		defer tick.Stop()
		begin := time.Now()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				part := min(time.Since(begin).Seconds()/(encoding*d.Need.Seconds), 1)
				w.reach(int64(part * float64(all)))
			}
		}
	})
	return func() {
		close(stop)
		waiting.Wait()
		w.reach(all)
		ended()
	}
}

// checking says that one is applied.
func (w *progress) checking(d Delta) (end func()) { return w.meter.Begin("compact_check", d.path()) }

// checked says that n bytes of its target were made.
func (w *progress) checked(d Delta, n int64) {
	part := encoding + (1-encoding)*float64(n)/float64(d.target.Size)
	w.reach(int64(part * float64(d.Need.work)))
}

// publishing says that one is published; all other work on it is done.
func (w *progress) publishing(d Delta) (end func()) {
	w.reach(d.Need.work)
	return w.meter.Begin("compact_publish", d.path())
}

// reach counts the work on the one that is made up to n units.
func (w *progress) reach(n int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if n = min(n, w.of); n > w.done {
		w.meter.Add(n - w.done)
		w.done = n
	}
}

// skip leaves out what is left of the work on one.
func (w *progress) skip(d Delta) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if d.File == w.file {
		w.meter.Expect(w.done - w.of)
		return
	}
	w.meter.Expect(-d.Need.work)
}
