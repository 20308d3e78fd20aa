// Package predecessor builds repositories with the commands of the predecessor's rake file, some of
// them beside each other. What else that does, the meta and the mounts for the puavo-conf, is left
// out.
package predecessor

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"sync"

	"puavo-image-repository/bench/internal/measure"
)

// jobs is how many commands the predecessor runs at a time: rake -j 2.
const jobs = 2

// digestTools are the commands that the predecessor takes digests with.
var digestTools = []string{"cksum", "sha256sum", "sha512sum"}

// Tools are the commands that Build runs.
func Tools() []string { return append([]string{"rdiff"}, digestTools...) }

// Delta is one that is made from an image, Base, to another, Target, by their paths.
type Delta struct{ Name, Base, Target string }

// predecessor is a build.
type predecessor struct {
	dir    string // where it writes
	signed map[string]chan struct{}
	measure.Processes
}

// Build builds a repository in an empty directory, and returns what that took. It runs Tools.
func Build(ctx context.Context, images []string, deltas []Delta, dir string) (measure.Figures, error) {
	p := &predecessor{dir: dir, signed: make(map[string]chan struct{})}
	for _, sub := range []string{"checksums", "signatures", "rdiffs"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o777); err != nil {
			return measure.Figures{}, err
		}
	}
	todo := p.jobs(images, deltas)
	return p.Measure(func() error { return atMost(ctx, jobs, todo) })
}

// job is something to be done; it ends early, with an error, when its context
// ends.
type job func(context.Context) error

// jobs returns the predecessor's jobs in their order: all of the images, then a
// delta each with its digests.
func (p *predecessor) jobs(images []string, deltas []Delta) (todo []job) {
	for _, d := range deltas {
		p.signed[d.Base] = make(chan struct{})
	}
	for _, image := range images {
		for _, tool := range digestTools {
			todo = append(todo, func(ctx context.Context) error { return p.digest(ctx, tool, image) })
		}
		if _, base := p.signed[image]; base {
			todo = append(todo, func(ctx context.Context) error { return p.sign(ctx, image) })
		}
	}
	for _, d := range deltas {
		todo = append(todo, func(ctx context.Context) error { return p.delta(ctx, d) })
	}
	return todo
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
func (p *predecessor) delta(ctx context.Context, d Delta) error {
	select {
	case <-p.signed[d.Base]:
	case <-ctx.Done():
		return ctx.Err()
	}
	path := filepath.Join(p.dir, "rdiffs", d.Name)
	if _, err := p.Run(exec.CommandContext(ctx, "rdiff", "--block-size=128", "delta", p.signature(d.Base), d.Target, path)); err != nil {
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
