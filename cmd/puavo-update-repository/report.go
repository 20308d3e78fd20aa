package main

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"puavo-image-repository/cmd/internal/ui"
	"puavo-image-repository/imagerepo"
)

// report prints plans and summaries.
type report struct {
	w           io.Writer
	json, quiet bool
}

// plan prints what would be done.
func (r report) plan(p imagerepo.Plan) error {
	if r.json {
		return printJSON(r.w, map[string]any{"plan": p})
	}
	t := tabwriter.NewWriter(r.w, 0, 0, 2, ' ', 0)
	for _, im := range p.Images {
		action := string(im.Action)
		if im.Read {
			action += " sign"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\n", action, ui.Bytes(im.Size), im.File)
	}
	for _, d := range p.Deltas {
		size := "?"
		if d.Size > 0 {
			size = ui.Bytes(d.Size)
		}
		action := string(d.Action)
		if d.Action == imagerepo.Make {
			action = "diff"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\n", action, size, d.File)
	}
	for _, f := range p.Remove {
		fmt.Fprintf(t, "remove\t%s\t%s\n", ui.Bytes(f.Size), f.Path)
	}
	return t.Flush()
}

// summary prints what was done.
func (r report) summary(p imagerepo.Plan, s imagerepo.Summary) error {
	switch {
	case r.json:
		return printJSON(r.w, map[string]any{"plan": p, "summary": s})
	case r.quiet:
		return nil
	case !s.Changed:
		_, err := fmt.Fprintf(r.w, "Nothing to do: %s, all up to date.\n", contents(s))
		return err
	}
	t := tabwriter.NewWriter(r.w, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, d := range s.Deltas {
		verb := map[imagerepo.Action]string{imagerepo.Make: "made", imagerepo.Keep: "kept", imagerepo.Drop: "dropped"}[d.Action]
		fmt.Fprintf(t, "%s\t%s\t%.1f %%\t  %s\n", verb, ui.Bytes(d.Size), 100*d.Share, d.File)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	took := time.Duration(s.Seconds * float64(time.Second)).Round(10 * time.Millisecond)
	_, err := fmt.Fprintf(r.w, "%s: %d made, %d kept, %d dropped; %d old files removed; %v.\n",
		contents(s), s.Made, s.Kept, s.Dropped, s.Removed, took)
	return err
}

// contents tells what a mirror holds.
func contents(s imagerepo.Summary) string {
	return fmt.Sprintf("%d series, %d images of %s, %d deltas of %s",
		s.Series, s.Images, ui.Bytes(s.ImageBytes), s.Made+s.Kept, ui.Bytes(s.DeltaBytes))
}
