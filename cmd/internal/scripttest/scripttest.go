// Package scripttest runs the test scripts of a command, testdata/*.txtar. They are
// scripts of testscript, with these additional commands:
//
//	tool NAME...            skip the script where a tool is not installed; where CI
//	                        is set, fail instead
//	exits CODE COMMAND...   run the command, which must exit with that code
//	interrupted PIPE COMMAND...
//	                        run the command, which must read the pipe, and send it SIGTERM
//	                        while it does: it must exit with code 130
//	odd KIND PATH           put a pipe, a directory, a dangling link, a device or a file of
//	                        2 GiB in place of the file; where a device cannot be
//	                        made, skip the script, or fail where CI is set
//	readonly DIR            mount DIR read-only until the script ends; where that is
//	                        not allowed, skip the script, or fail where CI is set
//	completes SHELL LINE    print what bash, zsh or fish completes LINE to, whose first word
//	                        is the command; where the shell is not installed, skip the
//	                        script, or fail where CI is set
//	tree DIR                print the files in DIR but not in DIR/.repo, sorted; for
//	                        "cmp stdout"
//
// TESTDATA is the folder of the fixtures. The environment of the test is not
// passed on.
package scripttest

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/urfave/cli/v2"

	"puavo-image-repository/testdata"
)

// gorace keeps programs that are built with the race detector from sleeping a
// second before they exit.
const gorace = "atexit_sleep_ms=10"

// Main runs the tests of a command. Where it is called under the name of the
// command, by a test, it is that command. It does not return.
func Main(m *testing.M, name string, main func()) {
	os.Setenv("GORACE", gorace)
	// Scripts wait for disks and for each other's processes; -parallel overrides it.
	flag.Set("test.parallel", strconv.Itoa(2*runtime.GOMAXPROCS(0)))
	testscript.Main(tests{m}, map[string]func(){name: main})
}

// tests are those of a command. The short ones have their files in memory.
type tests struct{ *testing.M }

func (t tests) Run() int {
	defer testdata.InMemory()()
	return t.M.Run()
}

// Run runs the scripts in testdata with these variables, NAME=VALUE, in their
// environment.
func Run(t *testing.T, vars ...string) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			e.Vars = append(e.Vars, "LC_ALL=C", "GORACE="+gorace, "TESTDATA="+testdata.Path(""))
			e.Vars = append(e.Vars, vars...)
			e.Values[scriptT{}] = e.T()
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"tool": tool, "exits": exits, "interrupted": interrupted, "odd": odd, "readonly": readOnly, "tree": tree,
			"completes": completes,
		},
	})
}

// Before runs, as name, the command lines of testdata/before that call a command.
// They fail, as the files that they name are missing, but none of them with the
// exit code for wrong usage, but for those that are refused on purpose, which must. refused
// may be nil.
func Before(t *testing.T, command, name string, wrongUsage int, refused func(args []string) bool) {
	lines := testdata.BeforeCommands(t, command, t.TempDir())
	if len(lines) == 0 {
		t.Fatalf("no command line calls %s", command)
	}
	for _, args := range lines {
		cmd := exec.CommandContext(t.Context(), name, args...)
		cmd.Dir = t.TempDir()
		out, err := cmd.CombinedOutput()
		exit, ended := errors.AsType[*exec.ExitError](err)
		isRefused := refused != nil && refused(args)
		if err != nil && !ended || ended && exit.ExitCode() < 0 || isRefused != (ended && exit.ExitCode() == wrongUsage) {
			t.Errorf("%s %s: %v\n%s", command, strings.Join(args, " "), err, out)
		}
	}
}

// Help runs, as name, the help of the app and of each of its commands, by --help and by the
// command help. Both must be the same, within 80 columns, and name all visible flags.
func Help(t *testing.T, app *cli.App, name string) {
	helpOf(t, name, nil, app.Flags, app.Commands)
}

func helpOf(t *testing.T, name string, topic []string, flags []cli.Flag, commands []*cli.Command) {
	output := func(args ...string) string {
		out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
		if err != nil {
			t.Errorf("%s %q: %v", name, args, err)
		}
		return string(out)
	}
	help := output(append(slices.Clone(topic), "--help")...)
	if other := output(append([]string{"help"}, topic...)...); other != help || help == "" {
		t.Errorf("%s help %q prints\n%s\nnot\n%s", name, topic, other, help)
	}
	for line := range strings.Lines(help) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > 80 {
			t.Errorf("%s %q --help: %d columns: %s", name, topic, n, line)
		}
	}
	for _, f := range flags {
		if !strings.Contains(help, "\n   --"+f.Names()[0]) {
			t.Errorf("%s %q --help does not name --%s", name, topic, f.Names()[0])
		}
	}
	for _, c := range commands {
		if !strings.Contains(help, "\n   "+c.Name+" ") {
			t.Errorf("%s %q --help does not name %s", name, topic, c.Name)
		}
		helpOf(t, name, append(slices.Clone(topic), c.Name), c.Flags, c.Subcommands)
	}
}

// scriptT is the key of the testscript.T of a script.
type scriptT struct{}

func tool(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: tool NAME...")
	}
	for _, name := range args {
		if _, err := exec.LookPath(name); err == nil {
			continue
		}
		skip(ts, name+" is not installed")
	}
}

// skip skips a script, or fails it where CI is set.
func skip(ts *testscript.TestScript, reason string) {
	if os.Getenv("CI") != "" {
		ts.Fatalf("%s", reason)
	}
	ts.Value(scriptT{}).(testscript.T).Skip(reason)
}

func readOnly(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: readonly DIR")
	}
	dir := ts.MkAbs(args[0])
	unmount, err := testdata.MountReadOnly(dir, dir)
	if err != nil {
		skip(ts, fmt.Sprintf("mounting read-only: %v", err))
		return
	}
	ts.Defer(func() { ts.Check(unmount()) })
}

func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// termination opens the pipe of a command, which waits until the command does, and ends the
// command.
const termination = `pipe=$1
shift
"$@" &
exec 9>"$pipe"
kill -TERM $!
wait $!`

func interrupted(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: interrupted PIPE COMMAND...")
	}
	// Whatever the command does, nothing is left of it after a minute.
	exits(ts, false, append([]string{"130", "timeout", "-k", "5", "60", "sh", "-c", termination, "sh"}, args...))
}

func odd(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: odd KIND PATH")
	}
	err := testdata.PutOdd(args[0], ts.MkAbs(args[1]))
	if args[0] == "device" && errors.Is(err, fs.ErrPermission) {
		skip(ts, fmt.Sprintf("making a device: %v", err))
	}
	ts.Check(err)
}

func tree(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: tree DIR")
	}
	err := fs.WalkDir(os.DirFS(ts.MkAbs(args[0])), ".", func(name string, d fs.DirEntry, err error) error {
		if name == ".repo" {
			return fs.SkipDir
		}
		if err == nil && !d.IsDir() {
			_, err = fmt.Fprintln(ts.Stdout(), path.Join(args[0], name))
		}
		return err
	})
	ts.Check(err)
}
