package publishcmd

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"puavo-image-repository/cmd/internal/ui"
	"puavo-image-repository/imagerepo/publish"
	"puavo-image-repository/meta/untrusted"
)

// Print prints plans of dry runs, and the results of runs, with each step if verbose is set.
func (all Outcomes) Print(w io.Writer, verbose bool) error {
	for _, o := range all {
		if err := o.print(w, verbose); err != nil {
			return err
		}
	}
	return nil
}

func (o outcome) print(w io.Writer, verbose bool) error {
	switch {
	case o.Summary == nil:
		return printPlan(w, o.Plan)
	case o.Error != "":
		return nil
	case !o.Summary.Changed:
		_, err := fmt.Fprintf(w, "%s is up to date.\n", untrusted.Show(o.Summary.Destination))
		return err
	}
	if verbose {
		if err := printSteps(w, o.Plan); err != nil {
			return err
		}
	}
	s := o.Summary
	took := time.Duration(s.Seconds * float64(time.Second)).Round(10 * time.Millisecond)
	resumed := ""
	if s.Resumed > 0 {
		resumed = fmt.Sprintf(", %s of them by an earlier run", ui.Bytes(s.Resumed))
	}
	_, err := fmt.Fprintf(w, "%s: %d files of %s sent%s, %d documents written, %d old files removed; %v.\n",
		untrusted.Show(s.Destination), s.Files, ui.Bytes(s.Sent+s.Resumed), resumed, s.Written, s.Removed, took)
	return err
}

// printPlan prints what a run would do.
func printPlan(w io.Writer, p publish.Plan) error {
	if p.Nothing() {
		_, err := fmt.Fprintf(w, "%s: nothing to do, %d files stay.\n", untrusted.Show(p.Destination), p.Kept)
		return err
	}
	if err := printSteps(w, p); err != nil {
		return err
	}
	took := "it is not known how long that takes"
	if p.Bytes == 0 {
		took = "a moment"
	} else if p.Seconds > 0 {
		took = fmt.Sprintf("about %v at the rate of the last run", time.Duration(p.Seconds*float64(time.Second)).Round(time.Second))
	}
	requests := ""
	if p.Requests > 0 {
		requests = fmt.Sprintf(" in about %d requests", p.Requests)
	}
	_, err := fmt.Fprintf(w, "%s: sends %s%s, %s; %d files stay.\n",
		untrusted.Show(p.Destination), ui.Bytes(p.Bytes), requests, took, p.Kept)
	return err
}

// printSteps prints the steps of a plan, in their order.
func printSteps(w io.Writer, p publish.Plan) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	files := func(verb string, all []publish.File) {
		for _, f := range all {
			when := verb
			if !f.Due.IsZero() {
				when += " after " + f.Due.Local().Format(time.DateTime)
			}
			fmt.Fprintf(t, "%s\t%s\t%s\n", when, ui.Bytes(f.Size), untrusted.Show(f.Name))
		}
	}
	names := func(verb string, all []string) {
		for _, name := range all {
			fmt.Fprintf(t, "%s\t\t%s\n", verb, untrusted.Show(name))
		}
	}
	files("send", p.New)
	files("replace", p.Changed)
	names("write", p.Signed)
	names("withdraw", p.Withdraw)
	names("write", p.Documents)
	names("write", p.Trust)
	if p.Signs {
		fmt.Fprintln(t, "sign\t\twhat is published, which writes more files in tuf: their names have the time of signing")
	}
	files("remove", p.Remove)
	return t.Flush()
}
