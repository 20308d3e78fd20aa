// Package orphans removes the files of a mirror that its documents no longer name: each when its
// grace is over, torrents before the files that they are of, and the record of a file after it.
package orphans

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"time"

	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/ledger"
	"puavo-image-repository/imagerepo/internal/mirror"
	"puavo-image-repository/imagerepo/internal/planner"
	"puavo-image-repository/imagerepo/internal/state"
	"puavo-image-repository/imagerepo/plan"
	"puavo-image-repository/meta"
)

// Remover removes orphans that are due, and records since when the others are orphans.
type Remover struct {
	Root   atomicfile.Dir
	Ledger *ledger.Ledger
	// Wants reports whether the series of a delta are built.
	Wants func(plan.Delta) bool
	// RemoveFile removes a file of the mirror, and Removed is called when that was done.
	RemoveFile func(path string) error
	Removed    func(path string)
	Grace      time.Duration // that an orphan stays
}

// Of returns, by name, what the plan removes, and the files of deltas that were
// dropped since. What belongs to a series that failed stays.
func (r *Remover) Of(p plan.Plan, failed planner.Files) map[string]plan.Removal {
	orphans := make(map[string]plan.Removal)
	for _, old := range p.Remove {
		if !failed.Has(old.Name()) {
			orphans[old.Name()] = old
		}
	}
	for _, d := range p.Deltas {
		_, planned := orphans[d.File]
		if planned || !r.Ledger.Of(d.File).Dropped || !r.Wants(d) || failed.Has(d.File) {
			continue
		}
		r.add(orphans, plan.Removal{Path: meta.DeltaPath(d.File)})
		if name := mirror.TorrentOf(d.File); r.Ledger.Has(name) {
			r.add(orphans, plan.Removal{Path: mirror.PathOf(name), Forget: true})
		}
	}
	return orphans
}

// AddCompact adds compact deltas, and their torrents. Those that are wrong do not wait.
func (r *Remover) AddCompact(orphans map[string]plan.Removal, files []string, wrong func(file string) bool) {
	for _, file := range files {
		for _, name := range []string{file, mirror.TorrentOf(file)} {
			if !r.Ledger.Has(name) && name != file {
				continue
			}
			r.add(orphans, plan.Removal{Path: mirror.PathOf(name), Forget: true})
			if old, is := orphans[name]; is && wrong(file) {
				old.Due = time.Time{}
				orphans[name] = old
			}
		}
	}
}

// add adds a file that became an orphan since the plan was made. Where it cannot be
// looked at, the next run plans to remove it.
func (r *Remover) add(orphans map[string]plan.Removal, old plan.Removal) {
	if _, err := r.Root.Lstat(old.Path); err != nil {
		return
	}
	if r.Grace > 0 {
		old.Due = time.Now().Add(r.Grace)
	}
	orphans[old.Name()] = old
}

// Remove removes orphans that are due and their records, and records that all else is
// no orphan, but for the files of series that failed.
func (r *Remover) Remove(ctx context.Context, orphans map[string]plan.Removal, failed planner.Files) error {
	for _, name := range r.Ledger.Names() {
		if _, orphan := orphans[name]; !orphan && !failed.Has(name) {
			if err := r.Ledger.SetOrphaned(name, 0); err != nil {
				return err
			}
		}
	}
	// Torrents go before their files.
	torrents, files := make(map[string]plan.Removal), make(map[string]plan.Removal)
	for name, old := range orphans {
		if _, isTorrent := mirror.FileOf(name); isTorrent {
			torrents[name] = old
		} else {
			files[name] = old
		}
	}
	if err := r.removeAll(ctx, torrents); err != nil {
		return err
	}
	return r.removeAll(ctx, files)
}

// removeAll removes those orphans that are due, and their records.
func (r *Remover) removeAll(ctx context.Context, orphans map[string]plan.Removal) error {
	var removed []plan.Removal
	for _, name := range slices.Sorted(maps.Keys(orphans)) {
		old := orphans[name]
		err := ctx.Err()
		if err == nil && !old.Due.IsZero() {
			err = r.wait(old)
		} else if err == nil {
			removed = append(removed, old)
			err = r.removeOrphan(old)
		}
		if err != nil {
			return fmt.Errorf("removing %s: %w", old.Path, err)
		}
	}
	return r.forget(removed)
}

// wait records since when a file is an orphan, unless that is recorded.
func (r *Remover) wait(old plan.Removal) error {
	now := time.Now().Unix()
	if since := r.Ledger.Of(old.Name()).Orphaned; since != 0 && since <= now { // a clock may have gone back
		return nil
	}
	return r.Ledger.SetOrphaned(old.Name(), now)
}

// removeOrphan removes a file of the mirror that may be gone already.
func (r *Remover) removeOrphan(old plan.Removal) error {
	err := r.RemoveFile(old.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	r.Removed(old.Path)
	return nil
}

// forget forgets what was removed, once the disk has forgotten it: a record that went
// before its file would leave one that nobody owns.
func (r *Remover) forget(removed []plan.Removal) error {
	if len(removed) == 0 {
		return nil
	}
	if err := mirror.SyncFolders(r.Root); err != nil {
		return err
	}
	for _, old := range removed {
		if err := r.forgetOne(old); err != nil {
			return fmt.Errorf("removing %s: %w", old.Path, err)
		}
	}
	return nil
}

func (r *Remover) forgetOne(old plan.Removal) error {
	n, err := meta.ParseOldName(old.Name())
	isImage := err == nil
	if !old.Forget {
		return r.unplace(old.Name(), isImage)
	}
	if isImage {
		if err := r.Root.Remove(mirror.SignaturePath(n)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return r.Ledger.Delete(old.Name())
}

// unplace records that a file is gone of which something is still known.
func (r *Remover) unplace(name string, isImage bool) error {
	record := r.Ledger.Of(name)
	record.Orphaned = 0
	if isImage {
		record.Placed, record.Copy = false, state.Stamp{}
	}
	return r.Ledger.Put(name, record)
}
