package imagerepo

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"time"

	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/compacts"
	"puavo-image-repository/imagerepo/internal/ledger"
	"puavo-image-repository/imagerepo/internal/meter"
	"puavo-image-repository/imagerepo/internal/mirror"
	"puavo-image-repository/imagerepo/internal/planner"
	"puavo-image-repository/imagerepo/internal/signature"
	"puavo-image-repository/imagerepo/internal/state"
	"puavo-image-repository/imagerepo/plan"
	"puavo-image-repository/meta"
)

// sign signs images that left, before anything of theirs is removed. It returns the plan
// without those that could not be signed: the deltas from them are left out, and with
// their files their records go, so that the next run plans as if they had never been there.
func (r *run) sign(ctx context.Context, signer *signature.Signer, progress *meter.Meter) (plan.Plan, error) {
	unsigned, err := signer.Sign(ctx, r.plan.Images)
	if err != nil {
		return plan.Plan{}, err
	}
	isUnsigned := func(n meta.Name) bool { return slices.Contains(unsigned, n) }
	r.results.changed = slices.ContainsFunc(r.plan.Images, func(im plan.Image) bool { return im.Sign && !isUnsigned(im.Name) })
	p := r.plan
	p.Deltas = nil
	for _, d := range r.plan.Deltas {
		if !isUnsigned(d.Base) {
			p.Deltas = append(p.Deltas, d)
		} else if r.failed.wantsDelta(d) {
			progress.Expect(-planner.DeltaWork(d))
			r.results.delta(d, plan.Omit, r.ledger.Of(d.File))
		}
	}
	p.Remove = slices.Clone(p.Remove)
	for i, old := range p.Remove {
		n, err := meta.ParseName(old.Name())
		p.Remove[i].Forget = old.Forget || err == nil && isUnsigned(n)
	}
	return p, nil
}

// remover removes orphans that are due, and records since when the others are orphans.
type remover struct {
	root       atomicfile.Dir
	ledger     *ledger.Ledger
	failed     *failures
	results    *results
	removeFile func(path string) error // of the mirror
	grace      time.Duration
}

// orphans returns, by name, what the plan removes, and the files of deltas that were
// dropped since. What belongs to a series that failed stays.
func (r *remover) orphans(p plan.Plan, failed planner.Files) map[string]plan.Removal {
	orphans := make(map[string]plan.Removal)
	for _, old := range p.Remove {
		if !failed.Has(old.Name()) {
			orphans[old.Name()] = old
		}
	}
	for _, d := range p.Deltas {
		_, planned := orphans[d.File]
		if planned || !r.ledger.Of(d.File).Dropped || !r.failed.wantsDelta(d) || failed.Has(d.File) {
			continue
		}
		r.addOrphan(orphans, plan.Removal{Path: meta.DeltaPath(d.File)})
		if name := mirror.TorrentOf(d.File); r.ledger.Has(name) {
			r.addOrphan(orphans, plan.Removal{Path: mirror.PathOf(name), Forget: true})
		}
	}
	return orphans
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

// addCompact adds compact deltas, and their torrents. Those that are wrong do not wait.
func (r *remover) addCompact(orphans map[string]plan.Removal, files []string, wrong func(file string) bool) {
	for _, file := range files {
		for _, name := range []string{file, mirror.TorrentOf(file)} {
			if !r.ledger.Has(name) && name != file {
				continue
			}
			r.addOrphan(orphans, plan.Removal{Path: mirror.PathOf(name), Forget: true})
			if old, is := orphans[name]; is && wrong(file) {
				old.Due = time.Time{}
				orphans[name] = old
			}
		}
	}
}

// addOrphan adds a file that became an orphan since the plan was made. Where it cannot be
// looked at, the next run plans to remove it.
func (r *remover) addOrphan(orphans map[string]plan.Removal, old plan.Removal) {
	if _, err := r.root.Lstat(old.Path); err != nil {
		return
	}
	if r.grace > 0 {
		old.Due = time.Now().Add(r.grace)
	}
	orphans[old.Name()] = old
}

// remove removes orphans that are due and their records, and records that all else is
// no orphan, but for the files of series that failed.
func (r *remover) remove(ctx context.Context, orphans map[string]plan.Removal, failed planner.Files) error {
	for _, name := range r.ledger.Names() {
		if _, orphan := orphans[name]; !orphan && !failed.Has(name) {
			if err := r.ledger.SetOrphaned(name, 0); err != nil {
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
func (r *remover) removeAll(ctx context.Context, orphans map[string]plan.Removal) error {
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
func (r *remover) wait(old plan.Removal) error {
	now := time.Now().Unix()
	if since := r.ledger.Of(old.Name()).Orphaned; since != 0 && since <= now { // a clock may have gone back
		return nil
	}
	return r.ledger.SetOrphaned(old.Name(), now)
}

// removeOrphan removes a file of the mirror that may be gone already.
func (r *remover) removeOrphan(old plan.Removal) error {
	err := r.removeFile(old.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	r.results.removed(old.Path)
	return nil
}

// forget forgets what was removed, once the disk has forgotten it: a record that went
// before its file would leave one that nobody owns.
func (r *remover) forget(removed []plan.Removal) error {
	if len(removed) == 0 {
		return nil
	}
	if err := mirror.SyncFolders(r.root); err != nil {
		return err
	}
	for _, old := range removed {
		if err := r.forgetOne(old); err != nil {
			return fmt.Errorf("removing %s: %w", old.Path, err)
		}
	}
	return nil
}

func (r *remover) forgetOne(old plan.Removal) error {
	n, err := meta.ParseOldName(old.Name())
	isImage := err == nil
	if !old.Forget {
		return r.unplace(old.Name(), isImage)
	}
	if isImage {
		if err := r.root.Remove(mirror.SignaturePath(n)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return r.ledger.Delete(old.Name())
}

// unplace records that a file is gone of which something is still known.
func (r *remover) unplace(name string, isImage bool) error {
	record := r.ledger.Of(name)
	record.Orphaned = 0
	if isImage {
		record.Placed, record.Copy = false, state.Stamp{}
	}
	return r.ledger.Put(name, record)
}
