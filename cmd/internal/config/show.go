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
		Usage:     "print the value of each option, and where it is set",
		UsageText: program + " config show [options]",
		Subcommands: []*cli.Command{{
			Name:      "show",
			Usage:     "print the value of each option, and where it is set",
			UsageText: program + " config show [options]",
			Description: `Prints the value of each build option and its source: the command line, an
   environment variable, a line of the settings file, or the default. Options of
   other commands follow if they are set. Options given to show count as if they
   were given to a build.

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
	line := "No settings file is read.\n"
	if s.File != "" {
		line = "The settings file is " + untrusted.Show(s.File) + ".\n"
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
