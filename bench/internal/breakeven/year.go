package breakeven

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"puavo-image-repository/bench/internal/files"
	"puavo-image-repository/bench/internal/measure"
	"puavo-image-repository/bench/internal/report"
)

// School is a year of a school whose laptops all get each release over one line.
type School struct {
	Images   []string // the releases, in turn and from the beginning again
	Releases int      // in a year
	Laptops  int
	Rate     int // Mbit/s of the line
}

// ways are how a laptop is updated.
var ways = [...]string{"rdiff -b 128, as installed", "ours, rdiff", "ours, compact"}

// taken is what the updates of a laptop take.
type taken struct {
	bytes, most int64 // fetched in the year, and for one release
	cpu, memory float64
}

func (t *taken) add(bytes int64, f measure.Figures, times int) {
	t.bytes += int64(times) * bytes
	t.most = max(t.most, bytes)
	t.cpu += float64(times) * f.CPU
	t.memory = max(t.memory, float64(f.Anonymous))
}

// Year writes a table of what a year of a school takes. Each of the different updates is made
// once, by one client, without a limit of the rate; the rest is multiplication: the line is
// what the laptops wait for.
func Year(ctx context.Context, o Options, s School, w io.Writer) error {
	var all [len(ways)]taken
	for i, times := range s.updates() {
		next := (i + 1) % len(s.Images)
		p := Pair{Name: fmt.Sprintf("%d to %d", i+1, next+1), Base: s.Images[i], Target: s.Images[next]}
		if times == 0 {
			continue
		}
		if err := o.once(ctx, p, times, &all); err != nil {
			return fmt.Errorf("%s: %w", p.Name, err)
		}
	}
	return s.write(o, all, w)
}

// updates returns how often each image is followed by the next.
func (s School) updates() []int {
	times := make([]int, len(s.Images))
	for i := range s.Releases - 1 {
		times[i%len(s.Images)]++
	}
	return times
}

// once makes an update in each way, and adds what that takes.
func (o Options) once(ctx context.Context, p Pair, times int, all *[len(ways)]taken) error {
	dir := filepath.Join(o.Tmp, "year")
	defer os.RemoveAll(dir)
	m, err := o.newMirror(ctx, p, dir)
	if err != nil {
		return err
	}
	bytes, f, err := o.installed(ctx, p, dir)
	if err != nil {
		return err
	}
	all[0].add(bytes, f, times)
	for i, r := range runs[:2] {
		got, err := o.update(ctx, m, 0, r)
		if err != nil {
			return err
		}
		fmt.Fprintf(o.Log, "%s, %s: %d bytes, %.1f CPU s\n", p.Name, r.name, got.fetched, got.CPU)
		all[1+i].add(got.fetched, got.Figures, times)
	}
	return nil
}

// installed makes a delta as the builder before ours does, and applies it as the client
// before ours does.
func (o Options) installed(ctx context.Context, p Pair, dir string) (bytes int64, f measure.Figures, err error) {
	signature, delta, out := filepath.Join(dir, "signature"), filepath.Join(dir, "delta"), filepath.Join(dir, "out")
	if _, err = measure.Commands(ctx, [][]string{
		{"rdiff", "--block-size=128", "signature", p.Base, signature}, {"rdiff", "delta", signature, p.Target, delta},
	}); err != nil {
		return 0, f, err
	}
	if f, err = measure.Commands(ctx, [][]string{{"rdiff", "patch", p.Base, delta, out}}); err != nil {
		return 0, f, err
	}
	info, err := os.Stat(delta)
	if err != nil {
		return 0, f, err
	}
	return info.Size(), f, files.Same(out, p.Target)
}

func (s School) write(o Options, all [len(ways)]taken, w io.Writer) error {
	fmt.Fprintf(w, "# A year of a school\n\n    go -C bench run . year --corpus %s\n\n", o.Corpus)
	for _, line := range measure.Machine() {
		fmt.Fprintf(w, "- %s\n", line)
	}
	fmt.Fprintf(w, `
%d laptops behind a line of %d Mbit/s get %d releases, of %d images in turn: %d updates each. Each different update was made once, and its
bytes and CPU time were counted; nothing was fetched twice. The hours are those for which the line is busy.

`, s.Laptops, s.Rate, s.Releases, len(s.Images), s.Releases-1)
	t := report.NewWriter(w, "update", "GB a laptop", "GB in all", "ratio", "hours in the year", "hours of the largest release", "CPU minutes a laptop", "memory MB")
	hours := func(bytes int64) float64 {
		return float64(bytes) * float64(s.Laptops) * 8 / 1e6 / float64(s.Rate) / 3600
	}
	for i, x := range all {
		t.Line(ways[i], report.Hundredths(float64(x.bytes)/1e9), report.Tenths(float64(x.bytes)*float64(s.Laptops)/1e9),
			report.Hundredths(float64(x.bytes)/float64(all[0].bytes)), report.Tenths(hours(x.bytes)), report.Tenths(hours(x.most)),
			report.Tenths(x.cpu/60), report.MB(x.memory))
	}
	return t.Flush()
}
