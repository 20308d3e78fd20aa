// Package publishcmd is the command publish, and the option --publish of a build: it puts a
// mirror on hosts, see package publish.
package publishcmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"

	"github.com/urfave/cli/v2"

	"puavo-image-repository/cmd/internal/command"
	"puavo-image-repository/cmd/internal/ui"
	"puavo-image-repository/cmd/internal/units"
	"puavo-image-repository/imagerepo"
	"puavo-image-repository/imagerepo/publish"
	"puavo-image-repository/meta/untrusted"
)

const category = "Publishing"

// Flags returns the flags of a build that say where it publishes the mirror. The command has
// them too.
func Flags() []cli.Flag {
	return command.Category(category,
		&cli.StringSliceFlag{Name: "publish", Usage: "upload the mirror to `DEST`: a directory, sftp://[user@]host[:port]/path, or s3://bucket[/prefix][?endpoint=URL][&region=NAME] (repeatable)"},
		&cli.StringFlag{Name: "rate-limit", Usage: "send at most `SIZE` per second by SFTP and to S3, e.g. 4m"},
		&cli.StringFlag{Name: "known-hosts", Usage: "read the host keys of SFTP servers from `FILE`", DefaultText: "the files of ssh"},
		&cli.StringFlag{Name: "ssh-key", Usage: "log in to SFTP servers with the private key in `FILE`", DefaultText: "the keys of the agent and of ssh"},
		&cli.BoolFlag{Name: "no-lock", Usage: "do not lock the destination; for one that cannot hold a lock"},
	)
}

// own returns the flags that only the command has.
func own() []cli.Flag {
	return slices.Concat(command.Category(category,
		&cli.StringFlag{Name: "verify", Value: string(publish.BySize), Usage: "`HOW`: how to check files that others put at a destination: none (by name), size, or read (also reads the files put there by this command)"},
		&cli.StringFlag{Name: "grace", Value: "7d", Usage: "wait `TIME` (e.g. 36h, 7d) before deleting files that are no longer referenced; 0 deletes them at once"},
		&cli.BoolFlag{Name: "allow-removal", Usage: "allow this run to remove every image of a series, or more than half of all images"},
		&cli.IntFlag{Name: "jobs", Aliases: []string{"j"}, Value: runtime.NumCPU(), DefaultText: "the number of processors", Usage: "send `N` files, or parts of files, at a time"},
		&cli.BoolFlag{Name: "no-sync", Usage: "do not flush the files of a directory to disk; for RAM disks and tests only"},
	), command.Category(command.Output,
		&cli.BoolFlag{Name: "dry-run", Usage: "print what would be done, and change nothing"},
		&cli.BoolFlag{Name: "json", Usage: "print the plans and the summaries as JSON"},
		command.ProgressFlag(),
	))
}

// Tools are what the command takes from the program around it.
type Tools struct {
	// Keys returns the keys that sign a mirror, nil if the flags name none, and what closes them.
	Keys func(c *cli.Context, mirror string, screen *ui.Screen) (publish.Signer, func(), error)
	// Reporting returns the action that runs a command, called name.
	Reporting func(name string, stderr io.Writer, run func(*cli.Context, *ui.Screen) error) cli.ActionFunc
	// Flags are more flags of the command: those of Keys, and where the mirror is.
	Flags []cli.Flag
}

// New returns the command.
func New(t Tools, stdout, stderr io.Writer) *cli.Command {
	return &cli.Command{
		Name:      "publish",
		Usage:     "upload a mirror to a static file host, or update it there",
		UsageText: "puavo-update-repository publish [options] [MIRROR_DIR DEST...]",
		Description: `Uploads what a destination lacks: images and deltas first, then the metadata;
   old files are deleted last. Clients can update from the destination at every
   moment. Without DEST, the key publish of the settings applies. The next run
   resumes an interrupted one.

   DEST is a directory; sftp://[user@]host[:port]/path; or
   s3://bucket[/prefix][?endpoint=URL][&region=NAME]. SFTP logs in with the keys
   of the SSH agent or of ~/.ssh, and checks the key of the server. The access
   keys for S3 are read from the environment (AWS_ACCESS_KEY_ID and so on) or
   from ~/.aws.

   A run records all that it writes in .published.json at the destination, and
   removes nothing else. If another publisher is at work there, it stops.

   Exit codes: ` + command.ExitCodes,
		Flags: slices.Concat(Flags(), own(), t.Flags, command.Flags("print what is done with each file")),
		Action: t.Reporting("publish", stderr, func(c *cli.Context, screen *ui.Screen) error {
			return run(c, t, stdout, screen)
		}),
	}
}

// outcome is what happened at one destination.
type outcome struct {
	Plan    publish.Plan     `json:"plan"`
	Summary *publish.Summary `json:"summary,omitempty"`
	Error   string           `json:"error,omitempty"`
}

func run(c *cli.Context, t Tools, stdout io.Writer, screen *ui.Screen) error {
	o, destinations, err := parse(c)
	if err != nil {
		return err
	}
	o.Apart = append(o.Apart, c.String("sign-keys"))
	if built, err := imagerepo.Remembered(o.MirrorDir); err == nil {
		o.Apart = append(o.Apart, built.ImageDir)
	}
	if c.Bool("dry-run") {
		return dryRun(c, o, destinations, stdout, screen)
	}
	signer, closeKeys, err := t.Keys(c, o.MirrorDir, screen)
	if err != nil {
		return err
	}
	defer closeKeys()
	o.Sign = signer
	all, err := ToAll(c.Context, o, destinations, screen)
	return errors.Join(report(c, all, stdout), err)
}

// report prints what happened at the destinations.
func report(c *cli.Context, all Outcomes, w io.Writer) error {
	switch {
	case c.Bool("json"):
		return command.JSON(w, map[string]any{"destinations": all})
	case c.Bool("quiet"):
		return nil
	}
	return all.Print(w, c.Bool("verbose"))
}

// parse returns the options of the arguments.
func parse(c *cli.Context) (o publish.Options, destinations []string, err error) {
	o.MirrorDir, destinations = c.String("mirror-dir"), c.StringSlice("publish")
	switch {
	case c.NArg() == 1 && len(destinations) > 0:
		o.MirrorDir = c.Args().First()
	case c.NArg() >= 2:
		o.MirrorDir, destinations = c.Args().First(), c.Args().Tail()
	case c.NArg() == 1, o.MirrorDir == "", len(destinations) == 0:
		return o, nil, command.Usage("want MIRROR_DIR and a DEST or more, got %d arguments", c.NArg())
	}
	if c.Int("jobs") < 1 {
		return o, nil, command.Usage("--jobs %d, want 1 or more", c.Int("jobs"))
	}
	o.Jobs, o.AllowRemoval, o.NoSync = c.Int("jobs"), c.Bool("allow-removal"), c.Bool("no-sync")
	if o.Verify, err = publish.ParseVerify(c.String("verify")); err != nil {
		return o, nil, command.Usage("--verify: %v", err)
	}
	if grace := c.String("grace"); grace != "" && grace != "0" {
		if o.Grace, err = units.Duration(grace); err != nil {
			return o, nil, command.Usage("--grace: %v", err)
		}
	}
	return o, destinations, Complete(c, &o, destinations)
}

// Complete sets the options that a build has too, and checks the destinations before
// other work begins.
func Complete(c *cli.Context, o *publish.Options, destinations []string) (err error) {
	for _, dest := range destinations {
		if err := publish.CheckDestination(dest); err != nil {
			return command.Usage("%v", err)
		}
	}
	if limit := c.String("rate-limit"); limit != "" {
		if o.RateLimit, err = units.Size(limit); err != nil {
			return command.Usage("--rate-limit: %v", err)
		}
	}
	o.KnownHosts, o.KeyFile, o.NoLock = c.String("known-hosts"), c.String("ssh-key"), c.Bool("no-lock")
	o.Apart = append(o.Apart, c.String("images-dir"))
	return nil
}

// Outcomes are what happened at all destinations.
type Outcomes []outcome

// ToAll publishes to each destination, even if another fails.
func ToAll(ctx context.Context, o publish.Options, destinations []string, screen *ui.Screen) (all Outcomes, err error) {
	o.Log, o.Progress, o.Stage = screen.Log(), screen.Progress, screen.Working
	o.Sent = func(file string, size int64) { screen.Did("sent", "file", file, "size", ui.Bytes(size)) }
	for _, o.Destination = range destinations {
		screen.Working("publish", "")
		plan, s, failure := publish.Run(ctx, o)
		screen.Done()
		one := outcome{Plan: plan, Summary: &s}
		if failure != nil {
			one.Error = untrusted.ShowLines(failure.Error())
			err = errors.Join(err, fmt.Errorf("publishing: %w", failure))
		}
		all = append(all, one)
		if ctx.Err() != nil {
			break
		}
	}
	return all, err
}

func dryRun(c *cli.Context, o publish.Options, destinations []string, stdout io.Writer, screen *ui.Screen) error {
	o.Log, o.Signs = screen.Log(), c.String("sign-keys") != ""
	var all Outcomes
	for _, o.Destination = range destinations {
		plan, err := publish.MakePlan(c.Context, o)
		if err != nil {
			return err
		}
		all = append(all, outcome{Plan: plan})
	}
	return report(c, all, stdout)
}
