// Package notify runs the command that an administrator has set for the end of a run that
// has failed: to send a mail, or to page someone.
//
// The command is a shell command, run by /bin/sh. It has an empty input and a session of its
// own. Its environment is that of the run, and:
//
//	PUAVO_ERROR      the error, as on standard error: escaped, and at most some KiB
//	PUAVO_EXIT_CODE  with which the run ends, such as 1
//	PUAVO_PROGRAM    such as puavo-update-image
//	PUAVO_COMMAND    such as update, or build for the builder without a command
//
// What it prints goes to standard error. It has a minute; then, and if the run is
// interrupted, all of its processes are killed. What it leaves in the background goes on, but
// can print no longer than some seconds. If it fails, the result of the run stays the same.
//
// A run that was interrupted, or has nothing to do, has not failed. A run whose options or
// settings cannot be read does not know the command yet: only the supervisor that started it,
// such as systemd with OnFailure=, can report that.
package notify

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strconv"
	"syscall"
	"time"

	"puavo-image-repository/meta/untrusted"
)

// Usage is that of the flag --notify.
const Usage = "run the shell command `COMMAND` if the run fails, with $PUAVO_ERROR and $PUAVO_EXIT_CODE set; not if options or settings are wrong"

// Failure is how a run has failed.
type Failure struct {
	Program, Command string
	Err              error
	ExitCode         int
}

// Run runs a command, "" for none, about a failure, and writes what it prints to output. The
// error says why the command has failed. If the context ends first, it is that of the context.
func Run(ctx context.Context, command string, f Failure, output io.Writer) error {
	return run(ctx, time.Minute, command, f, output)
}

// run is Run with another patience.
func run(ctx context.Context, patience time.Duration, command string, f Failure, output io.Writer) error {
	if command == "" {
		return nil
	}
	limited, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	cmd := exec.CommandContext(limited, "/bin/sh", "-c", command)
	cmd.Env = append(cmd.Environ(),
		"PUAVO_ERROR="+untrusted.ShowLines(f.Err.Error()), "PUAVO_EXIT_CODE="+strconv.Itoa(f.ExitCode),
		"PUAVO_PROGRAM="+f.Program, "PUAVO_COMMAND="+f.Command)
	cmd.Stdout, cmd.Stderr = output, output
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.WaitDelay = 5 * time.Second
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	err := cmd.Run()
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err == nil || errors.Is(err, exec.ErrWaitDelay):
		return nil
	case limited.Err() != nil:
		err = fmt.Errorf("it did not end within %v", patience)
	}
	return fmt.Errorf("--notify %q: %w", command, err)
}
