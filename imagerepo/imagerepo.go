// Package imagerepo builds a repository of OS images: from a directory of images
// it makes a mirror, a directory that any static host can serve, in which
// clients find each image, deltas between images, and the digests of all.
//
//	Scan -> plan -> link -> read and sign -> diff and verify -> publish -> remove
//
// # The mirror
//
//	<image>.img          hard link to the image, or a copy where that cannot be
//	rdiffs/<delta>.rdiff see package delta
//	meta/<series>.json   see package meta
//	index.json           the series, see package meta
//	CKSUMS               images and deltas, see package cksum
//	SHA256SUMS           every file but itself, tuf and .repo, see package cksum
//	tuf/                 signed metadata, if Options.Sign makes it, see package trust
//	.repo/               private to this package, not to be uploaded:
//	  lock               held while a run works
//	  run.json           how the last run went, and with which options
//	  state/             what is known of each file, see package state
//	  signatures/        an rdiff signature of each image
//	  tmp/               files that are being written; emptied by the next run
//
// # What is done, and when
//
// What a run does is a Plan, made of the images, of what the mirror holds and of
// the Policy, before anything is done. An image is read once, for its puavo-conf,
// its digests and its signature. One base at a time is indexed by each job, and
// all targets are diffed against it; a delta is digested while it is written, and
// verified while the next is made. What takes longest comes first.
//
// Records tell what is known: a file is known by its size, times and inode, and one
// of which only these changed is recognised by its BLAKE3. So what is there and right
// is not read again. A mirror without records, or of another tool, is taken over: its
// deltas are tried and kept if they are right. A damaged record says nothing.
//
// An image that left the image directory is published no more. It and its deltas are
// orphans then, which are removed after Policy.Grace, for the sake of those who have
// read the meta before; Policy.KeepSignatures keeps it a base, by its signature alone.
//
// # What is the tool's own
//
// The tool owns what a record says that it has put into the mirror. A file of which
// no record tells is used if it proves to be what is wanted under its name, and owned
// from then on if a document named it; else it stays, and is told of. Options.Adopt
// makes the tool the owner of every image and delta.
//
// A run that would take all images of a series, or more than half of all and at least
// two, ends with ErrRemoval before it changes anything. An image of whose series a
// newer one arrives does not count.
//
// # Series that fail
//
// An image that cannot be read, that contradicts itself or that changes while it is
// read makes its series fail: that stays published as it is, nothing of it is removed,
// and what is the matter is in a SeriesError in the end. Only an image whose bytes
// changed in place is withdrawn. The other series are built.
//
// # Memory
//
// Images are mapped, so their pages are the system's to keep or not. Besides them
// a run takes at most Options.Memory: what each job needs is known before it
// begins, the size of an index is chosen so that it fits, and there are fewer jobs
// where they would not.
//
// # What holds at any instant
//
// A run that is killed, or loses power, leaves a mirror in which everything that
// the meta names is there with its digests, and the next run goes on where it
// stopped, to the same result. That is because files are written under
// temporary names, flushed and renamed; because what names a file is written
// after it, and what is no longer named is removed last; because a record in
// .repo says that a file is the tool's own before the file is there, and goes when
// the disk has forgotten the file; and because an image that is replaced under its
// name is withdrawn from meta and lists first. What the documents name was flushed by
// a run that ended without an error, whoever put it there.
//
// A delta is published only after it was applied by a second implementation of
// the format and gave the target's digest.
//
// # Which deltas
//
// Targets are the newest images of a series, bases all its others. A Policy
// changes that.
package imagerepo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"puavo-image-repository/delta"
	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/mirror"
)

// Options say what Build is to do. Those with a name in JSON are remembered in
// the mirror, see Remembered.
type Options struct {
	ImageDir  string       `json:"image_dir"`
	MirrorDir string       `json:"-"`
	URL       string       `json:"url"`    // base of the urls in the meta, without a final slash; "" makes them relative
	Config    Config       `json:"config"` // the zero Config means that ImageDir is scanned for series
	Policy    Policy       `json:"policy"`
	Effort    delta.Effort `json:"effort"` // how hard deltas are worked on

	// Adopt takes whatever in the mirror has the name of an image or a delta for
	// the tool's own, to be kept if it proves right, and replaced or removed if not.
	Adopt bool `json:"-"`
	// AllowRemoval permits a run that leaves a series without images, or the mirror
	// without more than half of them.
	AllowRemoval bool `json:"-"`
	// Strict ends the run at the first series that cannot be built; else the others are.
	Strict bool `json:"-"`
	// FollowLinks publishes images that are symbolic links out of ImageDir to files
	// that others may not read.
	FollowLinks bool `json:"follow_links,omitempty"`
	// Suspect are files of the mirror, by their paths in it, that are not what the
	// records say: they are examined, and made anew where that is possible.
	Suspect []string `json:"-"`

	Jobs        int   `json:"-"` // how many images or bases are worked on at a time
	Memory      int64 `json:"-"` // the most memory to take besides mapped files, in bytes; 0 is a quarter of the machine's
	NoSync      bool  `json:"-"` // do not flush what is written to the disk
	IgnoreSpace bool  `json:"-"` // begin even if the free space will most likely not do
	// Sign, which may be nil, is called when all is published, to sign it, and
	// reports whether it changed anything. What is no longer named is removed after it.
	Sign func(ctx context.Context, mirror atomicfile.Dir) (changed bool, err error) `json:"-"`
	// Log takes warnings, and at level Info what becomes of each file.
	Log *slog.Logger `json:"-"`
	// Progress, which may be nil, is called with the bytes of work done and in
	// all, from several goroutines at a time.
	Progress func(done, total int64) `json:"-"`
}

// Summary tells what a run did.
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
	Removals   []string      `json:"removals"` // what was removed, by the paths in the mirror
	Changed    bool          `json:"changed"`  // whether the run changed the mirror
	Seconds    float64       `json:"seconds"`
	Deltas     []DeltaResult `json:"deltas"` // sorted by name
	// Failed are the series that could not be built.
	Failed []FailedSeries `json:"failed,omitempty"`
}

// DeltaResult tells what became of a delta.
type DeltaResult struct {
	File   string  `json:"file"`
	Action Action  `json:"action"` // Make, Keep, also of one that was checked, Drop or Omit
	Size   int64   `json:"size"`   // of a dropped one: it has at least so many
	Share  float64 `json:"share"`  // of its target's size
}

// MakePlan returns what Build would do now. It changes nothing. With a SeriesError
// the plan is that for the other series.
func MakePlan(ctx context.Context, o Options) (Plan, error) {
	r := newRun(o)
	if err := r.scan(); err != nil {
		return Plan{}, advise(err)
	}
	view, err := mirror.View(o.MirrorDir)
	if err == nil {
		defer view.Close()
		r.mirror = view
	} else if !errors.Is(err, os.ErrNotExist) {
		return Plan{}, advise(err)
	}
	if err = r.makePlan(ctx); err == nil {
		err = r.seriesError()
	}
	return r.plan, advise(err)
}

// Build makes or updates a mirror, and returns the plan it followed and what came
// of it. What was done before an error stays done.
func Build(ctx context.Context, o Options) (Plan, Summary, error) {
	r := newRun(o)
	err := r.build(ctx)
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	r.summarize(time.Since(r.start))
	return r.plan, r.summary, advise(err)
}

// Remembered returns the options of the last run that built the mirror.
func Remembered(mirrorDir string) (Options, error) {
	view, err := mirror.View(mirrorDir)
	if err != nil {
		return Options{}, advise(err)
	}
	defer view.Close()
	o := Options{MirrorDir: mirrorDir}
	last := view.LastRun()
	if last.Options == nil {
		return o, fmt.Errorf("%s does not tell how it was built; build it once from its image directory", mirrorDir)
	}
	if err := json.Unmarshal(last.Options, &o); err != nil {
		return o, fmt.Errorf("%s does not tell how it was built: %w; build it once from its image directory", mirrorDir, err)
	}
	return o, nil
}

// report notes what became of a delta.
func (r *run) report(d PlannedDelta, action Action) {
	record := r.ledger.Of(d.File)
	result := DeltaResult{File: d.File, Action: action, Size: record.Sums.Size, Share: float64(record.Sums.Size) / float64(d.TargetSize)}
	switch {
	case action == Omit:
		result.Size, result.Share = 0, 0
	case record.Dropped:
		result.Action = Drop
	case action == Check:
		result.Action = Keep
	}
	r.Log.Info("delta", "file", d.File, "action", string(result.Action), "bytes", result.Size,
		"share", fmt.Sprintf("%.3f", result.Share))
	r.mu.Lock()
	defer r.mu.Unlock()
	r.summary.Deltas = append(r.summary.Deltas, result)
}

func (r *run) summarize(d time.Duration) {
	s := &r.summary
	s.Seconds, s.Changed = d.Seconds(), r.changed.Load() || r.ledger.Changed()
	s.Series, s.Failed = r.built(), r.failedSeries()
	for _, im := range r.plan.Images {
		if im.Action != BaseOnly && im.Action != Retired && r.wanted(im.Name) {
			s.Images++
			s.ImageBytes += im.Size
		}
	}
	slices.Sort(s.Removals)
	slices.SortFunc(s.Deltas, func(a, b DeltaResult) int { return strings.Compare(a.File, b.File) })
	for _, d := range s.Deltas {
		switch d.Action {
		case Make:
			s.Made++
		case Keep:
			s.Kept++
		case Drop:
			s.Dropped++
			continue
		case Omit:
			s.Omitted++
			continue
		}
		s.DeltaBytes += d.Size
	}
}

// advise adds what to do to the errors of a disk that every stage can meet.
func advise(err error) error {
	if _, ok := errors.AsType[*SeriesError](err); ok {
		return err // its reasons have it
	}
	for errno, advice := range map[syscall.Errno]string{
		syscall.ENOSPC: "make room and run again: what is done is kept",
		syscall.EDQUOT: "make room and run again: what is done is kept",
		syscall.EROFS:  "make it writable, or give another mirror directory",
		syscall.EACCES: "check who may read the images and write the mirror",
		syscall.ENOENT: "check the path",
	} {
		if errors.Is(err, errno) {
			return fmt.Errorf("%w; %s", err, advice)
		}
	}
	return err
}
