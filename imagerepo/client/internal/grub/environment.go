package grub

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os/exec"
	"path/filepath"

	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/meta/untrusted"
)

const (
	// environmentFile is the environment block, from the images directory.
	environmentFile = "boot/grub/grubenv"
	// maxEnvironment bounds it, in bytes. It usually has 1024.
	maxEnvironment = 64 << 10
	// temporary is the name of its copy, in the same directory.
	temporary = ".image_updates_grubenv"

	editor        = "grub-editenv"
	editorPackage = "grub-common" // of Debian
)

// choice are the variables that the menu has stored.
var choice = []string{"puavo_grub_puavo_os_default_image", "puavo_grub_puavo_os_default_mode"}

// ForgetChoice removes what a user has chosen from the environment block of an images
// directory, whose lock must be held. If there is no such block, it logs a warning.
//
// grub-editenv writes over the block, and a power cut would leave a part of it, which no
// later grub-editenv takes. So it edits a copy, which then replaces the block.
func ForgetChoice(ctx context.Context, images string, log *slog.Logger) error {
	file, err := filepath.Abs(filepath.Join(images, environmentFile))
	if err != nil {
		return err
	}
	target, err := filepath.EvalSymlinks(file)
	if errors.Is(err, fs.ErrNotExist) {
		log.Warn("the images directory has no GRUB environment block, so there is no boot choice to reset", "file", file)
		return nil
	}
	if err == nil {
		err = edit(ctx, target)
	}
	if err != nil {
		return fmt.Errorf("GRUB's environment block %s: %w", file, err)
	}
	return nil
}

// edit removes the choice from a file that holds an environment block.
func edit(ctx context.Context, file string) error {
	dir, err := atomicfile.Open(filepath.Dir(file))
	if err != nil {
		return err
	}
	defer dir.Close()
	block, err := dir.ReadFile(filepath.Base(file), maxEnvironment)
	if err != nil {
		return err
	}
	info, err := dir.Stat(filepath.Base(file))
	if err != nil {
		return err
	}
	f, err := dir.Begin(temporary, filepath.Base(file))
	if err != nil {
		return err
	}
	defer f.Discard()
	if _, err := f.Write(block); err != nil {
		return err
	}
	if err := f.Chmod(info.Mode().Perm()); err != nil {
		return err
	}
	if err := unset(ctx, filepath.Join(dir.Name(), temporary)); err != nil {
		return err
	}
	if edited, err := dir.ReadFile(temporary, maxEnvironment); err != nil || bytes.Equal(edited, block) {
		return err
	}
	return f.Commit()
}

// unset removes the choice from a copy of the block.
func unset(ctx context.Context, file string) error {
	cmd := exec.CommandContext(ctx, editor, append([]string{file, "unset"}, choice...)...)
	out, err := cmd.CombinedOutput()
	switch {
	case err == nil || ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, exec.ErrNotFound):
		return fmt.Errorf("%w; install the package %s", err, editorPackage)
	}
	return fmt.Errorf("%s: %w: %s; if it is damaged, move it away and create a new one with \"%s FILE create\"",
		editor, err, untrusted.Show(string(bytes.TrimSpace(out))), editor)
}
