package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"

	"puavo-image-repository/bench/internal/measure"
	"puavo-image-repository/meta"
)

// predecessorJobs is how many commands the predecessor runs at a time: rake -j 2.
const predecessorJobs = 2

// digestTools are the commands that the predecessor takes digests with.
var digestTools = []string{"cksum", "sha256sum", "sha512sum"}

// wanted returns the deltas of a repository, in the predecessor's order and with
// the names of their files: to the three newest images of each series, from all
// others of it.
func wanted(images []string) (pairs []pair, err error) {
	series := make(map[string][]meta.Name)
	paths := make(map[meta.Name]string)
	var order []string
	for _, path := range images {
		name, err := meta.ParseName(filepath.Base(path))
		if err != nil {
			return nil, err
		}
		if series[name.Series()] == nil {
			order = append(order, name.Series())
		}
		series[name.Series()] = append(series[name.Series()], name)
		paths[name] = path
	}
	for _, s := range order {
		names := slices.SortedFunc(slices.Values(series[s]), meta.Name.Compare)
		for _, target := range names[max(len(names)-3, 0):] {
			for _, base := range names {
				if base != target {
					pairs = append(pairs, pair{name: meta.DeltaName(base, target), base: paths[base], target: paths[target]})
				}
			}
		}
	}
	return pairs, nil
}

// predecessor builds a repository with the commands of the predecessor's rake
// file, some of them beside each other. What else that does, the meta and the
// mounts for the puavo-conf, is left out.
type predecessor struct {
	dir    string // where it writes
	signed map[string]chan struct{}
	measure.Processes
}

// buildPredecessor builds a repository in an empty directory.
func buildPredecessor(ctx context.Context, images []string, pairs []pair, dir string) (built, error) {
	p := &predecessor{dir: dir, signed: make(map[string]chan struct{})}
	for _, sub := range []string{"checksums", "signatures", "rdiffs"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o777); err != nil {
			return built{}, err
		}
	}
	jobs := p.jobs(images, pairs)
	f, err := p.Measure(func() error { return atMost(ctx, predecessorJobs, jobs) })
	if err != nil {
		return built{}, err
	}
	sizes, err := deltaSizes(dir)
	return built{f, sizes}, err
}

// job is something to be done; it ends early, with an error, when its context
// ends.
type job func(context.Context) error

// jobs returns the predecessor's jobs in their order: all of the images, then a
// delta each with its digests.
func (p *predecessor) jobs(images []string, pairs []pair) (jobs []job) {
	for _, pair := range pairs {
		p.signed[pair.base] = make(chan struct{})
	}
	for _, image := range images {
		for _, tool := range digestTools {
			jobs = append(jobs, func(ctx context.Context) error { return p.digest(ctx, tool, image) })
		}
		if _, base := p.signed[image]; base {
			jobs = append(jobs, func(ctx context.Context) error { return p.sign(ctx, image) })
		}
	}
	for _, pair := range pairs {
		jobs = append(jobs, func(ctx context.Context) error { return p.delta(ctx, pair) })
	}
	return jobs
}

func (p *predecessor) digest(ctx context.Context, tool, path string) error {
	out, err := os.Create(filepath.Join(p.dir, "checksums", filepath.Base(path)+"."+tool))
	if err != nil {
		return err
	}
	defer out.Close()
	cmd := exec.CommandContext(ctx, tool, filepath.Base(path))
	cmd.Dir = filepath.Dir(path)
	cmd.Stdout = out
	_, err = p.Run(cmd)
	return err
}

func (p *predecessor) signature(image string) string {
	return filepath.Join(p.dir, "signatures", filepath.Base(image)+".rdiff_signature")
}

func (p *predecessor) sign(ctx context.Context, image string) error {
	_, err := p.Run(exec.CommandContext(ctx, "rdiff", "--block-size=128", "signature", image, p.signature(image)))
	if err == nil {
		close(p.signed[image])
	}
	return err
}

// delta makes a delta as soon as its base is signed, and takes its digests.
func (p *predecessor) delta(ctx context.Context, pair pair) error {
	select {
	case <-p.signed[pair.base]:
	case <-ctx.Done():
		return ctx.Err()
	}
	path := filepath.Join(p.dir, "rdiffs", pair.name)
	if _, err := p.Run(exec.CommandContext(ctx, "rdiff", "--block-size=128", "delta", p.signature(pair.base), pair.target, path)); err != nil {
		return err
	}
	for _, tool := range digestTools {
		if err := p.digest(ctx, tool, path); err != nil {
			return err
		}
	}
	return nil
}

// atMost does jobs, begun in their order, at most n at a time. The first error
// ends the context of the others and is returned; that of ctx is one.
func atMost(ctx context.Context, n int, jobs []job) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var running sync.WaitGroup
	places := make(chan struct{}, n)
	for _, do := range jobs {
		places <- struct{}{}
		if ctx.Err() != nil {
			break
		}
		running.Go(func() {
			defer func() { <-places }()
			if err := do(ctx); err != nil {
				cancel(err)
			}
		})
	}
	running.Wait()
	return context.Cause(ctx)
}
