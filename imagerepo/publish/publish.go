// Package publish puts a mirror on a host of static files, a destination, so that at every
// instant clients find there what its documents say: see package edition for the phases and
// signatures.
//
// The documents of the mirror are copied before anything is sent, under its lock, which is
// not held while payload is sent. If a build changes payload meanwhile, the run ends before
// clients see anything of it: the digest is compared while payload is sent.
//
// A lease keeps other publishers from the destination, see package lease.
package publish

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"puavo-image-repository/imagerepo/internal/edition"
	"puavo-image-repository/imagerepo/internal/lease"
	"puavo-image-repository/imagerepo/internal/mirror"
	"puavo-image-repository/imagerepo/internal/store"
)

var (
	// ErrHeld is wrapped by the error for a destination to which another publisher writes.
	ErrHeld = lease.ErrHeld
	// ErrMirror is wrapped by the error for a mirror that cannot be published as it is.
	ErrMirror = edition.ErrMirror
)

// Options say what is published, and where. MirrorDir and Destination are needed.
type Options struct {
	MirrorDir string
	// Destination is a directory, sftp://[user@]host[:port]/path, or
	// s3://bucket[/prefix][?endpoint=URL][&region=NAME].
	Destination string
	Verify      Verify        // "" is BySize
	Grace       time.Duration // after which orphans are removed
	// AllowRemoval permits an edition without images, without a whole series, or without more
	// than half of the images that the destination has.
	AllowRemoval bool
	NoLock       bool  // takes no lease
	NoSync       bool  // flushes no files, of a directory
	Jobs         int   // files, or parts of files, at a time; less than 1 is 1
	RateLimit    int64 // bytes a second; 0 is no limit
	// Sign signs what is withdrawn, and then the mirror again. It may be nil.
	Sign Signer
	// Signs is for MakePlan: Run will have the keys, which a plan does not need.
	Signs bool
	// KnownHosts and KeyFile are for SFTP: "" are the usual files of ssh.
	KnownHosts, KeyFile string
	// Apart are directories that a destination must not be, hold or lie in, as it must not the
	// mirror: those of images and keys. "" is none.
	Apart []string

	Log *slog.Logger // nil discards messages
	// Progress, which may be nil, is called with the bytes sent and in all, from several
	// goroutines; Stage with what is worked on; Sent, from several goroutines too, with each file
	// of payload that is there.
	Progress func(done, total int64)
	Stage    func(stage, file string)
	Sent     func(file string, size int64)

	look  bool        // makes nothing at the destination
	lease lease.Times // of tests
}

// Signer signs the documents of a mirror; trust.Keys does.
type Signer = edition.Signer

// Verify says how a run finds out what the files are that a destination already has.
type Verify = edition.Verify

// The ways, from the fastest to the slowest.
const (
	ByName    = edition.ByName
	BySize    = edition.BySize
	ByReading = edition.ByReading
)

// ParseVerify returns the Verify of that name: none, size or read.
func ParseVerify(s string) (Verify, error) { return edition.ParseVerify(s) }

// Plan is what a run does at a destination, and File a file of it.
type (
	Plan = edition.Plan
	File = edition.File
)

// Summary is what a run did.
type Summary struct {
	Destination string `json:"destination"`
	edition.Summary
	Seconds float64 `json:"seconds"`
}

func (o Options) withDefaults() Options {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Verify == "" {
		o.Verify = BySize
	}
	o.Jobs = max(o.Jobs, 1)
	return o
}

// MakePlan returns what Run would do. It changes nothing and takes no lock of the destination.
func MakePlan(ctx context.Context, o Options) (p Plan, err error) {
	o = o.withDefaults()
	o.Signs, o.Sign = o.Signs || o.Sign != nil, nil // which would sign
	s, err := openToLook(ctx, o)
	if err != nil {
		return p, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	w, closePayload, err := prepare(ctx, o, s, true)
	if err != nil {
		return p, err
	}
	return w.Plan, closePayload()
}

// Run publishes a mirror to a destination. It returns what it planned, and what it did even
// if that failed.
func Run(ctx context.Context, o Options) (p Plan, sum Summary, err error) {
	o = o.withDefaults()
	began := time.Now()
	if err := edition.CheckMirror(o.MirrorDir); err != nil {
		return p, sum, err
	}
	s, err := open(ctx, o)
	if err != nil {
		return p, sum, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	sum.Destination = s.String()
	holds := func(context.Context) error { return nil }
	if !o.NoLock {
		locked, l, err := lease.Take(ctx, s, o.lease, o.Log)
		if err != nil {
			return p, sum, explainLock(err)
		}
		ctx, holds = locked, l.Check
		defer release(l, o.Log)
	}
	w, closePayload, err := prepare(ctx, o, s, false)
	if err != nil {
		return p, sum, cause(ctx, err)
	}
	sum.Summary, err = w.Run(ctx, holds)
	sum.Seconds = time.Since(began).Seconds()
	return w.Plan, sum, errors.Join(cause(ctx, err), closePayload())
}

// patience is how long a run waits while a build holds the lock of the mirror.
const patience = 10 * time.Minute

// prepare reads mirror and destination and plans. The mirror is locked while its documents
// are read, and perhaps signed. The caller calls closePayload after the run.
func prepare(ctx context.Context, o Options, s store.Store, dryRun bool) (w *edition.Work, closePayload func() error, err error) {
	v, err := edition.Look(ctx, s, o.Verify, o.Jobs)
	if err != nil {
		return nil, nil, err
	}
	files, err := mirror.View(o.MirrorDir)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrMirror, err)
	}
	m, err := lock(ctx, files, o, dryRun)
	if err == nil {
		w, err = edition.Prepare(ctx, edition.Source{Dir: m.Root, Open: files.Root.Open, Sign: o.Sign}, s, v, edition.Options{
			DryRun: dryRun, Signs: dryRun && o.Signs, Grace: o.Grace, AllowRemoval: o.AllowRemoval, Verify: o.Verify, Jobs: o.Jobs, Log: o.Log, Progress: o.Progress, Stage: o.Stage, Sent: o.Sent,
		})
		err = errors.Join(err, m.Close())
	}
	if err != nil {
		return nil, nil, errors.Join(err, files.Close())
	}
	return w, files.Close, nil
}

// lock opens a mirror and locks it, except for a dry run, or where nothing can build it: a
// copy without records.
func lock(ctx context.Context, view *mirror.Mirror, o Options, dryRun bool) (*mirror.Mirror, error) {
	if _, err := view.Root.Lstat(mirror.Private); dryRun || errors.Is(err, os.ErrNotExist) {
		return mirror.View(o.MirrorDir)
	}
	return mirror.OpenWhenFree(ctx, o.MirrorDir, o.NoSync, patience, o.Log)
}

// cause returns why the context ended, if that is what an error says.
func cause(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return context.Cause(ctx)
	}
	return err
}

func explainLock(err error) error {
	if errors.Is(err, store.ErrIgnored) {
		return fmt.Errorf("%w: it cannot keep other publishers out; make sure that only one runs, and give --no-lock", err)
	}
	return err
}

// release gives a lease back, also after ctx has ended.
func release(l *lease.Lease, log *slog.Logger) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := l.Release(ctx); err != nil {
		log.Warn("the lock of the destination stays; another machine can take it in ten minutes", "reason", err)
	}
}
