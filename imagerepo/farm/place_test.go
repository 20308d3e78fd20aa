package farm

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"puavo-image-repository/delta"
	"puavo-image-repository/imagerepo"
	"puavo-image-repository/imagerepo/compactdelta"
	"puavo-image-repository/imagerepo/farm/internal/board"
	"puavo-image-repository/imagerepo/internal/work"
	"puavo-image-repository/imagerepo/plan"
	"puavo-image-repository/testdata"
)

// images returns a directory with four images of a series.
func images(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	for _, from := range testdata.Glob(t, "images/puavo-os-amxa-*.img") {
		data, err := os.ReadFile(from)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, filepath.Base(from)), data, 0o666)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// part is what a test builds: compact deltas too, or rdiff deltas only, which take a tenth of the
// time.
type part bool

const (
	rdiffs part = false
	whole  part = true
)

// some is the whole, but only rdiff deltas where only the short tests run, and under the race
// detector.
func some() part { return testdata.Scale(1, 0) == 1 }

// build builds a mirror, without a farm if that is nil, and returns how many deltas were made.
func build(ctx context.Context, images, mirror string, f imagerepo.Farm, what part, log *slog.Logger) (made int, err error) {
	policy := plan.Policy{Targets: 2, Downgrades: true, MaxRatio: 0.9, Compact: plan.Compact{Mode: plan.CompactAll}}
	_, s, err := imagerepo.Build(ctx, imagerepo.Options{
		ImageDir: images, MirrorDir: mirror, URL: "https://x.example.org", Policy: policy, Effort: delta.Fast, Jobs: 2, NoSync: true, Farm: f, Log: log,
	})
	if err != nil {
		return 0, err
	}
	for _, d := range s.Deltas {
		if d.Action == plan.Make {
			made++
		}
	}
	if what == rdiffs {
		return made, nil
	}
	_, c, err := compactdelta.Run(ctx, compactdelta.Options{
		MirrorDir: mirror, URL: "https://x.example.org", Policy: policy, Effort: delta.Fast, NoSync: true, Farm: f, Log: log,
	})
	return made + c.Made, err
}

// tree returns the digests of what a mirror publishes.
func tree(t testing.TB, mirror string) string {
	t.Helper()
	var s strings.Builder
	err := fs.WalkDir(os.DirFS(mirror), ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && name == ".repo" {
			return fs.SkipDir
		}
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(filepath.Join(mirror, name))
		fmt.Fprintf(&s, "%x %s\n", sha256.Sum256(data), name)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return s.String()
}

// result is a mirror that was built without a farm.
type result struct {
	tree string
	made int
}

var local struct {
	sync.Mutex
	results map[part]result
}

// want returns what a mirror must be.
func want(t testing.TB, what part) result {
	t.Helper()
	local.Lock()
	defer local.Unlock()
	if _, ok := local.results[what]; !ok {
		mirror := filepath.Join(t.TempDir(), "mirror")
		made, err := build(t.Context(), images(t), mirror, nil, what, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		if local.results == nil {
			local.results = make(map[part]result)
		}
		local.results[what] = result{tree(t, mirror), made}
	}
	return local.results[what]
}

// quick are limits for small images; those of the time that a job may take are long, as a machine
// may be busy.
var quick = board.Limits{Silence: 5 * time.Second, Grace: 300 * time.Millisecond, Least: time.Minute, Factor: 4, Workers: 3}

// place is a builder with its workers.
type place struct {
	t      testing.TB
	images string
	token  Token
	farm   *Farm
	mu     sync.Mutex
	log    bytes.Buffer
	ends   []func()
}

func (p *place) Write(data []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.Write(data)
}

func (p *place) logged() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.String()
}

func newPlace(t testing.TB, change ...func(*Options)) *place {
	t.Helper()
	p := &place{t: t, images: images(t), token: NewToken()}
	o := Options{
		Queue: "embedded:127.0.0.1:0", Token: p.token, Version: "test", Log: slog.New(slog.NewTextHandler(p, nil)),
		limits: quick, tick: 50 * time.Millisecond,
	}
	for _, c := range change {
		c(&o)
	}
	f, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	p.farm = f
	t.Cleanup(p.end)
	return p
}

// end ends workers and builder.
func (p *place) end() {
	for _, end := range p.ends {
		end()
	}
	p.ends = nil
	if p.farm != nil {
		if err := p.farm.Close(); err != nil {
			p.t.Error(err)
		}
		p.farm = nil
	}
}

// options returns those of a worker.
func (p *place) options(name string, change ...func(*WorkerOptions)) WorkerOptions {
	o := WorkerOptions{
		Queue: p.farm.Address(), Token: p.token, Version: "test", Name: name, Jobs: 1, Memory: 1 << 30,
		Cache: filepath.Join(p.t.TempDir(), "cache"), CacheSize: 1 << 30, Log: slog.New(slog.NewTextHandler(p, nil)), tick: 50 * time.Millisecond,
	}
	for _, c := range change {
		c(&o)
	}
	return o
}

// worker begins a worker, which end ends.
func (p *place) worker(name string, change ...func(*WorkerOptions)) {
	p.t.Helper()
	o := p.options(name, change...)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Work(ctx, o) }()
	p.ends = append(p.ends, func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			p.t.Errorf("%s: %v", name, err)
		}
	})
}

// await waits until something is so.
func (p *place) await(what string, is func() bool) {
	p.t.Helper()
	for end := time.Now().Add(30 * time.Second); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			p.t.Fatalf("%s: not after 30 s\n%s", what, p.logged())
		}
	}
}

// found waits until n workers have reported.
func (p *place) found(n int) {
	p.t.Helper()
	p.await(fmt.Sprintf("%d workers", n), func() bool { return len(p.farm.Workers()) >= n })
}

// same builds a mirror with the farm, and compares it with the one that is made without.
func (p *place) same(f imagerepo.Farm, what part) {
	p.t.Helper()
	mirror := filepath.Join(p.t.TempDir(), "mirror")
	if _, err := build(context.Background(), p.images, mirror, f, what, slog.New(slog.NewTextHandler(p, nil))); err != nil {
		p.t.Fatalf("%v\n%s", err, p.logged())
	}
	if got, want := tree(p.t, mirror), want(p.t, what).tree; got != want {
		p.t.Errorf("got\n%swant\n%s%s", got, want, p.logged())
	}
}

// done returns how many jobs workers have done.
func (p *place) done() int { return p.farm.State().Done }

// barred returns the workers that get no more jobs.
func (p *place) barred() (names []string) {
	for _, w := range p.farm.Workers() {
		if w.Barred != "" {
			names = append(names, w.Name)
		}
	}
	return names
}

// waiting is a farm whose builder begins nothing itself before workers have done what a test is
// about.
type waiting struct {
	*Farm
	until func(kind work.Kind) bool // of the jobs of a batch
}

func (w waiting) Offer(ctx context.Context, o imagerepo.Offer) (imagerepo.Batch, error) {
	inner, err := w.Farm.Offer(ctx, o)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	return &waitingBatch{Batch: inner, stop: stop, idle: func() {
		for ctx.Err() == nil && !w.until(o.Jobs[0].Kind) {
			wait(ctx, 10*time.Millisecond)
		}
		inner.Idle()
	}}, nil
}

type waitingBatch struct {
	imagerepo.Batch
	idle    func()
	stop    context.CancelFunc
	waiting sync.WaitGroup
}

func (*waitingBatch) Take(imagerepo.Job) bool { return false }

func (*waitingBatch) TakeOver(int) []imagerepo.Job { return nil }

func (w *waitingBatch) Idle() { w.waiting.Go(w.idle) } // until Close at most

func (w *waitingBatch) Close() error {
	w.stop()
	w.waiting.Wait()
	return w.Batch.Close()
}

// busy returns the farm of a builder that begins nothing itself.
func (p *place) busy() imagerepo.Farm {
	return waiting{p.farm, func(work.Kind) bool { return false }}
}
