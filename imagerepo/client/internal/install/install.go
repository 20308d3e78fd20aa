// Package install puts an image that is in an images directory to use.
//
// The steps, each of which is done again if the process or the power fails before the
// last:
//
//	record in the digest cache that the image is pending
//	Begin             what else to record before anything is visible
//	pre-install hook  if it fails, the default stays what it was
//	default link      points to the image, and the backup link to the previous one
//	labels for GRUB   follow the two links
//	GRUB's choice     is reset
//	post-install hook
//	record that nothing is pending
//
// The lock of the directory is held meanwhile.
package install

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"

	"puavo-image-repository/imagerepo/client/internal/grub"
	"puavo-image-repository/imagerepo/client/internal/hook"
	"puavo-image-repository/imagerepo/client/internal/imagedir"
	"puavo-image-repository/meta"
)

// Installer is what is done to put an image to use.
type Installer struct {
	Dir         *imagedir.Dir // whose lock is held
	DefaultLink string        // name of the default link, "" for none
	GrubLabels  bool          // label the default image and its backup for GRUB
	// PreInstall and PostInstall are shell commands, "" for none, see package hook. What
	// they print goes to Output, nil for nowhere.
	PreInstall, PostInstall string
	Output                  io.Writer
	Log                     *slog.Logger // takes warnings
	// Begin, which may be nil, is called once the image is pending.
	Begin func() error
}

// IsInUse reports whether an image is in use: the default link points to it, if there
// is such a link, and no run has failed to do all that belongs to installing it.
func (in Installer) IsInUse(image meta.Name) bool {
	if in.Dir.Digests.Pending() == image {
		return false
	}
	now, ok := in.Dir.Link(in.DefaultLink).Image()
	return in.DefaultLink == "" || ok && now == image
}

// Install puts an image to use, unless it is in use, and reports whether it did. The
// labels of an image in use are repaired. An error says whether the image is in use.
func (in Installer) Install(ctx context.Context, image meta.Name) (bool, error) {
	if in.IsInUse(image) {
		if err := in.setLabels(image); err != nil {
			return false, in.notInstalled(image, err)
		}
		return false, nil
	}
	steps := []func() error{
		func() error { return in.Dir.Digests.SetPending(image) },
		in.begin,
		func() error { return in.hook(ctx, "--pre-install", in.PreInstall, image) },
		func() error { return in.setDefault(image) },
		func() error { return in.setLabels(image) },
		func() error { return in.forgetChoice(ctx) },
		func() error { return in.hook(ctx, "--post-install", in.PostInstall, image) },
		func() error { return in.Dir.Digests.SetPending(meta.Name{}) },
	}
	for _, step := range steps {
		err := step()
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
		if err != nil {
			return false, in.notInstalled(image, err)
		}
	}
	return true, nil
}

// notInstalled says how far the installing of an image has got before an error.
func (in Installer) notInstalled(image meta.Name, err error) error {
	if now, ok := in.Dir.Link(in.DefaultLink).Image(); ok && now == image {
		return fmt.Errorf("%s is in use, but %w; the next run tries again", image, err)
	}
	return fmt.Errorf("%s is complete, but was not put to use: %w", image, err)
}

func (in Installer) begin() error {
	if in.Begin == nil {
		return nil
	}
	return in.Begin()
}

func (in Installer) setDefault(image meta.Name) error {
	if in.DefaultLink == "" {
		return nil
	}
	return in.Dir.Link(in.DefaultLink).Set(image)
}

// setLabels labels the image in use and its backup for GRUB.
func (in Installer) setLabels(image meta.Name) error {
	if !in.GrubLabels {
		return nil
	}
	backup, _ := in.Dir.Link(in.DefaultLink).Backup()
	return grub.SetLabels(in.Dir.Files, image, backup)
}

// forgetChoice has GRUB boot the new image, whatever was chosen in its menu.
func (in Installer) forgetChoice(ctx context.Context) error {
	if !in.GrubLabels {
		return nil
	}
	return grub.ForgetChoice(ctx, in.Dir.Files.Name(), in.Log)
}

// hook runs the command of a flag with the path of the image.
func (in Installer) hook(ctx context.Context, flag, command string, image meta.Name) error {
	if command == "" {
		return nil
	}
	path, err := filepath.Abs(filepath.Join(in.Dir.Files.Name(), image.String()))
	if err != nil {
		return err
	}
	if err := hook.Run(ctx, command, path, in.Output); err != nil {
		return fmt.Errorf("%s %q: %w", flag, command, err)
	}
	return nil
}
