// Package archivecmd is the command archive: it keeps versions of images, see package archive.
package archivecmd

import (
	"context"
	"io"
	"math"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"puavo-image-repository/cmd/internal/command"
	"puavo-image-repository/cmd/internal/ui"
	"puavo-image-repository/cmd/puavo-update-repository/internal/diffcmd"
)

// Tools are what the command takes from the program around it.
type Tools struct {
	// Reporting returns the action that runs a command, called name.
	Reporting func(name string, stderr io.Writer, run func(*cli.Context, *ui.Screen) error) cli.ActionFunc
	// ExitCode returns the exit code of an error.
	ExitCode func(c *cli.Context, err error) int
	Notify   cli.Flag // for what reports a failure
}

// tool is the context of the commands.
type tool struct {
	Tools
	stdout, stderr io.Writer
}

// call is one call of a command.
type call struct {
	*cli.Context
	tool
	ctx    context.Context
	screen *ui.Screen
	args   []string
}

// New returns the command.
func New(t Tools, stdout, stderr io.Writer) *cli.Command {
	a := tool{t, stdout, stderr}
	return &cli.Command{
		Name:      "archive",
		Usage:     "keep every version of the images in a fraction of their size",
		UsageText: "puavo-update-repository archive COMMAND [options] STORE ...",
		Description: `An archive keeps the newest version of each series whole, and the others as
   deltas that make each from the next newer one. librsync's rdiff patch
   restores all of them without this program. One wrong bit in the newest
   damages all older ones: run archive verify from a timer, and keep a second
   archive.

   Example:
      puavo-update-repository archive add images /srv/archive
      puavo-update-repository archive list /srv/archive
      puavo-update-repository archive restore /srv/archive \
        puavo-os-amxa-buster-amd64 2022-01-20-173248 --out old.img
      puavo-update-repository archive prune /srv/archive \
        --keep-last 3 --keep-weekly 8 --keep-monthly 24

   Exit codes: ` + command.ExitCodes,
		Subcommands: []*cli.Command{
			a.command("add", "DIR STORE", "add the images of a directory or a mirror to an archive", call.add,
				limits(), planned(), reports(t), making(), []cli.Flag{
					&cli.BoolFlag{Name: "ignore-space", Category: command.Limits, Usage: "start even if free space is probably insufficient"},
				}),
			a.backup(),
			a.command("list", "STORE [GROUP]", "print the versions", call.list, printed()),
			a.command("show", "STORE GROUP VERSION", "print the details of a version, and how rdiff restores it", call.show, printed()),
			a.command("restore", "STORE GROUP VERSION", "write a version to a file or a device", call.restore,
				limits(), planned(), []cli.Flag{
					&cli.StringFlag{Name: "out", Usage: "write the version to `FILE`, or to a block device that is not in use"},
					&cli.BoolFlag{Name: "overwrite", Usage: "replace an existing file, or the contents of a device"},
					&cli.BoolFlag{Name: "ignore-space", Category: command.Limits, Usage: "start even if free space is probably insufficient"},
					command.ProgressFlag(),
				}),
			a.command("verify", "STORE", "look for damage", call.verify, limits(), printed(), reports(t), []cli.Flag{
				&cli.BoolFlag{Name: "deep", Usage: "restore each version in memory and check its digest, not only that of its file"},
				&cli.StringFlag{Name: "sample", Usage: "verify `N%` of the versions of each group, chosen at random", DefaultText: "all"},
				&cli.BoolFlag{Name: "rebuild-catalog", Usage: "first rebuild the catalogs of which both copies are damaged"},
			}),
			a.command("protect", "STORE GROUP VERSION", "exempt a version from prune", call.protect),
			a.command("unprotect", "STORE GROUP VERSION", "let prune remove a version again", call.unprotect),
			a.command("note", "STORE GROUP VERSION TEXT", "set the note of a version; an empty one removes it", call.note),
			a.command("prune", "STORE", "move versions to the trash by a policy", call.prune, keep(), limits(), planned(), reports(t), making(), []cli.Flag{
				&cli.BoolFlag{Name: "ignore-space", Category: command.Limits, Usage: "start even if free space is probably insufficient"},
			}),
			a.command("gc", "STORE", "remove versions from the trash when their grace has ended", call.gc, planned()),
			a.command("diff", "STORE GROUP VERSION VERSION", "print which files of two versions differ, as diff does", call.diff, diffcmd.Flags(), limits()),
		},
		Action: command.NoCommand,
	}
}

// Is reports whether a word is the name of a command of archive.
func Is(word string) bool {
	return slices.ContainsFunc(New(Tools{Reporting: unused}, nil, nil).Subcommands, func(c *cli.Command) bool { return c.Name == word })
}

func unused(string, io.Writer, func(*cli.Context, *ui.Screen) error) cli.ActionFunc { return nil }

// command returns a command whose arguments have these names; those in brackets can be left out.
func (t tool) command(name, args, usage string, run func(call) error, flags ...[]cli.Flag) *cli.Command {
	want := strings.Fields(args)
	least, most := len(want), len(want)
	for least > 0 && strings.HasPrefix(want[least-1], "[") {
		least--
	}
	if strings.HasSuffix(args, "...") {
		most = math.MaxInt
	}
	all := []cli.Flag{}
	for _, some := range flags {
		all = append(all, some...)
	}
	return &cli.Command{
		Name: name, Usage: usage,
		UsageText: "puavo-update-repository archive " + name + " [options] " + args,
		Flags:     append(all, command.Flags("print more")...),
		Action: t.Reporting("archive "+name, t.stderr, func(c *cli.Context, screen *ui.Screen) error {
			given := c.Args().Slice()
			if len(given) < least || len(given) > most {
				return command.Usage("want %s, got %d arguments", args, len(given))
			}
			for i, arg := range given {
				if name := want[min(i, len(want)-1)]; arg == "" && name != "TEXT" {
					return command.Usage("%s is empty", strings.Trim(name, "[]."))
				}
			}
			return run(call{c, t, c.Context, screen, given})
		}),
	}
}

// keep returns the flags of a policy.
func keep() []cli.Flag {
	flags := []cli.Flag{&cli.IntFlag{Name: "keep-last", Usage: "keep the newest `N` versions of each group; a version stays if one of the --keep options keeps it"}}
	for _, period := range []struct{ name, of string }{{"hourly", "hour"}, {"daily", "day"}, {"weekly", "week"}, {"monthly", "month"}, {"yearly", "year"}} {
		flags = append(flags, &cli.IntFlag{Name: "keep-" + period.name, Usage: "keep the newest version of each of the `N` latest " + period.of + "s that have versions"})
	}
	return append(flags,
		&cli.StringFlag{Name: "keep-within", Usage: "keep the versions that are less than `AGE`, such as 30d, older than the newest"},
		&cli.StringSliceFlag{Name: "group", Usage: "prune the groups whose names match `GLOB` (can be given several times)", DefaultText: "all"},
		&cli.StringFlag{Name: "grace", Value: "7d", Usage: "leave pruned versions in the trash for `TIME`; then gc removes them"})
}

// making returns the flags that say how deltas are made.
func making() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "format", Value: "rdiff", Usage: "store deltas in this `FORMAT`: rdiff, or compact, which is smaller and slower"},
		&cli.IntFlag{Name: "max-chain", Value: 16, Usage: "restore no version through more than `N` deltas: keep some versions whole"},
	}
}

// limits returns the flags that say what a command may take.
func limits() []cli.Flag {
	return command.Category(command.Limits,
		&cli.StringFlag{Name: "memory", Usage: "use at most `SIZE` of memory, such as 1g, besides mapped files", DefaultText: "about 512 MiB"},
		&cli.BoolFlag{Name: "no-sync", Usage: "do not flush files to the disk: for RAM disks and tests"})
}

// printed returns the flag for programs.
func printed() []cli.Flag {
	return command.Category(command.Output, &cli.BoolFlag{Name: "json", Usage: "print it as JSON"})
}

// planned returns the flags of what has a plan.
func planned() []cli.Flag {
	return append(printed(), command.Category(command.Output, &cli.BoolFlag{Name: "dry-run", Usage: "print what would be done and change nothing"})...)
}

// reports returns the flags of what runs by a timer.
func reports(t Tools) []cli.Flag {
	return command.Category(command.Output,
		&cli.StringFlag{Name: "metrics-file", Usage: "write metrics of the run to `FILE`, for Prometheus' node exporter"},
		command.ProgressFlag(), t.Notify)
}
