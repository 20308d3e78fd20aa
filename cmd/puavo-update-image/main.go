// Command puavo-update-image keeps OS images up to date from a repository that
// puavo-update-repository built. See its --help and the README.
package main

import (
	"context"
	"io"
	"os"
	"slices"
	"syscall"

	"github.com/urfave/cli/v2"

	"puavo-image-repository/cmd/internal/command"
	"puavo-image-repository/cmd/internal/completion"
	"puavo-image-repository/cmd/internal/config"
	"puavo-image-repository/cmd/internal/notify"
	"puavo-image-repository/delta"
	"puavo-image-repository/imagerepo/client"
	"puavo-image-repository/meta"
)

func main() {
	umask = syscall.Umask(ourUmask)
	os.Exit(command.Main(run, badInput...))
}

// badInput are the errors for unusable input.
var badInput = []error{delta.ErrFormat, meta.ErrFormat, client.ErrNoImage, client.ErrVerify, client.ErrUntrusted}

// ourUmask lets others read images, and not write them; umask is the one that this
// process inherited.
const ourUmask = 0o022

var umask = ourUmask

// configuration is where options can be set, apart from the command line.
var configuration = config.Source{File: "/etc/puavo-update-image.conf", Prefix: "PUAVO_UPDATE_IMAGE_"}

// upToDate is the exit code of check without an update.
const upToDate command.Code = 4

func run(ctx context.Context, args []string, _ io.Reader, stdout, stderr io.Writer) error {
	app := newApp(stdout, stderr)
	if asked, err := describeSelf(ctx, app, args, stdout); asked {
		return err
	}
	if command.Named(app, args) == completion.Name { // for shells, whatever is configured
		return command.Run(ctx, app, args, stdout, stderr)
	}
	if _, err := configuration.Configure(ctx, app, args, os.LookupEnv); err != nil {
		return err
	}
	return command.Run(ctx, app, args, stdout, stderr)
}

func newApp(stdout, stderr io.Writer) *cli.App {
	return &cli.App{
		Name:  "puavo-update-image",
		Usage: "keep OS images up to date",
		UsageText: `puavo-update-image [update] --mirror DIR_OR_URL --images-dir DIR [options] [IMAGE|SERIES]
   puavo-update-image check|plan|list|verify --mirror DIR_OR_URL --images-dir DIR [options]
   puavo-update-image rollback --images-dir DIR --default-link NAME [options] [IMAGE]
   puavo-update-image hold|unhold --images-dir DIR [options]
   puavo-update-image apply --base OLD.img --delta D.rdiff|D.cdelta [--delta D2 ...] --out NEW.img --blake3 HEX`,
		Description: `Makes IMAGE in DIR by the cheapest route: one delta, several deltas in a row,
   or the full image. Without IMAGE, makes the newest image of a series: that of
   the default image, or else of the newest image in DIR. With a SERIES, DIR
   need not contain an image yet. Once the image is complete and its checksum is
   right, it gets its name and is put to use. The checksum is the mirror's
   BLAKE3, or else its SHA-256 or SHA-512, whichever is faster here.

   While updates are held, by hold or after rollback, nothing is installed:
   update exits with 0, check with 4.

   Example:
      puavo-update-image --mirror https://images.example.org \
        --images-dir /images --default-link ltsp.img

   ` + configuration.Help("mirror = https://images.example.org") + `

   Exit codes: ` + command.ExitCodes + `; check: 4 up to date, or held`,
		Flags:  updateFlags(),
		Action: action(stdout, stderr, update),
		Commands: slices.Concat(mirrorCommands(stdout, stderr), offlineCommands(stdout, stderr),
			[]*cli.Command{completion.Command("puavo-update-image", stdout), command.HelpCommand("puavo-update-image")}),
	}
}

// action returns what runs a command. A failure is reported by the command of --notify.
func action(stdout, stderr io.Writer, f func(*cli.Context, console) error) cli.ActionFunc {
	return func(c *cli.Context) error {
		con := console{stdout, command.Start(c, stderr)}
		err := meantCommand(c, f(c, con))
		code := command.ExitCode(c.Context, err, badInput...)
		if command.IsFailure(code, err) && code != command.Interrupted {
			failure := notify.Failure{Program: c.App.Name, Command: c.Command.Name, Err: err, ExitCode: code}
			if failure.Command == c.App.Name { // without a command
				failure.Command = "update"
			}
			if err := notify.Run(c.Context, hook(command.Own(c, "notify")), failure, con.screen.Output()); err != nil {
				con.screen.Log().Warn("could not run the command of --notify", "reason", err)
			}
		}
		return err
	}
}

// mirrorCommands returns the commands that ask a mirror.
func mirrorCommands(stdout, stderr io.Writer) []*cli.Command {
	looking := func(more ...cli.Flag) []cli.Flag {
		return slices.Concat(mirrorFlags(), more, []cli.Flag{linkFlag(), jsonFlag()}, commonFlags())
	}
	wanted := append(payloadFlags(), seriesFlag())
	return []*cli.Command{
		{
			Name: "update", Usage: "make the newest image and put it to use (the default command)",
			UsageText: "puavo-update-image [update] --mirror DIR_OR_URL --images-dir DIR [options] [IMAGE|SERIES]",
			Flags:     updateFlags(), Action: action(stdout, stderr, update),
		}, {
			Name: "check", Usage: "check for an update: exit code 0 if there is one; 4 if not, or if updates are held",
			UsageText: "puavo-update-image check --mirror DIR_OR_URL --images-dir DIR [options] [IMAGE|SERIES]",
			Flags:     append(looking(wanted...), notifyFlag()), Action: action(stdout, stderr, checkForUpdate),
		}, {
			Name: "plan", Usage: "print how an image would be made: routes, bytes to fetch, disk space",
			UsageText: "puavo-update-image plan --mirror DIR_OR_URL --images-dir DIR [options] [IMAGE|SERIES]",
			Flags:     looking(wanted...), Action: action(stdout, stderr, plan),
		}, {
			Name: "list", Usage: "list the images in DIR, and those the mirror offers",
			UsageText: "puavo-update-image list --mirror DIR_OR_URL --images-dir DIR [options]",
			Flags:     looking(), Action: action(stdout, stderr, list),
		}, {
			Name: "verify", Usage: "check the images in DIR against the mirror's checksums",
			UsageText: "puavo-update-image verify --mirror DIR_OR_URL --images-dir DIR [options]",
			Flags:     append(looking(command.ProgressFlag()), notifyFlag()), Action: action(stdout, stderr, verify),
		},
	}
}

// offlineCommands returns the commands that ask none.
func offlineCommands(stdout, stderr io.Writer) []*cli.Command {
	ours := func(more ...cli.Flag) []cli.Flag {
		return slices.Concat(command.Category(afterwards, dirFlag(), linkFlag()), more, []cli.Flag{jsonFlag(), metricsFlag(), notifyFlag()}, commonFlags())
	}
	return []*cli.Command{
		{
			Name: "rollback", Usage: "go back to an older image in DIR, and hold updates until one newer than the present image is published",
			UsageText: "puavo-update-image rollback --images-dir DIR --default-link NAME [options] [IMAGE]",
			Flags:     ours(append(installFlags(), command.ProgressFlag())...), Action: action(stdout, stderr, rollback),
		}, {
			Name: "hold", Usage: "hold updates: install none until unhold",
			UsageText: "puavo-update-image hold --images-dir DIR [options]",
			Flags:     ours(), Action: action(stdout, stderr, holdUpdates),
		}, {
			Name: "unhold", Usage: "resume updates after hold or rollback",
			UsageText: "puavo-update-image unhold --images-dir DIR [options]",
			Flags:     ours(), Action: action(stdout, stderr, unhold),
		}, {
			Name: "apply", Usage: "make an image from an old one and deltas, offline",
			UsageText: "puavo-update-image apply --base OLD.img --delta D.rdiff|D.cdelta [--delta D2 ...] --out NEW.img --blake3 HEX|--sha256 HEX|--sha512 HEX|--unverified",
			Flags:     slices.Concat(applyFlags(), []cli.Flag{jsonFlag(), command.ProgressFlag()}, commonFlags()), Action: action(stdout, stderr, apply),
		},
	}
}

// The categories of the client's flags, besides those that commands share.
const (
	whatToFetch = "Source and destination"
	afterwards  = "Installation"
	security    = "Security"
)

func commonFlags() []cli.Flag { return command.Flags("print each step") }

// mirrorFlags returns the flags of all commands that read a mirror.
func mirrorFlags() []cli.Flag {
	return command.Category(whatToFetch,
		&cli.StringSliceFlag{Name: "mirror", Usage: "`DIR_OR_URL`: repository to update from (repeatable: the first that answers decides which image is wanted, all serve files)"},
		dirFlag(),
		&cli.StringFlag{Name: "trust", Category: security, Usage: "verify the signatures of the repository with the root of trust in `FILE`, e.g. 1.root.json"},
		&cli.BoolFlag{Name: "allow-downgrade", Category: security, Usage: "with --trust, allow an IMAGE older than the one in use"},
		&cli.StringFlag{Name: "ca-certificate", Category: security, Usage: "trust the certificates in `FILE` (PEM) in addition to the system's"},
		&cli.StringFlag{Name: "rate-limit", Category: command.Limits, Usage: "fetch at most `SIZE` per second, e.g. 4m"},
	)
}

// payloadFlags returns the flags of the commands that choose where payload comes from.
func payloadFlags() []cli.Flag {
	return command.Category(whatToFetch,
		&cli.StringSliceFlag{Name: "payload-mirror", Usage: "fetch images and deltas, but no metadata, from `DIR_OR_URL` if it has them (repeatable, tried in order)"},
		&cli.StringFlag{Name: "prefer", Category: command.Limits, Usage: "save `WHAT`: time, estimated for each route, or traffic, the bytes to fetch (default: time)"},
		&cli.BoolFlag{Name: "discover", Usage: "find payload mirrors by DNS, as Puavo machines do: the school's bootserver"},
	)
}

func linkFlag() cli.Flag {
	return &cli.StringFlag{Name: "default-link", Category: afterwards, Usage: "point the hard link `NAME`, e.g. ltsp.img, at the new image; keep the previous one as ltsp-backup.img"}
}

func dirFlag() cli.Flag {
	return &cli.StringFlag{Name: "images-dir", Usage: "`DIR`: directory of the images"}
}

func jsonFlag() cli.Flag {
	return &cli.BoolFlag{Name: "json", Category: command.Output, Usage: "print the result as JSON"}
}

func seriesFlag() cli.Flag {
	return &cli.StringFlag{Name: "series", Category: whatToFetch, Usage: "follow the series `NAME`, e.g. puavo-os-desktop-bookworm-amd64, even if DIR has no image yet or does not exist"}
}

func metricsFlag() cli.Flag {
	return &cli.StringFlag{Name: "metrics-file", Category: command.Output, Usage: "write metrics to `FILE` for the Prometheus node exporter"}
}

func notifyFlag() cli.Flag {
	return &cli.StringFlag{Name: "notify", Category: command.Output, Usage: notify.Usage}
}

// installFlags returns the flags of the commands that put an image to use.
func installFlags() []cli.Flag {
	return command.Category(afterwards,
		&cli.BoolFlag{Name: "grub-labels", Usage: "label the new and the previous image for Puavo's boot menu, and reset the choice made there; needs grub-editenv and --default-link"},
		&cli.StringFlag{Name: "pre-install", Usage: "run `COMMAND` with the path of the image (also in $1 and $PUAVO_IMAGE) before it is put to use; if COMMAND fails, the image is not used"},
		&cli.StringFlag{Name: "post-install", Usage: "run `COMMAND` with the path of the image (also in $1 and $PUAVO_IMAGE) after it is put to use"},
	)
}

func updateFlags() []cli.Flag {
	return slices.Concat(mirrorFlags(), payloadFlags(), []cli.Flag{seriesFlag(), linkFlag()}, installFlags(), command.Category(afterwards,
		&cli.StringFlag{Name: "max-time", Category: command.Limits, Usage: "stop after `TIME`, e.g. 8h, and keep what was fetched for the next run; leave a mirror earlier if it is too slow (default: 12h)"},
		&cli.IntFlag{Name: "keep", Usage: "keep the newest `N` images of the series, and those in use, and remove the others; 0 keeps all"},
		&cli.StringFlag{Name: "stats-file", Category: command.Output, Usage: "write progress to `FILE`, e.g. /images/image_update.stats, for Puavo's desktop applet"},
		&cli.BoolFlag{Name: "dry-run", Category: command.Output, Usage: "print what would be done, and change nothing"},
		jsonFlag(), command.ProgressFlag(), metricsFlag(), notifyFlag(),
	), commonFlags())
}

func applyFlags() []cli.Flag {
	return command.Category("What to make",
		&cli.StringFlag{Name: "base", Usage: "`FILE`: the old image"},
		&cli.StringSliceFlag{Name: "delta", Usage: "`FILE`: a delta, rdiff or compact (repeatable, applied in order)"},
		&cli.StringFlag{Name: "out", Usage: "`FILE`: the new image, which must not exist yet"},
		&cli.StringFlag{Name: "blake3", Category: security, Usage: "`HEX`: BLAKE3 digest of the new image; the fastest to check"},
		&cli.StringFlag{Name: "sha256", Category: security, Usage: "`HEX`: SHA-256 digest of the new image"},
		&cli.StringFlag{Name: "sha512", Category: security, Usage: "`HEX`: SHA-512 digest of the new image; all digests given are checked"},
		&cli.BoolFlag{Name: "unverified", Category: security, Usage: "make the new image even if no digest is given to check it; not needed if the last delta is compact"},
	)
}
