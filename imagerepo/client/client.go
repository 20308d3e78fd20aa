// Package client brings a directory of images up to date from a mirror: it
// fetches the meta of the series, chooses the cheapest way from the images that
// are there to the new one, makes it, verified, in one go, and puts it to use.
//
//	meta.Series -> ChooseRoute -> each step: fetch and patch into <image>.tmp while hashing
//	            -> compare size and SHA-512 -> rename -> default link
//
// A delta is applied while it comes, and never stored.
//
// # The images directory
//
//	<image>.img             an image; only whole, verified ones get such a name
//	<image>.img.tmp         one that is being made, or was made on the way to another
//	<image>.img.tmp.journal how far it has got, so that another run goes on from there
//	<image>.img.lock        where it is there, the image is not removed
//	.trust                  what is known of the signed metadata, if a root is trusted
//	.image_updates_known    digests of the images, by size, times and inode
//	.image_updates_lock     flock(2)ed meanwhile, as by the installed tools
//	DISABLE_IMAGE_UPDATES   where it is there, nothing is done
//
// # What is trusted
//
// The meta says what size and digests its files have; names in it are parsed
// strictly, bodies are never read beyond their size, and what does not fit is an
// error. An image that is there is compared with its digest before it is put to use,
// and, as long as the mirror lists it, before it serves as a base. The meta of a mirror counts for this mirror alone.
//
// Where a root of trust is given, all that the meta says is verified by package
// tuf, and an image that is older than the one in use is refused.
package client

import (
	"context"
	"errors"
	"io"
	"log/slog"

	"puavo-image-repository/imagerepo/client/internal/imagedir"
	"puavo-image-repository/imagerepo/client/internal/stats"
	"puavo-image-repository/imagerepo/internal/assemble"
	"puavo-image-repository/imagerepo/internal/fetch"
	"puavo-image-repository/imagerepo/internal/tuf"
	"puavo-image-repository/meta"
)

var (
	// ErrVerify is wrapped by the errors for what is not as the meta says.
	ErrVerify = assemble.ErrVerify
	// ErrIncomplete is wrapped by the error for a network that failed midway. What has come
	// is kept for the next run.
	ErrIncomplete = assemble.ErrIncomplete
	// ErrUntrusted is wrapped by the errors for a mirror whose metadata is not signed as
	// the trusted root says, and for a downgrade.
	ErrUntrusted = tuf.ErrRefused
	// ErrNoImage is wrapped where there is no image to start from or to get.
	ErrNoImage = errors.New("no such image")
)

// Options say from where a directory is brought up to date, and how.
type Options struct {
	// Mirrors are tried in this order. Each is a directory, or a http, https or file URL.
	Mirrors []string

	Dir   string // of the images
	Image string // file name of the image wanted; "": the newest of the series

	// Trust is the path of a root.json of The Update Framework, by which all that the
	// mirrors say is verified; "": nothing is.
	Trust string
	// AllowDowngrade allows, where a root is trusted, an image older than the one in use.
	AllowDowngrade bool

	CACertificate string         // path of a PEM file of certificates to trust besides the system's
	Rate          int64          // bytes a second to fetch at most; 0 is no limit
	Patience      fetch.Patience // with a web site; the zero one is the usual

	// DefaultLink is the name, such as ltsp.img, of a hard link to the image that is
	// in use, which Update leads to the new one. The one before is kept under the same
	// name with -backup. "": there is none.
	DefaultLink string
	// PreInstall and PostInstall are shell commands that are run with the path of the
	// image before and after it is put to use; "": none. What they print goes to
	// HookOutput, nil for nowhere.
	PreInstall, PostInstall string
	HookOutput              io.Writer
	// Keep is how many images of the series stay, the newest; 0: all.
	Keep int

	// StatsFile is the path of the file that tells the installed desktop applet how
	// far an update is; "": none.
	StatsFile string
	// Log takes warnings, and at level Info why something is fetched again.
	Log *slog.Logger
	// Progress, which may be nil, is called with the bytes that are made, of the new
	// image and those on the way to it, and that are to be made.
	Progress func(done, total int64)
}

// Result tells what Update did.
type Result struct {
	Image    meta.Name
	UpToDate bool        // nothing was to be done: the image was there, or a newer one is
	Disabled bool        // updates are disabled in the images directory
	Made     bool        // the image was made, by
	Route    Route       // this way
	Removed  []meta.Name // old images, as Options.Keep asks
}

// Update makes the wanted image in the images directory, unless it is there, and
// puts it to use. It tries the ways to it from the cheapest to the dearest, and one
// mirror after the other. After an error the images are what they were; what was
// made of a new one is kept where another run can go on with it.
//
// If no image is named, the series is that of the default image, or else of the
// newest that is there, also where the mirror no longer has this image, or not yet.
// An image that is older than what is there is made only where it is named, and
// where a root is trusted only if that is allowed.
func Update(ctx context.Context, o Options) (Result, error) {
	dir, err := imagedir.Open(o.Dir)
	if err != nil {
		return Result{}, err
	}
	defer dir.Close()
	if dir.Disabled() {
		return Result{Disabled: true}, nil
	}
	if err := dir.Lock(); err != nil {
		return Result{}, err
	}
	if o.DefaultLink != "" {
		if err := dir.Link(o.DefaultLink).Check(); err != nil {
			return Result{}, err
		}
	}
	u := &update{Options: o, dir: dir, stats: stats.New(o.StatsFile, o.Log)}
	u.phase(stats.Starting)
	var result Result
	err = eachMirror(ctx, o, dir, func(m mirror) (err error) {
		result, err = u.from(ctx, m)
		return err
	})
	switch {
	case ctx.Err() != nil:
		u.phase(stats.Interrupted)
	case err != nil:
		u.phase(stats.Error)
	case result.UpToDate:
		u.phase(stats.UpToDate)
	default:
		u.phase(stats.Finished)
	}
	return result, err
}
