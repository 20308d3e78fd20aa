// Command puavo-update-repository makes a repository of OS images: a directory
// with the images, deltas between them and their digests, to be uploaded to any
// static HTTPS host. See its --help and the README.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/urfave/cli/v2"

	"puavo-image-repository/cmd/internal/command"
	"puavo-image-repository/cmd/internal/config"
	"puavo-image-repository/imagerepo/audit"
	"puavo-image-repository/imagerepo/plan"
)

func main() {
	syscall.Umask(0o022) // whatever it was: others may read what this makes, and not write it
	os.Exit(command.Main(run, plan.ErrInput, plan.ErrConfig, audit.ErrNoMirror))
}

// configuration is where options can be set, apart from the command line.
var configuration = config.Source{
	File: "/etc/puavo-update-repository.conf", Dir: "/etc/puavo-update-repository",
	Prefix: "PUAVO_UPDATE_REPOSITORY_", Option: "settings",
	Others: map[string]string{"repository": "PUAVO_REPOSITORY_URL"},
}

func run(ctx context.Context, args []string, _ io.Reader, stdout, stderr io.Writer) error {
	var settings config.Settings
	app := newApp(&settings, stdout, stderr)
	args, err := command.Settle(app, args, hasImages, map[string]func([]string) bool{
		"":       func(names []string) bool { return len(names) >= 1 && len(names) <= 2 },
		"help":   func([]string) bool { return true },
		"config": func(names []string) bool { return slices.Equal(names, []string{"show"}) },
	})
	if err != nil {
		return err
	}
	if settings, err = configuration.Configure(ctx, app, args, os.LookupEnv); err != nil {
		return err
	}
	return command.Run(ctx, app, args, stdout, stderr)
}

// hasImages reports whether a path is that of a directory with files that may be images.
func hasImages(path string) bool {
	entries, err := os.ReadDir(path)
	return err == nil && slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return filepath.Ext(e.Name()) == ".img" })
}

// newApp returns the app. settings are filled in before it runs.
func newApp(settings *config.Settings, stdout, stderr io.Writer) *cli.App {
	return &cli.App{
		Name:  "puavo-update-repository",
		Usage: "make a repository of OS images for a static HTTPS host",
		UsageText: `puavo-update-repository [options] IMAGE_DIR [MIRROR_DIR]
   puavo-update-repository --settings FILE_OR_NAME [options]`,
		Description: `Puts the images of IMAGE_DIR, deltas between them and their digests into
   MIRROR_DIR (IMAGE_DIR/mirror), which is then to be uploaded. What is there
   and right is kept; files that it did not make are not touched. Images that
   left IMAGE_DIR leave the mirror.

   Example:
      puavo-update-repository -r images.example.org puavo-os-images mirror
   To upload it, what the meta names before the meta, and removals at last:
      rsync -a --exclude /.repo --exclude /meta --exclude /index.json \
        --exclude '/*SUMS' --exclude /tuf/timestamp.json \
        --exclude '/tuf/*.root.json' mirror/ host:/srv/images/
      rsync -a --delete-after --exclude /.repo mirror/ host:/srv/images/

   ` + configuration.Help("mirror-dir = /srv/mirror") + ` Its keys
   images-dir and mirror-dir hold where no argument is given.

   Exit codes: ` + command.ExitCodes,
		Flags: flags(),
		Action: func(c *cli.Context) error {
			return meantCommand(c, build(c, settings, stdout, command.Start(c, stderr)))
		},
		Commands: []*cli.Command{
			verifyCommand(settings, stdout, stderr),
			statusCommand(stdout, stderr),
			keysCommand(stdout, stderr),
			config.Command("puavo-update-repository", settings, flags(), stdout),
			command.HelpCommand("puavo-update-repository"),
		},
	}
}

// meantCommand returns the error of a build, with the command that its first argument may be
// meant for, where no directory has that name.
func meantCommand(c *cli.Context, err error) error {
	first := c.Args().First()
	near := command.NearCommand(c, first)
	if _, missing := os.Stat(first); err == nil || near == "" || !errors.Is(missing, fs.ErrNotExist) {
		return err
	}
	return fmt.Errorf("%w; did you mean the command %s?", err, near)
}

// settingsFlag returns the flag for the file of settings, which all commands have.
func settingsFlag() cli.Flag {
	return &cli.StringFlag{Name: configuration.Option, Usage: "take options from `FILE_OR_NAME`, see --help; a bare NAME is " + configuration.Dir + "/NAME.conf"}
}

// mirrorFlag returns the flag for the mirror.
func mirrorFlag() cli.Flag {
	return &cli.StringFlag{Name: "mirror-dir", Usage: "the mirror is `DIR`, where no argument says so"}
}
