package config

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"puavo-image-repository/cmd/internal/command"
	"puavo-image-repository/meta/untrusted"
)

// Command returns the command config of a program, which prints settings. They are those
// that Configure returns, at the time of the call. flags are those to print first.
func Command(program string, settings *Settings, flags []cli.Flag, stdout io.Writer) *cli.Command {
	return &cli.Command{
		Name:      "config",
		Usage:     "print what holds for each option, and where it comes from",
		UsageText: program + " config show [options]",
		Subcommands: []*cli.Command{{
			Name:      "show",
			Usage:     "print what holds for each option, and where it comes from",
			UsageText: program + " config show [options]",
			Description: `Prints each option of a build with its value, and whether that is from the
   command line, from a variable of the environment, from a line of the file of
   settings, or the default; then the options of other commands that are set.
   Options besides show change the values, as they would those of a build.

   With --json: {"file": ..., "settings": [{"key", "value", "source"}, ...]}`,
			Flags: flags,
			Action: func(c *cli.Context) error {
				if c.NArg() > 0 {
					return command.Usage("unknown argument %q", c.Args().First())
				}
				return settings.show(c, stdout)
			},
		}},
		Action: command.NoCommand,
	}
}

// show prints the settings of a command.
func (s Settings) show(c *cli.Context, w io.Writer) error {
	all := s.All(c)
	if c.Bool("json") {
		return command.JSON(w, map[string]any{"file": s.File, "settings": all})
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, one := range all {
		fmt.Fprintf(t, "%s\t%s\t%s\n", one.Key, untrusted.Show(text(one.Value)), untrusted.Show(one.Source))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	line := "No file of settings is read.\n"
	if s.File != "" {
		line = "The file of settings is " + untrusted.Show(s.File) + ".\n"
	}
	_, err := io.WriteString(w, line)
	return err
}

// text returns a value for people.
func text(value any) string {
	if list, ok := value.([]string); ok {
		value = strings.Join(list, " ")
	}
	if s := fmt.Sprint(value); s != "" {
		return s
	}
	return "-"
}
