package main

import (
	"fmt"
	"io"

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
	err    io.Writer // standard error, for other programs
}

// options returns the options that the flags set.
func options(c *cli.Context, con console) (client.Options, error) {
	o := client.Options{
		Mirrors: c.StringSlice("mirror"), Dir: c.String("images-dir"), Image: c.Args().First(),
		PayloadMirrors: c.StringSlice("payload-mirror"), Discover: c.Bool("discover"),
		Trust: c.String("trust"), AllowDowngrade: c.Bool("allow-downgrade"),
		CACertificate: c.String("ca-certificate"), DefaultLink: c.String("default-link"), GrubLabels: c.Bool("grub-labels"),
		PreInstall: hook(c.String("pre-install")), PostInstall: hook(c.String("post-install")), HookOutput: con.err,
		Keep: c.Int("keep"), StatsFile: c.String("stats-file"),
		Log: con.screen.Log(), Progress: con.screen.Progress,
	}
	switch {
	case len(o.Mirrors) == 0 || o.Dir == "":
		return o, command.Usage("--mirror and --images-dir are needed")
	case o.GrubLabels && o.DefaultLink == "":
		return o, command.Usage("--grub-labels needs --default-link, which the labels follow")
	case o.Keep < 0:
		return o, command.Usage("--keep %d is less than none", o.Keep)
	case c.NArg() > 1:
		return o, command.Usage("want one IMAGE at most, got %d arguments", c.NArg())
	case c.NArg() == 1:
		if _, err := meta.ParseName(c.Args().First()); err != nil {
			return o, command.Usage("IMAGE: %v", err)
		}
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
	return o, nil
}

// parseRate returns a number of bytes, 0 for none given.
func parseRate(s string) (int64, error) {
	if s == "" {
		return 0, nil
	}
	n, err := units.Size(s)
	if err == nil && n < 1<<10 {
		err = fmt.Errorf("%s a second is too little to get anywhere", s)
	}
	if err != nil {
		return 0, command.Usage("--rate-limit: %v", err)
	}
	return n, nil
}

// update brings a directory of images up to date.
func update(c *cli.Context, con console) error {
	o, err := options(c, con)
	if err != nil {
		return err
	}
	if c.Bool("dry-run") {
		return plan(c, con)
	}
	if c.Bool("json") {
		return command.Usage("--json is for --dry-run")
	}
	result, err := client.Update(c.Context, o)
	con.screen.Done()
	if err != nil || c.Bool("quiet") {
		return err
	}
	_, err = io.WriteString(con.out, describe(result, o))
	return err
}

// describe says what was done.
func describe(r client.Result, o client.Options) (text string) {
	switch {
	case r.Disabled:
		return fmt.Sprintf("Updates are disabled by DISABLE_IMAGE_UPDATES in %s.\n", o.Dir)
	case r.Made:
		text = fmt.Sprintf("%s is there, from %s of %s.\n", r.Image, r.Route, ui.Bytes(r.Route.Bytes()))
	case r.UpToDate:
		text = fmt.Sprintf("%s is up to date.\n", o.Dir)
	}
	if !r.UpToDate && o.DefaultLink != "" {
		text += fmt.Sprintf("%s leads to %s.\n", o.DefaultLink, r.Image)
	}
	if r.Made && o.Trust == "" {
		text += "The repository is not verified: nothing but the digests it gives was compared; see --trust.\n"
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
