package client

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo/client/internal/digestcache"
	"puavo-image-repository/imagerepo/client/internal/imagedir"
	"puavo-image-repository/imagerepo/client/internal/stats"
	"puavo-image-repository/meta"
)

// update is the state of one Update.
type update struct {
	Options
	dir   *imagedir.Dir
	stats *stats.File
	image string // the file name of what is made, "" as long as it is not known
}

// phase tells what begins now.
func (u *update) phase(phase string) { u.stats.Phase(u.image, phase, 0, 0) }

// offer is what a mirror has for an update.
type offer struct {
	mirror mirror
	series *meta.Series
	target *meta.Image
}

// offer fetches the meta of a mirror and finds the image that is wanted.
func (o Options) offer(ctx context.Context, dir *imagedir.Dir, m mirror) (*offer, error) {
	guide, err := o.guide(dir)
	if err != nil {
		return nil, err
	}
	series, target, err := m.find(ctx, guide, o.Image != "")
	if err != nil {
		return nil, err
	}
	of := &offer{m, series, target}
	return of, o.checkAge(dir, of)
}

// checkAge refuses an image that is older than the one in use, if a root is trusted
// and that is not allowed: one that is signed may still be old.
func (o Options) checkAge(dir *imagedir.Dir, of *offer) error {
	if of.mirror.signed == nil || o.AllowDowngrade || o.Image == "" {
		return nil
	}
	inUse, ok := dir.Link(o.DefaultLink).Image()
	if !ok {
		local, err := (&update{Options: o, dir: dir}).ofSeries(of)
		if err != nil || len(local) == 0 {
			return err
		}
		inUse = local[len(local)-1]
	}
	if of.target.Name.Version < inUse.Version {
		return settled{fmt.Errorf("%w: %s is older than %s, which is in use (downgrade attack?); allow it with --allow-downgrade if you want it",
			ErrUntrusted, of.target.Name, inUse)}
	}
	return nil
}

// guide returns the image that leads to the series: the wanted one, or else the
// default, or else the newest that is there.
func (o Options) guide(dir *imagedir.Dir) (meta.Name, error) {
	if o.Image != "" {
		return meta.ParseName(o.Image)
	}
	if o.DefaultLink != "" {
		if name, ok := dir.Link(o.DefaultLink).Image(); ok {
			return name, nil
		}
	}
	local, err := dir.Installed()
	if err != nil {
		return meta.Name{}, err
	}
	if len(local) == 0 {
		return meta.Name{}, fmt.Errorf("%w in %s to tell the series by; name the image you want", ErrNoImage, o.Dir)
	}
	return local[len(local)-1].Name, nil
}

// from updates from one mirror.
func (u *update) from(ctx context.Context, m mirror) (Result, error) {
	u.phase(stats.ChecksumsFetch)
	o, err := u.offer(ctx, u.dir, m)
	if err != nil {
		return Result{}, err
	}
	u.image = o.target.Name.String()
	result := Result{Image: o.target.Name}
	if newer, err := u.newer(o); err != nil {
		return Result{}, err
	} else if newer {
		result.UpToDate = true
		return result, u.dir.Sweep()
	}
	there, err := u.there(ctx, o)
	if err != nil {
		return Result{}, err
	}
	if !there {
		if result.Route, err = newSearch(u, o).run(ctx); err != nil {
			return Result{}, err
		}
		result.Made = true
	}
	if err := u.dir.Sweep(); err != nil {
		return Result{}, err
	}
	installed, err := u.install(ctx, o.target.Name)
	if err != nil {
		return Result{}, err
	}
	result.UpToDate = there && !installed
	result.Removed, err = u.prune(o, result.Route.Base.Name)
	return result, err
}

// newer reports whether no image was named and there is one of the series that is
// newer than what the mirror has, or the one that led to the series is.
func (u *update) newer(o *offer) (bool, error) {
	if u.Image != "" {
		return false, nil
	}
	if guide, err := u.guide(u.dir); err != nil || guide.Version > o.target.Name.Version {
		return err == nil, err
	}
	local, err := u.ofSeries(o)
	return len(local) > 0 && local[len(local)-1].Version > o.target.Name.Version, err
}

// ofSeries returns the images of a series that are there, oldest first. One that
// the mirror does not have, no longer or not yet, belongs to it by its name.
func (u *update) ofSeries(o *offer) (names []meta.Name, err error) {
	local, err := u.dir.Installed()
	for _, l := range local {
		if has(o.series, l.Name) || l.Name.Series() == o.target.Name.Series() {
			names = append(names, l.Name)
		}
	}
	return names, err
}

// there reports whether the wanted image is there, and right.
func (u *update) there(ctx context.Context, o *offer) (bool, error) {
	info, err := u.dir.Files.Lstat(o.target.Name.String())
	if err != nil || !info.Mode().IsRegular() || info.Size() != o.target.Sums.Size {
		return false, nil
	}
	err = u.check(ctx, o.target.Name.String(), o.target.Sums)
	if errors.Is(err, digestcache.ErrWrong) {
		u.Log.Warn("the image that is there is not right: making it anew", "reason", err)
		return false, nil
	}
	return err == nil, err
}

// check compares a file of the images directory with its digest.
func (u *update) check(ctx context.Context, file string, want cksum.Sums) error {
	return u.dir.Digests.Check(ctx, file, want, func(done, total int64) {
		u.stats.Phase(u.image, stats.ImageChecksum, done, total)
	})
}

// install puts an image to use, unless it is, and reports whether it did. It is
// if the default link leads to it, and no run has failed to do all that belongs to
// this.
func (u *update) install(ctx context.Context, image meta.Name) (bool, error) {
	if !u.toInstall(image) {
		return false, nil
	}
	steps := []func() error{
		func() error { return u.dir.Digests.SetPending(image) },
		func() error { return u.hook(ctx, "--pre-install", u.PreInstall, image) },
		func() error { return u.setDefault(image) },
		func() error { return u.hook(ctx, "--post-install", u.PostInstall, image) },
		func() error { return u.dir.Digests.SetPending(meta.Name{}) },
	}
	for _, step := range steps {
		err := step()
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
		if now, ok := u.dir.Link(u.DefaultLink).Image(); err != nil && u.DefaultLink != "" && ok && now == image {
			return false, settled{fmt.Errorf("%s is in use, but %w; the next run does it again", image, err)}
		} else if err != nil {
			return false, settled{fmt.Errorf("%s is there, but was not put to use: %w", image, err)}
		}
	}
	return true, nil
}

// toInstall reports whether an image is to be put to use.
func (u *update) toInstall(image meta.Name) bool {
	if u.dir.Digests.Pending() == image {
		return true
	}
	now, ok := u.dir.Link(u.DefaultLink).Image()
	return u.DefaultLink != "" && (!ok || now != image)
}

func (u *update) setDefault(image meta.Name) error {
	if u.DefaultLink == "" {
		return nil
	}
	return u.dir.Link(u.DefaultLink).Set(image)
}

// hook runs a shell command with the path of the image as its last argument.
func (u *update) hook(ctx context.Context, flag, command string, image meta.Name) error {
	if command == "" {
		return nil
	}
	path, err := filepath.Abs(filepath.Join(u.Dir, image.String()))
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", command+` "$1"`, "sh", path)
	cmd.Stdout, cmd.Stderr = u.HookOutput, u.HookOutput
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s %q: %w", flag, command, err)
	}
	return nil
}

// prune removes old images as far as Keep asks, but not the base of the new one.
func (u *update) prune(o *offer, base meta.Name) ([]meta.Name, error) {
	if u.Keep == 0 {
		return nil, nil
	}
	series, err := u.ofSeries(o)
	if err != nil {
		return nil, err
	}
	removed, err := u.dir.Prune(series, u.Keep, o.target.Name, base)
	if err != nil {
		err = settled{fmt.Errorf("%s is there, but old images could not be removed: %w", o.target.Name, err)}
	}
	return removed, err
}
