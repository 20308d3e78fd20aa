package main

import (
	"errors"
	"fmt"
	"io"
	"path"
	"time"

	"github.com/urfave/cli/v2"

	"puavo-image-repository/cmd/internal/command"
	"puavo-image-repository/cmd/internal/ui"
	"puavo-image-repository/cmd/internal/units"
	"puavo-image-repository/imagerepo/client"
	"puavo-image-repository/meta"
)

// console is where a command prints.
type console struct {
	out    io.Writer
	screen *ui.Screen
}

// options returns the options that the flags set.
func options(c *cli.Context, con console) (client.Options, error) {
	o := client.Options{
		Mirrors: c.StringSlice("mirror"), Dir: c.String("images-dir"), Image: c.Args().First(), Series: c.String("series"),
		PayloadMirrors: c.StringSlice("payload-mirror"), Discover: c.Bool("discover"), Prefer: c.String("prefer"),
		Trust: c.String("trust"), AllowDowngrade: c.Bool("allow-downgrade"),
		CACertificate: c.String("ca-certificate"), DefaultLink: c.String("default-link"), GrubLabels: c.Bool("grub-labels"),
		PreInstall: hook(c.String("pre-install")), PostInstall: hook(c.String("post-install")), HookOutput: con.screen.Output(),
		Keep: c.Int("keep"), StatsFile: c.String("stats-file"),
		Log: con.screen.Log(), Progress: con.screen.Progress,
		Stage: func(s client.Stage) { con.screen.Stage(s.Name, s.Image, s.Done, s.Total) },
		Fetched: func(f client.File) {
			con.screen.Did("fetched", "file", f.Path, "size", ui.Bytes(f.Size), "mirror", f.Mirror)
		},
	}
	var err error
	if o.Rate, err = parseRate(c.String("rate-limit")); err != nil {
		return o, err
	}
	if limit := c.String("max-time"); limit != "" {
		if o.MaxTime, err = units.Duration(limit); err != nil {
			return o, command.Usage("--max-time: %v", err)
		}
	}
	return o, check(c, &o)
}

// check returns an error for options that cannot be, and takes an IMAGE that is the name of
// a series for the series.
func check(c *cli.Context, o *client.Options) error {
	switch {
	case len(o.Mirrors) == 0 || o.Dir == "":
		return command.Usage("--mirror and --images-dir are needed")
	case o.GrubLabels && o.DefaultLink == "":
		return command.Usage("--grub-labels needs --default-link, which the labels follow")
	case o.Prefer != "" && o.Prefer != client.PreferTime && o.Prefer != client.PreferTraffic:
		return command.Usage("--prefer %q: want %s or %s", o.Prefer, client.PreferTime, client.PreferTraffic)
	case o.Keep < 0:
		return command.Usage("--keep %d, want 0 or more", o.Keep)
	case c.NArg() > 1:
		return command.Usage("want one IMAGE at most, got %d arguments", c.NArg())
	}
	if o.Image != "" {
		_, err := meta.ParseName(o.Image)
		if name, notSeries := meta.ParseSeriesName(o.Image); err != nil && notSeries == nil && path.Ext(name) != ".img" {
			o.Image, o.Series = "", name
		} else if err != nil {
			return command.Usage("IMAGE: %v", err)
		}
	}
	if o.Series != "" {
		if _, err := meta.ParseSeriesName(o.Series); err != nil {
			return command.Usage("--series: %v", err)
		}
	}
	return nil
}

// meantCommand returns the error of a run without a command, with the one that its IMAGE or
// SERIES may be meant for, where that is none and does not exist.
func meantCommand(c *cli.Context, err error) error {
	near := command.NearCommand(c, c.Args().First())
	if c.Command.Name != c.App.Name || near == "" || !errors.Is(err, client.ErrNoImage) && !errors.Is(err, command.ErrUsage) {
		return err
	}
	return fmt.Errorf("%w; did you mean the command %s?", err, near)
}

// parseRate returns a number of bytes, 0 for none given.
func parseRate(s string) (int64, error) {
	if s == "" {
		return 0, nil
	}
	n, err := units.Size(s)
	if err == nil && n < 1<<10 {
		err = fmt.Errorf("%s per second, want 1k or more", s)
	}
	if err != nil {
		return 0, command.Usage("--rate-limit: %v", err)
	}
	return n, nil
}

// update brings a directory of images up to date.
func update(c *cli.Context, con console) error {
	begun := time.Now()
	o, err := options(c, con)
	if err != nil {
		return err
	}
	if c.Bool("dry-run") {
		return plan(c, con)
	}
	result, err := client.Update(c.Context, o)
	con.screen.Done()
	err = measure(c, o, &lastRun{begun: begun, offered: result.Image, fetched: result.Fetched, compact: compactDeltas(result)}, err)
	if err != nil {
		return err
	}
	return con.print(c, result, describe(result, o))
}

// compactDeltas returns how many compact deltas were applied.
func compactDeltas(r client.Result) (n int) {
	for _, s := range r.Route.Steps {
		if s.Compact != nil {
			n++
		}
	}
	return n
}

// print prints a result: for programs, or as a text unless that is not wanted.
func (con console) print(c *cli.Context, result any, text string) (err error) {
	if c.Bool("json") {
		return command.JSON(con.out, result)
	}
	if !c.Bool("quiet") {
		_, err = io.WriteString(con.out, text)
	}
	return err
}

// describe says what was done.
func describe(r client.Result, o client.Options) (text string) {
	switch {
	case r.Disabled:
		return fmt.Sprintf("Updates are disabled by DISABLE_IMAGE_UPDATES in %s.\n", o.Dir)
	case r.Held != nil:
		text = heldText(r.Held)
	case r.Made:
		text = fmt.Sprintf("Made %s from %s (%s).\n", r.Image, r.Route, ui.Bytes(r.Route.Bytes()))
	case r.UpToDate:
		text = fmt.Sprintf("%s is up to date.\n", o.Dir)
	}
	if r.Installed && o.DefaultLink != "" {
		image := r.Image
		if r.Held != nil {
			image = r.Held.Image
		}
		text += fmt.Sprintf("%s points to %s.\n", o.DefaultLink, image)
	}
	if r.Made && o.Trust == "" {
		text += "Signatures were not checked (no --trust); only checksums were.\n"
	}
	for _, name := range r.Removed {
		text += fmt.Sprintf("Removed %s.\n", name)
	}
	return text
}

// hook returns a command that runs under the umask of its author.
func hook(command string) string {
	if command == "" || umask == ourUmask {
		return command
	}
	return fmt.Sprintf("umask %03o; %s", umask, command)
}
