// Package pullcmd is the command pull: it makes and updates a copy of a repository, see
// package pull.
package pullcmd

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"puavo-image-repository/cmd/internal/command"
	"puavo-image-repository/cmd/internal/ui"
	"puavo-image-repository/imagerepo/pull"
)

// The categories of the flags, besides those that commands share.
const (
	what    = "What to copy"
	trusted = "Trust"
)

// Tools are what the command takes from the program around it.
type Tools struct {
	// Keys returns the keys that sign the copy, nil if the flags name none, and what closes them.
	Keys func(c *cli.Context, dir string, screen *ui.Screen) (pull.Signer, func(), error)
	// ParseURL parses the base of urls.
	ParseURL func(s string) (string, error)
	// Reporting returns the action that runs a command, called name.
	Reporting func(name string, stderr io.Writer, run func(*cli.Context, *ui.Screen) error) cli.ActionFunc
	// ExitCode returns the exit code of an error.
	ExitCode func(c *cli.Context, err error) int
	// Sets reports whether the file of settings or the environment sets a key.
	Sets func(key string) bool
	// Flags are more flags of the command: those of Keys, and where the copy is.
	Flags []cli.Flag
}

// own returns the flags that only this command has.
func own() []cli.Flag {
	return slices.Concat(command.Category(what,
		&cli.StringSliceFlag{Name: "from", Usage: "copy the repository at `URL`, if no URL is given as an argument (repeatable)"},
		&cli.StringSliceFlag{Name: "series", Usage: "copy the series whose names match `GLOB` (repeatable)", DefaultText: "all"},
		// As a key, images is where verify --repair takes images from.
		&cli.IntFlag{Name: "pull-images", Aliases: []string{"images"}, Usage: "copy the newest `N` images of each series; pull-images is the key in settings", DefaultText: "all"},
		&cli.StringFlag{Name: "since", Usage: "copy images since `DATE`, e.g. 2024-01-31"},
		&cli.StringFlag{Name: "keep-list", Usage: "also copy images that devices use, and deltas from them: `FILE` lists versions, one per line, with the number of devices"},
		&cli.StringFlag{Name: "deltas", Value: "all", Usage: "`WHICH`: deltas to copy to these images: all, none, or a number N for those from the nearest N images"},
		&cli.StringFlag{Name: "max-size", Usage: "limit images and deltas to `SIZE`: leave out deltas first, then old images"},
		&cli.StringFlag{Name: "reserve", Usage: "leave `SIZE` of the disk free, in the same way"},
		&cli.BoolFlag{Name: "rebuild", Value: true, Usage: "make images from others and deltas, if that fetches less"},
		&cli.BoolFlag{Name: "make-deltas", Usage: "make deltas that upstream lacks, to the newest 3 images of each series, from as many others as --deltas says"},
		&cli.StringFlag{Name: "repository", Aliases: []string{"r"}, Usage: "base `URL` of the images in the documents of the copy"},
		&cli.BoolFlag{Name: "allow-removal", Usage: "allow this run to remove every image of a series, or more than half of all images"},
		&cli.StringFlag{Name: "grace", Value: "7d", Usage: "wait `TIME` (e.g. 36h, 7d) before deleting files that are no longer referenced; 0 deletes them at once"},
	), command.Category(trusted,
		&cli.StringSliceFlag{Name: "trust", Usage: "verify the signatures of the repositories with the root of trust in `FILE`: one for all, or one for each"},
		&cli.StringFlag{Name: "ca-certificate", Usage: "trust the certificates in `FILE` (PEM) in addition to the system's"},
	), command.Category(command.Limits,
		&cli.StringFlag{Name: "rate-limit", Usage: "fetch at most `SIZE` per second, e.g. 4m"},
		&cli.StringFlag{Name: "reverify", Value: "size", Usage: "`HOW`: how to check the files of the copy: never, size, digest, or a time such as 30d: digest, if last read that long ago"},
		&cli.IntFlag{Name: "jobs", Aliases: []string{"j"}, Value: 2, Usage: "fetch `N` files at a time"},
		&cli.BoolFlag{Name: "no-sync", Usage: "do not flush files to disk; for RAM disks and tests only"},
	), command.Category(command.Output,
		&cli.BoolFlag{Name: "dry-run", Usage: "print what would be done, and change nothing"},
		&cli.BoolFlag{Name: "json", Usage: "print the plan and the summary as JSON"},
		&cli.StringFlag{Name: "metrics-file", Usage: "write metrics to `FILE` for the Prometheus node exporter"},
		command.ProgressFlag(),
	))
}

// New returns the command.
func New(t Tools, stdout, stderr io.Writer) *cli.Command {
	return &cli.Command{
		Name:      "pull",
		Usage:     "copy a repository, or part of it, and keep the copy up to date",
		UsageText: "puavo-update-repository pull [options] [URL... DIR]",
		Description: `Makes DIR a copy of the repository at URL: for a bootserver, a second site or
   a public mirror. A run fetches what changed, and makes images from older ones
   and deltas. Clients can update from DIR at every moment. The next run
   resumes an interrupted one.

   Without options that choose, DIR gets all of upstream, byte for byte, with
   its signatures and torrents. With such options, or with several URLs, it gets
   its own documents, unsigned or signed with --sign-keys, and no torrents.
   Several URLs are several repositories; the names of their series must differ.
   Give the mirrors of one repository as one argument, separated by commas; they
   are tried in this order. Without URL or DIR, the keys from and mirror-dir of
   the settings apply.

   If upstream has lost a whole series, or more than half of its images, nothing
   is changed. The directory of a build is refused.

   Example:
      puavo-update-repository pull --series 'puavo-os-*' --images 3 \
        --keep-list devices https://images.example.org /srv/images

   Exit codes: ` + command.ExitCodes,
		Flags: slices.Concat(own(), t.Flags, command.Flags("print what is done with each file")),
		Action: t.Reporting("pull", stderr, func(c *cli.Context, screen *ui.Screen) error {
			return run(c, t, stdout, screen)
		}),
	}
}

func run(c *cli.Context, t Tools, stdout io.Writer, screen *ui.Screen) error {
	o, err := parse(c, t)
	if err != nil {
		return err
	}
	o.Log = screen.Log()
	if c.Bool("dry-run") {
		if c.String("sign-keys") != "" {
			o.Sign = unused{}
		}
		plan, err := pull.MakePlan(c.Context, o)
		if err != nil {
			return err
		}
		return report(c, outcome{Dir: o.Dir, Plan: plan}, stdout)
	}
	signer, closeKeys, err := t.Keys(c, o.Dir, screen)
	if err != nil {
		return err
	}
	defer closeKeys()
	o.Sign, o.Progress, o.Stage = signer, screen.Progress, screen.Working
	o.Got = func(f pull.File) { got(screen, f) }
	screen.Working("starting", "")
	plan, s, err := pull.Run(c.Context, o)
	screen.Done()
	if err != nil {
		screen.Working("error", "")
	} else {
		screen.Working("finished", "")
	}
	if err := measure(c, t, o, s, err); err != nil {
		return err
	}
	return report(c, outcome{Dir: o.Dir, Plan: plan, Summary: &s}, stdout)
}

// measure writes the metrics file that is asked for, and returns the error of the run, or else
// that of the file.
func measure(c *cli.Context, t Tools, o pull.Options, s pull.Summary, err error) error {
	file := c.String("metrics-file")
	if file == "" {
		return err
	}
	m := metrics{summary: s, end: time.Now(), exitCode: t.ExitCode(c, err), failed: err != nil}
	failure := m.write(file, o.Dir)
	if err != nil && failure != nil {
		o.Log.Error("no metrics of this run", "reason", failure)
		return err
	}
	return cmp.Or(err, failure)
}

// unused stands for keys that a plan does not use.
type unused struct{ pull.Signer }

// got says what became of a file.
func got(screen *ui.Screen, f pull.File) {
	size := ui.Bytes(f.Size)
	switch {
	case f.Made:
		screen.Did("made", "file", f.Name, "size", size)
	case f.Reused:
		screen.Did("fetched before", "file", f.Name, "size", size)
	case f.Base != "":
		screen.Did("rebuilt", "file", f.Name, "size", size, "base", f.Base, "delta", f.Delta)
	default:
		screen.Did("fetched", "file", f.Name, "size", size, "from", f.From)
	}
}

// outcome is what is printed as JSON.
type outcome struct {
	Dir     string        `json:"dir"`
	Plan    pull.Plan     `json:"plan"`
	Summary *pull.Summary `json:"summary,omitempty"`
}

func report(c *cli.Context, o outcome, w io.Writer) error {
	switch {
	case c.Bool("json"):
		return command.JSON(w, o)
	case c.Bool("quiet"):
		return nil
	case o.Summary == nil:
		return printPlan(w, o.Dir, o.Plan)
	}
	if c.Bool("verbose") {
		if err := printSteps(w, o.Plan); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintln(w, describe(*o.Summary))
	return err
}
