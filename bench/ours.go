package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"puavo-image-repository/bench/internal/build"
	"puavo-image-repository/bench/internal/files"
	"puavo-image-repository/bench/internal/generate"
	"puavo-image-repository/bench/internal/measure"
	"puavo-image-repository/bench/internal/report"
)

// built is what was measured of building a repository.
type built struct {
	measure.Figures
	deltas map[string]int64 // sizes by name
}

// builder is this project's command, built from this checkout.
type builder string

// outcome is what bench reads of the summary that the command prints as JSON.
type outcome struct {
	Made    int  `json:"deltas_made"`
	Kept    int  `json:"deltas_kept"`
	Dropped int  `json:"deltas_dropped"`
	Changed bool `json:"changed"` // whether the run changed the mirror
}

func newBuilder(ctx context.Context, tmp string) (builder, error) {
	binary := filepath.Join(tmp, "puavo-update-repository")
	return builder(binary), build.Command(ctx, "puavo-update-repository", binary)
}

// builderFlags are those of all runs. The summary as JSON costs nothing.
var builderFlags = []string{"-q", "--json", "-r", "https://images.example.org"}

// build makes or updates a mirror.
func (b builder) build(ctx context.Context, images, mirror string) (measure.Figures, outcome, error) {
	return summarized(exec.CommandContext(ctx, string(b), append(slices.Clip(builderFlags), images, mirror)...))
}

// summarized measures a command of the builder, and reads its summary.
func summarized(cmd *exec.Cmd) (measure.Figures, outcome, error) {
	var stdout bytes.Buffer
	cmd.Stdout = &stdout
	f, err := measure.Command(cmd)
	if err != nil {
		return f, outcome{}, err
	}
	var report struct{ Summary outcome }
	err = json.Unmarshal(stdout.Bytes(), &report)
	return f, report.Summary, err
}

// idle runs the command over a mirror in which nothing is to be done.
func (b builder) idle(ctx context.Context, images, mirror string) (measure.Figures, error) {
	f, summary, err := b.build(ctx, images, mirror)
	if err == nil && summary.Changed {
		err = errors.New("there was something to do in a mirror that was just made")
	}
	return f, err
}

// plan returns what --dry-run says.
func (b builder) plan(ctx context.Context, images, mirror string) (string, error) {
	out, err := exec.CommandContext(ctx, string(b), "--dry-run", images, mirror).Output()
	return string(out), err
}

// deltaSizes returns the sizes of a repository's deltas by name.
func deltaSizes(dir string) (map[string]int64, error) {
	paths, err := filepath.Glob(filepath.Join(dir, "rdiffs", "*.rdiff"))
	if err != nil {
		return nil, err
	}
	sizes := make(map[string]int64)
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			return nil, err
		}
		sizes[filepath.Base(path)] = info.Size()
	}
	return sizes, nil
}

// sum returns the size of the deltas that are also among others.
func sum(sizes, others map[string]int64) (total int64) {
	for name, size := range sizes {
		if _, ok := others[name]; ok {
			total += size
		}
	}
	return total
}

// complete reports, as an error, that deltas are not those that are wanted, so
// many of them dropped.
func complete(deltas map[string]int64, pairs []pair, dropped int) error {
	left := maps.Clone(deltas)
	for _, p := range pairs {
		delete(left, p.name)
	}
	if len(left) > 0 {
		return fmt.Errorf("deltas that are not wanted: %s", strings.Join(slices.Sorted(maps.Keys(left)), ", "))
	}
	if len(deltas)+dropped != len(pairs) {
		return fmt.Errorf("%d deltas and %d dropped, %d were wanted", len(deltas), dropped, len(pairs))
	}
	return nil
}

// check has the usual tools check a mirror, and returns what they did: each
// file's digest, and that the first delta makes its target.
func check(ctx context.Context, mirror string, pairs []pair, tmp string) (string, error) {
	lists, err := filepath.Glob(filepath.Join(mirror, "*", "SHA256SUMS"))
	if err != nil {
		return "", err
	}
	for _, list := range append(lists, filepath.Join(mirror, "SHA256SUMS")) {
		digests := exec.CommandContext(ctx, "sha256sum", "-c", "--quiet", filepath.Base(list))
		digests.Dir = filepath.Dir(list)
		if _, err := measure.Command(digests); err != nil {
			return "", err
		}
	}
	done := "sha256sum -c finds all files of the mirror right"
	for _, p := range pairs {
		delta := filepath.Join(mirror, "rdiffs", p.name)
		if _, err := os.Stat(delta); err != nil {
			continue // dropped
		}
		if len(missingTools([]string{"rdiff"})) > 0 {
			return done + "; rdiff, to apply a delta with, is not installed.", nil
		}
		out := filepath.Join(tmp, "patched")
		defer os.Remove(out)
		if _, err := measure.Command(exec.CommandContext(ctx, "rdiff", "patch", p.base, delta, out)); err != nil {
			return "", err
		}
		return fmt.Sprintf("%s, and rdiff patch makes %s from %s.", done, filepath.Base(p.target), filepath.Base(p.base)), files.Same(out, p.target)
	}
	return done + "; there is no delta.", nil
}

// fresh returns an empty directory's path, with nothing of an earlier run left to
// be written to the disk. The directory itself is not made.
func fresh(tmp, name string) (string, error) {
	dir := filepath.Join(tmp, name)
	err := os.RemoveAll(dir)
	syscall.Sync()
	return dir, err
}

// step is a run of ours alone, measured in each round.
type step struct {
	name      string
	rounds    []measure.Figures
	made, all int // deltas
}

func (s *step) add(f measure.Figures, made, all int) {
	s.rounds, s.made, s.all = append(s.rounds, f), made, all
}

// alone measures ours over generated images.
func (r *repo) alone(ctx context.Context, name string, s generate.Images) error {
	dir := filepath.Join(r.tmp, name)
	defer os.RemoveAll(dir)
	if err := s.Write(ctx, dir); err != nil {
		return err
	}
	images, pairs, err := imagesOf(dir)
	if err != nil {
		return err
	}
	all, idle, added := step{name: "all"}, step{name: "nothing to do"}, step{name: "one new image"}
	for range r.rounds {
		b, err := r.fromScratch(ctx, dir, pairs)
		if err != nil {
			return err
		}
		all.add(b.Figures, len(b.deltas), len(b.deltas))
		f, err := r.ours.idle(ctx, dir, r.mirror())
		if err != nil {
			return err
		}
		idle.add(f, 0, len(b.deltas))
		if s.Series == 1 {
			continue // one more is nearly all
		}
		if err := r.addOne(ctx, dir, images[s.Versions-1], &added); err != nil {
			return err
		}
	}
	if err := r.head(name, images, pairs); err != nil {
		return err
	}
	if err := r.finish(ctx, []step{all, idle, added}, pairs); err != nil {
		return err
	}
	return r.writeSpeed(ctx, dir, images, pairs, all)
}

// addOne measures adding an image to a mirror of all others.
func (r *repo) addOne(ctx context.Context, dir, image string, s *step) error {
	mirror, err := fresh(r.tmp, "partial")
	if err != nil {
		return err
	}
	defer os.RemoveAll(mirror)
	away := filepath.Join(r.tmp, filepath.Base(image))
	if err := os.Rename(image, away); err != nil {
		return err
	}
	_, _, err = r.ours.build(ctx, dir, mirror)
	if back := os.Rename(away, image); err != nil || back != nil {
		return errors.Join(err, back)
	}
	f, summary, err := r.ours.build(ctx, dir, mirror)
	s.add(f, summary.Made, summary.Made+summary.Kept)
	return err
}

// finish writes the table of ours' runs, and has the mirror checked.
func (r *repo) finish(ctx context.Context, steps []step, pairs []pair) error {
	fmt.Fprintln(r.w)
	t := report.NewWriter(r.w, "ours", "time s", "CPU s", "memory MB", "resident MB", "bytes read", "deltas made")
	for _, s := range steps {
		if len(s.rounds) == 0 {
			continue
		}
		of := func(of func(measure.Figures) int64) float64 {
			return measure.Column(s.rounds, func(f measure.Figures) float64 { return float64(of(f)) })
		}
		t.Line(s.name, report.Thousandths(measure.Column(s.rounds, func(f measure.Figures) float64 { return f.Seconds })), report.Thousandths(measure.Column(s.rounds, cpu)),
			report.MB(of(func(f measure.Figures) int64 { return f.Anonymous })), report.MB(of(func(f measure.Figures) int64 { return f.Resident })),
			report.Group(int64(of(func(f measure.Figures) int64 { return f.Read }))), fmt.Sprintf("%d of %d", s.made, s.all))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	checked, err := check(ctx, r.mirror(), pairs, r.tmp)
	if err == nil {
		_, err = fmt.Fprintf(r.w, "\nChecked: %s\n", checked)
	}
	return err
}

// writeSpeed writes how fast everything was made, and of few images the plan.
func (r *repo) writeSpeed(ctx context.Context, dir string, images []string, pairs []pair, all step) error {
	var targets []string
	for _, p := range pairs {
		targets = append(targets, p.target)
	}
	seconds := measure.Column(all.rounds, func(f measure.Figures) float64 { return f.Seconds })
	ofImages, err := total(images)
	if err != nil {
		return err
	}
	ofTargets, err := total(targets)
	if err != nil {
		return err
	}
	fmt.Fprintf(r.w, "\nSpeed of all: %.3f GB/s of images, %.3f GB/s of targets, one each delta.\n", float64(ofImages)/1e9/seconds, float64(ofTargets)/1e9/seconds)
	if len(pairs) > 10 {
		return nil
	}
	plan, err := r.ours.plan(ctx, dir, filepath.Join(r.tmp, "none"))
	if err == nil {
		_, err = fmt.Fprintf(r.w, "\nBefore, --dry-run says:\n\n    %s\n", strings.ReplaceAll(strings.TrimSpace(plan), "\n", "\n    "))
	}
	return err
}
