package command

import (
	"io"
	"log/slog"

	"github.com/urfave/cli/v2"

	"puavo-image-repository/cmd/internal/background"
	"puavo-image-repository/cmd/internal/ui"
)

// Flags returns the flags that all commands have. verbose is the usage of the
// one of this name.
func Flags(verbose string) []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "background", Category: Limits, Usage: "run at the lowest priority: nice 19 and idle I/O"},
		&cli.StringFlag{Name: "log-format", Category: Output, Value: "text", Usage: "`FORMAT`: format of messages on standard error, text or json", Action: checkFormat},
		&cli.BoolFlag{Name: "quiet", Category: Output, Aliases: []string{"q"}, Usage: "print only errors"},
		&cli.BoolFlag{Name: "verbose", Category: Output, Aliases: []string{"v"}, Usage: verbose},
	}
}

const progressJSON = "progress-json"

// ProgressFlag returns the flag of commands that report their progress to programs.
func ProgressFlag() cli.Flag {
	return &cli.BoolFlag{Name: progressJSON, Category: Output, Usage: "write progress and messages to standard error, one JSON object per line"}
}

// Start obeys these flags, before the command does anything else, and returns
// standard error as they want it. What libraries log goes there too, at level Info:
// net/http quotes what a server sends unasked.
func Start(c *cli.Context, stderr io.Writer) *ui.Screen {
	screen := ui.New(stderr, ui.Options{Quiet: c.Bool("quiet"), Verbose: c.Bool("verbose"), JSON: logsJSON(c), ProgressJSON: c.Bool(progressJSON)})
	slog.SetDefault(screen.Log())
	if c.Bool("background") {
		if err := background.Enter(); err != nil {
			screen.Log().Warn("could not lower the priority", "reason", err)
		}
	}
	return screen
}

// Own returns the value of a string flag of the command that runs, "" if it has none of that
// name. cli would return that of the app's flag then, which a config file may have set.
func Own(c *cli.Context, flag string) string {
	if flagOf(c.Command.Flags, flag) == nil {
		return ""
	}
	return c.String(flag)
}

func checkFormat(_ *cli.Context, format string) error {
	if format != "text" && format != "json" {
		return Usage("--log-format %q, want text or json", format)
	}
	return nil
}

func logsJSON(c *cli.Context) bool { return c.String("log-format") == "json" || c.Bool(progressJSON) }

// jsonError is an error that Main prints as JSON.
type jsonError struct{ error }

func (e jsonError) Unwrap() error { return e.error }

// markJSON returns the action with errors that Main prints in the format that the
// flags ask for.
func markJSON(action cli.ActionFunc) cli.ActionFunc {
	return func(c *cli.Context) error {
		err := action(c)
		if err != nil && logsJSON(c) {
			return jsonError{err}
		}
		return err
	}
}
