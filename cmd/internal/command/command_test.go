package command

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/urfave/cli/v2"
)

// testEnv makes the test binary a command, see TestMain.
const testEnv = "COMMAND_TEST"

var errInput, errOther = errors.New("bad input"), errors.New("no such luck")

// processes are the commands that tests run as processes of their own.
var processes = map[string]Func{
	"done": func(_ context.Context, args []string, stdin io.Reader, stdout, _ io.Writer) error {
		in, err := io.ReadAll(stdin)
		fmt.Fprintf(stdout, "%q %s", args, in)
		return err
	},
	"fails":   func(context.Context, []string, io.Reader, io.Writer, io.Writer) error { return errOther },
	"misused": func(context.Context, []string, io.Reader, io.Writer, io.Writer) error { return Usage("no %s", "way") },
	"nothing new": func(context.Context, []string, io.Reader, io.Writer, io.Writer) error {
		return fmt.Errorf("wrapped: %w", Code(4))
	},
	"input": func(context.Context, []string, io.Reader, io.Writer, io.Writer) error {
		return fmt.Errorf("a.img: %w", errInput)
	},
	"waits": func(ctx context.Context, _ []string, _ io.Reader, stdout, _ io.Writer) error {
		fmt.Fprintln(stdout, "ready")
		<-ctx.Done()
		return fmt.Errorf("waiting: %w", context.Cause(ctx))
	},
	"app": flagsApp,
	"finishes": func(ctx context.Context, _ []string, _ io.Reader, stdout, _ io.Writer) error {
		fmt.Fprintln(stdout, "ready")
		<-ctx.Done()
		return nil
	},
	"stubborn": func(ctx context.Context, _ []string, _ io.Reader, stdout, _ io.Writer) error {
		fmt.Fprintln(stdout, "ready")
		<-ctx.Done()
		time.Sleep(time.Minute)
		return nil
	},
}

func TestMain(m *testing.M) {
	if run := processes[os.Getenv(testEnv)]; run != nil {
		os.Args[0] = "/usr/bin/test-command"
		os.Exit(Main(run, errInput))
	}
	os.Exit(m.Run())
}

func process(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), testEnv+"="+name, "GORACE=atexit_sleep_ms=10")
	return cmd
}

// A command gets its arguments and streams, and its error becomes a message and
// an exit code.
func TestMainProcess(t *testing.T) {
	for _, c := range []struct {
		name           string
		code           int
		stdout, stderr string
	}{
		{"done", Done, `["a" "-b"] from stdin`, ""},
		{"fails", Failed, "", "test-command: no such luck\n"},
		{"misused", WrongUsage, "", "test-command: wrong usage: no way; see --help\n"},
		{"input", NoInput, "", "test-command: a.img: bad input\n"},
		{"nothing new", 4, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			cmd := process(c.name, "a", "-b")
			cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader("from stdin"), &stdout, &stderr
			cmd.Run()
			if code := cmd.ProcessState.ExitCode(); code != c.code || stdout.String() != c.stdout || stderr.String() != c.stderr {
				t.Errorf("exit code %d, stdout %q, stderr %q; want %d, %q, %q", code, &stdout, &stderr, c.code, c.stdout, c.stderr)
			}
		})
	}
}

// The first signal ends the context. What the command makes of that counts: an
// error is an interruption, and if it got done all the same, it is done.
func TestMainSignal(t *testing.T) {
	for _, c := range []struct {
		name   string
		signal os.Signal
		code   int
		stderr string
	}{
		{"waits", os.Interrupt, Interrupted, "test-command: interrupted; run again to resume\n"},
		{"waits", syscall.SIGTERM, Interrupted, "test-command: interrupted; run again to resume\n"},
		{"finishes", os.Interrupt, Done, ""},
	} {
		t.Run(c.name+" "+c.signal.String(), func(t *testing.T) {
			cmd, stderr := started(t, c.name)
			cmd.Process.Signal(c.signal)
			cmd.Wait()
			if code := cmd.ProcessState.ExitCode(); code != c.code || stderr.String() != c.stderr {
				t.Errorf("exit code %d, stderr %q; want %d, %q", code, stderr, c.code, c.stderr)
			}
		})
	}
}

// Another signal ends a command that does not end by itself.
func TestMainSecondSignal(t *testing.T) {
	cmd, _ := started(t, "stubborn")
	ended := make(chan error)
	go func() { ended <- cmd.Wait() }()
	// The second one may come before the first one has its effect: repeat it.
	for start := time.Now(); time.Since(start) < 10*time.Second; {
		cmd.Process.Signal(os.Interrupt)
		select {
		case <-ended:
			if status := cmd.ProcessState.Sys().(syscall.WaitStatus); !status.Signaled() || status.Signal() != syscall.SIGINT {
				t.Errorf("ended with %v, want by SIGINT", cmd.ProcessState)
			}
			return
		case <-time.After(50 * time.Millisecond):
		}
	}
	cmd.Process.Kill()
	<-ended
	t.Error("it goes on after several signals")
}

// started starts a process and waits until it is ready.
func started(t *testing.T, name string, args ...string) (cmd *exec.Cmd, stderr *bytes.Buffer) {
	t.Helper()
	stderr = new(bytes.Buffer)
	cmd = process(name, args...)
	cmd.Stderr = stderr
	stdout, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err == nil {
		_, err = io.ReadFull(stdout, make([]byte, len("ready\n")))
	}
	if err != nil {
		t.Fatal(err)
	}
	return cmd, stderr
}

func TestExitCode(t *testing.T) {
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range []struct {
		ctx    context.Context
		err    error
		want   int
		failed bool
	}{
		{t.Context(), nil, Done, false},
		{t.Context(), errOther, Failed, true},
		{t.Context(), errInput, NoInput, true},
		{t.Context(), fmt.Errorf("reading a.img: %w", errInput), NoInput, true},
		{t.Context(), errors.Join(errOther, errInput), NoInput, true},
		{t.Context(), Usage("no"), WrongUsage, true},
		{t.Context(), errors.Join(errInput, Usage("no")), WrongUsage, true},
		{t.Context(), context.Canceled, Failed, true}, // without a signal
		{t.Context(), jsonError{Code(4)}, 4, false},
		{ended, nil, Done, false},
		{ended, Code(4), 4, false},
		{ended, errInput, Interrupted, true},
	} {
		got := ExitCode(c.ctx, c.err, io.EOF, errInput)
		if failed := IsFailure(got, c.err); got != c.want || failed != c.failed {
			t.Errorf("%v: %d, failed %v; want %d, %v", c.err, got, failed, c.want, c.failed)
		}
	}
}

// testApp returns an app with flags of each kind and a command; got records what
// runs and with what.
func testApp(got *[]string) *cli.App {
	flags := func() []cli.Flag {
		return []cli.Flag{
			&cli.StringFlag{Name: "url", Aliases: []string{"r"}},
			&cli.IntFlag{Name: "jobs", Aliases: []string{"j"}, Value: 2},
			&cli.StringSliceFlag{Name: "config"},
			&cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}},
		}
	}
	action := func(name string) cli.ActionFunc {
		return func(c *cli.Context) error {
			*got = []string{name, c.String("url"), fmt.Sprint(c.Int("jobs"), c.StringSlice("config"), c.Bool("quiet"))}
			*got = append(*got, c.Args().Slice()...)
			switch c.Args().First() {
			case "fail":
				return errOther
			case "exit":
				return cli.Exit(errOther, 7) // on which cli itself would end the process
			}
			return nil
		}
	}
	return &cli.App{
		Name: "app", Usage: "test", UsageText: "app [options] DIR", Description: "Tests.",
		Flags: flags(), Action: action("app"),
		Commands: []*cli.Command{{
			Name: "apply", Usage: "apply it", UsageText: "app apply [options]",
			Flags:  append(flags(), &cli.StringFlag{Name: "out"}),
			Action: action("apply"),
		}, {
			Name: "keys", Usage: "keep keys", UsageText: "app keys COMMAND",
			Action: action("keys"),
			Subcommands: []*cli.Command{{
				Name: "add", Usage: "add a key", UsageText: "app keys add [options] ROLE",
				Flags:  append(flags(), &cli.StringFlag{Name: "out"}),
				Action: action("add"),
			}},
		}},
	}
}

func TestArrange(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"", ""},
		{"a", "-- a"},
		{"a b", "-- a b"},
		{"-", "-- -"},
		// Flags before, between and after.
		{"-q a b", "-q -- a b"},
		{"a -q b", "-q -- a b"},
		{"a b -q", "-q -- a b"},
		{"-q a --quiet b -q=false", "-q --quiet -q=false -- a b"},
		// Flags with values.
		{"-r x a", "-r x -- a"},
		{"a -r x b", "-r x -- a b"},
		{"a b --url x", "--url x -- a b"},
		{"a -url x b", "-url x -- a b"},
		{"a --url=x b", "--url=x -- a b"},
		{"a --url= b", "--url= -- a b"},
		{"a --config x --config=y b --config z", "--config x --config=y --config z -- a b"},
		{"a --jobs -1 b", "--jobs -1 -- a b"},
		{"a --url -q b", "--url -q -- a b"},
		{"a --url - b", "--url - -- a b"},
		// Flags of one letter, joined.
		{"-qj4 a", "-q -j=4 -- a"},
		{"-j4 a", "-j=4 -- a"},
		{"a -qj 4 b", "-q -j 4 -- a b"},
		{"-qq a", "-q -q -- a"},
		{"-rx=y a", "-r=x=y -- a"},
		{"-qr", "-q -r"},
		{"-qx a", "-qx -- a"},
		{"-xq a", "-xq -- a"},
		{"-j-1 a", "-j=-1 -- a"},
		{"-qh a", "-h"},
		{"apply -qj4 --out x", "apply -q -j=4 --out x"},
		{"-quite a", "-quite -- a"},
		{"-quie a", "-quie -- a"},
		{"-url", "-url"},
		{"-jobss 4", "-jobss -- 4"},
		{"--qj4 a", "--qj4 -- a"},
		// A flag without its value.
		{"--url", "--url"},
		{"a b --url", "--url"},
		{"-q a --url", "-q --url"},
		{"apply a --out", "apply --out"},
		// What follows "--" are positionals.
		{"--", ""},
		{"-- a", "-- a"},
		{"-- -q --url", "-- -q --url"},
		{"-q -- -q", "-q -- -q"},
		{"a -- -q b", "-- a -q b"},
		{"a -q -- b --", "-q -- a b --"},
		{"-- apply", "-- apply"},
		{"--url -- a", "--url -- -- a"}, // as the flag package has it, "--" is the value here
		// Unknown flags are for cli to refuse; they have no value.
		{"a --nope b", "--nope -- a b"},
		{"--nope a b", "--nope -- a b"},
		{"a --out x", "--out -- a x"},
		{"---url x", "---url x"}, // cli refuses it
		// Commands have their own flags, and those before them.
		{"apply", "apply"},
		{"apply a -q --out x", "apply -q --out x -- a"},
		{"-q apply --out x", "apply -q --out x"},
		{"-r x apply a", "apply -r x -- a"},
		{"apply --out=x a -- -b", "apply --out=x -- a -b"},
		{"a apply --url x", "--url x -- a apply"},
		// Commands of commands likewise.
		{"keys", "keys"},
		{"keys add a --out x b", "keys add --out x -- a b"},
		{"-q keys -r add x --out y", "keys add -q -r --out y -- x"},
		{"keys -- add", "keys -- add"},
		{"keys x add", "keys -- x add"},
		{"add keys", "-- add keys"},
		{"keys add keys", "keys add -- keys"},
		{"keys add x --help", "keys add --help"},
		{"keys --help add", "keys --help"},
		// Help and version, without what cli would take for a topic.
		{"--help", "--help"},
		{"a b --help", "--help"},
		{"a -h b", "-h"},
		{"--help a", "--help"},
		{"-q --help a", "--help"},
		{"apply --out x --help", "apply --help"},
		{"apply a -h", "apply -h"},
		{"--version apply", "--version"},
		{"a --version", "--version"},
		{"--url --help a", "--url --help -- a"},
		{"-- --help", "-- --help"},
	} {
		app := testApp(nil)
		got := strings.Join(arrange(app.Flags, app.Commands, nil, strings.Fields(c.args)), " ")
		if got != c.want {
			t.Errorf("%s: got %q, want %q", c.args, got, c.want)
		}
	}
}

func TestSplit(t *testing.T) {
	known := testApp(nil).Flags
	for _, c := range []struct {
		args                       string
		leading                    bool
		wantFlags, wantPositionals string
	}{
		{args: "", leading: true},
		{args: "-q -r x a -q b", leading: true, wantFlags: "-q -r x", wantPositionals: "a -q b"},
		{args: "-q -r x a -q b", wantFlags: "-q -r x -q", wantPositionals: "-- a b"},
		{args: "-q -- a -q", leading: true, wantFlags: "-q", wantPositionals: "-- a -q"},
		{args: "- -q", leading: true, wantPositionals: "- -q"},
		{args: "-q --", leading: true, wantFlags: "-q"},
		{args: "-q -r", leading: true, wantFlags: "-q -r"},
		{args: "a -r", wantFlags: "-r"},
	} {
		args := strings.Fields(c.args)
		before := slices.Clone(args)
		flags, positionals := split(known, args, c.leading)
		if f, p := strings.Join(flags, " "), strings.Join(positionals, " "); f != c.wantFlags || p != c.wantPositionals {
			t.Errorf("%s, leading %t: %q and %q, want %q and %q", c.args, c.leading, f, p, c.wantFlags, c.wantPositionals)
		}
		if !reflect.DeepEqual(args, before) {
			t.Errorf("%s: the arguments became %q", c.args, args)
		}
	}
}

// What an app gets in the end.
func TestRun(t *testing.T) {
	for _, c := range []struct {
		args string
		want string
	}{
		{"", "app||2 [] false"},
		{"a b", "app||2 [] false|a|b"},
		{"a --url x b -q -j 3", "app|x|3 [] true|a|b"},
		{"a --config x --config=y", "app||2 [x y] false|a"},
		{"a --config x,y", "app||2 [x,y] false|a"},
		{"a -- -q", "app||2 [] false|a|-q"},
		{"quiet url", "app||2 [] false|quiet|url"}, // names of flags as directories
		{"apply a -j 3", "apply||3 [] false|a"},
		{"-q --jobs 3 apply", "apply||3 [] true"},
		{"-q keys add a --jobs 3 b", "add||3 [] true|a|b"},
		{"keys nope a", "keys||2 [] false|nope|a"},
		{"keys", "keys||2 [] false"},
		{"-q apply -q=false", "apply||2 [] false"},
		{"a apply", "app||2 [] false|a|apply"},
		{"help", "app||2 [] false|help"},
	} {
		var got []string
		var out bytes.Buffer
		err := Run(t.Context(), testApp(&got), strings.Fields(c.args), &out, &out)
		if strings.Join(got, "|") != c.want || err != nil || out.Len() > 0 {
			t.Errorf("%s: got %q, %v, printed %q; want %q", c.args, strings.Join(got, "|"), err, &out, c.want)
		}
	}
}

// Wrong arguments are errors that wrap ErrUsage, other errors come through, and
// neither prints anything.
func TestRunFails(t *testing.T) {
	for _, c := range []struct {
		args, want string
		is         error
	}{
		{"--nope", "-nope", ErrUsage},
		{"a b --nope", "-nope", ErrUsage},
		{"a --jobs x", "jobs", ErrUsage},
		{"a --jobs", "-jobs", ErrUsage},
		{"a --quiet=x", "quiet", ErrUsage},
		{"a ---quiet", "bad flag", ErrUsage},
		{"apply --nope", "-nope", ErrUsage},
		{"apply --jobs x", "jobs", ErrUsage},
		{"keys add --nope", "-nope", ErrUsage},
		{"keys --nope add", "-nope", ErrUsage},
		{"keys add fail", "no such luck", errOther},
		{"--out x apply", "-out", ErrUsage},
		{"--quie a", "unknown option --quie; did you mean --quiet?", ErrUsage},
		{"-quiett a", "unknown option -quiett; did you mean --quiet?", ErrUsage},
		{"--xyz=1 a", "unknown option --xyz; see", ErrUsage},
		{"apply --ot x", "unknown option --ot; did you mean --out?", ErrUsage},
		{"apply --cofnig x", "unknown option --cofnig; did you mean --config?", ErrUsage},
		{"fail", "no such luck", errOther},
		{"apply fail", "no such luck", errOther},
		{"exit", "no such luck", errOther},
	} {
		var got []string
		var out bytes.Buffer
		err := Run(t.Context(), testApp(&got), strings.Fields(c.args), &out, &out)
		if !errors.Is(err, c.is) || !strings.Contains(fmt.Sprint(err), c.want) || out.Len() > 0 {
			t.Errorf("%s: %v, printed %q; want an error %q of %v", c.args, err, &out, c.want, c.is)
		}
		if c.is == ErrUsage && !strings.HasSuffix(fmt.Sprint(err), "; see --help") {
			t.Errorf("%s: %v does not say where to look", c.args, err)
		}
	}
}
