// Package client updates a directory of images from a mirror: it fetches the meta
// of a series, chooses the cheapest route from the local images to the new one,
// makes it, verifies it, and puts it to use.
//
//	mirror                                                      images directory
//	  meta -----> offer: series and target                         |
//	                |        +------------- local images <---------+
//	                v        v                                     |
//	sources       candidates, cheapest route                       |
//	  |             |                                              v
//	  delta ----> for each step: assemble.Make  --------> <image>.img.tmp
//	              downloads, patches, hashes               |  size and digest are right
//	                                                       v
//	                                             <image>.img, default link
//
// The first mirror that answers says what is wanted. Its files, and those of all other
// sources, are then compared, see package source. A source that fails is left for
// another, and so is one that cannot end in time at the rate of the last minutes. Only
// what proves wrong is remembered; all else may be right in the next run.
//
// A delta is applied while it is downloaded, and never stored. All of this happens
// in the goroutine that calls Update, one thing after the other; inside a step,
// package assemble has goroutines that write and hash. They have ended when the step
// has. No other process takes part: who changes the directory holds its lock.
//
// # The images directory
//
//	<image>.img             an image; only whole, verified ones get such a name
//	<image>.img.tmp         a partial image, or a whole one on the way to another
//	<image>.img.tmp.journal how far it has got, so that another run continues from there
//	<image>.img.lock        while it exists, the image is not removed
//	rdiffs/<delta>.rdiff    a delta that the installed tools have left; it is used
//	.trust                  what is known of the signed metadata, if a root is trusted
//	.image_updates_known    computed digests of the images, by size, times and inode
//	.image_updates_speed    how fast files came and compact deltas were applied
//	.image_updates_hold     while it exists, no update is installed
//	.image_updates_lock     flock(2)ed meanwhile, as by the installed tools
//	<image>.default         labels of the default image and its backup for GRUB, without
//	<image>.backup          the .img, if that is asked for
//	DISABLE_IMAGE_UPDATES   while it exists, updates are disabled
//
// # Holds
//
// Rollback puts an older image to use, offline, and Hold keeps the one that is in use.
// Both record a hold: until Unhold, Update asks the mirror for news, and installs nothing.
// The hold of a rollback ends by itself once the mirror offers a newer image than the one
// that was left. Package hold has the record, which does not depend on the other files.
//
// # What is trusted
//
// The meta says which size and digests the files have. Names in it are parsed
// strictly, bodies are never read beyond their size, and what does not fit is an
// error. A local image is compared with its digest before it is put to use, and
// before it serves as a base if the mirror lists it.
//
// Images and deltas are compared by one digest, the fastest of those that the meta of
// the file gives, which package cksum chooses: BLAKE3, SHA-256 or SHA-512. Only if that
// digest of a local image is not known, nor another that this meta gives, the image is
// read; Verify always reads it. Which image is meant, by a mirror and by what was begun
// before, is identified by the SHA-512, which every meta has. Apply computes the digests that
// it is given.
//
// The meta of a mirror applies to this mirror only.
//
// If a root of trust is given, package tuf verifies all that the meta says, and an
// image that is older than the one in use is refused.
package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"slices"
	"time"

	"puavo-image-repository/imagerepo/client/internal/imagedir"
	"puavo-image-repository/imagerepo/client/internal/route"
	"puavo-image-repository/imagerepo/client/internal/stats"
	"puavo-image-repository/imagerepo/internal/assemble"
	"puavo-image-repository/imagerepo/internal/lockfile"
	"puavo-image-repository/imagerepo/internal/tuf"
	"puavo-image-repository/meta"
)

var (
	// ErrVerify is wrapped by the errors for what is not as the meta says.
	ErrVerify = assemble.ErrVerify
	// ErrIncomplete is wrapped by the error for a network that failed midway. What has
	// come is kept for the next run.
	ErrIncomplete = assemble.ErrIncomplete
	// ErrUntrusted is wrapped by the errors for a mirror whose metadata is not signed as
	// the trusted root says, and for a downgrade.
	ErrUntrusted = tuf.ErrRefused
	// ErrNoImage is wrapped by the errors for an image that neither the directory nor
	// the mirror has.
	ErrNoImage = errors.New("no such image")
	// ErrLocked is wrapped by the errors for a directory in which another process works.
	ErrLocked = lockfile.ErrHeld
)

// missingImage is an ErrNoImage whose text says all.
type missingImage struct{ text string }

func (e missingImage) Error() string { return e.text }

func (e missingImage) Unwrap() error { return ErrNoImage }

// noImage returns an error that wraps ErrNoImage and has a text of its own.
func noImage(format string, a ...any) error {
	return missingImage{fmt.Sprintf(format, a...)}
}

// How an image is made, see the packages of the same names.
type (
	// Route leads from a local image, or from nothing, to the wanted one.
	Route = route.Route
	// Step makes one image from a delta, or downloads the full image.
	Step = route.Step
	// LocalImage is an image in the images directory.
	LocalImage = imagedir.Image
)

// Options say from where a directory is updated, and how. Mirrors and Dir are
// needed.
type Options struct {
	// Mirrors are asked in this order; the first that answers says which image is wanted.
	// Each is a directory, or a http, https or file URL.
	Mirrors []string
	// PayloadMirrors are asked first for images and deltas, and never for anything else:
	// what they send must be what a mirror says. They are like Mirrors.
	PayloadMirrors []string
	// Discover finds more of them, as the installed tools do: DNS names a host in the
	// network that a school is in.
	Discover bool

	Dir   string // of the images
	Image string // file name of the image wanted; "": the newest of the series
	// Series is the name of the series to follow, if no Image is named; "": that of the
	// default image, or else of the newest local one. With it, Update makes Dir if that does
	// not exist.
	Series string

	// Trust is the path of a root.json of The Update Framework, by which all that the
	// mirrors say is verified; "": nothing is.
	Trust string
	// AllowDowngrade allows, if a root is trusted, an image older than the one in use.
	AllowDowngrade bool

	CACertificate string // path of a PEM file of certificates to trust besides the system's; read once
	Rate          int64  // bytes a second to download at most; 0 is no limit
	// Prefer says which of several ways to the image is the best: "time", also "", the one
	// that is estimated to take the least time; "traffic" the one that fetches the least.
	Prefer   string
	Patience Patience
	// MaxTime is how long the image may take; 0 is 12 hours. A source that cannot end
	// within it is left for another.
	MaxTime time.Duration

	// DefaultLink is the name, such as ltsp.img, of a hard link to the image that is
	// in use. Update points it at the new one, and keeps the previous one under the
	// same name with -backup. "": there is none.
	DefaultLink string
	// GrubLabels labels the image in use and the previous one for the boot menu of a Puavo
	// machine, and removes what was chosen in this menu when another image is put to use.
	// It needs a DefaultLink.
	GrubLabels bool
	// PreInstall and PostInstall are shell commands that are run before and after an
	// image is put to use; "": none. The path of the image is their $1, their
	// $PUAVO_IMAGE, and the last argument of their last command. What they print goes to
	// HookOutput, nil for nowhere. When the context ends, all of their processes are
	// ended before the directory is unlocked. Processes that a hook leaves in the
	// background go on, and should have outputs of their own.
	PreInstall, PostInstall string
	HookOutput              io.Writer
	// Keep is how many images of the series stay, the newest; 0: all.
	Keep int

	// StatsFile is the path of the file from which the installed desktop applet reads how
	// far an update is; "": none.
	StatsFile string
	// Log takes warnings, and at level Info why something is fetched again. nil
	// discards them.
	Log *slog.Logger
	// Progress, which may be nil, is called with the bytes made so far and the bytes to
	// make, of the new image and those on the way to it. The calls come from several
	// goroutines, but one at a time.
	Progress func(done, total int64)
	// Stage, which may be nil, is called likewise, with more than that: each time that a
	// stage begins, and with what is done of it.
	Stage func(Stage)
	// Fetched, which may be nil, is called with each file that has come whole, and has made
	// the image that it was fetched for.
	Fetched func(File)
}

// Stage is how far a run is.
type Stage struct {
	Name        string // a phase of the file of Options.StatsFile, such as image_download
	Image       string // file name of the image that it is about, "" while that is not known
	Done, Total int64  // bytes of this image, or of the one on the way to it; 0 of 0 while they are not known
}

// Patience says when a web site is given up. Zero fields have the defaults.
type Patience struct {
	Attempts int           // in a row that bring hardly anything; 8
	Wait     time.Duration // before the second attempt, and longer before each other; 1 s
	Longest  time.Duration // between two attempts, also if Retry-After asks for more; 2 min
	Stall    time.Duration // within which some bytes must come; 30 s
}

// Values of Options.Prefer.
const (
	PreferTime    = "time"
	PreferTraffic = "traffic"
)

func (o Options) traffic() bool { return o.Prefer == PreferTraffic }

// maxTime is the MaxTime that is used if none is given.
const maxTime = 12 * time.Hour

// rateWindow returns over how long the rate of a source is measured.
func (o Options) rateWindow() time.Duration { return min(3*time.Minute, o.MaxTime/8) }

// checked returns the options with defaults for what may be left out, or an error
// that names what is missing or wrong.
func (o Options) checked() (Options, error) {
	if len(o.Mirrors) == 0 {
		return o, errors.New("Options.Mirrors: want at least one mirror")
	}
	return o.checkedOffline()
}

// checkedOffline is checked for what needs no mirror.
func (o Options) checkedOffline() (Options, error) {
	if o.Series != "" {
		if _, err := meta.ParseSeriesName(o.Series); err != nil {
			return o, fmt.Errorf("Options.Series: %w", err)
		}
	}
	switch {
	case o.Dir == "":
		return o, errors.New("Options.Dir: want the images directory")
	case o.GrubLabels && o.DefaultLink == "":
		return o, errors.New("Options.GrubLabels: want a default link for the labels to follow, Options.DefaultLink")
	case !slices.Contains([]string{"", PreferTime, PreferTraffic}, o.Prefer):
		return o, fmt.Errorf("Options.Prefer: %q; want %s or %s", o.Prefer, PreferTime, PreferTraffic)
	case o.Rate < 0:
		return o, fmt.Errorf("Options.Rate: %d bytes per second, want 0 or more", o.Rate)
	case o.MaxTime < 0:
		return o, fmt.Errorf("Options.MaxTime: %v, want 0 or more", o.MaxTime)
	case o.Keep < 0:
		return o, fmt.Errorf("Options.Keep: %d images, want 0 or more", o.Keep)
	}
	o.MaxTime = cmp.Or(o.MaxTime, maxTime)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o, nil
}

// Result says what Update or Rollback did. With an error, only Image and Fetched count.
type Result struct {
	Image     meta.Name   `json:"image,omitzero"` // the newest that is offered, or the one that was named
	UpToDate  bool        `json:"up_to_date"`     // nothing was done: the directory has the image, or a newer one
	Disabled  bool        `json:"disabled"`       // updates are disabled in the images directory
	Held      *Held       `json:"held,omitempty"` // updates are held, and none was installed; nil if they are not
	Made      bool        `json:"made"`           // the image was made
	Route     Route       `json:"-"`              // how, if it was
	Base      string      `json:"base"`           // file name of the image that it was made from, "" for none
	Files     []File      `json:"files"`          // that were fetched to make it
	Installed bool        `json:"installed"`      // an image was put to use: of a hold the one it keeps, or else Image
	Removed   []meta.Name `json:"removed"`        // old images, as Options.Keep asks
	Fetched   int64       `json:"fetched"`        // bytes that came from mirrors, documents too
}

// newResult returns a result without anything done.
func newResult() Result { return Result{Files: []File{}, Removed: []meta.Name{}} }

// Update makes the wanted image in the images directory, unless it exists, and puts
// it to use. It tries the routes to it from the cheapest to the dearest, over all
// mirrors. After an error the images are what they were; what was
// made of a new one is kept for another run to continue.
//
// If no image is named, the series is that of the options, or that of the default image,
// or else of the newest local one, even if the mirror does not have this image. An image
// that is older than a local one is made only if it is named, and if a root is trusted,
// only if that is allowed.
//
// While updates are held, Update asks the mirrors what they offer, so that their errors
// are seen, and installs none of it, not even an image that is named. What an interrupted
// Rollback has left to do is done.
//
// If another process holds the lock, the error wraps ErrLocked.
func Update(ctx context.Context, o Options) (Result, error) {
	o, err := o.checked()
	if err != nil {
		return Result{}, err
	}
	dir, err := openOrMake(o)
	if err != nil {
		return Result{}, err
	}
	defer dir.Close()
	if dir.Disabled() {
		result := newResult()
		result.Disabled = true
		return result, nil
	}
	if err := lock(o, dir); err != nil {
		return Result{}, err
	}
	ms, err := newMirrors(ctx, o, dir)
	if err != nil {
		return Result{}, err
	}
	defer ms.close()
	u := &update{options: o, dir: dir, mirrors: ms, report: newReport(o), end: time.Now().Add(o.MaxTime)}
	u.report.phase(stats.Starting)
	var result Result
	err = ms.each(ctx, func(m mirror) (err error) {
		result, err = u.from(ctx, m)
		return err
	})
	result.Image, result.Fetched = u.offered, ms.fetched.Load()
	u.report.end(ctx, result, err)
	return result, err
}

// openOrMake opens the images directory. If it does not exist and a series is to be
// installed, it is made.
func openOrMake(o Options) (*imagedir.Dir, error) {
	dir, err := imagedir.Open(o.Dir)
	if o.Series == "" || !errors.Is(err, fs.ErrNotExist) {
		return dir, err
	}
	if err := imagedir.Make(o.Dir); err != nil {
		return nil, err
	}
	return imagedir.Open(o.Dir)
}

// lock takes the lock of the images directory, and checks what the default link can be.
func lock(o Options, dir *imagedir.Dir) error {
	if err := dir.Lock(); err != nil || o.DefaultLink == "" {
		return err
	}
	return dir.Link(o.DefaultLink).Check()
}

// report reports the progress of an update to other programs.
type report struct {
	file  *stats.File
	see   func(Stage) // nil for nobody
	image string      // file name of the image that is made, "" as long as it is not known
}

// newReport returns the report that the options ask for.
func newReport(o Options) report {
	return report{file: stats.New(o.StatsFile, o.Log), see: o.Stage}
}

// phase says what begins now.
func (r *report) phase(phase string) { r.progress(phase, 0, 0) }

// progress says how much of a phase is done, in bytes.
func (r *report) progress(phase string, done, total int64) {
	r.file.Phase(r.image, phase, done, total)
	r.tell(Stage{phase, r.image, done, total})
}

// passed says that a phase has ended whose work was done in another.
func (r *report) passed(phase string) {
	r.file.Phase(r.image, phase, 1, 1)
	r.tell(Stage{Name: phase, Image: r.image})
}

func (r *report) tell(s Stage) {
	if r.see != nil {
		r.see(s)
	}
}

// end says how the update has ended.
func (r *report) end(ctx context.Context, result Result, err error) {
	switch {
	case ctx.Err() != nil:
		r.phase(stats.Interrupted)
	case err != nil:
		r.phase(stats.Error)
	case result.UpToDate || result.Held != nil:
		r.phase(stats.UpToDate)
	default:
		r.phase(stats.Finished)
	}
}
