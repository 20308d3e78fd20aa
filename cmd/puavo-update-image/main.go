// Command puavo-update-image brings OS images up to date from a repository that
// puavo-update-repository made. See its --help and the README.
package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/urfave/cli/v2"

	"puavo-image-repository/cmd/internal/command"
	"puavo-image-repository/cmd/internal/ui"
	"puavo-image-repository/delta"
	"puavo-image-repository/imagerepo/client"
	"puavo-image-repository/meta"
)

func main() {
	os.Exit(command.Main(run, delta.ErrFormat, client.ErrNoImage, client.ErrVerify))
}

func run(ctx context.Context, args []string, _ io.Reader, stdout, stderr io.Writer) error {
	app := &cli.App{
		Name:      "puavo-update-image",
		Usage:     "bring OS images up to date",
		UsageText: "puavo-update-image --mirror DIR_OR_URL --images-dir DIR [options] [IMAGE]\n   puavo-update-image apply --base OLD.img --delta D.rdiff [--delta D2.rdiff ...] --out NEW.img [--sha512 HEX]",
		Description: `Makes IMAGE, or else the newest image of the series of the newest image in
   DIR, from what the mirror holds: by a delta from an image in DIR if there is
   one, and else from the full image. The image gets its name when it is complete
   and its SHA-512 is right.

   Example:
      puavo-update-image --mirror https://images.example.org --images-dir /images

   Exit codes: ` + command.ExitCodes,
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "mirror", Usage: "the repository, a `DIR_OR_URL`"},
			&cli.StringFlag{Name: "images-dir", Usage: "`DIR` with the images"},
			&cli.StringFlag{Name: "ca-certificate", Usage: "trust the certificates in `FILE` (PEM) besides the system's"},
			&cli.StringFlag{Name: "rate-limit", Usage: "fetch at most `SIZE` a second, such as 4m"},
		}, command.Flags("print what is done")...),
		Action: func(c *cli.Context) error { return update(c, stdout, command.Start(c, stderr)) },
		Commands: []*cli.Command{{
			Name:      "apply",
			Usage:     "make an image from an old one and deltas, offline",
			UsageText: "puavo-update-image apply --base OLD.img --delta D.rdiff [--delta D2.rdiff ...] --out NEW.img [--sha512 HEX]",
			Flags: append([]cli.Flag{
				&cli.StringFlag{Name: "base", Usage: "the old image, a `FILE`"},
				&cli.StringSliceFlag{Name: "delta", Usage: "a delta, a `FILE`; several are applied one after the other"},
				&cli.StringFlag{Name: "out", Usage: "the new image, a `FILE` that is not there yet"},
				&cli.StringFlag{Name: "sha512", Usage: "the digest `HEX` that the new image must have"},
			}, command.Flags("print what is done")...),
			Action: func(c *cli.Context) error { return apply(c, stdout, command.Start(c, stderr)) },
		}},
	}
	return command.Run(ctx, app, args, stdout, stderr)
}

// update brings a directory of images up to date.
func update(c *cli.Context, stdout io.Writer, screen *ui.Screen) error {
	switch {
	case c.String("mirror") == "" || c.String("images-dir") == "":
		return command.Usage("--mirror and --images-dir are needed")
	case c.NArg() > 1:
		return command.Usage("want one IMAGE at most, got %d arguments", c.NArg())
	case c.NArg() == 1:
		if _, err := meta.ParseName(c.Args().First()); err != nil {
			return command.Usage("IMAGE: %v", err)
		}
	}
	rate, err := parseRate(c.String("rate-limit"))
	if err != nil {
		return err
	}
	result, err := client.Update(c.Context, client.Options{
		Mirrors: []string{c.String("mirror")}, Dir: c.String("images-dir"), Image: c.Args().First(),
		CACertificate: c.String("ca-certificate"), Rate: rate,
		Log: screen.Log(), Progress: screen.Progress,
	})
	screen.Done()
	if err != nil {
		return err
	}
	if c.Bool("quiet") {
		return nil
	}
	switch {
	case result.Disabled:
		_, err = fmt.Fprintf(stdout, "Updates are disabled by DISABLE_IMAGE_UPDATES in %s.\n", c.String("images-dir"))
	case result.UpToDate:
		_, err = fmt.Fprintf(stdout, "%s is up to date.\n", c.String("images-dir"))
	default:
		_, err = fmt.Fprintf(stdout, "%s is there, from %s of %s.\n", result.Image, result.Route, ui.Bytes(result.Route.Bytes()))
	}
	return err
}

// parseRate returns a number of bytes, 0 for none given.
func parseRate(s string) (int64, error) {
	if s == "" {
		return 0, nil
	}
	n, err := command.Size(s)
	if err == nil && n < 1<<10 {
		err = fmt.Errorf("%s a second is too little to get anywhere", s)
	}
	if err != nil {
		return 0, command.Usage("--rate-limit: %v", err)
	}
	return n, nil
}

// apply makes one image offline.
func apply(c *cli.Context, stdout io.Writer, screen *ui.Screen) error {
	o := client.ApplyOptions{
		Base: c.String("base"), Deltas: c.StringSlice("delta"), Out: c.String("out"),
		Progress: screen.Progress,
	}
	switch {
	case c.NArg() > 0:
		return command.Usage("unknown argument %q", c.Args().First())
	case o.Base == "" || len(o.Deltas) == 0 || o.Out == "":
		return command.Usage("--base, --delta and --out are needed")
	}
	if !c.IsSet("sha512") {
		screen.Log().Warn("nothing tells whether the result is right; give --sha512")
	} else if err := o.SHA512.UnmarshalText([]byte(c.String("sha512"))); err != nil {
		return command.Usage("--sha512: %v", err)
	}
	err := client.Apply(c.Context, o)
	screen.Done()
	if err == nil && !c.Bool("quiet") {
		_, err = fmt.Fprintf(stdout, "%s is there.\n", o.Out)
	}
	return err
}
