// Command puavo-update-repository makes a repository of OS images: a directory
// with the images, deltas between them and their digests, to be uploaded to any
// static HTTPS host. See its --help and the README.
package main

import (
	"context"
	"io"
	"os"
	"syscall"

	"github.com/urfave/cli/v2"

	"puavo-image-repository/cmd/internal/command"
	"puavo-image-repository/imagerepo/audit"
	"puavo-image-repository/imagerepo/plan"
)

func main() {
	syscall.Umask(0o022) // whatever it was: others may read what this makes, and not write it
	os.Exit(command.Main(run, plan.ErrInput, plan.ErrConfig, audit.ErrNoMirror))
}

func run(ctx context.Context, args []string, _ io.Reader, stdout, stderr io.Writer) error {
	app := &cli.App{
		Name:      "puavo-update-repository",
		Usage:     "make a repository of OS images for a static HTTPS host",
		UsageText: "puavo-update-repository [options] IMAGE_DIR [MIRROR_DIR]",
		Description: `Puts the images of IMAGE_DIR, deltas between them and their digests into
   MIRROR_DIR (IMAGE_DIR/mirror), which is then to be uploaded. What is there
   and right is kept; files that it did not make are not touched. Images that
   left IMAGE_DIR leave the mirror.

   Example:
      puavo-update-repository -r images.example.org puavo-os-images mirror
   To upload it, what the meta names before the meta, and removals at last:
      rsync -a --exclude /.repo --exclude /meta --exclude /index.json --exclude '/*SUMS' \
        --exclude /tuf/timestamp.json --exclude '/tuf/*.root.json' mirror/ host:/srv/images/
      rsync -a --delete-after --exclude /.repo mirror/ host:/srv/images/

   Exit codes: ` + command.ExitCodes,
		Flags:  flags(),
		Action: func(c *cli.Context) error { return build(c, stdout, command.Start(c, stderr)) },
		Commands: []*cli.Command{
			verifyCommand(stdout, stderr),
			statusCommand(stdout, stderr),
			keysCommand(stdout, stderr),
		},
	}
	return command.Run(ctx, app, args, stdout, stderr)
}
