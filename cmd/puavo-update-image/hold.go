package main

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"puavo-image-repository/cmd/internal/command"
	"puavo-image-repository/imagerepo/client"
	"puavo-image-repository/meta"
)

// offlineOptions returns the options that the flags of a command without a mirror set.
func offlineOptions(c *cli.Context, con console) (client.Options, error) {
	o := client.Options{
		Dir: c.String("images-dir"), DefaultLink: c.String("default-link"), GrubLabels: c.Bool("grub-labels"),
		PreInstall: hook(c.String("pre-install")), PostInstall: hook(c.String("post-install")), HookOutput: con.screen.Output(),
		Log: con.screen.Log(), Progress: con.screen.Progress,
		Stage: func(s client.Stage) { con.screen.Stage(s.Name, s.Image, s.Done, s.Total) },
	}
	switch {
	case o.Dir == "":
		return o, command.Usage("--images-dir is needed")
	case o.GrubLabels && o.DefaultLink == "":
		return o, command.Usage("--grub-labels needs --default-link, which the labels follow")
	}
	return o, nil
}

// rollback puts an older image to use.
func rollback(c *cli.Context, con console) error {
	o, err := offlineOptions(c, con)
	switch {
	case err != nil:
		return err
	case o.DefaultLink == "":
		return command.Usage("--default-link is needed: it is what a rollback changes")
	case c.NArg() > 1:
		return command.Usage("want one IMAGE at most, got %d arguments", c.NArg())
	case c.NArg() == 1:
		if _, err := meta.ParseName(c.Args().First()); err != nil {
			return command.Usage("IMAGE: %v", err)
		}
		o.Image = c.Args().First()
	}
	result, err := client.Rollback(c.Context, o)
	con.screen.Done()
	if err := measure(c, o, nil, err); err != nil {
		return err
	}
	return con.print(c, result, fmt.Sprintf("%s points to %s.\n", o.DefaultLink, result.Image)+heldText(result.Held))
}

// holdUpdates has no update installed.
func holdUpdates(c *cli.Context, con console) error {
	o, err := offlineOptions(c, con)
	if err != nil {
		return err
	}
	if c.NArg() > 0 {
		return command.Usage("unknown argument %q; hold always keeps the image in use", c.Args().First())
	}
	held, err := client.Hold(c.Context, o)
	if err := measure(c, o, nil, err); err != nil {
		return err
	}
	return con.print(c, held, heldText(held))
}

// unhold has updates installed again.
func unhold(c *cli.Context, con console) error {
	o, err := offlineOptions(c, con)
	if err != nil {
		return err
	}
	if c.NArg() > 0 {
		return command.Usage("unknown argument %q", c.Args().First())
	}
	held, err := client.Unhold(c.Context, o)
	if err := measure(c, o, nil, err); err != nil {
		return err
	}
	text := "Updates were not held.\n"
	if held != nil {
		text = fmt.Sprintf("Updates are no longer held; they were held at %s%s.\n", held.Image, since(held.Since))
	}
	return con.print(c, struct {
		Ended *client.Held `json:"ended"` // null if updates were not held
	}{held}, text)
}
