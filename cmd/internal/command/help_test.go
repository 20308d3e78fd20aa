package command

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"

	"puavo-image-repository/cmd/internal/version"
)

// The command help, where an app has it, is the help of what it names.
func TestHelpCommand(t *testing.T) {
	for _, c := range []struct{ args, same, err string }{
		{"help", "--help", ""},
		{"-q help", "--help", ""},
		{"help apply", "apply --help", ""},
		{"help keys add", "keys add --help", ""},
		{"help -q keys add", "keys add --help", ""},
		{"help help", "help --help", ""},
		{"help --help", "help --help", ""},
		{"help aply", "", `no command "aply"; did you mean apply?; see`},
		{"help keys ad", "", `no command "keys ad"; did you mean add?`},
		{"help keys apply", "", `no command "keys apply"; see`},
	} {
		output := func(args string) (string, error) {
			var got []string
			var out bytes.Buffer
			app := testApp(&got)
			app.Commands = append(app.Commands, HelpCommand("app"))
			err := Run(t.Context(), app, strings.Fields(args), &out, &out)
			if got != nil {
				t.Errorf("%s: ran %q", args, got)
			}
			return out.String(), err
		}
		got, err := output(c.args)
		if c.err != "" {
			if !errors.Is(err, ErrUsage) || !strings.Contains(fmt.Sprint(err), c.err) || got != "" {
				t.Errorf("%s: %v, printed %q; want %s", c.args, err, got, c.err)
			}
			continue
		}
		if want, wantErr := output(c.same); got != want || got == "" || err != nil || wantErr != nil {
			t.Errorf("%s: %v, %v, printed\n%s\nwant\n%s", c.args, err, wantErr, got, want)
		}
	}
}

// Flags are grouped, and long texts wrapped.
func TestHelpLayout(t *testing.T) {
	app := &cli.App{Name: "app", Usage: strings.Repeat("make it ", 12), UsageText: "app [options] " + strings.Repeat("DIR ", 20)}
	app.Flags = slices.Concat(
		Category("Input", &cli.StringFlag{Name: "from", Usage: "read " + strings.Repeat("very ", 15) + "`FILE`"}, &cli.BoolFlag{Name: "all", Category: "Limits", Usage: "take all"}),
		Category("Input", &cli.StringSliceFlag{Name: "a-very-long-name-indeed", Aliases: []string{"a"}, Usage: "a `LIST`"}), []cli.Flag{&cli.IntFlag{Name: "n"}},
	)
	var out bytes.Buffer
	if err := Run(t.Context(), app, []string{"--help"}, &out, &out); err != nil {
		t.Fatal(err)
	}
	const want = `app - make it make it make it make it make it make it make it make it make it
   make it make it make it

Usage:
   app [options] DIR DIR DIR DIR DIR DIR DIR DIR DIR DIR DIR DIR DIR DIR DIR DIR
         DIR DIR DIR DIR

Input:
   --from FILE               read very very very very very very very very very
                             very very very very very very FILE
   --a-very-long-name-indeed LIST, -a LIST
                             a LIST

Limits:
   --all                     take all

Options:
   -n value                  (default: 0)
   --help, -h                show help
   --version                 print the version
`
	if got := out.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestHelp(t *testing.T) {
	for _, c := range []struct {
		args  string
		lines []string
	}{
		{"--help", []string{"app - test", "   app [options] DIR", "   Tests.", "   apply  apply it", "   --quiet, -q", "   --version"}},
		{"a b -h", []string{"app - test"}},
		{"apply --help", []string{"app apply - apply it", "   app apply [options]", "   --quiet, -q", "   --out value"}},
		{"apply a --jobs 3 -h", []string{"app apply - apply it"}},
		{"keys --help", []string{"app keys - keep keys", "   app keys COMMAND", "   add  add a key"}},
		{"keys add --help", []string{"app keys add - add a key", "   app keys add [options] ROLE", "   --quiet, -q"}},
		{"keys add x -h", []string{"app keys add - add a key"}},
		{"--version", []string{"app version " + version.String()}},
		{"a b --version", []string{"app version " + version.String()}},
	} {
		var got []string
		var stdout, stderr bytes.Buffer
		err := Run(t.Context(), testApp(&got), strings.Fields(c.args), &stdout, &stderr)
		if err != nil || got != nil || stderr.Len() > 0 {
			t.Errorf("%s: %v, ran %q, stderr %q", c.args, err, got, &stderr)
		}
		for _, line := range c.lines {
			if !strings.Contains("\n"+stdout.String(), "\n"+line) {
				t.Errorf("%s: no line %q in\n%s", c.args, line, &stdout)
			}
		}
		if strings.Contains(stdout.String(), "default: false") {
			t.Errorf("%s: tells the obvious:\n%s", c.args, &stdout)
		}
	}
}
