package imagerepo

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"time"

	"puavo-image-repository/imagerepo/internal/mirror"
	"puavo-image-repository/imagerepo/internal/state"
	"puavo-image-repository/meta"
)

// ErrRemoval is wrapped by the error for a run that would remove too many images.
var ErrRemoval = errors.New("too many published images would be removed")

// checkRemovals refuses a plan by which a series would lose all its images, or the
// mirror more than half of them and at least two: most likely the image directory is
// the wrong one, or a part of it is not mounted. An image of whose series a newer one
// arrives does not count: it is superseded.
func (r *run) checkRemovals() error {
	if r.AllowRemoval || r.docs == nil {
		return nil
	}
	stays := r.staying()
	arriving := r.arriving()
	all, gone := make(map[meta.Name]bool), make(map[meta.Name]bool) // an image can be in several series
	emptied := false
	for _, s := range r.docs.All() {
		lost := 0
		for _, im := range s.Images {
			all[im.Name] = true
			newest := max(arriving[s.Name], arriving[im.Name.Series()])
			if !stays(im.Name) && newest <= im.Name.Version {
				gone[im.Name] = true
				lost++
			}
		}
		emptied = emptied || lost > 0 && lost == len(s.Images)
	}
	emptied = r.unlisted(all, gone, stays) || emptied
	if !emptied && !(len(gone) >= 2 && 2*len(gone) > len(all)) {
		return nil
	}
	return removalError(r.ImageDir, gone, len(all))
}

// unlisted adds to all the images that the tool has put into the mirror and that no
// document names, for it is lost, and to those gone what of these would go. It reports
// whether a series, by their names, would lose all of them.
func (r *run) unlisted(all, gone map[meta.Name]bool, stays func(meta.Name) bool) (emptied bool) {
	images, lost := make(map[string]int), make(map[string]int)
	for name, record := range r.holds.Records {
		n, err := meta.ParseName(name)
		_, there := r.holds.Has(name)
		if err != nil || all[n] || !there || !record.Placed || record.Unnamed != 0 {
			continue
		}
		all[n] = true
		images[n.Series()]++
		if !stays(n) {
			gone[n] = true
			lost[n.Series()]++
		}
	}
	for series, n := range lost {
		emptied = emptied || n == images[series]
	}
	return emptied
}

// staying returns a function that reports whether an image stays published, or is
// damaged: then it cannot.
func (r *run) staying() func(meta.Name) bool {
	failed := r.failedFiles()
	planned := make(map[meta.Name]bool)
	for _, im := range r.plan.Images {
		planned[im.Name] = im.Action != BaseOnly && im.Action != Retired
	}
	return func(n meta.Name) bool {
		return planned[n] || keeps(failed, n.String()) || slices.Contains(r.Suspect, n.String())
	}
}

// arriving returns the newest version of the images that are not published yet, by
// the names of their series.
func (r *run) arriving() map[string]string {
	newest := make(map[string]string)
	for _, s := range r.plan.Series {
		for _, file := range s.Images {
			if _, published := r.docs.Sums(file); published {
				continue
			}
			n, _ := meta.ParseName(file) // it came from a Name
			newest[s.Name] = max(newest[s.Name], n.Version)
			newest[n.Series()] = max(newest[n.Series()], n.Version)
		}
	}
	return newest
}

func removalError(imageDir string, names map[meta.Name]bool, total int) error {
	var b strings.Builder
	sorted := slices.SortedFunc(maps.Keys(names), meta.Name.Compare)
	for _, n := range sorted {
		fmt.Fprintf(&b, "\n  %s", n)
	}
	return fmt.Errorf("%w: %d of %d are not in %s any more, or in no series:%s\nIs it the right directory, and all of it mounted? Nothing was changed. If they are to go, permit it once with --allow-removal",
		ErrRemoval, len(sorted), total, imageDir, b.String())
}

// failedFiles returns the names of what belongs to the series that have failed.
func (r *run) failedFiles() map[string]bool {
	files := make(map[string]bool)
	for _, s := range groupSeries(r.found, r.Config) {
		if r.failed[s.Name] != nil {
			maps.Copy(files, filesOf(s, r.publishedSeries))
		}
	}
	return files
}

// remove removes what the documents do not name any more and is due, and the records
// of it. What is not due yet is recorded as an orphan.
func (r *run) remove(ctx context.Context) error {
	if r.built() == 0 {
		return nil
	}
	failed := r.failedFiles()
	remove := r.orphans(failed)
	for _, name := range r.ledger.Names() {
		if _, orphan := remove[name]; !orphan && !keeps(failed, name) {
			if err := r.setUnnamed(name, 0); err != nil {
				return err
			}
		}
	}
	var removed []PlannedRemove
	for _, name := range slices.Sorted(maps.Keys(remove)) {
		old := remove[name]
		err := ctx.Err()
		if err == nil && !old.Due.IsZero() {
			err = r.wait(old)
		} else if err == nil {
			removed = append(removed, old)
			err = r.removeFile(old)
		}
		if err != nil {
			return fmt.Errorf("removing %s: %w", old.Path, err)
		}
	}
	return r.forget(removed)
}

// orphans returns what the plan removes, and the files of deltas that were dropped
// since, by their names.
func (r *run) orphans(failed map[string]bool) map[string]PlannedRemove {
	remove := make(map[string]PlannedRemove)
	for _, old := range r.plan.Remove {
		if !keeps(failed, old.name) {
			remove[old.name] = old
		}
	}
	for _, d := range r.plan.Deltas {
		_, planned := remove[d.File]
		if planned || !r.ledger.Of(d.File).Dropped || !r.wantedDelta(d) || keeps(failed, d.File) {
			continue
		}
		old := PlannedRemove{Path: meta.DeltaPath(d.File), name: d.File}
		if _, err := r.mirror.Root.Lstat(old.Path); err != nil {
			continue // where it cannot be looked at, the next run plans to remove it
		}
		if r.Policy.Grace > 0 {
			old.Due = time.Now().Add(r.Policy.Grace)
		}
		remove[d.File] = old
	}
	return remove
}

// wait records since when nothing names a file, unless that is recorded.
func (r *run) wait(old PlannedRemove) error {
	now := time.Now().Unix()
	if since := r.ledger.Of(old.name).Unnamed; since != 0 && since <= now { // a clock may have gone back
		return nil
	}
	return r.setUnnamed(old.name, now)
}

// removeFile removes a file of the mirror that may be gone already.
func (r *run) removeFile(old PlannedRemove) error {
	err := r.renaming(func() error { return r.mirror.Root.Remove(old.Path) }, r.holds.Files[old.Path].Inode)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	r.changed.Store(true)
	r.summary.Removed++
	r.summary.Removals = append(r.summary.Removals, old.Path)
	r.Log.Info("removed", "file", old.Path)
	return nil
}

// forget forgets what was removed, once the disk has forgotten it: a record that went
// before its file would leave one that nobody owns.
func (r *run) forget(removed []PlannedRemove) error {
	if len(removed) == 0 {
		return nil
	}
	for _, dir := range []string{".", mirror.DeltaDir, mirror.MetaDir} {
		if err := r.mirror.Root.SyncDir(dir); err != nil {
			return err
		}
	}
	for _, old := range removed {
		if err := r.forgetOne(old); err != nil {
			return fmt.Errorf("removing %s: %w", old.Path, err)
		}
	}
	return nil
}

func (r *run) forgetOne(old PlannedRemove) error {
	n, err := meta.ParseName(old.name)
	isImage := err == nil
	if !old.forget {
		return r.unplace(old.name, isImage)
	}
	if isImage {
		if err := r.mirror.Root.Remove(mirror.SignaturePath(n)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return r.ledger.Delete(old.name)
}

// unplace records of a file that is gone, and of which something is still known, that
// it is gone.
func (r *run) unplace(name string, isImage bool) error {
	record := r.ledger.Of(name)
	record.Unnamed = 0
	if isImage {
		record.Placed, record.Copy = false, state.Stamp{}
	}
	return r.ledger.Put(name, record)
}

// setUnnamed records since when nothing names a file, 0 for one that is named.
func (r *run) setUnnamed(name string, since int64) error {
	record := r.ledger.Of(name)
	if record.Unnamed == since {
		return nil
	}
	record.Unnamed = since
	return r.ledger.Put(name, record)
}
