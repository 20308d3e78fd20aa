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
//	SHA256SUMS           every file but itself and .repo, see package cksum
//	.repo/               private to this package, not to be uploaded:
//	  lock               held while a run works
//	  state/             what is known of each file, see package state
//	  signatures/        an rdiff signature of each image
//	  tmp/               files that are being written; emptied by the next run
//
// # What holds at any instant
//
// A run that is killed, or loses power, leaves a mirror in which everything that
// the meta names is there with its digests, and the next run goes on where it
// stopped, to the same result. That is because files are written under
// temporary names, flushed and renamed; because what names a file is written
// after it, and what is no longer named is removed last; because a record in
// .repo says that a file is the tool's own before the file is there; and because
// an image that changed under its name is withdrawn from the meta first.
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
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"puavo-image-repository/delta"
	"puavo-image-repository/imagerepo/internal/mirror"
	"puavo-image-repository/imagerepo/internal/state"
	"puavo-image-repository/meta"
)

// Options say what Build is to do.
type Options struct {
	ImageDir, MirrorDir string
	URL                 string // base of the urls in the meta, without a final slash; "" makes them relative
	Config              Config // the zero Config means that ImageDir is scanned for series
	Policy              Policy
	Effort              delta.Effort // how hard deltas are worked on
	Jobs                int          // how many images or bases are worked on at a time
	NoSync              bool         // do not flush what is written to the disk
	// Log takes warnings, and at level Info what becomes of each file.
	Log *slog.Logger
	// Progress, which may be nil, is called with the bytes of work done and in
	// all, from several goroutines at a time.
	Progress func(done, total int64)
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
	Removed    int           `json:"removed"`
	Changed    bool          `json:"changed"` // whether the run changed the mirror
	Seconds    float64       `json:"seconds"`
	Deltas     []DeltaResult `json:"deltas"` // sorted by name
}

// DeltaResult tells what became of a delta.
type DeltaResult struct {
	File   string  `json:"file"`
	Action Action  `json:"action"` // Make, Keep, also of one that was checked, or Drop
	Size   int64   `json:"size"`   // of a dropped one: it has at least so many
	Share  float64 `json:"share"`  // of its target's size
}

// MakePlan returns what Build would do now. It changes nothing.
func MakePlan(ctx context.Context, o Options) (Plan, error) {
	r := &run{Options: o}
	if err := r.scan(); err != nil {
		return Plan{}, advise(err)
	}
	view, err := mirror.View(o.MirrorDir)
	if errors.Is(err, os.ErrNotExist) {
		return r.plan, r.makePlan(ctx)
	} else if err != nil {
		return Plan{}, advise(err)
	}
	defer view.Close()
	r.mirror = view
	err = r.makePlan(ctx)
	return r.plan, advise(err)
}

// Build makes or updates a mirror, and returns the plan it followed and what came
// of it. What was done before an error stays done.
func Build(ctx context.Context, o Options) (Plan, Summary, error) {
	start := time.Now()
	r := &run{Options: o, confs: make(map[meta.Name]map[string]json.RawMessage), summary: Summary{Deltas: []DeltaResult{}}}
	err := r.build(ctx)
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	r.summarize(time.Since(start))
	return r.plan, r.summary, advise(err)
}

// run is the state of one Build.
type run struct {
	Options
	images []Image
	series []meta.SeriesConfig
	mirror *mirror.Mirror
	plan   Plan
	confs  map[meta.Name]map[string]json.RawMessage // of the images that are read
	meter  *meter

	mu      sync.Mutex
	records map[string]*state.Record
	summary Summary

	changed atomic.Bool
}

func (r *run) build(ctx context.Context) (err error) {
	if err := r.scan(); err != nil {
		return err
	}
	if r.mirror, err = mirror.Open(r.MirrorDir, r.NoSync, r.Log); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.mirror.Close()) }()
	if err := r.makePlan(ctx); err != nil {
		return err
	}
	r.meter = newMeter(r.plan, r.Progress)
	for _, stage := range []func(context.Context) error{
		r.readConfs, r.linkImages, r.readImages, r.makeDeltas, r.publish, r.remove,
	} {
		if err := stage(ctx); err != nil {
			return err
		}
	}
	return nil
}

// scan finds the images and their series. It looks at the image directory alone,
// so that nothing is made for one of which nothing can be made.
func (r *run) scan() error {
	if err := checkPlaces(r.ImageDir, r.MirrorDir); err != nil {
		return err
	}
	images, skipped, err := Scan(os.DirFS(r.ImageDir))
	for _, reason := range skipped {
		r.Log.Warn("skipped", "reason", reason)
	}
	if err != nil {
		return fmt.Errorf("image directory %s: %w", r.ImageDir, err)
	}
	r.images = images
	r.series, err = groupSeries(images, r.Config)
	return err
}

// makePlan makes the plan for what the mirror, if there is one, holds.
func (r *run) makePlan(ctx context.Context) (err error) {
	var h mirror.Held
	r.records = make(map[string]*state.Record)
	if r.mirror != nil {
		if err := r.loadRecords(); err != nil {
			return err
		}
		if h, err = mirror.Look(r.mirror.Root.FS(), r.records); err != nil {
			return err
		}
	}
	if r.plan, err = newPlan(r.images, r.series, h, r.Policy); err != nil {
		return err
	}
	return ctx.Err()
}

func (r *run) loadRecords() error {
	records, damaged, err := r.mirror.State.Load()
	if err != nil {
		return err
	}
	r.records = records
	for _, name := range damaged {
		r.Log.Warn("a damaged record, the file is read again", "file", name)
		records[name] = new(state.Record)
	}
	return nil
}

// record returns a copy of what is known of a file.
func (r *run) record(name string) *state.Record {
	r.mu.Lock()
	defer r.mu.Unlock()
	record := new(state.Record)
	if known := r.records[name]; known != nil {
		*record = *known
	}
	return record
}

// put records what is known of a file from now on. The record is not changed any
// more.
func (r *run) put(name string, record *state.Record) error {
	r.mu.Lock()
	r.records[name] = record
	r.mu.Unlock()
	r.changed.Store(true)
	return r.mirror.State.Put(name, record)
}

// report takes down what became of a delta.
func (r *run) report(d PlannedDelta, action Action) {
	record := r.record(d.File)
	result := DeltaResult{File: d.File, Action: action, Size: record.Sums.Size, Share: float64(record.Sums.Size) / float64(d.TargetSize)}
	switch {
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
	s.Seconds, s.Changed, s.Series = d.Seconds(), r.changed.Load(), len(r.plan.Series)
	for _, im := range r.plan.Images {
		if im.Action != BaseOnly {
			s.Images++
			s.ImageBytes += im.Size
		}
	}
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
		}
		s.DeltaBytes += d.Size
	}
}

// advise adds what to do to the errors of a disk that every stage can meet.
func advise(err error) error {
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

// meter counts the work that is done, in bytes, for many goroutines.
type meter struct {
	done     atomic.Int64
	total    int64
	progress func(done, total int64)
}

func newMeter(p Plan, progress func(done, total int64)) *meter {
	m := &meter{progress: progress}
	for _, im := range p.Images {
		if im.Action == Link || im.Action == Replace {
			m.total += im.Size
		}
		if im.Read {
			m.total += im.Size
		}
	}
	for _, d := range p.Deltas {
		m.total += d.cost()
	}
	return m
}

func (m *meter) add(n int64) {
	done := m.done.Add(n)
	if m.progress != nil {
		m.progress(min(done, m.total), m.total)
	}
}

// reader counts what is read through it, and ends with its context.
type reader struct {
	ctx context.Context
	r   io.Reader
	*meter
}

func (r *reader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := r.r.Read(p)
	r.add(int64(n))
	return n, err
}

// counter counts what is written through it.
type counter struct {
	w io.Writer
	*meter
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.add(int64(n))
	return n, err
}
