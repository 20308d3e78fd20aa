package archive

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"time"

	"puavo-image-repository/imagerepo/archive/internal/attached"
	"puavo-image-repository/imagerepo/archive/internal/catalog"
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
		if err = s.settleGuest(dir, name); err != nil {
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

// settleGuest ends what backups of a guest that died have begun.
func (s *Store) settleGuest(dir atomicfile.Dir, name string) error {
	newest, err := s.eachDisk(name, func(dir atomicfile.Dir) error { return guest.Clean(dir) })
	if err != nil {
		return err
	}
	return attached.Settle(dir, newest)
}

// eachDisk calls do with the directories of the disks of a guest, and returns the newest
// version that one of them has.
func (s *Store) eachDisk(name string, do func(dir atomicfile.Dir) error) (newest string, err error) {
	entries, err := fs.ReadDir(s.dir.FS(), name)
	for _, e := range entries {
		if !e.IsDir() || catalog.CheckDisk(e.Name()) != nil {
			continue
		}
		group := name + "/" + e.Name()
		dir, err := s.dir.Sub(group)
		if err != nil {
			return "", err
		}
		err = do(dir)
		if c, _, loadErr := catalog.Load(dir, group); loadErr == nil {
			newest = max(newest, c.Newest().Version)
		}
		dir.Close()
		if err != nil {
			return "", err
		}
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

// collectGuests removes what is attached to versions that are gone, and logs of failed backups
// that are old. The archive is locked. A guest that is backed up meanwhile is left out.
func (s *Store) collectGuests(ctx context.Context) error {
	entries, err := fs.ReadDir(s.dir.FS(), ".")
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		if s.isGuest(e.Name()) {
			if err := s.collectGuest(e.Name()); err != nil && !errors.Is(err, ErrLocked) {
				return err
			}
		}
	}
	return nil
}

// collectGuest does so for one guest.
func (s *Store) collectGuest(name string) error {
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
	if err := s.settleGuest(dir, name); err != nil {
		return err
	}
	has := make(map[string]bool)
	for _, group := range s.disksOf(name) {
		g, err := s.open(group)
		if err != nil {
			return err // what a damaged catalog has is not known
		}
		g.close()
		for _, v := range g.sample(0) {
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
