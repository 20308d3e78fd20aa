package farm

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"puavo-image-repository/delta"
	"puavo-image-repository/imagerepo/farm/internal/queue"
	"puavo-image-repository/imagerepo/internal/work"
)

// begun returns a worker that has found the builder and does nothing by itself.
func (p *place) begun(name string, change ...func(*WorkerOptions)) *worker {
	p.t.Helper()
	w, err := newWorker(p.options(name, change...))
	if err != nil {
		p.t.Fatal(err)
	}
	p.ends = append(p.ends, w.close)
	p.await("the builder", func() bool { return w.checkIn(p.t.Context()) == nil })
	return w
}

// sample returns one of several jobs.
func sample(kind work.Kind, n byte, index int64) work.Job {
	j := work.Job{Format: work.Format, Kind: kind, Base: work.File{Size: 10}, Target: work.File{Size: 20}, Effort: delta.Fast, Index: index, Limit: 9}
	j.Base.BLAKE3[0], j.Target.BLAKE3[0] = n, n
	return j
}

// putJobs puts jobs into the queue.
func (p *place) putJobs(jobs ...work.Job) {
	p.t.Helper()
	for _, j := range jobs {
		it := queue.Item{ID: j.ID().String(), Base: j.Base.BLAKE3.String(), Memory: j.Memory(1), Data: j.JSON()}
		if _, err := p.farm.jobs.Put(p.t.Context(), it); err != nil {
			p.t.Fatal(err)
		}
	}
}

// However many look for a job at a time, a worker takes no more than fit into its memory; the others
// find none, and leave what they cannot do to other workers.
func TestMemory(t *testing.T) {
	t.Parallel()
	const slots, fit = 16, 3
	p := newPlace(t)
	var jobs []work.Job
	for n := range byte(slots) {
		jobs = append(jobs, sample(work.Compact, n, 512<<20))
	}
	p.putJobs(jobs...)
	w := p.begun("w0", func(o *WorkerOptions) { o.Jobs, o.Memory = slots, fit*jobs[0].Memory(1) })
	var mu sync.Mutex
	var looking sync.WaitGroup
	var tasks []*task
	for range slots {
		looking.Go(func() {
			task, err := w.next(t.Context(), t.Context())
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				tasks = append(tasks, task)
			} else if !errors.Is(err, queue.ErrEmpty) {
				t.Error(err)
			}
		})
	}
	looking.Wait()
	if len(tasks) != fit {
		t.Errorf("%d jobs are taken, want %d", len(tasks), fit)
	}
	other := p.begun("w1", func(o *WorkerOptions) { o.Jobs, o.Memory = slots, 1<<40 })
	for n := range slots - fit {
		if _, err := other.next(t.Context(), t.Context()); err != nil {
			t.Fatalf("job %d that the first worker has left: %v", n, err)
		}
	}
}

// A job gets as many cores as its share of the memory allows, and what is free.
func TestCores(t *testing.T) {
	j := sample(work.RDiff, 0, 100<<20)
	share := j.Memory(4)
	for _, c := range []struct {
		jobs, want int
		memory     int64 // of all jobs
		free       int64
	}{
		{jobs: 2, memory: 2 * share, free: 2 * share, want: 4},
		{jobs: 2, memory: 2 * share, free: share, want: 4},
		{jobs: 2, memory: 2 * share, free: share - 1, want: 3},
		{jobs: 2, memory: 2*share - 2, free: 2*share - 2, want: 3},
		{jobs: 16, memory: 2 * share, free: 2 * share, want: 1},
		{jobs: 2, memory: 2 * share, free: j.Memory(1), want: 1},
		{jobs: 2, memory: 2 * share, free: j.Memory(1) - 1, want: 0},
		{jobs: 2, memory: 2 * share, free: 0, want: 0},
	} {
		t.Run(fmt.Sprintf("%+v", c), func(t *testing.T) {
			w := &worker{cores: 4, options: WorkerOptions{Jobs: c.jobs, Memory: c.memory}}
			if got := w.coresFor(j, c.free); got != c.want {
				t.Errorf("got %d", got)
			}
		})
	}
}

// Who waits for images, or for a delta to verify, says so as long as it waits.
func TestFetching(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	w := p.begun("w0")
	verify := work.Job{Format: work.Format, Kind: work.Verify, Target: work.File{Size: 20}, Delta: work.File{Size: 5}}
	verify.Target.BLAKE3[0] = 1
	for name, j := range map[string]work.Job{"rdiff": sample(work.RDiff, 1, 1<<20), "compact": sample(work.Compact, 1, 1<<20), "verify": verify} {
		p.putJobs(j)
		task, err := w.next(t.Context(), t.Context())
		if err != nil {
			t.Fatal(name, err)
		}
		said := func() string { return string(encode(w.state())) }
		during := ""
		images := httptest.NewServer(http.HandlerFunc(func(answer http.ResponseWriter, r *http.Request) {
			during = said()
			http.NotFound(answer, r)
		}))
		d := &made{job: j, at: images.URL, report: report{Job: j.ID()}, ctx: t.Context()}
		if err := (&maker{worker: w}).do(t.Context(), d, 1); err == nil {
			t.Errorf("%s: an image that nobody has was fetched", name)
		}
		images.Close()
		if want := fmt.Sprintf(`{"worker":"w0","running":["%s"],"fetching":["%[1]s"]}`, j.ID()); during != want {
			t.Errorf("%s: got %s, want %s", name, during, want)
		}
		if got, want := said(), fmt.Sprintf(`{"worker":"w0","running":["%s"]}`, j.ID()); got != want {
			t.Errorf("%s, when that has ended: got %s, want %s", name, got, want)
		}
		task.message.Done()
		delete(w.running, j.ID())
	}
}

// Jobs behind a slow link are done there, though fetching alone takes longer than a job may.
func TestSlowLink(t *testing.T) {
	t.Parallel()
	p := newPlace(t, func(o *Options) {
		o.limits.Least, o.limits.Factor = 2*time.Second, 0.1
		o.wrap = func(l net.Listener) net.Listener { return slow{l} }
	})
	p.worker("w0")
	p.found(1)
	if p.same(p.busy(), rdiffs); p.done() < want(t, rdiffs).made {
		t.Errorf("%d jobs\n%s", p.done(), p.logged())
	}
}

// slow are connections on which 400 KiB take 1.8 s.
type slow struct{ net.Listener }

func (s slow) Accept() (net.Conn, error) {
	conn, err := s.Listener.Accept()
	return slowConn{conn}, err
}

type slowConn struct{ net.Conn }

func (c slowConn) Write(p []byte) (int, error) {
	if len(p) > 1<<10 {
		time.Sleep(time.Duration(len(p)) * 1800 * time.Millisecond / (400 << 10))
	}
	return c.Conn.Write(p)
}

// A worker without a name makes one, which it has again when it begins again: the builder that has
// barred it knows it.
func TestName(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	dir := filepath.Join(t.TempDir(), "cache")
	var names []string
	for _, given := range []string{"", "", "given", ""} {
		w, err := newWorker(p.options(given, func(o *WorkerOptions) { o.Cache = dir }))
		if err != nil {
			t.Fatal(err)
		}
		p.await("the builder", func() bool { return w.checkIn(t.Context()) == nil })
		name := w.options.Name
		if names = append(names, name); given == "" {
			p.farm.board.Bar(time.Now(), name, "wrong")
		}
		if err := w.checkIn(t.Context()); err != nil || w.barred != (given == "") {
			t.Errorf("%s: barred %t, %v", name, w.barred, err)
		}
		w.close()
	}
	other, err := newWorker(p.options(""))
	if err != nil {
		t.Fatal(err)
	}
	other.close()
	if names[0] != names[1] || names[0] != names[3] || names[2] != "given" || other.options.Name == names[0] || checkName(names[0]) != nil {
		t.Errorf("%q, and with another cache %s", names, other.options.Name)
	}
	if _, err := newWorker(p.options("a name")); err == nil {
		t.Error("a name with a space")
	}
}

// Lists of jobs are bounded.
func TestParseState(t *testing.T) {
	for name, c := range map[string]struct {
		running, fetching int
		ok                bool
	}{
		"none":                         {0, 0, true},
		"all there are":                {maxRunning, maxRunning, true},
		"one too much":                 {maxRunning + 1, 0, false},
		"one too much that is fetched": {0, maxRunning + 1, false},
	} {
		s := state{Worker: "w", Running: make([]work.ID, c.running), Fetching: make([]work.ID, c.fetching)}
		if got, err := parseState(encode(s)); (err == nil) != c.ok || c.ok && len(got.Fetching) != c.fetching {
			t.Errorf("%s: %v", name, err)
		}
	}
}
