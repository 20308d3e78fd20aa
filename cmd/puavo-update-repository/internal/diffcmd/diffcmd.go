// Package diffcmd is the command diff: it prints which files of two images differ, see
// package imagediff.
package diffcmd

import (
	"bufio"
	"errors"
	"io"

	"github.com/urfave/cli/v2"

	"puavo-image-repository/cmd/internal/command"
	"puavo-image-repository/imagerepo/imagediff"
)

// New returns the command, which prints to stdout.
func New(stdout, stderr io.Writer) *cli.Command {
	return &cli.Command{
		Name:      "diff",
		Usage:     "list the files that differ between two images",
		UsageText: "puavo-update-repository diff [options] OLD.img NEW.img",
		Description: `Lists files that were added or removed, or whose content, type, target,
   device number, mode or owner changed, with their sizes. Times, hard links and
   extended attributes are not compared. The images must be squashfs; they are
   neither mounted nor unpacked.

   With --depth N, changes are added up for each directory and all below it: 0
   is the whole image, 1 adds /usr and its siblings, 2 adds /usr/lib and so on.

   With --json, changes are printed as they are found; after an error, the
   document is incomplete.

   Exit codes: ` + command.ExitCodes + `;
   0 whether or not the images differ.`,
		Flags: append(Flags(), command.Flags("has no effect")...),
		Action: func(c *cli.Context) error {
			command.Start(c, stderr)
			return run(c, stdout)
		},
	}
}

// Flags returns the flags that say how differences are printed.
func Flags() []cli.Flag {
	return []cli.Flag{
		&cli.IntFlag{Name: "depth", Usage: "add up changes by directory, `N` levels deep", DefaultText: "list each file"},
		&cli.BoolFlag{Name: "json", Category: command.Output, Usage: "print the changes as JSON"},
	}
}

// printer prints what a comparison finds.
type printer interface {
	change(imagediff.Change) error
	end(imagediff.Sum, int) error // with how many files are the same
}

func run(c *cli.Context, stdout io.Writer) error {
	if c.NArg() != 2 || c.Args().Get(0) == "" || c.Args().Get(1) == "" {
		return command.Usage("want OLD.img and NEW.img, got %d arguments", c.NArg())
	}
	return Print(c, stdout, func(report func(imagediff.Change) error) (int, error) {
		return imagediff.Compare(c.Context, c.Args().Get(0), c.Args().Get(1), report)
	})
}

// Print prints what a comparison reports, as Flags say. compare returns how many files are the
// same.
func Print(c *cli.Context, stdout io.Writer, compare func(report func(imagediff.Change) error) (int, error)) error {
	depth := c.Int("depth")
	if depth < 0 {
		return command.Usage("--depth %d, want 0 or more", depth)
	}
	w := bufio.NewWriter(stdout)
	var p printer = &table{w: w}
	switch summed := c.IsSet("depth"); {
	case c.Bool("quiet"):
		p = silent{}
	case summed && c.Bool("json"):
		p = &jsonSums{w: w, sums: imagediff.Directories{Depth: depth}}
	case summed:
		p = &sumTable{w: w, sums: imagediff.Directories{Depth: depth}}
	case c.Bool("json"):
		p = &jsonList{w: w}
	}
	var total imagediff.Sum
	same, err := compare(func(change imagediff.Change) error {
		total.Add(change)
		return p.change(change)
	})
	if err == nil {
		err = p.end(total, same)
	}
	return errors.Join(err, w.Flush())
}

// silent prints nothing.
type silent struct{}

func (silent) change(imagediff.Change) error { return nil }
func (silent) end(imagediff.Sum, int) error  { return nil }
