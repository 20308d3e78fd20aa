package main

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"puavo-image-repository/cmd/internal/command"
	"puavo-image-repository/cmd/internal/ui"
	"puavo-image-repository/cmd/puavo-update-repository/internal/compactcmd"
	"puavo-image-repository/cmd/puavo-update-repository/internal/publishcmd"
	"puavo-image-repository/imagerepo"
	"puavo-image-repository/imagerepo/compactdelta"
	"puavo-image-repository/imagerepo/plan"
)

// report prints plans and summaries.
type report struct {
	w           io.Writer
	json, quiet bool
	shared      bool // each delta that is made has a line in the same place already
}

// lines returns functions that write a line for each thing that is done, where no bar is
// shown. With verbose, a message reports each delta already, and deltaMade is nil.
func lines(screen *ui.Screen, verbose bool) (imageRead func(file string, size int64), deltaMade func(imagerepo.DeltaResult)) {
	imageRead = func(file string, size int64) { screen.Did("read", "image", file, "size", ui.Bytes(size)) }
	if verbose {
		return imageRead, nil
	}
	return imageRead, func(d imagerepo.DeltaResult) {
		screen.Did("made", "delta", d.File, "size", ui.Bytes(d.Size), "share", fmt.Sprintf("%.1f %%", 100*d.Share))
	}
}

// plan prints what a run would do. compact is nil if there are no compact deltas to be.
func (r report) plan(p plan.Plan, compact *compactdelta.Plan) error {
	if r.json {
		all := map[string]any{"plan": p}
		if compact != nil {
			all["compact"] = map[string]any{"plan": compact}
		}
		return command.JSON(r.w, all)
	}
	t := tabwriter.NewWriter(r.w, 0, 0, 2, ' ', 0)
	for _, im := range p.Images {
		fmt.Fprintf(t, "%s\t%s\t%s\n", imageVerb(im), ui.Bytes(im.Size), im.File)
	}
	for _, d := range p.Deltas {
		fmt.Fprintf(t, "%s\t%s\t%s\n", deltaVerb(d), fileSize(d.Size), d.File)
	}
	for _, c := range p.Compact {
		if c.Action != plan.Make {
			fmt.Fprintf(t, "%s\t%s\t%s\n", c.Action, fileSize(c.Size), c.File)
		}
	}
	for _, f := range p.Torrents {
		if f.Action == plan.Make {
			fmt.Fprintf(t, "%s\t%s\t%s\n", torrentVerb(f), fileSize(f.Size), f.File)
		}
	}
	for _, f := range p.Remove {
		verb := "remove"
		if !f.Due.IsZero() {
			verb = "remove after " + f.Due.Local().Format(time.DateTime)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\n", verb, ui.Bytes(f.Size), f.Path)
	}
	for _, f := range p.Failed {
		fmt.Fprintf(t, "fail\t\t%s\n", f.Name)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if err := cmp.Or(r.choices(p), r.notes(p)); err != nil {
		return err
	}
	e := p.Estimate
	if e.Orphans > 0 {
		if _, err := fmt.Fprintf(r.w, "Orphans occupy %s until they are removed; see --grace.\n", ui.Bytes(e.Orphans)); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(r.w, "Estimate: %v; reads %s, writes %s; up to %s of memory; %s of disk space, of %s free%s.\n",
		time.Duration(e.Seconds*float64(time.Second)).Round(time.Second), ui.Bytes(e.Read), ui.Bytes(e.Write), ui.Bytes(e.Memory), ui.Bytes(e.Space), ui.Bytes(e.Free), copies(e))
	return cmp.Or(err, compactcmd.PrintPlan(r.w, compact))
}

// choices prints which images of each series are kept, and why.
func (r report) choices(p plan.Plan) error {
	t := tabwriter.NewWriter(r.w, 0, 0, 2, ' ', 0)
	for _, s := range p.Series {
		if len(s.Choices) == 0 {
			continue
		}
		fmt.Fprintf(t, "%s: %d of %d images are kept:\n", s.Name, len(s.Images), len(s.Choices))
		for _, c := range s.Choices {
			verb, why := "leave out", ""
			if c.Kept() {
				verb, why = "keep", strings.Join(c.Reasons, ", ")+" image"
			}
			fmt.Fprintf(t, "  %s\t%s\t%s\n", verb, c.File, why)
		}
	}
	return t.Flush()
}

// copies returns a clause about the space for images that will most likely be copied.
func copies(e plan.Estimate) string {
	if e.Copies == 0 {
		return ""
	}
	return fmt.Sprintf("; %s of it probably for copies of images that cannot be linked into the mirror", ui.Bytes(e.Copies))
}

// imageVerb returns what a run does about an image.
func imageVerb(im plan.Image) string {
	switch {
	case im.Touched:
		return string(im.Action) + " compare"
	case im.Read:
		return string(im.Action) + " read"
	case im.Sign:
		return string(im.Action) + " sign"
	default:
		return string(im.Action)
	}
}

// deltaVerb returns what a run does about a delta.
func deltaVerb(d plan.Delta) string {
	verb := string(d.Action)
	switch d.Action {
	case plan.Make:
		verb = "diff"
	case plan.Await:
		verb = "keep or diff"
	}
	if d.Retired {
		verb += " by signature"
	}
	return verb
}

// torrentVerb returns what a run does about the torrent of a file.
func torrentVerb(t plan.Torrent) string {
	if t.Read {
		return "read for torrent"
	}
	return "make torrent"
}

// fileSize returns a size that may not be known.
func fileSize(n int64) string {
	if n == 0 {
		return "?"
	}
	return ui.Bytes(n)
}

// notes prints what is unusual about a run.
func (r report) notes(p plan.Plan) error {
	if len(p.Unowned) > 0 {
		const note = "These files are no longer needed, but no record says that this tool made them, so they stay. Remove them, or take them over with --adopt:\n  %s\n"
		if _, err := fmt.Fprintf(r.w, note, strings.Join(p.Unowned, "\n  ")); err != nil {
			return err
		}
	}
	if !p.Adopted {
		return nil
	}
	const note = "Taking over a mirror that another tool made, or whose records are lost: every delta in it is checked."
	left := ""
	if len(p.LeftAlone) > 0 {
		left = fmt.Sprintf(" %s are no longer needed, and are left alone.", strings.Join(p.LeftAlone, " and "))
	}
	_, err := fmt.Fprintf(r.w, "%s%s\n", note, left)
	return err
}

// summary prints what was done.
func (r report) summary(p plan.Plan, s imagerepo.Summary, made *compactcmd.Outcome, sent publishcmd.Outcomes) error {
	switch {
	case r.json:
		all := map[string]any{"plan": p, "summary": s}
		if made != nil {
			all["compact"] = made
		}
		if len(sent) > 0 {
			all["destinations"] = sent
		}
		return command.JSON(r.w, all)
	case r.quiet:
		return nil
	}
	if err := cmp.Or(r.built(p, s), made.Print(r.w, r.shared)); err != nil {
		return err
	}
	return sent.Print(r.w, false)
}

// built prints what a build did.
func (r report) built(p plan.Plan, s imagerepo.Summary) error {
	if err := r.notes(p); err != nil {
		return err
	}
	if !s.Changed && len(s.Failed) == 0 {
		_, err := fmt.Fprintf(r.w, "Nothing to do: %s, all up to date.\n", contents(s))
		return err
	}
	t := tabwriter.NewWriter(r.w, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, d := range s.Deltas {
		if r.shared && d.Action != plan.Drop {
			continue // the others are counted
		}
		verb := map[plan.Action]string{plan.Make: "made", plan.Keep: "kept", plan.Drop: "dropped", plan.Omit: "left out"}[d.Action]
		fmt.Fprintf(t, "%s\t%s\t%.1f %%\t  %s\n", verb, ui.Bytes(d.Size), 100*d.Share, d.File)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, f := range s.Removals {
		if _, err := fmt.Fprintf(r.w, "removed %s\n", f); err != nil {
			return err
		}
	}
	took := time.Duration(s.Seconds * float64(time.Second)).Round(10 * time.Millisecond)
	_, err := fmt.Fprintf(r.w, "%s: %d made, %d kept, %d dropped; %d old files removed; %v.\n",
		contents(s), s.Made, s.Kept, s.Dropped, s.Removed, took)
	return err
}

// contents returns what a mirror holds.
func contents(s imagerepo.Summary) string {
	return fmt.Sprintf("%d series, %d images of %s, %d deltas of %s%s",
		s.Series, s.Images, ui.Bytes(s.ImageBytes), s.Made+s.Kept, ui.Bytes(s.DeltaBytes), others(s.Compact, s.CompactBytes, s.Torrents))
}

// others returns what a mirror holds besides images and rdiff deltas, as a clause.
func others(compact int, compactBytes int64, torrents int) (clause string) {
	if compact > 0 {
		clause = fmt.Sprintf(", %d compact deltas of %s", compact, ui.Bytes(compactBytes))
	}
	if torrents > 0 {
		clause += fmt.Sprintf(", %d torrents", torrents)
	}
	return clause
}
