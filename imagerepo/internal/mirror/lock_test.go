package mirror

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"puavo-image-repository/imagerepo/internal/lockfile"
)

// Who can wait for the lock gets it when its holder ends, gives up in the end, saying
// who has it, and is cancelled while waiting.
func TestOpenWhenFree(t *testing.T) {
	for _, c := range []struct {
		name     string
		patience time.Duration
		release  time.Duration // after which the holder ends, 0 for never
		cancel   time.Duration // after which ctx ends, likewise
		err      error
		waits    bool
	}{
		{"free", time.Minute, -1, 0, nil, false},
		{"it becomes free", time.Minute, 400 * time.Millisecond, 0, nil, true},
		{"it stays held", 300 * time.Millisecond, 0, 0, lockfile.ErrHeld, true},
		{"no patience", 0, 0, 0, lockfile.ErrHeld, false},
		{"cancelled", time.Minute, 0, 400 * time.Millisecond, context.Canceled, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "mirror")
			holder, err := Open(dir, true, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			switch {
			case c.release < 0:
				holder.Close()
			case c.release > 0:
				time.AfterFunc(c.release, func() { holder.Close() })
			default:
				defer holder.Close()
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if c.cancel > 0 {
				time.AfterFunc(c.cancel, cancel)
			}
			var log strings.Builder
			m, err := OpenWhenFree(ctx, dir, true, c.patience, slog.New(slog.NewTextHandler(&log, nil)))
			if !errors.Is(err, c.err) || (m != nil) != (c.err == nil) {
				t.Fatalf("%v, %v", m, err)
			}
			if got := strings.Count(log.String(), "waiting for the lock"); got != map[bool]int{true: 1}[c.waits] {
				t.Errorf("it says %q", log.String())
			}
			if c.err == lockfile.ErrHeld && !strings.Contains(err.Error(), "by process ") {
				t.Errorf("it does not say who holds it: %v", err)
			}
			if m != nil {
				m.Close()
			}
		})
	}
}

// Whatever only looks takes no lock: a view opens while a run holds it, and a run
// begins while a view is open.
func TestViewTakesNoLock(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "mirror")
	quiet := slog.New(slog.DiscardHandler)
	m, err := Open(dir, true, quiet)
	if err != nil {
		t.Fatal(err)
	}
	view, err := View(dir)
	if err != nil {
		t.Fatalf("a view of a locked mirror: %v", err)
	}
	m.Close()
	if m, err = Open(dir, true, quiet); err != nil {
		t.Fatalf("a run while a view is open: %v", err)
	}
	view.Close()
	m.Close()
}
