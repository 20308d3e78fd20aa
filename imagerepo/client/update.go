package client

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"puavo-image-repository/imagerepo/client/internal/digestcache"
	"puavo-image-repository/imagerepo/client/internal/grub"
	"puavo-image-repository/imagerepo/client/internal/hook"
	"puavo-image-repository/imagerepo/client/internal/imagedir"
	"puavo-image-repository/imagerepo/client/internal/route"
	"puavo-image-repository/imagerepo/client/internal/source"
	"puavo-image-repository/imagerepo/client/internal/stats"
	"puavo-image-repository/meta"
)

// update is the state of one Update.
type update struct {
	options  Options
	dir      *imagedir.Dir
	mirrors  *mirrors
	report   report
	end      time.Time        // when Options.MaxTime is over
	failures *source.Failures // of all searches, nil before the first
}

// from updates from one mirror.
func (u *update) from(ctx context.Context, m mirror) (Result, error) {
	u.report.phase(stats.ChecksumsFetch)
	of, err := fetchOffer(ctx, u.options, u.dir, m)
	if err != nil {
		return Result{}, err
	}
	u.report.image = of.Target.Name.String()
	result := Result{Image: of.Target.Name}
	if newer, err := hasNewer(u.options, u.dir, of); err != nil {
		return Result{}, err
	} else if newer {
		result.UpToDate = true
		return result, u.dir.Sweep()
	}
	isLocal, err := u.hasTarget(ctx, of.Target)
	if err != nil {
		return Result{}, err
	}
	if !isLocal {
		if result.Route, err = u.make(ctx, of); err != nil {
			return Result{}, err
		}
		result.Made = true
	}
	if err := u.dir.Sweep(); err != nil {
		return Result{}, err
	}
	installed, err := u.install(ctx, of.Target.Name)
	if err != nil {
		return Result{}, err
	}
	result.UpToDate = isLocal && !installed
	result.Removed, err = u.prune(of, result.Route.Base.Name)
	return result, err
}

// make makes the wanted image, over all sources. What has failed for another offer in
// this run is not tried again.
func (u *update) make(ctx context.Context, of *offer) (Route, error) {
	if u.failures == nil {
		begun, err := u.dir.Begun()
		if err != nil {
			return Route{}, err
		}
		u.failures = source.NewFailures(begun)
	}
	all := u.mirrors.sources(ctx, of)
	if err := ctx.Err(); err != nil {
		return Route{}, err
	}
	w := &search{
		options: u.options, dir: u.dir, report: &u.report, offer: of, sources: all, end: u.end,
		failures: u.failures, steps: route.MaxSteps,
	}
	return w.run(ctx)
}

// hasTarget reports whether the directory has the wanted image, and it is right.
func (u *update) hasTarget(ctx context.Context, target *meta.Image) (bool, error) {
	file := target.Name.String()
	if info, err := u.dir.Files.Lstat(file); err != nil || info.Size() != target.Sums.Size {
		return false, nil
	}
	err := u.dir.Digests.Check(ctx, file, target.Sums, func(done, total int64) {
		u.report.progress(stats.ImageChecksum, done, total)
	})
	if errors.Is(err, digestcache.ErrWrong) {
		u.options.Log.Warn("the image that is there is not right: making it again", "reason", err)
		return false, nil
	}
	return err == nil, err
}

// install puts an image to use, unless it is in use, and reports whether it did. The
// labels of an image in use are repaired.
func (u *update) install(ctx context.Context, image meta.Name) (bool, error) {
	if isInUse(u.options, u.dir, image) {
		if err := u.setLabels(image); err != nil {
			return false, u.notInstalled(image, err)
		}
		return false, nil
	}
	steps := []func() error{
		func() error { return u.dir.Digests.SetPending(image) },
		func() error { return u.hook(ctx, "--pre-install", u.options.PreInstall, image) },
		func() error { return u.setDefault(image) },
		func() error { return u.setLabels(image) },
		func() error { return u.forgetChoice(ctx) },
		func() error { return u.hook(ctx, "--post-install", u.options.PostInstall, image) },
		func() error { return u.dir.Digests.SetPending(meta.Name{}) },
	}
	for _, step := range steps {
		err := step()
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
		if err != nil {
			return false, u.notInstalled(image, err)
		}
	}
	return true, nil
}

// notInstalled says how far the installing of an image has got before an error.
func (u *update) notInstalled(image meta.Name, err error) error {
	if now, ok := u.dir.Link(u.options.DefaultLink).Image(); ok && now == image {
		return permanent{fmt.Errorf("%s is in use, but %w; the next run does it again", image, err)}
	}
	return permanent{fmt.Errorf("%s is there, but was not put to use: %w", image, err)}
}

// isInUse reports whether an image is in use: the default link leads to it, if there
// is such a link, and no run has failed to do all that belongs to installing it.
func isInUse(o Options, dir *imagedir.Dir, image meta.Name) bool {
	if dir.Digests.Pending() == image {
		return false
	}
	now, ok := dir.Link(o.DefaultLink).Image()
	return o.DefaultLink == "" || ok && now == image
}

func (u *update) setDefault(image meta.Name) error {
	if u.options.DefaultLink == "" {
		return nil
	}
	return u.dir.Link(u.options.DefaultLink).Set(image)
}

// setLabels labels the image in use and its backup for GRUB.
func (u *update) setLabels(image meta.Name) error {
	if !u.options.GrubLabels {
		return nil
	}
	backup, _ := u.dir.Link(u.options.DefaultLink).Backup()
	return grub.SetLabels(u.dir.Files, image, backup)
}

// forgetChoice has GRUB boot the new image, whatever was chosen in its menu.
func (u *update) forgetChoice(ctx context.Context) error {
	if !u.options.GrubLabels {
		return nil
	}
	return grub.ForgetChoice(ctx, u.options.Dir, u.options.Log)
}

// hook runs the command of a flag with the path of the image.
func (u *update) hook(ctx context.Context, flag, command string, image meta.Name) error {
	if command == "" {
		return nil
	}
	path, err := filepath.Abs(filepath.Join(u.options.Dir, image.String()))
	if err != nil {
		return err
	}
	if err := hook.Run(ctx, command, path, u.options.HookOutput); err != nil {
		return fmt.Errorf("%s %q: %w", flag, command, err)
	}
	return nil
}

// prune removes old images as Options.Keep asks, but not the base of the new one.
func (u *update) prune(of *offer, base meta.Name) ([]meta.Name, error) {
	if u.options.Keep == 0 {
		return nil, nil
	}
	series, err := ofSeries(u.dir, of)
	if err != nil {
		return nil, err
	}
	removed, err := u.dir.Prune(series, u.options.Keep, of.Target.Name, base)
	if err != nil {
		err = permanent{fmt.Errorf("%s is there, but old images could not be removed: %w", of.Target.Name, err)}
	}
	return removed, err
}
