package farming

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"puavo-image-repository/bench/internal/files"
	"puavo-image-repository/bench/internal/measure"
	"puavo-image-repository/bench/internal/report"
	"puavo-image-repository/imagerepo"
	"puavo-image-repository/imagerepo/compactdelta"
	"puavo-image-repository/imagerepo/farm"
	"puavo-image-repository/imagerepo/plan"
)

// Real runs a farm on this machine.
type Real struct {
	Images string // the directory of the images
	Worker string // our command, puavo-update-repository
	Tmp    string // a directory, on the file system of the images
	Log    io.Writer
}

// Took is what a farm took for what it was given at once.
type Took struct {
	Seconds float64
	// Waited is how long a worker had to wait for its core, on average, as others used that, in
	// seconds: what its threads waited, which is for each other too, but no more than other
	// processes of the machine have worked.
	Waited float64
}

// policy has all deltas made.
var policy = plan.Policy{Targets: targets, Downgrades: true, MaxRatio: 1, Compact: plan.Compact{Mode: plan.CompactAll}}

// Run builds a mirror, which it removes, with so many worker processes that each have a core of
// their own. The builder is this process, and makes no deltas. What is returned is of the compact
// deltas, if they are wanted, else of the others.
func (r Real) Run(ctx context.Context, workers int, compact bool) (t Took, err error) {
	dir, err := os.MkdirTemp(r.Tmp, "farm-*")
	if err != nil {
		return t, err
	}
	defer os.RemoveAll(dir)
	f, token, err := r.open(ctx, dir)
	if err != nil {
		return t, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	busy := &busy{Farm: f}
	for i := range workers {
		pid, stop, err := r.worker(ctx, f, token, dir, i)
		if err != nil {
			return t, err
		}
		defer stop()
		busy.workers = append(busy.workers, pid)
	}
	if err := found(ctx, f, workers); err != nil {
		return t, err
	}
	if err := r.build(ctx, busy, filepath.Join(dir, "mirror"), compact); err != nil {
		return t, err
	}
	return busy.took, failures(f)
}

// build builds a mirror.
func (r Real) build(ctx context.Context, f imagerepo.Farm, mirror string, compact bool) error {
	log := slog.New(slog.NewTextHandler(r.Log, &slog.HandlerOptions{Level: slog.LevelError}))
	p := policy
	if !compact {
		p.Compact = plan.Compact{}
	}
	_, _, err := imagerepo.Build(ctx, imagerepo.Options{ImageDir: r.Images, MirrorDir: mirror, Policy: p, Jobs: 2, NoSync: true, Farm: f, Log: log})
	if err != nil || !compact {
		return err
	}
	_, _, err = compactdelta.Run(ctx, compactdelta.Options{MirrorDir: mirror, Policy: p, NoSync: true, Farm: f, Log: log})
	return err
}

// failures returns an error if a worker could not do a job: then the time is that of something else.
func failures(f *farm.Farm) error {
	for _, w := range f.Workers() {
		if w.Failed > 0 || w.Barred != "" {
			return fmt.Errorf("%s could not do %d of its jobs", w.Name, w.Failed)
		}
	}
	return nil
}

// open opens the farm, and writes its token to a file.
func (r Real) open(ctx context.Context, dir string) (*farm.Farm, string, error) {
	version, err := exec.CommandContext(ctx, r.Worker, "--version").Output()
	if err != nil {
		return nil, "", fmt.Errorf("%s --version: %w", r.Worker, err)
	}
	words := strings.Fields(string(version))
	token, file := farm.NewToken(), filepath.Join(dir, "token")
	if err := os.WriteFile(file, token.File(), 0o600); err != nil {
		return nil, "", err
	}
	f, err := farm.Open(ctx, farm.Options{Queue: "embedded:127.0.0.1:0", Token: token, Version: words[len(words)-1]})
	return f, file, err
}

// worker starts a worker that has a core of its own, until stop is called.
func (r Real) worker(ctx context.Context, f *farm.Farm, token, dir string, n int) (pid int, stop func(), err error) {
	name := fmt.Sprint("w", n)
	cmd := exec.CommandContext(ctx, "taskset", "-c", fmt.Sprint(n), r.Worker, "worker", "-q", "--farm", f.Address(), "--farm-token-file", token,
		"--cache", filepath.Join(dir, name), "--name", name, "--jobs", "1")
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "PUAVO_UPDATE_REPOSITORY_SETTINGS="}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	if err := cmd.Start(); err != nil {
		return 0, nil, err
	}
	return cmd.Process.Pid, func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		if err := cmd.Wait(); err != nil {
			fmt.Fprintf(r.Log, "%s: %v: %s\n", name, err, bytes.TrimSpace(stderr.Bytes()))
		}
	}, nil
}

// found waits until the builder has heard of so many workers.
func found(ctx context.Context, f *farm.Farm, n int) error {
	for end := time.Now().Add(time.Minute); len(f.Workers()) < n; {
		if time.Now().After(end) {
			return fmt.Errorf("%d workers of %d have come after a minute", len(f.Workers()), n)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
	return nil
}

// busy is a farm whose builder makes no deltas itself. It measures how long workers take.
type busy struct {
	imagerepo.Farm
	workers []int // processes
	took    Took  // for the last batch
}

// Offer implements imagerepo.Farm.
func (b *busy) Offer(ctx context.Context, o imagerepo.Offer) (imagerepo.Batch, error) {
	start, waited, others := time.Now(), b.waited(), b.others()
	inner, err := b.Farm.Offer(ctx, o)
	return &busyBatch{inner, b, start, waited, others}, err
}

// others returns the CPU-seconds that others than builder and workers have taken until now.
func (b *busy) others() float64 {
	const hertz = 100 // of what /proc counts
	var all, user, nice, system, idle, wait, irq, softirq int64
	data, _ := os.ReadFile("/proc/stat")
	if _, err := fmt.Sscanf(string(data), "cpu %d %d %d %d %d %d %d", &user, &nice, &system, &idle, &wait, &irq, &softirq); err != nil {
		return 0
	}
	all = user + nice + system + irq + softirq
	for _, pid := range append([]int{os.Getpid()}, b.workers...) {
		data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		_, after, _ := strings.Cut(string(data), ") ")
		if fields := strings.Fields(after); len(fields) > 12 {
			for _, field := range fields[11:13] { // user and system
				n, _ := strconv.ParseInt(field, 10, 64) // of the kernel
				all -= n
			}
		}
	}
	return float64(all) / hertz
}

// waited returns how long a worker has waited for its core until now, on average.
func (b *busy) waited() (sum float64) {
	for _, pid := range b.workers {
		threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
		for _, file := range threads {
			var ran, waited int64
			data, _ := os.ReadFile(file) // the thread may have ended
			if _, err := fmt.Sscan(string(data), &ran, &waited); err == nil {
				sum += float64(waited) / 1e9
			}
		}
	}
	return sum / float64(max(1, len(b.workers)))
}

type busyBatch struct {
	imagerepo.Batch
	farm   *busy
	start  time.Time
	waited float64
	others float64
}

func (*busyBatch) Take(imagerepo.Job) bool { return false }

func (*busyBatch) TakeOver(int) []imagerepo.Job { return nil }

func (*busyBatch) Idle() {}

func (b *busyBatch) Close() error {
	others := (b.farm.others() - b.others) / float64(len(b.farm.workers))
	b.farm.took = Took{time.Since(b.start).Seconds(), max(0, min(b.farm.waited()-b.waited, others))}
	return b.Batch.Close()
}

// Check is a directory of images of which real workers make deltas.
type Check struct {
	Name    string
	Files   []string // the images, sorted by name, of one or several series
	Compact bool     // or rdiff deltas
	Real
}

// Compare has 1 and 2 real workers make the deltas of some images, several rounds, and compares that
// with what the simulation says of what each delta takes, which is measured in each round. series
// returns the series of an image. It returns an error if something failed, however much they differ.
func Compare(ctx context.Context, checks []Check, rounds int, series func(string) string, w io.Writer) error {
	fmt.Fprintf(w, `
## Two workers

Whether the simulation is right: workers are processes with a core each, by taskset, and the builder is a process of the same machine that makes no
deltas. "predicted" is what the simulation says from what each delta takes alone, which is measured before. "measured" is the time from when the
queue is filled until the last delta is verified, and "waited" is how long a worker's process waited in it for its core, as other processes of the
machine used that. "off" is by how much "predicted" is longer than what was measured without that waiting; "faster" is that of one worker by that of so
many. All are medians of %d rounds; "load" is the highest of the machine before one. The disk, and the kernel's
work for memory, are not in the model: workers that write gigabytes of images on one machine at the same time take longer than predicted.

`, rounds)
	t := report.NewWriter(w, "what", "deltas", "workers", "predicted s", "measured s", "waited s", "off", "faster", "load")
	for _, c := range checks {
		all := make(map[int][]round)
		for range rounds {
			if err := c.round(ctx, series, all); err != nil {
				return fmt.Errorf("%s: %w", c.Name, err)
			}
		}
		for _, n := range []int{1, 2} {
			of := func(of func(i int, r round) float64) float64 {
				var values []float64
				for i, r := range all[n] {
					values = append(values, of(i, r))
				}
				return measure.Median(values)
			}
			highest := 0.
			for _, r := range all[n] {
				highest = max(highest, r.load)
			}
			t.Line(c.Name, all[n][0].deltas, n, report.Tenths(of(func(_ int, r round) float64 { return r.predicted })), report.Tenths(of(func(_ int, r round) float64 { return r.Seconds })),
				report.Tenths(of(func(_ int, r round) float64 { return r.Waited })), fmt.Sprintf("%+.1f %%", of(func(_ int, r round) float64 { return 100 * (r.predicted/r.worked() - 1) })),
				report.Hundredths(of(func(i int, r round) float64 { return all[1][i].worked() / r.worked() })), report.Tenths(highest))
		}
	}
	return t.Flush()
}

// round is a run with what was predicted of it.
type round struct {
	Took
	predicted, load float64
	deltas          int
}

// worked is how long it took, without waiting.
func (r round) worked() float64 { return r.Seconds - r.Waited }

// round measures what deltas take, and runs 1 and 2 workers.
func (c Check) round(ctx context.Context, series func(string) string, all map[int][]round) error {
	f, err := c.model(ctx, series)
	if err != nil {
		return err
	}
	for _, n := range []int{1, 2} {
		f.Workers = n
		out, err := Run(f)
		if err != nil {
			return err
		}
		r := round{predicted: out.Seconds, deltas: len(f.Jobs)}
		if load := measure.Load(); len(load) > 0 {
			r.load, _ = strconv.ParseFloat(load[0], 64) // of the kernel
		}
		if err := files.Warm(c.Files); err != nil {
			return err
		}
		if r.Took, err = c.Run(ctx, n, c.Compact); err != nil {
			return fmt.Errorf("%d workers: %w", n, err)
		}
		fmt.Fprintf(c.Log, "%s, %d workers: predicted %.1f s, measured %.1f, of which %.1f waiting\n", c.Name, n, r.predicted, r.Seconds, r.Waited)
		all[n] = append(all[n], r)
	}
	return nil
}

// model measures what each delta takes, and returns the farm that makes them here.
func (c Check) model(ctx context.Context, series func(string) string) (Farm, error) {
	const cores = 2
	moving, err := MeasureMoving(ctx, c.Files[0], false, c.Tmp)
	if err != nil {
		return Farm{}, err
	}
	f := Farm{Cores: 1, Busy: true, Builder: cores, Shared: cores, Send: moving.Send, Receive: moving.Receive, Tick: 1}
	for base, from := range c.Files {
		all := slices.DeleteFunc(slices.Clone(c.Files), func(other string) bool { return series(other) != series(from) })
		info, err := os.Stat(from)
		if err != nil {
			return f, err
		}
		f.Images = append(f.Images, float64(info.Size()))
		for _, to := range all[max(0, len(all)-targets):] {
			if to == from {
				continue
			}
			of := MeasureRDiff
			if c.Compact {
				of = MeasureCompact
			}
			cost, err := of(ctx, from, to, c.Tmp)
			if err != nil {
				return f, fmt.Errorf("%s: %w", filepath.Base(to), err)
			}
			f.Jobs = append(f.Jobs, Job{
				Compact: c.Compact, Base: base, Target: slices.Index(c.Files, to), Index: cost.Index, Make: cost.Make, Check: cost.Check, Bytes: math.Round(cost.Bytes),
			})
		}
	}
	return f, nil
}
