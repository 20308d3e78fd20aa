// Package imagerepo builds a repository of OS images: from a directory of images
// it makes a mirror, a directory that any static host can serve, in which
// clients find each image, deltas between images, and the digests of all.
//
//	Scan -> plan -> link -> read and index -> sign what left -> diff and verify -> publish -> remove
//
// # The mirror
//
//	<image>.img          hard link to the image; where that cannot be, a reflink or a copy
//	rdiffs/<delta>.rdiff see package delta
//	compact/             <delta>.cdelta, if Policy.Compact wants them, see packages compacts and
//	                     delta/compact
//	meta/<series>.json   see package meta
//	index.html           a page for people, see package page
//	index.json           the series, see package meta
//	CKSUMS               images and rdiff deltas, see package cksum
//	SHA256SUMS           the files above that lie in the root, see package cksum
//	rdiffs/SHA256SUMS    the deltas, if there are any
//	compact/SHA256SUMS   the compact deltas, likewise
//	meta/SHA256SUMS      the meta
//	torrents/            <file>.torrent of images and deltas, if Options.Torrents wants them,
//	                     see packages torrent and torrents
//	torrents/SHA256SUMS  these
//	BEST-BEFORE-<date>   empty; the day on which SHA256SUMS expires, if Options.BestBefore is set
//	tuf/                 signed metadata, if Options.Sign makes it, see package trust
//	.repo/               private to this package, not to be uploaded:
//	  lock               held while a run works
//	  making.lock        held while compact deltas are made, see package compactdelta
//	  farm.lock          held while a run has workers, see package farm
//	  farm.token         what workers must have, and farm.json, what they do
//	  run.json           how the last run went, and the options that a repair needs
//	  signed.json        when tuf was signed, if its version does not say, see package trust
//	  state/             what is known of each file, see package state
//	  signatures/        rdiff signatures of images that left, see package signature
//	  tmp/               files that are being written; emptied by the next run
//
// # What is done, and when
//
// What a run does is a plan.Plan, made of the images, of what the mirror holds and of
// the policy, before anything is done. An image is read once for its puavo-conf, its
// digests and, where memory does not hold the images, for its index as a base. Each job
// then takes a base, and goes over it once, with all targets of that base concurrently;
// each delta is verified as it is made, and digested when it is complete. What takes
// longest comes first.
//
// Only trying shows whether an image can be linked into the mirror, or share its blocks.
// So a build first gives each image a temporary name there, before anything else is
// changed; then it knows which must be copied, and whether the space suffices. MakePlan
// guesses, see package sharing.
//
//	image directory                                mirror
//	   |  up to 4 images, or as many as jobs          ^  link or copy,
//	   +--> reader: digests, index of a base -------->+  record
//	   |                  |                           |
//	   |                  |           signer <------->+  of an image that left: signature
//	   |  each job takes  v a base                    |
//	   +--> sweep: base and all its targets --------->+  deltas to temporary files;
//	          |  each diffed, and the delta applied   |  digests of these; rename
//	          |  and compared at the same time        |
//	          +-- none more than 64 MiB ahead         |
//	                                                  |
//	        publisher ------------------------------->+  documents, signed; one at a time
//
// So the passes over the images, where memory holds only parts of them:
//
//	digests and index   each image once
//	each base           once, and each of its targets once
//	more, if memory is short (see package budget)
//	                    each base once for its index, if that cannot be kept from the
//	                    first pass; and once more for each part of its targets, if not
//	                    all can be diffed concurrently
//
// Three images with all six deltas between them are read 1 + 3 times over. Where
// memory holds the images that all jobs work on, each is read from the disk once; else
// the bases are worked on one at a time. Package base shows how one delta is made.
//
// Records say what is known: a file is known by its size, times and inode, and one
// of which only these changed is recognised by its BLAKE3. So what is there and right
// is not read again. A mirror without records, or of another tool, is taken over: its
// deltas are tried and kept if they are right. A damaged record is ignored.
//
// An image that left the image directory, or that Policy.Keep does not keep, is no longer
// published. It and its deltas
// become orphans. They are removed after Policy.Grace, so that clients with an older meta
// can still fetch them. Policy.KeepSignatures keeps it a base, by its signature
// alone, which is made in the run in which it leaves, or later while its file is still in
// the mirror: before any delta is made and anything is removed. An image whose file has
// gone before, or is not what was published, is no base. Without the policy nothing is
// signed.
//
// # What is the tool's own
//
// The tool owns what a record says that it has put into the mirror. A file without a
// record is used if it proves to be what is wanted under its name, and owned from then
// on if a document named it, or if it is a copy of its image: such a copy becomes a link,
// where possible. Any other file stays and is reported, such as a link to the image that
// somebody made. Options.Adopt makes the
// tool the owner of every image and delta.
//
// A run that would take all images of a series, or more than half of all and at least
// two, ends with plan.ErrRemoval before it changes anything. An image does not count if
// its series gets a newer one.
//
// # Series that fail
//
// An image that cannot be read, that contradicts itself or that changes while it is
// read makes its series fail: the series stays published as it is, nothing of it is
// removed, and a SeriesError says why in the end. Only an image whose bytes changed in
// place is withdrawn. The other series are built. The series that Options.Series does not
// match also stay, without an error, whether or not their images exist.
//
// # Memory
//
// Images are mapped, so their pages are the system's to keep or not. Besides them
// a run takes at most Options.Memory: what each sweep needs is known before it begins,
// and fewer jobs run, on fewer cores, where more would not fit. The size of an index
// follows from that of its base; only where Options.Memory is given and too little for
// one is it smaller, and its deltas larger. So the same images and options give the
// same bytes on every machine. Package budget lists what each part needs.
//
// # What holds at any instant
//
// A run that is killed, or loses power, leaves a mirror in which everything that
// the meta names is there with its digests, and the next run goes on where it
// stopped, to the same result. That is because files are written under
// temporary names, flushed and renamed; because what names a file is written
// after it, and orphans are removed last; because a record in .repo says that a file
// is the tool's own before the file exists, and is removed once the removal of the file is on disk; and because an image that is replaced under its name is withdrawn from meta
// and lists first. What the documents name was flushed by a run that ended without an
// error, whoever put it there. Where a file system refuses to flush directories, or files
// that are only read, it is up to that how much of this holds when power is lost, see
// package atomicfile.
//
// A delta is published only after it was applied by a second implementation of
// the format and gave the target, byte for byte, while base and target were what they
// were when they were digested; and only if its file holds then what was applied.
//
// # Which deltas
//
// Targets are the newest images of a series, bases all its others. A plan.Policy
// changes that.
//
// Of the compact deltas that the mirror has, those are published that Policy.Compact wants. A
// build makes none: that takes long, and is done when all else is published.
package imagerepo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"syscall"

	"puavo-image-repository/delta"
	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/budget"
	"puavo-image-repository/imagerepo/internal/lockfile"
	"puavo-image-repository/imagerepo/internal/mirror"
	"puavo-image-repository/imagerepo/internal/page"
	"puavo-image-repository/imagerepo/internal/source"
	"puavo-image-repository/imagerepo/internal/torrents"
	"puavo-image-repository/imagerepo/internal/work"
	"puavo-image-repository/imagerepo/plan"
	"puavo-image-repository/meta"
)

var (
	// ErrChanged is wrapped by the error for an image that is not what it was when the
	// run began.
	ErrChanged = source.ErrChanged
	// ErrLocked is wrapped by the error for a mirror that another process changes.
	ErrLocked = lockfile.ErrHeld
)

// Options say what Build does. ImageDir and MirrorDir must be given; the zero value of
// every other field works.
type Options struct {
	ImageDir  string
	MirrorDir string
	URL       string       // base of the urls in the meta, without a final slash; "" makes them relative
	Config    plan.Config  // the zero Config: ImageDir is scanned for series
	Policy    plan.Policy  // the zero Policy: no deltas
	Series    plan.Globs   // builds the series that match; the others stay published as they are
	Effort    delta.Effort // how hard deltas are worked on
	// Torrents says which files have torrents. Without seeds, these name the URL. What
	// clients could not find or use is an error, see CheckTorrents.
	Torrents plan.Torrents

	// Adopt takes whatever in the mirror has the name of an image or a delta for
	// the tool's own, to be kept if it proves right, and replaced or removed if not.
	Adopt bool
	// AllowRemoval permits a run that leaves a series without images, or the mirror
	// without more than half of them.
	AllowRemoval bool
	// Strict ends the run at the first series that cannot be built; else the others are
	// built. What was done before that stays done.
	Strict bool
	// FollowLinks publishes images that are symbolic links out of ImageDir to files
	// that others may not read.
	FollowLinks bool
	// Suspect are files of the mirror, by their paths in it, that are not what the
	// records say: they are examined, and made again where that is possible.
	Suspect []string

	Jobs        int   // how many images or bases are worked on concurrently; 0 is one
	Memory      int64 // the most memory to take besides mapped files, in bytes; 0 is a quarter of the machine's, or of its control group's, or more if the largest base needs it
	NoSync      bool  // do not flush what is written to the disk
	IgnoreSpace bool  // start even if free space is probably insufficient
	// Farm, which may be nil, makes some of the deltas on other machines, see package farm. They
	// are the same, and verified here.
	Farm Farm
	// Sign, which may be nil, is called when all is published, to sign it, and
	// reports whether it changed anything. Orphans are removed after it.
	Sign func(ctx context.Context, mirror atomicfile.Dir) (changed bool, err error)
	// Archive, which may be nil, is called when all is published, before orphans are removed. If
	// it fails, none is removed, and the error wraps ErrArchive.
	Archive func(ctx context.Context) error
	// NoPage leaves out index.html, the page for people, and removes one that a run before
	// has made.
	NoPage bool
	// BestBefore writes an empty file BEST-BEFORE-YYYY-MM-DD after Sign, of the day on which the
	// timestamp of the mirror expires, in UTC, and names it in SHA256SUMS: systemd-sysupdate(8)
	// refuses the mirror from that day on. Without Sign, the timestamp that the mirror has
	// counts; none is an error. If BestBefore is not set, such a file that a run before has made
	// is removed.
	BestBefore bool
	// Root, which may be nil, is the root by which Sign signs, for the page. Without it,
	// the page describes the newest root that the mirror has.
	Root *Root
	// Log takes warnings, and at level Info what becomes of each file. Nil discards.
	Log *slog.Logger
	// Progress, which may be nil, is called with the work done and in all, from several
	// goroutines concurrently. Its units take about as long as each other. What is in all can
	// change, as it gets known what must be done.
	Progress func(done, total int64)
	// Stage, which may be nil, is called when another file is worked on, by its path in the
	// mirror, and with what is done to it: image_read, image_compare, image_copy, image_sign,
	// delta_make, delta_check or torrent_read. Of several at a time it is the one that was begun last. There
	// is one call at a time.
	Stage func(stage, file string)
	// ImageRead and DeltaMade, which may be nil, are called with each image that was read for
	// its digests, and each delta that was made, from several goroutines concurrently. size is
	// in bytes.
	ImageRead func(file string, size int64)
	DeltaMade func(DeltaResult)
}

// check returns an error for options that are missing, and completes the others.
func (o *Options) check() error {
	if o.ImageDir == "" || o.MirrorDir == "" {
		return errors.New("imagerepo.Options: ImageDir and MirrorDir must be given")
	}
	if err := o.CheckTorrents(); err != nil {
		return fmt.Errorf("imagerepo.Options: %w", err)
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return nil
}

// CheckTorrents returns an error for torrents that clients could not find or use: at another
// place than the root of a host, or without an absolute URL of their file.
func (o *Options) CheckTorrents() error {
	_, err := torrents.Complete(o.Torrents, o.URL)
	return err
}

// Farm has work done by other machines, see package farm. The other types are those of its methods.
type (
	Farm  = work.Farm
	Offer = work.Offer
	Batch = work.Batch
	Job   = work.Job
)

// Root is what the page says of the root that signs a mirror.
type Root = page.Root

// MinMemory returns the least that Options.Memory may be, in bytes.
func MinMemory() int64 { return budget.Least() }

// Summary says what a run did.
type Summary struct {
	Series     int           `json:"series"`
	Images     int           `json:"images"`
	ImageBytes int64         `json:"image_bytes"`
	Made       int           `json:"deltas_made"`
	Kept       int           `json:"deltas_kept"`
	Dropped    int           `json:"deltas_dropped"`
	DeltaBytes int64         `json:"delta_bytes"`
	Omitted    int           `json:"deltas_omitted"` // they could not be made
	Removed    int           `json:"removed"`
	Removals   []string      `json:"removals"` // the removed files, by their paths in the mirror
	Changed    bool          `json:"changed"`  // whether the run changed the mirror
	Seconds    float64       `json:"seconds"`
	Deltas     []DeltaResult `json:"deltas"` // sorted by name
	// Failed are the series that could not be built.
	Failed []plan.Failure `json:"failed,omitempty"`
	// Compact is how many compact deltas are published, of CompactBytes.
	Compact      int   `json:"compact_deltas,omitempty"`
	CompactBytes int64 `json:"compact_bytes,omitempty"`
	// Torrents is how many torrents are published.
	Torrents int `json:"torrents,omitempty"`
}

// DeltaResult says what became of a delta.
type DeltaResult struct {
	File   string      `json:"file"`
	Action plan.Action `json:"action"` // Make, Keep (also of one that was checked), Drop or Omit
	Size   int64       `json:"size"`   // bytes; of a dropped one, which was not finished, at least
	Share  float64     `json:"share"`  // of its target's size
}

// MakePlan returns what Build would do now. It changes nothing. With a SeriesError
// the plan is that for the other series.
func MakePlan(ctx context.Context, o Options) (plan.Plan, error) {
	if err := o.check(); err != nil {
		return plan.Plan{}, err
	}
	r := newRun(o)
	err := r.foresee(ctx)
	return r.plan, advise(err)
}

// Build makes or updates a mirror, and returns the plan it followed and what came
// of it. What was done before an error stays done. If another process changes the
// mirror, the error wraps ErrLocked.
func Build(ctx context.Context, o Options) (plan.Plan, Summary, error) {
	if err := o.check(); err != nil {
		return plan.Plan{}, Summary{}, err
	}
	r := newRun(o)
	err := r.build(ctx)
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	return r.plan, r.summary(), advise(err)
}

// remembered is what run.json keeps of the Options.
type remembered struct {
	ImageDir    string       `json:"image_dir"` // absolute
	URL         string       `json:"url"`
	Config      plan.Config  `json:"config"`
	Policy      plan.Policy  `json:"policy"`
	Effort      delta.Effort `json:"effort"`
	FollowLinks bool         `json:"follow_links,omitempty"`
	NoPage      bool         `json:"no_page,omitempty"`
	BestBefore  bool         `json:"best_before,omitempty"`

	Torrents plan.Torrents `json:"torrents,omitzero"`
}

// Remembered returns the options that the last run had when it built the mirror, as
// far as they decide what is in the mirror.
func Remembered(mirrorDir string) (Options, error) {
	view, err := mirror.View(mirrorDir)
	if err != nil {
		return Options{}, advise(err)
	}
	defer view.Close()
	last := view.LastRun()
	if last.Options == nil {
		return Options{}, fmt.Errorf("%s has no record of how it was built; build it once from its image directory", mirrorDir)
	}
	var o remembered
	if err := json.Unmarshal(last.Options, &o); err != nil {
		return Options{}, fmt.Errorf("%s has no usable record of how it was built: %w; build it once from its image directory", mirrorDir, meta.PlainJSON(err))
	}
	return Options{
		ImageDir: o.ImageDir, MirrorDir: mirrorDir, URL: o.URL, Config: o.Config, Policy: o.Policy, Effort: o.Effort,
		FollowLinks: o.FollowLinks, NoPage: o.NoPage, BestBefore: o.BestBefore, Torrents: o.Torrents,
	}, nil
}

// advise adds what to do to the errors of a disk that every stage can meet.
func advise(err error) error {
	if _, ok := errors.AsType[*SeriesError](err); ok {
		return err // its reasons have it
	}
	if _, ok := errors.AsType[unreadable](err); ok {
		return err
	}
	for errno, advice := range map[syscall.Errno]string{
		syscall.ENOSPC: "make room and run again; finished work is kept",
		syscall.EDQUOT: "make room and run again; finished work is kept",
		syscall.EROFS:  "make it writable, or choose another mirror directory",
		syscall.EACCES: "check the permissions of the images and of the mirror",
		syscall.ENOENT: "check the path",
	} {
		if errors.Is(err, errno) {
			return fmt.Errorf("%w; %s", err, advice)
		}
	}
	return err
}
