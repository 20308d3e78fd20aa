package archive

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"time"

	"puavo-image-repository/imagerepo/archive/internal/attached"
	"puavo-image-repository/imagerepo/archive/internal/catalog"
	"puavo-image-repository/imagerepo/archive/internal/group"
	"puavo-image-repository/imagerepo/archive/internal/guest"
	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/lockfile"
)

// lockGuest takes the lock of a guest, whose directory it makes, and opens that. It ends what
// runs that died have begun.
func (s *Store) lockGuest(ctx context.Context, name string) (dir atomicfile.Dir, unlock func(), err error) {
	release, err := s.waitLock(ctx) // which makes the archive
	if err != nil {
		return dir, nil, err
	}
	defer release()
	if err := errors.Join(s.dir.MkdirAll(name, 0o777), s.dir.SyncDir(".")); err != nil {
		return dir, nil, err
	}
	l, err := lockfile.Acquire(filepath.Join(s.path, name), guestLock)
	if err != nil {
		return dir, nil, err
	}
	if dir, err = s.dir.Sub(name); err == nil {
		if err = s.settleGuest(ctx, dir, name); err != nil {
			dir.Close()
		}
	}
	if err != nil {
		l.Release()
		return dir, nil, err
	}
	return dir, func() { l.Release() }, nil
}

// guestLock is the name of the lock of a guest.
const guestLock = ".lock"

// settleGuest ends what backups of a guest that died have begun. The archive is locked.
func (s *Store) settleGuest(ctx context.Context, dir atomicfile.Dir, name string) error {
	if err := s.finish(ctx, dir, name); err != nil && (ctx.Err() != nil || guest.IsDecided(dir)) {
		return err
	}
	newest, err := s.cleanDisks(name)
	if err != nil {
		return err
	}
	return errors.Join(attached.Settle(dir, newest), guest.Clean(dir))
}

// cleanDisks removes what is of no version from the disks of a guest, and returns the newest
// version that one of them has.
func (s *Store) cleanDisks(name string) (newest string, err error) {
	entries, err := fs.ReadDir(s.dir.FS(), name)
	for _, e := range entries {
		if !e.IsDir() || catalog.CheckDisk(e.Name()) != nil {
			continue
		}
		disk := name + "/" + e.Name()
		dir, err := s.dir.Sub(disk)
		if err != nil {
			return "", err
		}
		err = guest.Clean(dir)
		dir.Close()
		if err != nil {
			return "", err
		}
		if !s.isGroup(disk) {
			continue
		}
		g, err := s.open(disk)
		if err != nil {
			return "", err // which versions it has is not known
		}
		newest = max(newest, g.C.Newest().Version)
		g.Close()
	}
	return newest, err
}

// waitLock takes the lock of the archive, and waits until another has released it.
func (s *Store) waitLock(ctx context.Context) (unlock func(), err error) {
	const pause = time.Second
	for said := false; ; said = true {
		unlock, err = s.lock(ctx)
		if !errors.Is(err, ErrLocked) {
			return unlock, err
		}
		if !said {
			s.o.Log.Info("waiting for another run", "reason", err)
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(pause):
		}
	}
}

// clean removes what a run that failed has made.
func (b *backup) clean() (err error) {
	for _, d := range b.plan.Disks {
		if dir, subErr := b.s.dir.Sub(d.Group); subErr == nil {
			err = errors.Join(err, guest.Clean(dir))
			dir.Close()
			if entries, readErr := fs.ReadDir(b.s.dir.FS(), d.Group); readErr == nil && len(entries) == 0 {
				err = errors.Join(err, b.s.dir.Remove(d.Group))
			}
		}
	}
	return err
}

// isGuest reports whether the archive has a guest of this name.
func (s *Store) isGuest(name string) bool {
	if s.dir.IsZero() {
		return false
	}
	_, err := s.dir.Lstat(name + "/" + guestLock)
	return err == nil
}

// eachGuest calls do with the names of the guests, until one fails.
func (s *Store) eachGuest(do func(name string) error) error {
	entries, err := fs.ReadDir(s.dir.FS(), ".")
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() && s.isGuest(e.Name()) {
			if err := do(e.Name()); err != nil {
				return err
			}
		}
	}
	return nil
}

// collectGuests removes what is attached to versions that are gone, and logs of failed backups
// that are old. The archive is locked. A guest that is backed up meanwhile is left out.
func (s *Store) collectGuests(ctx context.Context) error {
	return s.eachGuest(func(name string) error {
		if err := s.collectGuest(ctx, name); !errors.Is(err, ErrLocked) {
			return err
		}
		return nil
	})
}

// collectGuest does so for one guest.
func (s *Store) collectGuest(ctx context.Context, name string) error {
	l, err := lockfile.Acquire(filepath.Join(s.path, name), guestLock)
	if err != nil {
		return err
	}
	defer l.Release()
	dir, err := s.dir.Sub(name)
	if err != nil {
		return err
	}
	defer dir.Close()
	if guest.IsDecided(dir) {
		return nil // who took the lock has said why
	}
	if err := s.settleGuest(ctx, dir, name); err != nil {
		return err
	}
	has := make(map[string]bool)
	for _, group := range s.disksOf(name) {
		g, err := s.open(group)
		if err != nil {
			return err // what a damaged catalog has is not known
		}
		g.Close()
		for _, v := range g.All() {
			has[v] = true
		}
	}
	return attached.Collect(dir, func(version string) bool { return has[version] }, s.o.Now())
}

// disksOf returns the groups of the disks of a guest.
func (s *Store) disksOf(name string) (groups []string) {
	all, _ := s.names()
	for _, group := range all {
		if filepath.Dir(group) == name {
			groups = append(groups, group)
		}
	}
	return groups
}

// finishGuests completes the backups that were decided on, of all guests. The archive is
// locked. One that cannot be completed now stays for the next call.
func (s *Store) finishGuests(ctx context.Context) error {
	return s.eachGuest(func(name string) error {
		dir, err := s.dir.Sub(name)
		if err != nil {
			return err
		}
		defer dir.Close()
		err = s.finish(ctx, dir, name)
		if err != nil && ctx.Err() == nil {
			s.o.Log.Warn("a backup that was interrupted cannot be completed", "guest", name, "reason", err)
			return nil
		}
		return err
	})
}

// finish gives the disks of a guest the versions that were decided on, all or none. The archive
// is locked. After an error it is still decided if a disk has its version, and the others can
// get theirs.
func (s *Store) finish(ctx context.Context, dir atomicfile.Dir, name string) error {
	disks, err := guest.Decided(dir, name)
	if err != nil || len(disks) == 0 {
		return err
	}
	gone, err := s.nameAll(ctx, disks)
	if err != nil && (slices.ContainsFunc(disks, s.has) || errors.Is(err, ErrDamaged)) {
		return err
	}
	return errors.Join(err, gone, guest.Settled(dir))
}

// nameAll names the versions of disks in their catalogs. Once a disk has its version, it goes on
// whatever becomes of ctx, and past those that cannot get theirs any more, for the reasons gone.
func (s *Store) nameAll(ctx context.Context, disks []guest.Waiting) (gone, err error) {
	named, always := slices.ContainsFunc(disks, s.has), context.WithoutCancel(ctx)
	for _, w := range disks {
		until := ctx
		if named {
			until = always
		}
		err := s.name(until, w)
		if err != nil {
			err = fmt.Errorf("%s: %w", w.Group, err)
		}
		switch {
		case err == nil:
			named = true
		case named && errors.Is(err, errGone):
			gone = errors.Join(gone, err)
		default:
			return gone, err
		}
	}
	return gone, nil
}

// errGone is wrapped by the error for a version that its disk cannot get any more.
var errGone = errors.New("this disk will not have the version")

// has reports whether the catalog of a disk has the version.
func (s *Store) has(w guest.Waiting) bool {
	if !s.isGroup(w.Group) {
		return false
	}
	g, err := s.open(w.Group)
	if err != nil {
		return false
	}
	defer g.Close()
	_, ok := g.C.Find(w.Version.Version)
	return ok
}

// name names the version of a disk in its catalog, unless it has it. The archive is locked.
func (s *Store) name(ctx context.Context, w guest.Waiting) error {
	if s.has(w) {
		return nil
	}
	dir, err := s.dir.Sub(w.Group)
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := guest.Withdraw(dir, w); err != nil { // of a run that died
		return err
	}
	err = s.commit(ctx, w)
	if err != nil && !s.has(w) {
		err = errors.Join(err, guest.Withdraw(dir, w))
	}
	return err
}

// commit names the version of a disk in its catalog.
func (s *Store) commit(ctx context.Context, w guest.Waiting) error {
	g, err := s.create(ctx, w.Group)
	if err != nil {
		return err
	}
	defer g.Close()
	newest := ""
	if len(g.C.Versions) > 0 {
		newest = g.C.Newest().Version
	}
	if newest != w.Parent {
		return fmt.Errorf("%w: the newest version is %s, and was %s when the backup began", errGone, cmp.Or(newest, "none"), cmp.Or(w.Parent, "none"))
	}
	if err := guest.Present(g.Dir, w); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w", errGone, err)
	} else if err != nil {
		return err
	}
	next := g.C.Clone()
	next.Versions = append(next.Versions, w.Version)
	if err := s.arrangeBackup(ctx, g, next, w); err != nil {
		return err
	}
	if err := g.Commit(ctx, next); err != nil {
		return err
	}
	s.o.Log.Info("backed up", "group", w.Group, "version", w.Version.Version, "size", w.Version.Size)
	return guest.Forget(g.Dir, w.Version.Version)
}

// arrangeBackup lets the version before be the delta that was made, and makes other deltas that
// are needed.
func (s *Store) arrangeBackup(ctx context.Context, g *group.Group, next *catalog.Catalog, w guest.Waiting) error {
	before := len(next.Versions) - 2
	var others []change
	for _, c := range arrangement(g.C, next.Versions, before, s.o.MaxChain) {
		switch v := &next.Versions[c.at]; {
		case c != change{before, false}:
			others = append(others, c)
		case w.Lost || float64(w.Delta.Size) > maxRatio*float64(v.Size): // it stays
		case w.Delta.Size > 0:
			v.Stored = w.Delta
		default:
			others = append(others, c)
		}
	}
	fresh := map[string]catalog.Version{w.Version.Version: w.Version}
	return (&arranger{s, g, next.Versions, fresh, s.meter(0), nil}).work(ctx, others)
}
