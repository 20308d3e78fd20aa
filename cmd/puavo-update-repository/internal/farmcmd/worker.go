package farmcmd

import (
	"context"
	"errors"
	"io"
	"runtime"

	"github.com/urfave/cli/v2"

	"puavo-image-repository/cmd/internal/command"
	"puavo-image-repository/cmd/internal/ui"
	"puavo-image-repository/cmd/internal/units"
	"puavo-image-repository/cmd/internal/version"
	"puavo-image-repository/imagerepo/farm"
	"puavo-image-repository/meta/untrusted"
)

// New returns the command worker. more are its flags besides its own.
func New(more []cli.Flag, stderr io.Writer) *cli.Command {
	return &cli.Command{
		Name:      "worker",
		Usage:     "make deltas for builders on other machines",
		UsageText: "puavo-update-repository worker --farm ADDRESS --farm-token-file FILE --cache DIR [options]",
		Description: `Makes deltas for builds that run with --farm, one build after another, until
   it is stopped. It fetches the images from the builder and keeps them in a
   cache. Builder and worker need the same version of this program, and the
   same token file: copy MIRROR_DIR/` + tokenFile + ` from the builder.

   SIGTERM and Ctrl-C stop the worker when the deltas in work are done; a second
   one stops it at once, and other machines make these.

   Example:
     puavo-update-repository worker --farm builder.example.org:4280 \
       --farm-token-file farm.token --cache /var/cache/worker

   Exit codes: ` + command.ExitCodes,
		Flags: append(command.Category(category,
			&cli.StringFlag{Name: "farm", Usage: "work for the builder at `ADDRESS`, HOST:PORT; or for that at a NATS server, tls://HOST:PORT, or nats://HOST:PORT on this machine"},
			tokenFlag("none"),
			&cli.StringFlag{Name: "name", Usage: "`NAME` of this worker in logs and status", DefaultText: "the host's, and something random"},
			&cli.IntFlag{Name: "jobs", Aliases: []string{"j"}, Value: runtime.GOMAXPROCS(0), Usage: "make `N` deltas at a time", DefaultText: "number of cores"},
			&cli.StringFlag{Name: "memory", Value: "2g", Usage: "use at most `SIZE` of memory for all of them; a delta that needs more is left to others"},
			&cli.StringFlag{Name: "cache", Usage: "keep fetched images in `DIR`"},
			&cli.StringFlag{Name: "cache-size", Value: "50g", Usage: "keep at most `SIZE` there"},
			&cli.StringFlag{Name: "images", Usage: "use images in `DIR`, shared with the builder, instead of fetching them"},
		), append(more, command.Flags("print what is done with each job")...)...),
		Action: func(c *cli.Context) error {
			screen := command.Start(c, stderr)
			err := work(c, screen)
			if errors.Is(err, context.Canceled) && c.Context.Err() != nil {
				return nil // it has done what was asked
			}
			return err
		},
	}
}

func work(c *cli.Context, screen *ui.Screen) (err error) {
	o := farm.WorkerOptions{
		Queue: c.String("farm"), Version: version.String(), Name: c.String("name"), Jobs: c.Int("jobs"), Cache: c.String("cache"),
		Images: c.String("images"), Log: screen.Log(),
	}
	switch {
	case c.NArg() > 0:
		return command.Usage("unexpected argument %s", untrusted.Quote(c.Args().First()))
	case o.Queue == "" || o.Cache == "" || c.String("farm-token-file") == "":
		return command.Usage("give --farm, --farm-token-file and --cache")
	case o.Jobs < 1:
		return command.Usage("--jobs %d, want 1 or more", o.Jobs)
	}
	if _, _, err := farm.ParseQueue(o.Queue); err != nil {
		return command.Usage("--farm: %v", err)
	}
	if o.Memory, err = units.Size(c.String("memory")); err != nil {
		return command.Usage("--memory: %v", err)
	}
	if o.CacheSize, err = units.Size(c.String("cache-size")); err != nil {
		return command.Usage("--cache-size: %v", err)
	}
	if o.Token, err = readToken(c.Context, c.String("farm-token-file")); err != nil {
		return err
	}
	return farm.Work(c.Context, o)
}
