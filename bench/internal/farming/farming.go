// Package farming predicts how long a farm of workers takes for the deltas of a repository: it
// simulates builder, link and workers, from what deltas take on one core.
//
//	queue --> worker: fetches images that its cache lacks --(link, shared)--> a core: makes the delta
//	  ^                                                                            |
//	  |  a compact delta, to be applied by another worker                          | (link)
//	  +----------------------------------------------------------------------------+
//	                                                                               v
//	builder: makes deltas too; applies each rdiff delta, and the share of the compact ones that is rechecked
//
// What happens is a list of events: a fetch ends, a core is done, a worker looks for a job. The link
// and the cores of a machine are shared by all that use them at the time, equally. A worker chooses as
// the real one does: a job of a base that it holds or fetches, then another one, deltas to apply first;
// of equals one of the base with the most jobs. A builder that has nothing else to do makes the rdiff
// deltas itself that workers have begun last. Not in the model are: reading images from the disk, the
// queue's own work, latency, that a worker stops what the builder has taken over, and what a build does
// before and after its deltas.
package farming

import (
	"context"
	"fmt"
	"io"
	"strconv"

	"puavo-image-repository/bench/internal/report"
)

// Options say what is simulated, and what it is compared with.
type Options struct {
	Changes []Change // see Known
	Moving  Moving   // over TLS
	Size    float64  // of each image, in bytes
	Images  int      // of each series
	Cores   int      // of builder and of each worker
	Series  []int
	Rates   []int // of the builder's link, in Gbit/s
	Workers []int
}

// Usual is what is simulated if nothing else is said, as far as it is no measure.
var Usual = Options{
	Changes: Known, Moving: KnownMoving, Size: 10e9, Images: 4, Cores: 4,
	Series: []int{5, 50}, Rates: []int{1, 10, 25}, Workers: []int{0, 1, 2, 4, 8, 16, 32, 64, 128, 256},
}

// usualCache is what a worker keeps of images, in bytes, if it is not told.
const usualCache = 200e9

// Simulate writes a table for each number of series, and for rdiff and compact deltas.
func Simulate(ctx context.Context, o Options, w io.Writer) error {
	costs(o, w)
	fmt.Fprintf(w, `
The tables that follow are simulated. Builder and workers have %d cores each, and the builder makes deltas too. Each series has %d images of %s
bytes, and deltas from all its images to the newest %d. A delta takes what those of the real images take, by the size of the image. "faster" is the
time of the builder alone to that with so many workers. "moved" is what the builder sends and receives. "limit" is what was used for most of the
time, and its share of it: the link, the builder, which checks deltas, or the workers' cores. Where none was used for half of it, that is "end": most
wait for the last deltas.
`, o.Cores, o.Images, report.Group(int64(o.Size)), targets)
	for _, compact := range []bool{false, true} {
		for _, series := range o.Series {
			if err := o.table(ctx, series, compact, w); err != nil {
				return err
			}
		}
	}
	return nil
}

// costs writes what deltas take.
func costs(o Options, w io.Writer) {
	fmt.Fprintf(w, "\n## Costs\n\nWhat deltas of the real images take on one core. Sending a GB over TLS takes %s CPU-seconds, and receiving it %s.\n\n", report.Hundredths(o.Moving.Send*1e9), report.Hundredths(o.Moving.Receive*1e9))
	t := report.NewWriter(w, "delta", "target MB", "index CPU s", "make CPU s", "check CPU s", "delta MB")
	for _, c := range o.Changes {
		for _, of := range []struct {
			name string
			Cost
		}{{"rdiff", c.RDiff}, {"compact", c.Compact}} {
			t.Line(of.name+", "+c.Name, report.MB(c.Target), report.Hundredths(of.Index), report.Hundredths(of.Make), report.Hundredths(of.Check), report.Hundredths(of.Bytes/1e6))
		}
	}
	_ = t.Flush() // what is written next fails too
}

// farm returns a farm of so many workers, and what it has to do.
func (o Options) farm(r Repository, workers, rate int) Farm {
	f := Farm{
		Workers: workers, Cores: o.Cores, Builder: float64(o.Cores), Link: float64(rate) * 1e9 / 8, Cache: usualCache,
		Send: o.Moving.Send, Receive: o.Moving.Receive, Tick: 1, Recheck: 0.05,
	}
	f.Images, f.Jobs = r.Jobs()
	return f
}

// table simulates a repository with all numbers of workers at all rates.
func (o Options) table(ctx context.Context, series int, compact bool, w io.Writer) error {
	r := Repository{Series: series, Images: o.Images, Size: o.Size, Compact: compact, Changes: o.Changes}
	alone, err := Run(o.farm(r, 0, 1))
	if err != nil {
		return err
	}
	kind := "rdiff"
	if compact {
		kind = "compact"
	}
	_, jobs := r.Jobs()
	fmt.Fprintf(w, "\n## %s, %d series\n\n%d deltas. The builder alone takes %s hours.\n\n", kind, series, len(jobs), report.Tenths(alone.Seconds/3600))
	columns := []string{"workers"}
	for _, rate := range o.Rates {
		at := " at " + strconv.Itoa(rate) + " Gbit/s"
		columns = append(columns, "faster"+at, "moved TB"+at, "limit"+at)
	}
	t := report.NewWriter(w, columns...)
	for _, n := range o.Workers {
		cells := []any{n}
		for _, rate := range o.Rates {
			if err := ctx.Err(); err != nil {
				return err
			}
			out, err := Run(o.farm(r, n, rate))
			if err != nil {
				return err
			}
			cells = append(cells, report.Hundredths(alone.Seconds/out.Seconds), report.Hundredths((out.Sent+out.Received)/1e12), out.limit())
		}
		t.Line(cells...)
	}
	return t.Flush()
}

// limit returns what was used most.
func (o Outcome) limit() string {
	most, name := 0.5, "end"
	for _, of := range []struct {
		name  string
		share float64
	}{{"link", o.Link}, {"builder", o.Checking}, {"workers", o.Working}} {
		if of.share > most {
			most, name = of.share, of.name
		}
	}
	if name == "end" {
		return name
	}
	return fmt.Sprintf("%s %.0f %%", name, 100*most)
}
