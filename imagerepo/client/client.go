// Package client brings a directory of images up to date from a mirror: it
// fetches the meta of the series, chooses a delta from an image that is there or
// else the full image, and makes the new image, verified, in one go.
//
//	meta.Series -> Routes -> fetch and patch into <image>.tmp while hashing
//	            -> compare size and SHA-512 -> rename
//
// A delta is applied while it comes, and never stored.
//
// # The images directory
//
//	<image>.img             an image; only whole, verified ones get such a name
//	<image>.img.tmp         one that is being made
//	<image>.img.tmp.journal how far it has got, so that another run goes on from there
//	.image_updates_lock     flock(2)ed meanwhile, as by the installed tools
//	DISABLE_IMAGE_UPDATES   where it is there, nothing is done
//
// # What is trusted
//
// The meta says what size and digests its files have; names in it are parsed
// strictly, bodies are never read beyond their size, and what does not fit is an
// error. A base is used for its name and size: a wrong one is noticed by the
// digest of what it gives.
package client

import (
	"context"
	"crypto/sha512"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strings"
	"syscall"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo/client/internal/fetch"
	"puavo-image-repository/imagerepo/internal/lockfile"
	"puavo-image-repository/meta"
)

const (
	lockName    = ".image_updates_lock"
	disableName = "DISABLE_IMAGE_UPDATES"
)

var (
	// ErrVerify is wrapped by the errors for what is not as the meta says.
	ErrVerify = errors.New("verification failed")
	// ErrCut is wrapped by the error for a network that failed midway. What has come
	// is kept for the next run.
	ErrCut = errors.New("cut off; run again to go on")
	// ErrNoImage is wrapped where there is no image to start from or to get.
	ErrNoImage = errors.New("no such image")
)

// Options say what Update is to do.
type Options struct {
	// Mirrors are tried in this order. Each is a directory, or a http, https or file URL.
	Mirrors []string

	Dir   string // of the images
	Image string // file name of the image wanted; "": the newest of the series

	CACertificate string         // path of a PEM file of certificates to trust besides the system's
	Rate          int64          // bytes a second to fetch at most; 0 is no limit
	Patience      fetch.Patience // with a web site; the zero one is the usual

	// Log takes warnings, and at level Info why something is fetched again.
	Log *slog.Logger
	// Progress, which may be nil, is called with the bytes of the new image that
	// are made, and its size.
	Progress func(done, total int64)
}

// Result tells what Update did.
type Result struct {
	Image    meta.Name
	UpToDate bool  // the image was there already, or a newer one is
	Disabled bool  // updates are disabled in the images directory
	Route    Route // how the image was made
}

// Update makes the wanted image in the images directory, unless it is there. It
// tries the routes to it from the cheapest to the full image. After an error the
// images are what they were; what was made of a new one is kept where another run
// can go on with it.
//
// If no image is named, the series is that of the newest image that is there,
// also where the mirror no longer has this image, or not yet.
func Update(ctx context.Context, o Options) (Result, error) {
	root, err := os.OpenRoot(o.Dir)
	if err != nil {
		return Result{}, fmt.Errorf("images directory: %w", err)
	}
	defer root.Close()
	if _, err := root.Lstat(disableName); err == nil {
		return Result{Disabled: true}, nil
	}
	lock, err := lockfile.Acquire(root, lockName)
	if err != nil {
		return Result{}, err
	}
	defer lock.Release()
	u := &update{Options: o, root: root}
	return u.fromMirrors(ctx)
}

// update is the state of one Update.
type update struct {
	Options
	root   *os.Root
	mirror mirror
}

// fromMirrors updates from the first mirror that it can be done from.
func (u *update) fromMirrors(ctx context.Context) (Result, error) {
	var failed []error
	for i, where := range u.Mirrors {
		result, err := u.from(ctx, where)
		if err == nil || ctx.Err() != nil || errors.Is(err, syscall.ENOSPC) {
			return result, err
		}
		if i < len(u.Mirrors)-1 {
			u.Log.Warn("trying the next mirror", "reason", err)
		}
		failed = append(failed, err)
	}
	return Result{}, errors.Join(failed...)
}

// from updates from one mirror, by its own meta.
func (u *update) from(ctx context.Context, where string) (result Result, err error) {
	if u.mirror, err = openMirror(where, u.Options); err != nil {
		return Result{}, err
	}
	defer u.mirror.Close()
	return u.run(ctx)
}

func (u *update) run(ctx context.Context) (Result, error) {
	local, err := Local(u.root.FS())
	if err != nil {
		return Result{}, err
	}
	series, target, err := u.find(ctx, local)
	if err != nil {
		return Result{}, err
	}
	if u.there(target, local) {
		return Result{Image: target.Name, UpToDate: true}, u.sweep(meta.Name{})
	}
	if err := u.sweep(target.Name); err != nil {
		return Result{}, err
	}
	var failed []error
	for _, route := range Routes(series, target, local) {
		err := u.make(ctx, route)
		if err == nil {
			return Result{Image: target.Name, Route: route}, nil
		}
		if ctx.Err() != nil {
			return Result{}, ctx.Err()
		}
		err = fmt.Errorf("%s from %s: %w", target.Name, route, err)
		if errors.Is(err, ErrCut) { // and it would be of no use for another way
			return Result{}, err
		}
		if errors.Is(err, syscall.ENOSPC) { // every other route needs as much
			return Result{}, fmt.Errorf("%w; make room in %s", err, u.Dir)
		}
		u.Log.Warn("a way to the image failed", "reason", err)
		failed = append(failed, err)
	}
	return Result{}, errors.Join(failed...)
}

// there reports whether nothing is to be done: the wanted image is there, or
// none was named and there is a newer one.
func (u *update) there(target *meta.Image, local []LocalImage) bool {
	return slices.ContainsFunc(local, func(l LocalImage) bool {
		return l.Name == target.Name && l.Size == target.Sums.Size ||
			u.Image == "" && l.Name.Version > target.Name.Version
	})
}

// find fetches the meta and finds the image that is wanted.
func (u *update) find(ctx context.Context, local []LocalImage) (*meta.Series, *meta.Image, error) {
	name, err := u.guide(local)
	if err != nil {
		return nil, nil, err
	}
	series, err := u.mirror.seriesOf(ctx, name)
	if err != nil {
		return nil, nil, err
	}
	target := series.Newest()
	if u.Image != "" {
		target, _ = series.Image(name)
	}
	if target == nil {
		return nil, nil, fmt.Errorf("%w: %s is not in the series %s of the mirror", ErrNoImage, name, series.Name)
	}
	return series, target, nil
}

// guide returns the image that leads to the series: the wanted one, or else the
// newest that is there.
func (u *update) guide(local []LocalImage) (meta.Name, error) {
	switch {
	case u.Image != "":
		return meta.ParseName(u.Image)
	case len(local) == 0:
		return meta.Name{}, fmt.Errorf("%w in %s to tell the series by; name the image you want", ErrNoImage, u.Dir)
	}
	return local[len(local)-1].Name, nil
}

// sweep removes what dead runs left of other images than the wanted one, if there
// is one. They are dead, for the lock is held.
func (u *update) sweep(wanted meta.Name) error {
	entries, err := fs.ReadDir(u.root.FS(), ".")
	if err != nil {
		return err
	}
	for _, e := range entries {
		image, rest, isTmp := strings.Cut(e.Name(), ".tmp")
		n, err := meta.ParseName(image)
		if err != nil || !isTmp || !e.Type().IsRegular() || n == wanted || rest != "" && !strings.HasPrefix(rest, ".journal") {
			continue
		}
		if err := u.root.Remove(e.Name()); err != nil {
			return err
		}
	}
	return nil
}

// checked compares a stream with its size and SHA-512.
type checked struct {
	name     string
	want     cksum.Sums
	size     int64
	digest   hash.Hash
	progress func(done, total int64)
}

func newChecked(name string, want cksum.Sums) *checked {
	return &checked{name: name, want: want, digest: sha512.New()}
}

// Write counts and digests p. It refuses what goes beyond the size.
func (c *checked) Write(p []byte) (int, error) {
	if c.size += int64(len(p)); c.size > c.want.Size {
		return 0, fmt.Errorf("%w: %s has more than its %d bytes", ErrVerify, c.name, c.want.Size)
	}
	if c.progress != nil {
		c.progress(c.size, c.want.Size)
	}
	return c.digest.Write(p)
}

// check returns an error if what was written is not all, or not right.
func (c *checked) check() error {
	if c.size != c.want.Size {
		return fmt.Errorf("%w: %s has %d bytes, want %d", ErrVerify, c.name, c.size, c.want.Size)
	}
	if cksum.Digest512(c.digest.Sum(nil)) != c.want.SHA512 {
		return fmt.Errorf("%w: %s has another SHA-512", ErrVerify, c.name)
	}
	return nil
}

// checkedReader gives the error of check instead of the end.
type checkedReader struct {
	ctx   context.Context
	r     io.Reader
	c     *checked
	known int64 // bytes that come first and have been checked before
}

func (r *checkedReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := r.r.Read(p)
	known := min(r.known, int64(n))
	r.known -= known
	if _, tooLong := r.c.Write(p[known:n]); tooLong != nil {
		return 0, tooLong
	}
	if err == io.EOF {
		if wrong := r.c.check(); wrong != nil {
			return n, wrong
		}
	} else if err != nil { // wrapped, a cut connection is not mistaken for a cut delta
		err = fmt.Errorf("%s: %w", r.c.name, err)
	}
	return n, err
}

// LocalImage is an image of the images directory.
type LocalImage struct {
	Name meta.Name
	Size int64
}

// Local returns the images of a directory, oldest first.
func Local(dir fs.FS) ([]LocalImage, error) {
	entries, err := fs.ReadDir(dir, ".")
	if err != nil {
		return nil, err
	}
	var local []LocalImage
	for _, e := range entries {
		name, err := meta.ParseName(e.Name())
		if err != nil {
			continue
		}
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() {
			local = append(local, LocalImage{name, info.Size()})
		}
	}
	slices.SortFunc(local, func(a, b LocalImage) int { return a.Name.Compare(b.Name) })
	return local, nil
}
