package publish

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"puavo-image-repository/imagerepo/internal/lease"
	"puavo-image-repository/imagerepo/internal/mirror"
)

func TestDefaults(t *testing.T) {
	for _, c := range []struct {
		o      Options
		verify Verify
		jobs   int
	}{
		{Options{}, BySize, 1}, {Options{Verify: ByName, Jobs: 3}, ByName, 3}, {Options{Verify: ByReading, Jobs: -1}, ByReading, 1},
	} {
		if got := c.o.withDefaults(); got.Verify != c.verify || got.Jobs != c.jobs || got.Log == nil {
			t.Errorf("%+v", got)
		}
	}
}

// An error that is due to the end of the context becomes the reason for that end; others stay.
func TestCause(t *testing.T) {
	lost, other := errors.New("lost"), errors.New("other")
	ended, end := context.WithCancelCause(t.Context())
	end(lost)
	for _, c := range []struct {
		ctx       context.Context
		err, want error
	}{
		{t.Context(), nil, nil}, {t.Context(), other, other}, {t.Context(), context.Canceled, context.Canceled},
		{ended, nil, nil}, {ended, other, other}, {ended, context.Canceled, lost}, {ended, fmt.Errorf("sending: %w", context.Canceled), lost},
	} {
		if got := cause(c.ctx, c.err); got != c.want {
			t.Errorf("%v, %v: %v, want %v", context.Cause(c.ctx), c.err, got, c.want)
		}
	}
}

// calls is a writer that calls do for each write that contains a text.
type calls struct {
	text string
	do   func()
}

func (c calls) Write(p []byte) (int, error) {
	if strings.Contains(string(p), c.text) {
		c.do()
	}
	return len(p), nil
}

func logTo(w io.Writer) *slog.Logger { return slog.New(slog.NewTextHandler(w, nil)) }

// While a build holds the lock of the mirror, a run waits, and can be cancelled.
func TestWaitsForBuild(t *testing.T) {
	for _, cancelled := range []bool{false, true} {
		p := newPlace(t, image1, image2)
		p.build()
		m, err := mirror.Open(p.Mirror, true, slog.New(slog.DiscardHandler))
		p.Must(err)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		o := p.options()
		waited := false
		o.Log = logTo(calls{"waiting for the lock of the mirror", func() {
			if waited = true; p.Has("index.json") {
				t.Error("it does not wait")
			}
			if cancelled {
				cancel()
			} else {
				m.Close()
			}
		}})
		_, _, err = Run(ctx, o)
		if !waited || cancelled != errors.Is(err, context.Canceled) || !cancelled && err != nil {
			t.Errorf("cancelled: %v: waited: %v, %v", cancelled, waited, err)
		}
		if cancelled {
			m.Close()
		}
	}
}

// A run that loses its lock in mid-phase ends there, and says who took it.
func TestLosesLockMeanwhile(t *testing.T) {
	p := newPlace(t, image1, image2, image3)
	p.build()
	o := p.options()
	o.lease = lease.Times{Renew: time.Millisecond, Stale: time.Hour}
	o.Jobs = 1
	sent := 0
	o.Sent = func(string, int64) {
		if sent++; sent == 2 {
			// Until it is noticed. A renewal may be replacing the file at the same moment.
			for range 20 {
				p.Write("lease", `{"holder": "host x, process 1", "id": "x"}`)
				p.Must(os.Rename(filepath.Join(p.Dir, "lease"), filepath.Join(p.Dest, ".publishing.json")))
				time.Sleep(50 * time.Millisecond)
			}
		}
	}
	if _, _, err := Run(t.Context(), o); !errors.Is(err, lease.ErrLost) || !strings.Contains(err.Error(), "host x, process 1") || errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if sent != 2 || !p.Has(".publishing.json") {
		t.Errorf("%d files were sent; the other's lock is there: %v", sent, p.Has(".publishing.json"))
	}
}
