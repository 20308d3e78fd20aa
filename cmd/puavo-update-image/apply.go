package main

import (
	"fmt"
	"syscall"

	"github.com/urfave/cli/v2"

	"puavo-image-repository/cmd/internal/command"
	"puavo-image-repository/imagerepo/client"
)

// apply makes one image offline.
func apply(c *cli.Context, con console) error {
	o := client.ApplyOptions{
		Base: c.String("base"), Deltas: c.StringSlice("delta"), Out: c.String("out"),
		Progress: con.screen.Progress,
	}
	switch {
	case c.NArg() > 0:
		return command.Usage("unknown argument %q", c.Args().First())
	case o.Base == "" || len(o.Deltas) == 0 || o.Out == "":
		return command.Usage("--base, --delta and --out are needed")
	}
	if !c.IsSet("sha512") {
		con.screen.Log().Warn("the result is not verified; give --sha512")
	} else if err := o.SHA512.UnmarshalText([]byte(c.String("sha512"))); err != nil {
		return command.Usage("--sha512: %v", err)
	}
	syscall.Umask(umask) // the new image is the caller's own
	err := client.Apply(c.Context, o)
	con.screen.Done()
	if err == nil && !c.Bool("quiet") {
		_, err = fmt.Fprintf(con.out, "%s is there.\n", o.Out)
	}
	return err
}
