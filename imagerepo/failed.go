package imagerepo

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"puavo-image-repository/cksum"
	"puavo-image-repository/delta"
	"puavo-image-repository/imagerepo/internal/mirror"
	"puavo-image-repository/imagerepo/internal/state"
	"puavo-image-repository/meta"
)

// SeriesError is the error of a run that could not build some series. It wraps
// their errors only if no series was left.
type SeriesError struct {
	Failed []FailedSeries // sorted by name
	Built  int            // how many others were
}

func (e *SeriesError) Error() string {
	if e.Built+len(e.Failed) == 1 {
		return fmt.Sprintf("series %q: %s", e.Failed[0].Name, e.Failed[0].Reason)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d of %d series could not be built and stay as they were:", len(e.Failed), e.Built+len(e.Failed))
	for _, f := range e.Failed {
		fmt.Fprintf(&b, "\n  %s: %s", f.Name, f.Reason)
	}
	return b.String()
}

func (e *SeriesError) Unwrap() (all []error) {
	if e.Built > 0 {
		return nil
	}
	for _, f := range e.Failed {
		all = append(all, f.err)
	}
	return all
}

// seriesError returns the error for the series that could not be built, if any.
func (r *run) seriesError() error {
	if len(r.failed) == 0 {
		return nil
	}
	return &SeriesError{Failed: r.failedSeries(), Built: r.built()}
}

func (r *run) failedSeries() (all []FailedSeries) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(r.failed)) {
		err := r.failed[name]
		all = append(all, FailedSeries{name, advise(err).Error(), err})
	}
	return all
}

// tolerate returns nil for an error that is the fault of one of these images: the
// series that need it fail, the others go on. With Strict it returns all errors.
func (r *run) tolerate(ctx context.Context, err error, images ...meta.Name) error {
	if err == nil || r.Strict || ctx.Err() != nil || !r.isFault(err) {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.plan.Series {
		if r.failed[s.Name] == nil && s.needs(images) {
			r.failed[s.Name] = err
			r.Log.Error("the series cannot be built and stays as it was", "series", s.Name, "reason", err)
		}
	}
	return nil
}

// isFault reports whether an error is the fault of an image, and not of the disk of
// the mirror or of the machine.
func (r *run) isFault(err error) bool {
	for _, fault := range []error{ErrInput, ErrConfig, ErrChanged, errNotRight, errForeign, delta.ErrChanged} {
		if errors.Is(err, fault) {
			return true
		}
	}
	path, ok := errors.AsType[*fs.PathError](err)
	return ok && filepath.Dir(path.Path) == r.ImageDir && !errors.Is(err, syscall.EMFILE) && !errors.Is(err, syscall.ENFILE)
}

// needs reports whether a series has one of the images, or a delta from it.
func (s PlannedSeries) needs(images []meta.Name) bool {
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

// wanted reports whether a series that has not failed needs an image.
func (r *run) wanted(n meta.Name) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.failed) == 0 || slices.ContainsFunc(r.plan.Series, func(s PlannedSeries) bool {
		return r.failed[s.Name] == nil && s.needs([]meta.Name{n})
	})
}

// recheckFailed withdraws the images of failed series whose bytes changed in place, and
// what is missing: all else of these series stays published.
func (r *run) recheckFailed(ctx context.Context) error {
	var other []string
	for _, f := range r.failedSeries() {
		s, _ := r.docs.Series(f.Name)
		for _, im := range s.Images {
			same, err := r.unchangedCopy(ctx, im)
			if err != nil {
				return err
			}
			if !same {
				other = append(other, im.Name.String())
				r.Log.Warn("the image is not what is published of it, and is withdrawn", "image", im.Name.String())
			}
			for _, d := range im.Diffs {
				if info, err := r.mirror.Root.Lstat(meta.DeltaPath(d.Filename)); err != nil || info.Size() != d.Sums.Size {
					other = append(other, d.Filename)
				}
			}
		}
	}
	return r.withdrawn(ctx, other)
}

// unchangedCopy reports whether an image in the mirror is what is published of it.
func (r *run) unchangedCopy(ctx context.Context, im meta.Image) (bool, error) {
	file := im.Name.String()
	info, err := r.mirror.Root.Lstat(file)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !info.Mode().IsRegular() {
		return false, nil
	} else if err != nil {
		return false, err
	}
	record, stamp := r.ledger.Of(file), state.StampOf(info)
	if record.Sums.SHA512 == im.Sums.SHA512 && (record.Known(stamp) || record.Copy == stamp) {
		return true, nil
	}
	if stamp.Size != im.Sums.Size {
		return false, nil
	}
	f, err := r.mirror.Root.Open(file)
	if err != nil {
		return false, err
	}
	defer f.Close()
	sums, err := cksum.Read(ctx, f)
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	return err == nil && sums.SHA512 == im.Sums.SHA512, nil
}

// withdrawn takes files out of what is published, so that no client finds another
// content than the documents say, and has that signed.
func (r *run) withdrawn(ctx context.Context, files []string) error {
	if !r.docs.Withdraw(files...) {
		return nil
	}
	return r.writeDocuments(ctx)
}

// writeDocuments writes the documents and has them signed, one call at a time.
func (r *run) writeDocuments(ctx context.Context) error {
	r.publishing.Lock()
	defer r.publishing.Unlock()
	changed, err := r.docs.Write(ctx)
	if changed {
		r.changed.Store(true)
	}
	if err != nil {
		return err
	}
	return r.signMirror(ctx)
}

// errForeign is wrapped by the error for a file that is in the way of an image and
// not the tool's own.
var errForeign = errors.New("it was not put there by this tool; take it over with --adopt, or move it away")

func foreign(file string) error {
	return fmt.Errorf("%s in the mirror is not the image of that name, and %w", mirror.PathOf(file), errForeign)
}
