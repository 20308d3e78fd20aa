// Package command is what the commands of this project share: exit codes, the
// parsing of arguments, and the flags that all have.
package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/urfave/cli/v2"

	"puavo-image-repository/cmd/internal/ui"
	"puavo-image-repository/cmd/internal/version"
	"puavo-image-repository/meta/untrusted"
)

// The exit codes of all commands.
const (
	Done        = 0
	Failed      = 1
	WrongUsage  = 2
	NoInput     = 3
	Interrupted = 130
)

// ExitCodes explains the exit codes, for --help.
const ExitCodes = `0 done, 1 failed, 2 wrong usage, 3 no usable input
   (corrupt or contradictory; a file that cannot be opened is 1),
   130 interrupted`

// ErrUsage is wrapped by the errors for wrong arguments.
var ErrUsage = errors.New("wrong usage")

// Usage returns an error for wrong arguments.
func Usage(format string, a ...any) error {
	return fmt.Errorf("%w: %s; see --help", ErrUsage, fmt.Sprintf(format, a...))
}

// Code is an error with the exit code of a command that has not failed, but has
// more to report than success. Main prints nothing about it.
type Code int

func (c Code) Error() string { return fmt.Sprintf("exit code %d", int(c)) }

// Func is a command without its process.
type Func func(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) error

// Main runs a command as this process and returns its exit code. SIGINT and SIGTERM
// end its context; a second one ends the process. input are the errors for unusable
// input. Main prints the error to standard error, in the format that the flags ask
// for.
func Main(run Func, input ...error) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	err := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	code := ExitCode(ctx, err, input...)
	switch {
	case !IsFailure(code, err):
	case code == Interrupted:
		printError(err, "interrupted; run again to resume")
	default:
		printError(err, err.Error())
	}
	return code
}

// ExitCode returns the exit code of a command that ran in this context and returned this
// error. input are the errors for unusable input.
func ExitCode(ctx context.Context, err error, input ...error) int {
	code, ok := errors.AsType[Code](err)
	switch {
	case ok:
		return int(code)
	case err != nil && ctx.Err() != nil:
		return Interrupted
	}
	return exitCode(err, input)
}

// IsFailure reports whether a command that returned this error, and so this exit code, has
// done less than it was asked for.
func IsFailure(code int, err error) bool {
	_, ok := errors.AsType[Code](err)
	return code != Done && !ok
}

// printError writes the message about an error to standard error, escaped and bounded.
func printError(err error, message string) {
	if _, ok := errors.AsType[jsonError](err); ok {
		ui.New(os.Stderr, ui.Options{JSON: true}).Log().Error(message)
		return
	}
	fmt.Fprintf(os.Stderr, "%s: %s\n", filepath.Base(os.Args[0]), untrusted.ShowLines(message))
}

func exitCode(err error, input []error) int {
	is := func(target error) bool { return errors.Is(err, target) }
	switch {
	case err == nil:
		return Done
	case is(ErrUsage):
		return WrongUsage
	case slices.ContainsFunc(input, is):
		return NoInput
	default:
		return Failed
	}
}

// Run runs a cli app with these arguments, flags anywhere among them. Errors in the
// arguments wrap ErrUsage.
func Run(ctx context.Context, app *cli.App, args []string, stdout, stderr io.Writer) error {
	cli.VersionFlag = &cli.BoolFlag{Name: "version", Usage: "print the version", DisableDefaultText: true}
	app.Version = version.String()
	app.Writer, app.ErrWriter = stdout, stderr
	app.HideHelpCommand = true
	app.DisableSliceFlagSeparator = true // a comma is part of a file's name
	app.ExitErrHandler = func(*cli.Context, error) {}
	app.OnUsageError = usageError
	cli.HelpPrinter = printHelp
	app.Action = markJSON(app.Action)
	prepare(app.Commands)
	args = arrange(app.Flags, app.Commands, nil, args)
	if len(args) > 0 && args[0] == helpName && commandOf(app.Commands, helpName) != nil {
		var err error
		if args, err = helpArguments(app, args[1:]); err != nil {
			return err
		}
	}
	if err := checkFlags(app.Flags, app.Commands, args); err != nil {
		return err
	}
	if commandOf(app.Commands, helpName) != nil {
		app.Flags = append(app.Flags, cli.HelpFlag) // which cli leaves out then
	}
	app.Setup()
	return app.RunContext(ctx, append([]string{app.Name}, args...))
}

// prepare does to commands, and those of commands, what Run does to the app.
func prepare(commands []*cli.Command) {
	for _, c := range commands {
		c.OnUsageError = usageError
		c.HideHelpCommand = true
		c.Action = markJSON(c.Action)
		prepare(c.Subcommands)
	}
}

func usageError(_ *cli.Context, err error, _ bool) error { return Usage("%v", err) }

// JSON writes a value as a JSON document for programs.
func JSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
