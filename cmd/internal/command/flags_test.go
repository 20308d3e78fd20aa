package command

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	stdlog "log"
	"os"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

// rude is an error that changes a terminal, and shown is how it is printed.
const rude, shown = "a\x1b[2J\n\tb", "a\\x1b[2J\n\tb"

// flagsApp is a command with the flags that all have. It logs a warning and an
// info, and fails in the way that its argument says; "apply" is a command of it
// that does the same.
func flagsApp(ctx context.Context, args []string, _ io.Reader, stdout, stderr io.Writer) error {
	action := func(c *cli.Context) error {
		log := Start(c, stderr).Log()
		log.Info("looking", "image", "a.img")
		log.Warn("careful", "reason", errOther)
		Start(c, stderr).Stage("done", "", 0, 0)
		switch c.Args().First() {
		case "input":
			return fmt.Errorf("a.img: %w", errInput)
		case "rude":
			return errors.Join(errors.New(rude), errInput)
		case "library":
			stdlog.Printf("%s", rude)
		case "misused":
			return Usage("no way")
		case "waits":
			fmt.Fprintln(stdout, "ready")
			<-ctx.Done()
			return ctx.Err()
		}
		return nil
	}
	return Run(ctx, &cli.App{
		Name: "app", Flags: append(Flags("tell more"), ProgressFlag()), Action: action,
		Commands: []*cli.Command{{Name: "apply", Flags: Flags("tell more"), Action: action}},
	}, args, stdout, stderr)
}

// What the flags make of messages and of the error at the end, which has the same
// exit code in each format.
func TestFlags(t *testing.T) {
	const (
		careful = `{"level":"WARN","msg":"careful","reason":"no such luck"}` + "\n"
		looking = `{"image":"a.img","level":"INFO","msg":"looking"}` + "\n"
		input   = `{"level":"ERROR","msg":"a.img: bad input"}` + "\n"
		joined  = `{"level":"ERROR","msg":"a\\x1b[2J\n\tb\nbad input"}` + "\n"
		library = `{"level":"INFO","msg":"a\\x1b[2J\n\tb"}` + "\n"
		misused = `{"level":"ERROR","msg":"wrong usage: no way; see --help"}` + "\n"
	)
	for _, c := range []struct {
		args   string
		code   int
		stderr string
	}{
		{"done", Done, "warning: careful: no such luck\n"},
		{"--verbose done", Done, "looking: image a.img\nwarning: careful: no such luck\n"},
		{"-v -q done", Done, ""},
		{"--log-format text input", NoInput, "warning: careful: no such luck\ntest-command: a.img: bad input\n"},
		{"--log-format json done", Done, careful},
		{"-v done --log-format=json", Done, looking + careful},
		{"--log-format json input", NoInput, careful + input},
		{"--log-format json --quiet input", NoInput, input},
		{"--log-format json misused", WrongUsage, careful + misused},
		{"apply --log-format json input", NoInput, careful + input},
		{"--log-format json apply input", NoInput, careful + input},
		{"--background --log-format json input", NoInput, careful + input},
		{"rude", NoInput, "warning: careful: no such luck\ntest-command: " + shown + "\nbad input\n"},
		{"--log-format json -q rude", NoInput, joined},
		{"-q library", Done, ""},
		{"library", Done, "warning: careful: no such luck\n"},
		{"-v library", Done, "looking: image a.img\nwarning: careful: no such luck\na\\x1b[2J\\n\\tb\n"},
		{"-v --log-format json library", Done, looking + careful + library},
		{"--progress-json input", NoInput, careful + `{"stage":"done"}` + "\n" + input},
		{"--progress-json -q input", NoInput, input},
		// Flags that are wrong say nothing of the format.
		{"--log-format xml done", WrongUsage, "test-command: wrong usage: --log-format \"xml\", want text or json; see --help\n"},
		{"apply --log-format= done", WrongUsage, "test-command: wrong usage: --log-format \"\", want text or json; see --help\n"},
	} {
		var stderr bytes.Buffer
		cmd := process("app", strings.Fields(c.args)...)
		cmd.Stderr = &stderr
		cmd.Run()
		if code, got := cmd.ProcessState.ExitCode(), timeless(t, stderr.String()); code != c.code || got != c.stderr {
			t.Errorf("%s: exit code %d, stderr %q; want %d, %q", c.args, code, got, c.code, c.stderr)
		}
	}
}

// The value of a flag is that of the command which runs, and of no other.
func TestOwn(t *testing.T) {
	report := func(value string) []cli.Flag { return []cli.Flag{&cli.StringFlag{Name: "report", Value: value}} }
	for _, c := range []struct{ args, want string }{
		{"", "app"},
		{"--report given", "given"},
		{"with", "with"},
		{"with --report given", "given"},
		{"without", ""},
	} {
		got := "not run"
		action := func(c *cli.Context) error { got = Own(c, "report"); return nil }
		app := &cli.App{Name: "app", Flags: report("app"), Action: action, Commands: []*cli.Command{
			{Name: "with", Flags: report("with"), Action: action}, {Name: "without", Action: action},
		}}
		if err := Run(t.Context(), app, strings.Fields(c.args), io.Discard, io.Discard); err != nil || got != c.want {
			t.Errorf("%q: %q, %v; want %q", c.args, got, err, c.want)
		}
	}
}

// An interruption is reported in the format of the rest.
func TestInterruptJSON(t *testing.T) {
	cmd, stderr := started(t, "app", "--quiet", "--log-format", "json", "waits")
	cmd.Process.Signal(os.Interrupt)
	cmd.Wait()
	want := `{"level":"ERROR","msg":"interrupted; run again to resume"}` + "\n"
	if code, got := cmd.ProcessState.ExitCode(), timeless(t, stderr.String()); code != Interrupted || got != want {
		t.Errorf("exit code %d, stderr %q; want %d, %q", code, got, Interrupted, want)
	}
}

// The mark of the format does not hide the error.
func TestMarkJSON(t *testing.T) {
	err := flagsApp(t.Context(), []string{"--log-format", "json", "input"}, nil, io.Discard, io.Discard)
	if !errors.Is(err, errInput) || err.Error() != "a.img: bad input" {
		t.Errorf("got %v", err)
	}
}

// timeless takes the times, which must be there, out of lines of JSON, and sorts
// the keys. Other lines stay.
func timeless(t *testing.T, s string) string {
	t.Helper()
	var b strings.Builder
	for line := range strings.Lines(s) {
		var object map[string]any
		if json.Unmarshal([]byte(line), &object) != nil {
			b.WriteString(line)
			continue
		}
		if object["time"] == nil && object["stage"] == nil {
			t.Errorf("no time: %s", line)
		}
		delete(object, "time")
		json.NewEncoder(&b).Encode(object)
	}
	return b.String()
}
