package imagerepo

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"puavo-image-repository/imagerepo/internal/meter"
	"puavo-image-repository/imagerepo/internal/mirror"
	"puavo-image-repository/imagerepo/internal/state"
	"puavo-image-repository/meta"
)

// run is the state of one Build.
type run struct {
	Options
	start  time.Time
	images []Image
	unseen []unseen
	series []meta.SeriesConfig
	mirror *mirror.Mirror
	budget budget
	held   mirror.Held // what the mirror held before
	plan   Plan
	confs  map[meta.Name]map[string]json.RawMessage // of the images that are read
	meter  *meter.Meter

	mu      sync.Mutex
	records map[string]*state.Record
	summary Summary

	publishing sync.Mutex // held while published documents change
	changed    atomic.Bool
}

func (r *run) build(ctx context.Context) (err error) {
	if err := r.scan(); err != nil {
		return err
	}
	if r.mirror, err = mirror.Open(r.MirrorDir, r.NoSync, r.Log); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.mirror.Close()) }()
	defer func() { err = r.remember(err) }()
	if err := r.makePlan(ctx); err != nil {
		return err
	}
	if err := r.plan.Estimate.checkSpace(r.MirrorDir); err != nil && !r.IgnoreSpace {
		return err
	}
	r.meter = meter.New(r.plan.work(), r.Progress)
	for _, stage := range []func(context.Context) error{
		r.readConfs, r.linkImages, r.readImages, r.makeDeltas, r.publish, r.remove,
	} {
		if err := stage(ctx); err != nil {
			return err
		}
	}
	return nil
}

// remember takes down how the run went, and returns its error.
func (r *run) remember(err error) error {
	last := r.mirror.LastRun()
	now := mirror.Run{Began: r.start, Seconds: time.Since(r.start).Seconds(), Rate: last.Rate, Success: last.Success, Options: last.Options}
	if err != nil {
		now.Error = err.Error()
		_ = r.mirror.PutRun(now) // the error that matters is known
		return err
	}
	now.Success = time.Now()
	if work := r.plan.toDo(); work > 1<<30 {
		now.Rate = float64(work) / now.Seconds
	}
	if now.Options, err = json.Marshal(r.Options); err != nil {
		return err
	}
	return r.mirror.PutRun(now)
}

// scan finds the images and their series. It looks at the image directory alone,
// so that nothing is made for one of which nothing can be made.
func (r *run) scan() (err error) {
	if r.budget, err = newBudget(r.Memory, r.Jobs); err != nil {
		return err
	}
	if err := checkPlaces(r.ImageDir, r.MirrorDir); err != nil {
		return err
	}
	images, skipped, err := Scan(os.DirFS(r.ImageDir))
	for _, reason := range skipped {
		if u, ok := errors.AsType[unseen](reason); ok {
			r.unseen = append(r.unseen, u)
		}
		r.Log.Warn("skipped", "reason", reason)
	}
	if err != nil {
		return fmt.Errorf("image directory %s: %w", r.ImageDir, err)
	}
	r.images = images
	if r.ImageDir, err = filepath.Abs(r.ImageDir); err != nil { // to be remembered
		return err
	}
	r.series, err = groupSeries(images, r.Config)
	return err
}

// makePlan makes the plan for what the mirror, if there is one, holds.
func (r *run) makePlan(ctx context.Context) (err error) {
	var h mirror.Held
	var adopted bool
	r.records = make(map[string]*state.Record)
	if r.mirror != nil {
		if err := r.loadRecords(); err != nil {
			return err
		}
		if h, err = mirror.Look(r.mirror.Root.FS(), r.records); err != nil {
			return err
		}
		adopted = r.adopt(&h)
		r.held = h
	}
	for _, u := range r.unseen {
		if _, there := h.Files[u.file]; there && h.Owned(u.file) {
			return fmt.Errorf("%w; it is in the mirror, and would leave it: mount what it is on, or remove it here", u)
		}
	}
	if r.plan, err = newPlan(r.images, r.series, h, r.Policy, time.Now()); err != nil {
		return err
	}
	r.plan.Adopted, r.plan.LeftAlone = adopted, h.Foreign
	if err := r.budget.check(r.plan.groups()); err != nil {
		return err
	}
	return cmp.Or(ctx.Err(), r.foretell())
}

// adopt takes over a mirror that another tool made, or whose records are lost. It
// reports whether there was anything to take over.
func (r *run) adopt(h *mirror.Held) bool {
	if !r.Adopt && !r.mirror.LastRun().Success.IsZero() {
		return false
	}
	h.Adopt(r.mirror.Root.FS(), r.Adopt)
	for name := range h.Named {
		if h.Records[name] == nil {
			return true
		}
	}
	return false
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
	for _, file := range r.Suspect {
		if err := r.suspect(path.Base(file)); err != nil {
			return err
		}
	}
	return nil
}

// suspect forgets what is known of a file of the mirror that is not as it should
// be, so that it is examined and made anew. That cannot be done of an image that
// is damaged in the image directory itself.
func (r *run) suspect(name string) error {
	record := r.records[name]
	if record == nil {
		return nil
	}
	if path.Ext(name) != ".img" {
		r.records[name] = new(state.Record)
		return nil
	}
	record.Copy = state.Stamp{}
	source, err := os.Stat(filepath.Join(r.ImageDir, name))
	if err != nil {
		return nil // it left, or the plan says what is to be said
	}
	copied, err := r.mirror.Root.Stat(name)
	if err == nil && os.SameFile(source, copied) {
		return fmt.Errorf("%s is the same file and damaged too; put the right image there and run again, or build if it is meant to be as it is",
			filepath.Join(r.ImageDir, name))
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
