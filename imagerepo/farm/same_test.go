package farm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"puavo-image-repository/imagerepo"
	"puavo-image-repository/imagerepo/farm/internal/queue"
	"puavo-image-repository/imagerepo/internal/lockfile"
	"puavo-image-repository/imagerepo/internal/work"
	"puavo-image-repository/testdata"
)

// With workers the mirror is that of a run without: whether the builder works too or not, and
// whatever the workers are.
func TestSame(t *testing.T) {
	for name, c := range map[string]struct {
		workers int
		busy    bool // the workers do all
		none    bool // or nothing
		what    part // is built in any case
		options func(*Options)
		worker  func(*WorkerOptions, *place)
	}{
		"no worker":           {},
		"one":                 {workers: 1},
		"three":               {workers: 3},
		"three do all":        {workers: 3, busy: true, what: whole},
		"one does all":        {workers: 1, busy: true},
		"all rechecked":       {workers: 2, busy: true, options: func(o *Options) { o.Recheck = 1 }},
		"over TLS":            {workers: 2, busy: true, options: func(o *Options) { o.Queue = "embedded:0.0.0.0:0" }},
		"shared images":       {workers: 2, busy: true, worker: func(o *WorkerOptions, p *place) { o.Images = p.images }},
		"no shared images":    {workers: 1, busy: true, worker: func(o *WorkerOptions, p *place) { o.Images = filepath.Join(p.images, "gone") }},
		"a cache for two":     {workers: 1, busy: true, worker: func(o *WorkerOptions, _ *place) { o.CacheSize = 800 << 10 }},
		"too small a cache":   {workers: 1, none: true, worker: func(o *WorkerOptions, _ *place) { o.CacheSize = 1 << 10 }},
		"too little memory":   {workers: 1, none: true, worker: func(o *WorkerOptions, _ *place) { o.Memory = 1 << 20 }},
		"another version":     {workers: 1, none: true, worker: func(o *WorkerOptions, _ *place) { o.Version = "other" }},
		"several jobs a time": {workers: 1, busy: true, worker: func(o *WorkerOptions, _ *place) { o.Jobs = 3 }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var options []func(*Options)
			if c.options != nil {
				options = append(options, c.options)
			}
			p := newPlace(t, options...)
			for i := range c.workers {
				p.worker(fmt.Sprint("w", i), func(o *WorkerOptions) {
					if c.worker != nil {
						c.worker(o, p)
					}
				})
			}
			f := imagerepo.Farm(p.farm)
			if c.busy {
				f = p.busy()
			}
			if name == "another version" {
				p.await("a word of what it waits for", func() bool {
					return strings.Contains(p.logged(), `version=other reason="no builder of this version is at work"`)
				})
			} else {
				p.found(c.workers)
			}
			what := c.what || some()
			p.same(f, what)
			if done := p.done(); c.none && done > 0 || c.busy && done < want(t, what).made {
				t.Errorf("%d jobs of %d were done by workers\n%s", done, want(t, what).made, p.logged())
			}
			s := p.farm.State()
			if c.busy && (s.Received == 0 || s.Rechecked == 0 || s.Left != 0) || c.busy != (s.Sent > 0) && !strings.HasPrefix(name, "shared") && c.none {
				t.Errorf("%+v", s)
			}
		})
	}
}

// A worker with another token ends with an error that says so.
func TestOtherToken(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	o := p.options("w0", func(o *WorkerOptions) { o.Token = NewToken() })
	if err := Work(t.Context(), o); !errors.Is(err, queue.ErrRefused) {
		t.Error(err)
	}
	if p.same(p.farm, rdiffs); len(p.farm.Workers()) > 0 {
		t.Errorf("%+v", p.farm.Workers())
	}
}

// A worker leaves a job of another format to others.
func TestOtherFormat(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	later := strings.Replace(string(work.Job{Format: work.Format}.JSON()), `"format":1`, `"format":2`, 1)
	if _, err := p.farm.jobs.Put(t.Context(), queue.Item{ID: "later", Base: strings.Repeat("0", 16), Data: []byte(later)}); err != nil {
		t.Fatal(err)
	}
	p.worker("w0")
	p.await("the job", func() bool { return strings.Contains(p.logged(), "a job that this worker does not know") })
	if p.same(p.busy(), rdiffs); p.done() < want(t, rdiffs).made {
		t.Errorf("%d jobs\n%s", p.done(), p.logged())
	}
}

// A builder with nothing else to do makes the rdiff deltas itself that a worker is slow with.
func TestTakeOver(t *testing.T) {
	t.Parallel()
	p := newPlace(t, func(o *Options) { o.limits.Least = time.Hour })
	p.worker("w0", func(o *WorkerOptions) { o.tamper = hang })
	p.found(1)
	p.same(takingOver{p}, rdiffs)
	if p.done() > 0 {
		t.Errorf("%d jobs\n%s", p.done(), p.logged())
	}
}

// takingOver is a farm whose builder begins nothing itself, and takes over when a worker is at work.
type takingOver struct{ *place }

func (f takingOver) Offer(ctx context.Context, o imagerepo.Offer) (imagerepo.Batch, error) {
	inner, err := f.farm.Offer(ctx, o)
	return &takingOverBatch{Batch: inner, place: f.place}, err
}

type takingOverBatch struct {
	imagerepo.Batch
	*place
	begun sync.Once
}

func (*takingOverBatch) Take(imagerepo.Job) bool { return false }

func (b *takingOverBatch) TakeOver(n int) []imagerepo.Job {
	b.begun.Do(func() { b.await("a job that is begun", func() bool { return b.farm.State().Workers[0].Running > 0 }) })
	return b.Batch.TakeOver(n)
}

// A worker that is asked to end ends its job first, and begins no other one.
func TestDrain(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	ctx, stop := context.WithCancel(t.Context())
	o := p.options("w0", func(o *WorkerOptions) {
		o.tamper = func(*made) { stop(); time.Sleep(500 * time.Millisecond) }
	})
	ended := make(chan error, 1)
	var once sync.Once
	go func() { ended <- Work(ctx, o) }()
	p.found(1)
	p.same(waiting{p.farm, func(work.Kind) bool {
		once.Do(func() {
			if err := <-ended; !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		})
		return true
	}}, rdiffs)
	if p.done() != 1 || strings.Contains(p.logged(), "result=stopped") {
		t.Errorf("%d jobs\n%s", p.done(), p.logged())
	}
}

// A disk that is full where the queue lies changes nothing, whether it is when the builder begins or
// later: the queue is in memory.
func TestFullDisk(t *testing.T) {
	for _, before := range []bool{false, true} {
		disk := testdata.SmallDisk(t, 256<<10)
		fill := func() {
			f, err := os.Create(filepath.Join(disk, "ballast"))
			for err == nil {
				_, err = f.Write(make([]byte, 512))
			}
			if f.Close(); !errors.Is(err, syscall.ENOSPC) {
				t.Fatal(err)
			}
		}
		tmp := os.TempDir()
		t.Setenv("TMPDIR", disk)
		if before {
			fill()
		}
		p := newPlace(t)
		if !before {
			fill()
		}
		t.Setenv("TMPDIR", tmp)
		p.worker("w0")
		p.worker("w1")
		p.found(2)
		if p.same(p.busy(), rdiffs); p.done() < want(t, rdiffs).made {
			t.Errorf("%d jobs\n%s", p.done(), p.logged())
		}
		p.end()
	}
}

// A queue that is full, or that loses what it has, is filled again.
func TestQueueLost(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	lost := false
	p.worker("w0", func(o *WorkerOptions) {
		o.tamper = func(*made) {
			if lost = lost || p.farm.jobs.Delete(t.Context()) == nil; !lost {
				t.Error("the queue cannot be lost")
			}
		}
	})
	p.found(1)
	if p.same(p.busy(), rdiffs); p.done() < want(t, rdiffs).made || !strings.Contains(p.logged(), "the queue was lost") {
		t.Errorf("%d jobs\n%s", p.done(), p.logged())
	}
}

// One builder at a time has the workers of a mirror, and no password gets into what it says.
func TestOpen(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	o := Options{Queue: "embedded:127.0.0.1:0", Token: NewToken(), Version: "test", Dir: dir}
	f, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), o); !errors.Is(err, lockfile.ErrHeld) {
		t.Errorf("a second builder: %v", err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if f, err = Open(t.Context(), o); err != nil {
		t.Fatalf("after the first: %v", err)
	}
	defer f.Close()
	o.Queue, o.Dir = strings.Replace(f.Address(), "://", "://user:secret@", 1), ""
	other, err := Open(t.Context(), o)
	if err == nil {
		defer other.Close()
		err = errors.New(other.Address())
	}
	if strings.Contains(err.Error(), "secret") {
		t.Error(err)
	}
}

// There is one batch at a time, of a mirror that can be read, and none when ctx has ended.
func TestOffer(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	mirror := t.TempDir()
	if _, err := p.farm.Offer(t.Context(), work.Offer{Mirror: filepath.Join(mirror, "gone")}); err == nil {
		t.Error("a mirror that is not there")
	}
	b, err := p.farm.Offer(t.Context(), work.Offer{Mirror: mirror})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.farm.Offer(t.Context(), work.Offer{Mirror: mirror}); err == nil {
		t.Error("two batches")
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.farm.Offer(ctx, work.Offer{Mirror: mirror}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	images := images(t)
	if _, err := build(ctx, images, filepath.Join(t.TempDir(), "mirror"), p.farm, rdiffs, slog.New(slog.DiscardHandler)); !errors.Is(err, context.Canceled) {
		t.Errorf("a build: %v", err)
	}
}
