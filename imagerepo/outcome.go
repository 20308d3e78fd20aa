package imagerepo

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"puavo-image-repository/delta"
	"puavo-image-repository/imagerepo/internal/base"
	"puavo-image-repository/imagerepo/internal/compacts"
	"puavo-image-repository/imagerepo/internal/meter"
	"puavo-image-repository/imagerepo/internal/mirror"
	"puavo-image-repository/imagerepo/internal/planner"
	"puavo-image-repository/imagerepo/internal/state"
	"puavo-image-repository/imagerepo/plan"
	"puavo-image-repository/meta"
)

// ErrArchive is wrapped by the error for images that could not be archived. The mirror is
// published, and nothing was removed from it.
var ErrArchive = errors.New("the images could not be archived, so nothing was removed")

// SeriesError is the error of a run that could not build some series. It wraps
// their errors only if no series was left.
type SeriesError struct {
	Failed []plan.Failure // sorted by name
	Built  int            // how many others were built
}

func (e *SeriesError) Error() string {
	if e.Built+len(e.Failed) == 1 {
		return fmt.Sprintf("series %q: %s", e.Failed[0].Name, e.Failed[0].Reason)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d of %d series could not be built, and are unchanged:", len(e.Failed), e.Built+len(e.Failed))
	for _, f := range e.Failed {
		fmt.Fprintf(&b, "\n  %s: %s", f.Name, f.Reason)
	}
	return b.String()
}

// Unwrap returns the errors of the series if none was built: those that are not the fault
// of the input, and all if there are none of these.
func (e *SeriesError) Unwrap() []error {
	if e.Built > 0 {
		return nil
	}
	var all, others []error
	for _, f := range e.Failed {
		all = append(all, f.Err)
		if !errors.Is(f.Err, plan.ErrInput) && !errors.Is(f.Err, plan.ErrConfig) {
			others = append(others, f.Err)
		}
	}
	if len(others) > 0 {
		return others
	}
	return all
}

// failures are the series that could not be built. Its methods can be called
// concurrently.
type failures struct {
	imageDir string // absolute
	strict   bool   // every error ends the run
	log      *slog.Logger

	mu      sync.Mutex
	series  []plan.Series // all that are planned
	reasons map[string]error
	others  map[string]error // series that are not to be built
}

func newFailures(strict bool, log *slog.Logger) *failures {
	return &failures{strict: strict, log: log, reasons: make(map[string]error)}
}

// plan takes over the series of a plan, and those that failed while it was made.
func (f *failures) plan(p plan.Plan) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.series = p.Series
	for _, failed := range p.Failed {
		if f.strict {
			return failed.Err
		}
		f.reasons[failed.Name] = failed.Err
	}
	return nil
}

// tolerate returns nil for an error that is the fault of one of these images: the
// series that need it fail, the others go on. If strict it returns all errors.
func (f *failures) tolerate(ctx context.Context, err error, images ...meta.Name) error {
	err = f.adviseUnreadable(err)
	if err == nil || f.strict || ctx.Err() != nil || !f.isFault(err) {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.series {
		if f.reasons[s.Name] == nil && needs(s, images) {
			f.reasons[s.Name] = err
			f.log.Error("the series cannot be built, and is unchanged", "series", s.Name, "reason", err)
		}
	}
	return nil
}

// isFault reports whether an error is the fault of an image, and not of the disk of
// the mirror or of the machine.
func (f *failures) isFault(err error) bool {
	for _, fault := range []error{plan.ErrInput, plan.ErrConfig, ErrChanged, base.ErrWrong, mirror.ErrForeign, delta.ErrChanged} {
		if errors.Is(err, fault) {
			return true
		}
	}
	path, ok := errors.AsType[*fs.PathError](err)
	return ok && filepath.Dir(path.Path) == f.imageDir && !errors.Is(err, syscall.EMFILE) && !errors.Is(err, syscall.ENFILE)
}

// unreadable is the error for an image that cannot be read, with what to do.
type unreadable struct {
	error
	advice string
}

func (u unreadable) Error() string { return u.error.Error() + "; " + u.advice }

func (u unreadable) Unwrap() error { return u.error }

// adviseUnreadable adds to an error what to do if an image cannot be read.
func (f *failures) adviseUnreadable(err error) error {
	image, ok := errors.AsType[*fs.PathError](err)
	switch {
	case !ok || filepath.Dir(image.Path) != f.imageDir:
		return err
	case errors.Is(image.Err, fs.ErrPermission):
		return unreadable{err, fmt.Sprintf("make it readable for user ID %d, or chmod it to 0644", os.Geteuid())}
	case errors.Is(image.Err, syscall.EIO):
		return unreadable{err, "its disk is failing: copy or make the image again, on another disk"}
	}
	return err
}

// needs reports whether a series has one of the images, or a delta from it.
func needs(s plan.Series, images []meta.Name) bool {
	return slices.ContainsFunc(images, func(n meta.Name) bool {
		if slices.Contains(s.Images, n.String()) {
			return true
		}
		for _, deltas := range s.Deltas {
			for _, d := range deltas {
				if base, _, _ := meta.ParseDeltaName(d); base == n {
					return true
				}
			}
		}
		return false
	})
}

// wants reports whether a series that has not failed needs an image.
func (f *failures) wants(n meta.Name) bool {
	return f.anyLeft(func(s plan.Series) bool { return needs(s, []meta.Name{n}) })
}

// wantsDelta reports whether a series that has not failed needs a delta.
func (f *failures) wantsDelta(d plan.Delta) bool {
	return f.anyLeft(func(s plan.Series) bool { return slices.Contains(s.Deltas[d.Target.String()], d.File) })
}

func (f *failures) anyLeft(is func(plan.Series) bool) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.reasons) == 0 || slices.ContainsFunc(f.series, func(s plan.Series) bool { return f.reasons[s.Name] == nil && is(s) })
}

// left returns the planned series that have not failed.
func (f *failures) left() []plan.Series {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(f.series), func(s plan.Series) bool { return f.reasons[s.Name] != nil })
}

// built returns how many series have not failed.
func (f *failures) built() int { return len(f.left()) }

// all returns the errors by series.
func (f *failures) all() map[string]error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.reasons)
}

// names returns the names of the series that failed, sorted.
func (f *failures) names() []string { return slices.Sorted(maps.Keys(f.all())) }

// leave leaves out series that are not to be built.
func (f *failures) leave(names []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.others = make(map[string]error)
	for _, name := range names {
		f.others[name] = planner.ErrOther
	}
}

// kept returns the series that stay as they are: those that failed, by their errors, and those
// that are not to be built.
func (f *failures) kept() map[string]error {
	kept := f.all()
	f.mu.Lock()
	defer f.mu.Unlock()
	maps.Copy(kept, f.others)
	return kept
}

// list returns the series that failed, sorted by name.
func (f *failures) list() (all []plan.Failure) {
	reasons := f.all()
	for _, name := range f.names() {
		all = append(all, plan.Failure{Name: name, Reason: advise(reasons[name]).Error(), Err: reasons[name]})
	}
	return all
}

// err returns the SeriesError of the run, nil if no series failed.
func (f *failures) err() error {
	failed := f.list()
	if len(failed) == 0 {
		return nil
	}
	return &SeriesError{Failed: failed, Built: f.built()}
}

// results are what became of the files. Its methods can be called concurrently.
type results struct {
	log  *slog.Logger
	made func(DeltaResult) // may be nil

	mu       sync.Mutex
	deltas   []DeltaResult
	removals []string
	changed  bool
}

func newResults(log *slog.Logger, made func(DeltaResult)) *results {
	return &results{log: log, made: made, deltas: []DeltaResult{}, removals: []string{}}
}

// delta notes what became of a delta, by its record.
func (r *results) delta(d plan.Delta, action plan.Action, record *state.Record) {
	result := DeltaResult{File: d.File, Action: action, Size: record.Sums.Size, Share: float64(record.Sums.Size) / float64(d.TargetSize)}
	switch {
	case action == plan.Omit:
		result.Size, result.Share = 0, 0
	case record.Dropped:
		result.Action = plan.Drop
	case action == plan.Check:
		result.Action = plan.Keep
	}
	r.log.Info("delta", "file", d.File, "action", string(result.Action), "bytes", result.Size,
		"share", fmt.Sprintf("%.3f", result.Share))
	if result.Action == plan.Make && r.made != nil {
		r.made(result)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.deltas = append(r.deltas, result)
}

// removed notes that a file was removed.
func (r *results) removed(path string) {
	r.log.Info("removed", "file", path)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.removals = append(r.removals, path)
	r.changed = true
}

// omitted returns the deltas that were omitted.
func (r *results) omitted() map[string]bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	omitted := make(map[string]bool)
	for _, d := range r.deltas {
		omitted[d.File] = d.Action == plan.Omit
	}
	return omitted
}

// summary returns what the run did.
func (r *run) summary() Summary {
	s := Summary{
		Series: r.failed.built(), Failed: r.failed.list(), Seconds: time.Since(r.start).Seconds(),
		Changed: r.results.changed, Deltas: r.results.deltas, Removals: r.results.removals, Removed: len(r.results.removals),
	}
	for _, im := range r.plan.Images {
		if im.Published() && r.failed.wants(im.Name) {
			s.Images++
			s.ImageBytes += im.Size
		}
	}
	if r.docs != nil {
		for _, file := range r.edition().files(r.ledger) {
			if _, listed := r.docs.Listed(mirror.TorrentOf(file)); listed {
				s.Torrents++
			}
			if filepath.Ext(file) == mirror.CompactExt {
				s.Compact++
				s.CompactBytes += r.ledger.Of(file).Sums.Size
			}
		}
	}
	slices.Sort(s.Removals)
	slices.SortFunc(s.Deltas, func(a, b DeltaResult) int { return strings.Compare(a.File, b.File) })
	for _, d := range s.Deltas {
		switch d.Action {
		case plan.Make:
			s.Made++
		case plan.Keep:
			s.Kept++
		case plan.Drop:
			s.Dropped++
			continue
		case plan.Omit:
			s.Omitted++
			continue
		}
		s.DeltaBytes += d.Size
	}
	return s
}

// leaveOthers leaves out the series that are not to be built, those too that only the mirror
// has.
func (r *run) leaveOthers() error {
	globs := r.options.Series
	if len(globs) == 0 {
		return nil
	}
	var names, others []string
	for _, s := range r.series {
		names = append(names, s.Name)
	}
	if r.docs != nil {
		for _, s := range r.docs.All() {
			if !slices.Contains(names, s.Name) && !globs.Match(s.Name) {
				r.series = append(r.series, meta.SeriesConfig{Name: s.Name})
				names = append(names, s.Name)
			}
		}
	}
	for _, name := range names {
		if !globs.Match(name) {
			others = append(others, name)
		}
	}
	if len(others) == len(names) {
		return fmt.Errorf("%w %s; the series are %s", plan.ErrNoSeries, strings.Join(globs, " or "), strings.Join(names, ", "))
	}
	slices.SortFunc(r.series, func(a, b meta.SeriesConfig) int { return strings.Compare(a.Name, b.Name) })
	r.failed.leave(others)
	return nil
}

// checkCompact finds out which compact deltas are right.
func (r *run) checkCompact(ctx context.Context, progress *meter.Meter) error {
	r.compacts = &compacts.Keeper{Root: r.mirror.Root, Ledger: r.ledger, Holds: r.holds, Progress: progress, Log: r.options.Log}
	if r.budget.Memory < 192<<20 {
		r.compacts.Cores = 1 // which takes half
	}
	e := r.edition()
	return r.compacts.Check(ctx, e.wantedCompact(e.documents(r.ledger)), func(path string) bool { return slices.Contains(r.options.Suspect, path) })
}

// staleCompact returns the files of compact deltas that the plan would keep and that are not
// published: they are wrong, or their images became others.
func (r *run) staleCompact(failed planner.Files) (files []string) {
	published := r.edition().files(r.ledger)
	for _, c := range r.plan.Compact {
		own := r.holds.Owns(c.File) || r.ledger.Has(c.File)
		if c.There() && own && !slices.Contains(published, c.File) && !failed.Has(c.File) {
			files = append(files, c.File)
		}
	}
	return files
}
