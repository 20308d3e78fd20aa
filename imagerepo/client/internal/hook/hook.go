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
//	copy --image "$1" # to   copy --image "$1" # to
//	if a; then b; fi         if a; then b; fi
//
// The last two stay as they are: nothing is added before a comment if the hook uses the
// path itself, nor where no argument can follow. Where the end of the last command is in
// doubt, as after $(...) or a here-document, the argument goes to the end of the text. The
// shell is /bin/sh.
package hook

import (
	"context"
	"io"
	"os/exec"
)

// Run runs a shell command with the path of an image, and writes what it prints to
// output, nil for nowhere. If the command fails, the error is an *exec.ExitError.
func Run(ctx context.Context, command, path string, output io.Writer) error {
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", withPath(command), "sh", path)
	cmd.Env = append(cmd.Environ(), "PUAVO_IMAGE="+path)
	cmd.Stdout, cmd.Stderr = output, output
	return cmd.Run()
}
