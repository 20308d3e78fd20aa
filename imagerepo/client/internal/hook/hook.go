// Package hook runs the shell commands that an administrator has set for before and
// after an image is put to use.
//
// # The path of the image
//
// A hook has the path of the image as $1 and as $PUAVO_IMAGE. Its last command gets the
// path as its last argument, too:
//
//	logger -t images         logger -t images "$1"
//	check && copy --to /srv  check && copy --to /srv "$1"
//	copy; # to the server    copy "$1"; # to the server
//	copy &                   copy "$1" &
//	if a; then b; fi         if a; then b; fi
//
// Nothing is added to a compound command such as the last. The shell is /bin/sh.
//
// # The processes
//
// A hook has a session of its own: its processes are a process group, and none of them
// can wait for an answer from a terminal. Its input is empty.
//
//	the shell ends    the hook has ended; what it left in the background goes on
//	the context ends  SIGTERM to the group, after 5 seconds SIGKILL; Run waits for its end
//
// A process with another process group, such as setsid(1) makes, is not waited for.
//
// What a hook leaves in the background should not share the hook's output. If this is a
// file, it can go on writing. Of any other writer Run waits 5 seconds for the end of
// what is written, then closes the pipe; that is no error.
package hook

import (
	"context"
	"errors"
	"io"
	"os/exec"
	"syscall"
	"time"
)

// Run runs a shell command with the path of an image, and writes what it prints to
// output, nil for nowhere. If the command fails, the error is an *exec.ExitError.
//
// If the context ends first, the error is that of the context, and all processes of the
// hook have ended when Run returns. Only one that SIGKILL has not ended within 5 seconds,
// since it waits for a broken disk, is left alone.
func Run(ctx context.Context, command, path string, output io.Writer) error {
	const patience = 5 * time.Second
	return run(ctx, patience, command, path, output)
}

// run is Run with another patience: from SIGTERM to SIGKILL, from that to the end, and
// from the end of the shell to that of its output.
func run(ctx context.Context, patience time.Duration, command, path string, output io.Writer) error {
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", withPath(command), "sh", path)
	cmd.Env = append(cmd.Environ(), "PUAVO_IMAGE="+path)
	cmd.Stdout, cmd.Stderr = output, output
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.WaitDelay = patience
	var stopped time.Time
	cmd.Cancel = func() error {
		if err := cmd.Process.Signal(syscall.Signal(0)); err != nil {
			return err // it has ended, and may have left something in the background
		}
		stopped = time.Now()
		return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM)
	}
	err := cmd.Run()
	if !stopped.IsZero() {
		end(cmd.Process.Pid, stopped.Add(patience), patience)
		return ctx.Err()
	}
	if errors.Is(err, exec.ErrWaitDelay) {
		return nil
	}
	return err
}

// end waits for the end of a process group, and at a deadline kills it.
func end(group int, deadline time.Time, patience time.Duration) {
	if !ends(group, deadline) {
		_ = syscall.Kill(-group, syscall.SIGKILL) // an error: it has just ended
		ends(group, time.Now().Add(patience))
	}
}

// ends waits for the end of a process group, and reports whether it came before a
// deadline.
func ends(group int, deadline time.Time) bool {
	const pause = 10 * time.Millisecond
	for !errors.Is(syscall.Kill(-group, 0), syscall.ESRCH) {
		if time.Now().After(deadline) {
			return false
		}
		time.Sleep(pause)
	}
	return true
}
