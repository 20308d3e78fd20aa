package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"puavo-image-repository/cmd/internal/command"
	"puavo-image-repository/cmd/internal/ui"
	"puavo-image-repository/cmd/puavo-update-repository/internal/farmcmd"
	"puavo-image-repository/cmd/puavo-update-repository/internal/pullcmd"
	"puavo-image-repository/imagerepo/audit"
	"puavo-image-repository/imagerepo/pull"
	"puavo-image-repository/imagerepo/trust"
	"puavo-image-repository/meta"
	"puavo-image-repository/meta/untrusted"
)

func statusCommand(stdout, stderr io.Writer) *cli.Command {
	return &cli.Command{
		Name:      "status",
		Usage:     "print what a mirror contains",
		UsageText: "puavo-update-repository status [options] [MIRROR_DIR]",
		Description: `Prints the images of each series, the deltas between them with their sizes
   and shares of the target image, the sizes of compact deltas after a +, the
   result of the last run, and when the signatures expire. It warns about
   signatures in the last third of their validity, even with --quiet.

   Exit codes: ` + command.ExitCodes,
		Flags: append([]cli.Flag{
			&cli.BoolFlag{Name: "json", Category: command.Output, Usage: "print the status as JSON"},
			&cli.BoolFlag{Name: "show-farm", Aliases: []string{"farm"}, Usage: "print what the workers of the build do, or did last, instead; show-farm is the key in settings"},
			mirrorFlag(),
			settingsFlag(),
		}, statusFlags()...),
		Action: func(c *cli.Context) error {
			screen := command.Start(c, stderr)
			if c.Bool("quiet") {
				screen = ui.New(stderr, ui.Options{JSON: c.String("log-format") == "json"}) // with warnings
			}
			return status(c, stdout, screen)
		},
	}
}

// statusFlags returns the flags that all commands have, with what they do here.
func statusFlags() []cli.Flag {
	flags := command.Flags("also print the files of each series")
	for _, f := range flags {
		if quiet, ok := f.(*cli.BoolFlag); ok && quiet.Name == "quiet" {
			quiet.Usage = "print only warnings, and the error of a last run that failed"
		}
	}
	return flags
}

// fullStatus is what status prints as JSON.
type fullStatus struct {
	audit.Status
	Signed []trust.RoleStatus `json:"signed,omitempty"`
	Pulled *pull.Record       `json:"pulled,omitempty"`
}

func status(c *cli.Context, w io.Writer, screen *ui.Screen) error {
	dir, err := mirrorDir(c)
	if err != nil {
		return err
	}
	if c.Bool("show-farm") {
		return farmStatus(c, dir, w)
	}
	s, err := audit.StatusOf(dir)
	if err != nil {
		return err
	}
	signed, err := trust.StatusOf(dir, time.Now())
	if err != nil {
		return err
	}
	warnExpiry(screen, signed)
	full := fullStatus{Status: s, Signed: signed}
	if r, ok := pull.RecordOf(dir); ok {
		full.Pulled = &r
	}
	switch {
	case c.Bool("json"):
		return command.JSON(w, full)
	case !c.Bool("quiet"):
		return printStatus(w, full, c.Bool("verbose"))
	case full.Pulled != nil && full.Pulled.Error != "":
		_, err = io.WriteString(w, pullcmd.DescribeRecord(*full.Pulled, time.Now()))
	case s.LastRun != nil && s.LastRun.Error != "":
		_, err = io.WriteString(w, describeRun(s.LastRun))
	}
	return err
}

// farmStatus prints what workers do.
func farmStatus(c *cli.Context, dir string, w io.Writer) error {
	s, err := farmcmd.ReadStatus(dir)
	switch {
	case err != nil:
		return err
	case c.Bool("json"):
		return farmcmd.PrintJSON(w, s)
	case c.Bool("quiet"):
		return nil
	}
	return farmcmd.PrintStatus(w, s)
}

// printStatus prints a status, with the files if that is asked for.
func printStatus(w io.Writer, s fullStatus, files bool) error {
	for _, series := range s.Series {
		if err := printSeries(w, series, files); err != nil {
			return err
		}
	}
	page := ""
	if files && s.Page != "" {
		page = "web page: " + s.Page + "\n"
	}
	run := describeRun(s.LastRun)
	if s.Pulled != nil {
		run = pullcmd.DescribeRecord(*s.Pulled, time.Now())
	}
	_, err := fmt.Fprintf(w, "%d series, %d images of %s, %d deltas of %s%s\n%s%s",
		len(s.Series), s.Images, ui.Bytes(s.ImageBytes), s.Deltas, ui.Bytes(s.DeltaBytes), others(s.Compact, s.CompactBytes, s.Torrents), page, run)
	if err != nil || s.Signed == nil {
		return err
	}
	return printExpiry(w, s.Signed)
}

// warnExpiry warns of signatures that expire soon, and says what to do.
func warnExpiry(screen *ui.Screen, signed []trust.RoleStatus) {
	for _, s := range signed {
		if !s.Soon {
			continue
		}
		advice := "clients refuse the mirror after that; run keys renew"
		if s.Role == trust.Root {
			advice = "clients refuse the mirror after that; run keys sign where the root keys are, then keys renew"
		}
		screen.Log().Warn("signatures expire soon or have expired", "role", s.Role, "expires", date(s.Expires), "reason", advice)
	}
}

// printSeries prints a series as a matrix: a row for each base, a column for each
// image that deltas make. With files it lists those too.
func printSeries(w io.Writer, s audit.SeriesStatus, files bool) error {
	fmt.Fprintf(w, "%s\n", s.Name)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(t, "to\tsize\t")
	var targets []audit.ImageStatus
	for _, im := range s.Images {
		if len(im.Deltas)+len(im.Compact) > 0 {
			targets = append(targets, im)
			fmt.Fprintf(t, "%s\t", version(im.File))
		}
	}
	fmt.Fprintln(t)
	for _, b := range bases(s) {
		fmt.Fprintf(t, "%s\t%s\t", version(b.File), b.size)
		for _, target := range targets {
			fmt.Fprintf(t, "%s\t", cell(target, b.File))
		}
		fmt.Fprintln(t)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if files {
		if err := printFiles(w, s); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintln(w)
	return err
}

// printFiles lists the files of a series, by their paths in the mirror: each image, and
// the deltas to it.
func printFiles(w io.Writer, s audit.SeriesStatus) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, im := range s.Images {
		fmt.Fprintf(t, "%s\t\t  %s\n", ui.Bytes(im.Size), im.File)
		for _, d := range im.Deltas {
			fmt.Fprintf(t, "%s\t%.1f %%\t  %s\n", ui.Bytes(d.Size), 100*d.Share, meta.DeltaPath(d.File))
		}
		for _, c := range im.Compact {
			fmt.Fprintf(t, "%s\t%.1f %%\t  %s\n", ui.Bytes(c.Size), 100*c.Share, meta.CompactPath(c.File))
		}
	}
	return t.Flush()
}

// base is a row of the matrix.
type base struct{ File, size string }

// bases returns the images of a series, and the retired ones that are bases still.
func bases(s audit.SeriesStatus) []base {
	var all []base
	for _, im := range s.Images {
		all = append(all, base{im.File, ui.Bytes(im.Size)})
	}
	full := false
	for _, im := range s.Images {
		for _, d := range slices.Concat(im.Deltas, im.Compact) {
			if row := (base{d.Base, "retired"}); d.Retired && !slices.Contains(all, row) {
				all = append(all, row)
			}
			full = full || d.Base == ""
		}
	}
	if full {
		all = append(all, base{size: "no base"})
	}
	slices.SortStableFunc(all, func(a, b base) int { return strings.Compare(version(a.File), version(b.File)) })
	return all
}

// cell returns the sizes of the delta and the compact delta from a base to a target.
func cell(target audit.ImageStatus, base string) string {
	text := "-"
	for _, d := range target.Deltas {
		if d.Base == base {
			text = fmt.Sprintf("%s %5.1f %%", ui.Bytes(d.Size), 100*d.Share)
		}
	}
	for _, c := range target.Compact {
		if c.Base == base {
			text += " + " + ui.Bytes(c.Size)
		}
	}
	return text
}

// version returns the version of an image, or its file name if that has none.
func version(file string) string {
	n, err := meta.ParseOldName(file)
	if err != nil {
		return file
	}
	return n.Version
}

func describeRun(r *audit.LastRun) string {
	if r == nil {
		return ""
	}
	const layout = "2006-01-02 15:04:05"
	took := time.Duration(r.Seconds * float64(time.Second)).Round(10 * time.Millisecond)
	s, reason := fmt.Sprintf("last run %s, %v: ", r.Began.Local().Format(layout), took), untrusted.ShowLines(r.Error)
	switch {
	case r.Error == "":
		return s + "done\n"
	case r.Success.IsZero():
		return s + "failed: " + reason + "\n"
	default:
		return s + "failed: " + reason + "\nlast success " + r.Success.Local().Format(layout) + "\n"
	}
}
