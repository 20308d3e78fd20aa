// Command puavo-update-image brings OS images up to date from a repository that
// puavo-update-repository made. See its --help and the README.
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
		Usage: "bring OS images up to date",
		UsageText: `puavo-update-image [update] --mirror DIR_OR_URL --images-dir DIR [options] [IMAGE|SERIES]
   puavo-update-image check|plan|list|verify --mirror DIR_OR_URL --images-dir DIR [options]
   puavo-update-image rollback --images-dir DIR --default-link NAME [options] [IMAGE]
   puavo-update-image hold|unhold --images-dir DIR [options]
   puavo-update-image apply --base OLD.img --delta D.rdiff [--delta D2.rdiff ...] --out NEW.img --blake3 HEX`,
		Description: `Makes IMAGE, or else the newest image of the series of the default image, or
   of the newest in DIR, by the cheapest route from the images in DIR: over one
   delta, several in a row, or the full image. The image gets its name when it
   is complete and its digest is right, and is then put to use. The digest is
   the BLAKE3 if the mirror has one, or else the SHA-256 or the SHA-512,
   whichever is faster here. With a SERIES, DIR need not have an image yet.

   While updates are held, by hold or after rollback, nothing is installed;
   update then ends with 0, and check with 4.

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
				con.screen.Log().Warn("the failure was not reported", "reason", err)
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
			Name: "update", Usage: "make the newest image and put it to use; the default command",
			UsageText: "puavo-update-image [update] --mirror DIR_OR_URL --images-dir DIR [options] [IMAGE|SERIES]",
			Flags:     updateFlags(), Action: action(stdout, stderr, update),
		}, {
			Name: "check", Usage: "check for an update: exit code 0 for one, 4 if all is up to date, or updates are held",
			UsageText: "puavo-update-image check --mirror DIR_OR_URL --images-dir DIR [options] [IMAGE|SERIES]",
			Flags:     append(looking(wanted...), notifyFlag()), Action: action(stdout, stderr, checkForUpdate),
		}, {
			Name: "plan", Usage: "print how the image would be made: the routes, bytes to fetch, disk needed",
			UsageText: "puavo-update-image plan --mirror DIR_OR_URL --images-dir DIR [options] [IMAGE|SERIES]",
			Flags:     looking(wanted...), Action: action(stdout, stderr, plan),
		}, {
			Name: "list", Usage: "print the images in DIR, and those that the mirror offers",
			UsageText: "puavo-update-image list --mirror DIR_OR_URL --images-dir DIR [options]",
			Flags:     looking(), Action: action(stdout, stderr, list),
		}, {
			Name: "verify", Usage: "read the images in DIR and compare each with one digest of the mirror's, as update does",
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
			Name: "rollback", Usage: "put an older image in DIR to use, and hold updates until a newer one comes than that in use now",
			UsageText: "puavo-update-image rollback --images-dir DIR --default-link NAME [options] [IMAGE]",
			Flags:     ours(append(installFlags(), command.ProgressFlag())...), Action: action(stdout, stderr, rollback),
		}, {
			Name: "hold", Usage: "keep the image in use: no update is installed until unhold",
			UsageText: "puavo-update-image hold --images-dir DIR [options]",
			Flags:     ours(), Action: action(stdout, stderr, holdUpdates),
		}, {
			Name: "unhold", Usage: "end what hold or rollback began: updates are installed again",
			UsageText: "puavo-update-image unhold --images-dir DIR [options]",
			Flags:     ours(), Action: action(stdout, stderr, unhold),
		}, {
			Name: "apply", Usage: "make an image from an old one and deltas, offline",
			UsageText: "puavo-update-image apply --base OLD.img --delta D.rdiff [--delta D2.rdiff ...] --out NEW.img --blake3 HEX|--sha256 HEX|--sha512 HEX|--unverified",
			Flags:     slices.Concat(applyFlags(), []cli.Flag{jsonFlag(), command.ProgressFlag()}, commonFlags()), Action: action(stdout, stderr, apply),
		},
	}
}

// The categories of the client's flags, besides those that commands share.
const (
	whatToFetch = "What to fetch, and where to"
	afterwards  = "What becomes of the image"
	security    = "Security"
)

func commonFlags() []cli.Flag { return command.Flags("print what is done") }

// mirrorFlags returns the flags of all commands that read a mirror.
func mirrorFlags() []cli.Flag {
	return command.Category(whatToFetch,
		&cli.StringSliceFlag{Name: "mirror", Usage: "a repository, a `DIR_OR_URL`; of several, the first that answers says which image is wanted, and all are fetched from"},
		dirFlag(),
		&cli.StringFlag{Name: "trust", Category: security, Usage: "verify the repository's documents by the root of trust in `FILE`, a root.json"},
		&cli.BoolFlag{Name: "allow-downgrade", Category: security, Usage: "with --trust, allow an IMAGE that is older than the one in use"},
		&cli.StringFlag{Name: "ca-certificate", Category: security, Usage: "trust the certificates in `FILE` (PEM) as well as the system's"},
		&cli.StringFlag{Name: "rate-limit", Category: command.Limits, Usage: "fetch at most `SIZE` a second, such as 4m"},
	)
}

// payloadFlags returns the flags of the commands that choose where payload comes from.
func payloadFlags() []cli.Flag {
	return command.Category(whatToFetch,
		&cli.StringSliceFlag{Name: "payload-mirror", Usage: "fetch images and deltas from `DIR_OR_URL` if it has them, but never what says which they are; several are tried one after the other"},
		&cli.BoolFlag{Name: "discover", Usage: "find payload mirrors by DNS, as Puavo's machines do: the bootserver of the school"},
	)
}

func linkFlag() cli.Flag {
	return &cli.StringFlag{Name: "default-link", Category: afterwards, Usage: "make the hard link `NAME`, such as ltsp.img, to the image in use; the image before keeps the name ltsp-backup.img"}
}

func dirFlag() cli.Flag { return &cli.StringFlag{Name: "images-dir", Usage: "`DIR` with the images"} }

func jsonFlag() cli.Flag {
	return &cli.BoolFlag{Name: "json", Category: command.Output, Usage: "print the result for programs"}
}

func seriesFlag() cli.Flag {
	return &cli.StringFlag{Name: "series", Category: whatToFetch, Usage: "follow the series `NAME`, such as puavo-os-desktop-bookworm-amd64; where DIR has no image yet, or does not exist, its newest image is installed"}
}

func metricsFlag() cli.Flag {
	return &cli.StringFlag{Name: "metrics-file", Category: command.Output, Usage: "write metrics to `FILE` for Prometheus' node exporter"}
}

func notifyFlag() cli.Flag {
	return &cli.StringFlag{Name: "notify", Category: command.Output, Usage: notify.Usage}
}

// installFlags returns the flags of the commands that put an image to use.
func installFlags() []cli.Flag {
	return command.Category(afterwards,
		&cli.BoolFlag{Name: "grub-labels", Usage: "label the image in use and the one before for Puavo's boot menu, and remove what was chosen in it, by grub-editenv; with --default-link"},
		&cli.StringFlag{Name: "pre-install", Usage: "run `COMMAND` with the image's path, also $1 and $PUAVO_IMAGE, before the image is put to use; if it fails, the image is not"},
		&cli.StringFlag{Name: "post-install", Usage: "run `COMMAND` with the image's path, also $1 and $PUAVO_IMAGE, after the image was put to use"},
	)
}

func updateFlags() []cli.Flag {
	return slices.Concat(mirrorFlags(), payloadFlags(), []cli.Flag{seriesFlag(), linkFlag()}, installFlags(), command.Category(afterwards,
		&cli.StringFlag{Name: "max-time", Category: command.Limits, Usage: "end after `TIME`, such as 8h, and keep what has come for the next run; before that, leave a mirror that is too slow for another (default: 12h)"},
		&cli.IntFlag{Name: "keep", Usage: "remove images of the series but the newest `N`, and those in use; 0 removes none"},
		&cli.StringFlag{Name: "stats-file", Category: command.Output, Usage: "write the progress to `FILE`, such as /images/image_update.stats, for Puavo's desktop applet"},
		&cli.BoolFlag{Name: "dry-run", Category: command.Output, Usage: "print what would be done, and do nothing"},
		jsonFlag(), command.ProgressFlag(), metricsFlag(), notifyFlag(),
	), commonFlags())
}

func applyFlags() []cli.Flag {
	return command.Category("What to make",
		&cli.StringFlag{Name: "base", Usage: "the old image, a `FILE`"},
		&cli.StringSliceFlag{Name: "delta", Usage: "a delta, a `FILE`; several are applied one after the other"},
		&cli.StringFlag{Name: "out", Usage: "the new image, a `FILE` that does not exist yet"},
		&cli.StringFlag{Name: "blake3", Category: security, Usage: "the BLAKE3 `HEX` that the new image must have; the fastest to check"},
		&cli.StringFlag{Name: "sha256", Category: security, Usage: "the SHA-256 `HEX` that it must have"},
		&cli.StringFlag{Name: "sha512", Category: security, Usage: "the SHA-512 `HEX` that it must have; of several digests, all are checked"},
		&cli.BoolFlag{Name: "unverified", Category: security, Usage: "make the new image without any digest to compare; one that is given is compared all the same"},
	)
}
