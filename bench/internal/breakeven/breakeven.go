// Package breakeven measures updates over rdiff deltas and over compact ones at several
// rates of the line, and which of them the client chooses.
package breakeven

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"puavo-image-repository/bench/internal/files"
	"puavo-image-repository/bench/internal/measure"
	"puavo-image-repository/bench/internal/nginx"
	"puavo-image-repository/bench/internal/report"
)

// Pair is a base and a target. A base of "" is none.
type Pair struct{ Name, Base, Target string }

// Options say what is measured.
type Options struct {
	Corpus string // its name
	Pairs  []Pair
	Rates  []int // Mbit/s of the line; 0 is no limit
	Cores  int   // that the client may use; 0 is all
	Client string
	Rdiff  string // the program, which makes the deltas
	Deltas string // a directory where deltas are kept from one run to the next
	Tmp    string // a directory, on the file system of the images
	Log    io.Writer
}

// Measure writes a table for each pair. Each update runs once at each rate: most of them
// take minutes, and what is compared differs by more than runs do.
func Measure(ctx context.Context, o Options, w io.Writer) error {
	o.heading(w)
	for i, p := range o.Pairs {
		dir := filepath.Join(o.Tmp, fmt.Sprint(i))
		m, err := o.newMirror(ctx, p, dir)
		if err != nil {
			return fmt.Errorf("%s: %w", p.Name, err)
		}
		if err := o.pair(ctx, m, w); err != nil {
			return fmt.Errorf("%s: %w", p.Name, err)
		}
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}
	return nil
}

func (o Options) heading(w io.Writer) {
	fmt.Fprintf(w, "# Where compact deltas break even\n\n    go -C bench run . breakeven --corpus %s\n\n", o.Corpus)
	for _, line := range measure.Machine() {
		fmt.Fprintf(w, "- %s\n", line)
	}
	fmt.Fprintf(w, "- %s\n", measure.FirstLine(nginx.Command, "-v"))
	fmt.Fprintln(w, `
Each update makes an image by puavo-update-image, from a local nginx that limits the rate of a connection, over plain HTTP, and the image is
compared with what it should be. "rdiff" finds an rdiff delta alone in the mirror, or where there is no base the full image; "compact" a compact
delta alone. "first" finds both, and knows nothing of the line; "next" finds both, and knows what those before it have measured: the client
chooses. "to the better" is its time to that of the faster of the first two. The base is known, and all is in the page cache. Memory is the
peak of anonymous memory.`)
}

// The kinds of mirrors that updates are made from.
const (
	rdiffOnly   = "rdiff"
	compactOnly = "compact"
	both        = "both"
)

// run is an update that is measured.
type run struct {
	name, mirror string
	knows        bool // what the runs before have measured
	args         []string
}

var runs = []run{
	{rdiffOnly, rdiffOnly, false, nil},
	{compactOnly, compactOnly, true, []string{"--prefer", "traffic"}},
	{"first", both, false, nil},
	{"next", both, true, nil},
}

// updated is what was measured of an update.
type updated struct {
	measure.Figures
	fetched int64
	way     string // as the client calls it
}

// pair measures the updates of a pair at each rate.
func (o Options) pair(ctx context.Context, m *mirror, w io.Writer) error {
	fmt.Fprintf(w, "\n## %s\n\n%s to %s bytes, %s as an rdiff delta or the full image, %s as a compact delta.\n\n", m.pair.Name,
		report.Group(m.baseSize), report.Group(m.targetSize), report.Group(m.rdiffSize), report.Group(m.compactSize))
	t := report.NewWriter(w, "Mbit/s", "update", "time s", "to the better", "fetched MB", "CPU s", "memory MB", "made from")
	for _, rate := range o.Rates {
		better := 0.
		for i, r := range runs {
			got, err := o.update(ctx, m, rate, r)
			if err != nil {
				return fmt.Errorf("at %s Mbit/s, %s: %w", rateText(rate), r.name, err)
			}
			fmt.Fprintf(o.Log, "%s, %s Mbit/s, %s: %.1f s, %s\n", m.pair.Name, rateText(rate), r.name, got.Seconds, got.way)
			if i < 2 && (better == 0 || got.Seconds < better) {
				better = got.Seconds
			}
			ratio := "-"
			if i >= 2 {
				ratio = report.Hundredths(got.Seconds / better)
			}
			t.Line(rateText(rate), r.name, report.Tenths(got.Seconds), ratio, report.MB(float64(got.fetched)), report.Tenths(got.CPU), report.MB(float64(got.Anonymous)), got.way)
		}
	}
	return t.Flush()
}

// ParseRates parses rates with commas between them.
func ParseRates(text string) (rates []int, err error) {
	for word := range strings.SplitSeq(text, ",") {
		rate, err := strconv.Atoi(strings.TrimSpace(word))
		if err != nil || rate < 0 {
			return nil, fmt.Errorf("%q is no rate in Mbit/s", word)
		}
		rates = append(rates, rate)
	}
	return rates, nil
}

func rateText(rate int) string {
	if rate == 0 {
		return "unlimited"
	}
	return fmt.Sprint(rate)
}

// speedFile is where the client keeps what it has measured.
const speedFile = ".image_updates_speed"

// update makes the image once, compares it with the target, and removes it.
func (o Options) update(ctx context.Context, m *mirror, rate int, r run) (got updated, err error) {
	server, err := o.serve(ctx, m, rate, r)
	if err != nil {
		return got, err
	}
	defer server.Stop()
	if !r.knows {
		if err := os.RemoveAll(filepath.Join(m.images, speedFile)); err != nil {
			return got, err
		}
	}
	if err := files.Warm(m.all()); err != nil {
		return got, err
	}
	args := append([]string{"--mirror", server.URL, "--images-dir", m.images}, r.args...)
	cmd := exec.CommandContext(ctx, o.Client, append(args, target.String())...)
	cmd.Env = o.environment()
	var stdout strings.Builder
	cmd.Stdout = &stdout
	if _, err := server.Fetched(ctx); err != nil {
		return got, err
	}
	if got.Figures, err = measure.Command(cmd); err != nil {
		return got, err
	}
	if got.fetched, err = server.Fetched(ctx); err != nil {
		return got, err
	}
	got.way = wayOf(stdout.String())
	made := filepath.Join(m.images, target.String())
	if err := files.Same(made, m.pair.Target); err != nil {
		return got, err
	}
	return got, os.Remove(made)
}

// serve serves the mirror of a run at a rate.
func (o Options) serve(ctx context.Context, m *mirror, rate int, r run) (*nginx.Server, error) {
	prefix := filepath.Join(m.dir, "nginx")
	if err := os.RemoveAll(prefix); err != nil {
		return nil, err
	}
	var more []string
	if rate > 0 {
		more = append(more, fmt.Sprintf("limit_rate %d;", rate*1e6/8))
	}
	return nginx.Start(ctx, filepath.Join(m.dir, r.mirror), prefix, more...)
}

// environment is what the client gets to know of ours.
func (o Options) environment() []string {
	env := []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "PUAVO_UPDATE_IMAGE_CONFIG="}
	if o.Cores > 0 {
		env = append(env, fmt.Sprintf("GOMAXPROCS=%d", o.Cores))
	}
	return env
}

// wayOf returns what an image was made from, as the client says.
func wayOf(stdout string) string {
	for _, way := range []string{"the compact delta", "the compact full image", "the delta", "the full image"} {
		if strings.Contains(stdout, " from "+way) {
			return way
		}
	}
	return "?"
}
