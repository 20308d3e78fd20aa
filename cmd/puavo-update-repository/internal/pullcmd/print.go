package pullcmd

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"puavo-image-repository/cmd/internal/ui"
	"puavo-image-repository/imagerepo/pull"
	"puavo-image-repository/meta/untrusted"
)

// describe says what a run did.
func describe(s pull.Summary) string {
	dir := untrusted.Show(s.Dir)
	if !s.Changed {
		return fmt.Sprintf("%s is up to date; %s fetched.", dir, ui.Bytes(s.Fetched))
	}
	took := time.Duration(s.Seconds * float64(time.Second)).Round(10 * time.Millisecond)
	return fmt.Sprintf("%s: %d files of %s, %s fetched, %d images rebuilt, %d documents written, %d old files removed; %v.",
		dir, s.Files, ui.Bytes(s.Sent+s.Resumed), ui.Bytes(s.Fetched), s.Rebuilt, s.Written, s.Removed, took)
}

// printPlan prints what a run would do.
func printPlan(w io.Writer, dir string, p pull.Plan) error {
	dir = untrusted.Show(dir)
	if p.Nothing() {
		_, err := fmt.Fprintf(w, "%s: nothing to do, %d files stay.\n", dir, p.Kept)
		return err
	}
	if err := printSteps(w, p); err != nil {
		return err
	}
	kind := "documents of its own"
	if p.Whole {
		kind = "all of upstream"
	}
	_, err := fmt.Fprintf(w, "%s: gets %s, fetches about %s; %d files stay. It has %s.\n", dir, ui.Bytes(p.Bytes), ui.Bytes(p.Fetch), p.Kept, kind)
	return err
}

// printSteps prints the steps of a plan.
func printSteps(w io.Writer, p pull.Plan) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	sizes := make(map[string]int64)
	for _, f := range p.New {
		sizes[f.Name] = f.Size
	}
	for _, f := range p.Changed {
		sizes[f.Name] = f.Size
	}
	for _, f := range p.Sources {
		if f.Base == "" {
			fmt.Fprintf(t, "fetch\t%s\t%s\n", ui.Bytes(sizes[f.File]), untrusted.Show(f.File))
		} else {
			fmt.Fprintf(t, "rebuild\t%s\t%s from %s\n", ui.Bytes(sizes[f.File]), untrusted.Show(f.File), untrusted.Show(f.Delta))
		}
	}
	for _, name := range p.Withdraw {
		fmt.Fprintf(t, "withdraw\t\t%s\n", untrusted.Show(name))
	}
	for _, name := range slices.Concat(p.Signed, p.Documents, p.Trust) {
		fmt.Fprintf(t, "write\t\t%s\n", untrusted.Show(name))
	}
	for _, f := range p.Remove {
		when := "remove"
		if !f.Due.IsZero() {
			when += " after " + f.Due.Local().Format(time.DateTime)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\n", when, ui.Bytes(f.Size), untrusted.Show(f.Name))
	}
	for _, d := range p.Dropped {
		fmt.Fprintf(t, "leave out\t%s\t%s: %s\n", ui.Bytes(d.Size), untrusted.Show(d.File), d.Reason)
	}
	return t.Flush()
}

// DescribeRecord says how the last run went, how long upstream has not changed, what the copy
// lacks, and when the signatures of upstream expire.
func DescribeRecord(r pull.Record, now time.Time) string {
	var b strings.Builder
	for _, u := range r.Upstreams {
		lacks := "nothing is missing"
		if r.Lacks != (pull.Lag{}) {
			lacks = fmt.Sprintf("%d images and %d deltas of %s are missing", r.Lacks.Images, r.Lacks.Deltas, ui.Bytes(r.Lacks.Bytes))
		}
		expires := ""
		if !u.Expires.IsZero() {
			expires = ", signed until " + u.Expires.Local().Format(time.DateTime)
		}
		fmt.Fprintf(&b, "pulled from %s %v ago, unchanged for %v%s: %s\n", untrusted.Show(u.URL),
			max(now.Sub(u.Seen), 0).Round(time.Second), max(now.Sub(u.Changed), 0).Round(time.Second), expires, lacks)
	}
	fmt.Fprintf(&b, "last run %s, %v: ", r.Began.Local().Format(time.DateTime), time.Duration(r.Seconds*float64(time.Second)).Round(10*time.Millisecond))
	switch {
	case r.Error == "":
		b.WriteString("done\n")
	case r.Success.IsZero():
		b.WriteString("failed: " + untrusted.ShowLines(r.Error) + "\n")
	default:
		b.WriteString("failed: " + untrusted.ShowLines(r.Error) + "\nlast success " + r.Success.Local().Format(time.DateTime) + "\n")
	}
	return b.String()
}
