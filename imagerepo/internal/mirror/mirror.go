package mirror

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/lockfile"
	"puavo-image-repository/imagerepo/internal/state"
)

// Mirror is an open mirror.
type Mirror struct {
	Dir   string
	Root  atomicfile.Dir
	State *state.Dir
	lock  *lockfile.Lock
}

// View opens a mirror to look at it; it must not be changed.
func View(dir string) (*Mirror, error) {
	root, err := atomicfile.Open(dir)
	if err != nil {
		return nil, err
	}
	return newMirror(dir, root), nil
}

// Open opens a mirror to change it, and makes it where there is none. It takes
// the lock and removes the temporary files of dead runs. With noSync what is
// written is not flushed to the disk.
func Open(dir string, noSync bool, log *slog.Logger) (*Mirror, error) {
	if err := CheckBuilt(dir); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Join(dir, Private), 0o777); err != nil {
		return nil, fmt.Errorf("creating the mirror: %w", err)
	}
	root, err := atomicfile.Open(dir)
	if err != nil {
		return nil, err
	}
	root.NoSync = noSync
	m := newMirror(dir, root)
	if err := m.prepare(log); err != nil {
		m.Close()
		return nil, err
	}
	// What runs without flushes, or before there was a note of it, have written is
	// flushed by the next that flushes.
	last := m.LastRun()
	m.Root.Reflush = !noSync && !last.Flushed
	if noSync && last.Flushed {
		last.Flushed = false
		if err := m.PutRun(last); err != nil {
			m.Close()
			return nil, err
		}
	}
	return m, nil
}

// ErrPulled is wrapped by the error for a directory that holds the copy of a repository.
var ErrPulled = errors.New("it is a copy that the command pull keeps")

// CheckBuilt refuses a directory that package pull keeps.
func CheckBuilt(dir string) error {
	if _, err := os.Lstat(filepath.Join(dir, Pulled)); err == nil {
		return fmt.Errorf("%s: %w; choose another directory", dir, ErrPulled)
	}
	return nil
}

// OpenWhenFree opens a mirror as Open does. While another process holds the lock it
// waits, for patience at most, and says so once. It returns the error of ctx if that
// ends first.
func OpenWhenFree(ctx context.Context, dir string, noSync bool, patience time.Duration, log *slog.Logger) (*Mirror, error) {
	const pause = 200 * time.Millisecond
	deadline := time.Now().Add(patience)
	for waiting := false; ; waiting = true {
		m, err := Open(dir, noSync, log)
		if !errors.Is(err, lockfile.ErrHeld) || time.Now().After(deadline) {
			return m, err
		}
		if !waiting {
			log.Info("waiting for the lock of the mirror", "at_most", patience.String(), "reason", err)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func newMirror(dir string, root atomicfile.Dir) *Mirror {
	return &Mirror{Dir: dir, Root: root, State: state.New(root, StateDir, tmp)}
}

func (m *Mirror) prepare(log *slog.Logger) (err error) {
	if m.lock, err = lockfile.Acquire(m.Dir, Lock); err != nil {
		return err
	}
	if err := m.Root.RemoveAll(tmp); err != nil {
		return err
	}
	for _, dir := range []string{StateDir, signatures} {
		if info, err := m.Root.Lstat(dir); err == nil && !info.IsDir() {
			log.Warn("not a directory; created again, and its contents are read again", "file", filepath.Join(m.Dir, dir))
			if err := m.Root.Remove(dir); err != nil {
				return err
			}
		}
	}
	for _, dir := range []string{DeltaDir, MetaDir, signatures, StateDir, tmp} {
		if err := m.Root.MkdirAll(dir, 0o777); err != nil {
			return err
		}
	}
	// Or a record could last less than its file.
	return errors.Join(m.Root.SyncDir(Private), m.Root.SyncDir("."))
}

// Close closes the mirror and gives the lock back.
func (m *Mirror) Close() error {
	var err error
	if m.lock != nil {
		err = m.lock.Release()
	}
	return errors.Join(err, m.Root.Close())
}
