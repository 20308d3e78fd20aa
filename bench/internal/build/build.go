// Package build builds commands, by the go command.
package build

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
)

// Top is the top of the repository, from the folder bench.
const Top = ".."

// Command builds a command of this checkout, such as rdiff, into a file.
func Command(ctx context.Context, name, binary string) error {
	binary, err := filepath.Abs(binary)
	if err != nil {
		return err
	}
	return Go(ctx, Top, "build", "-o", binary, "./cmd/"+name)
}

// Go runs the go command in a directory. Its error has what that printed.
func Go(ctx context.Context, dir string, args ...string) error {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go %v: %w\n%s", args, err, out)
	}
	return nil
}
