package throttle

import (
	"context"
	"errors"
	"testing"
	"time"
)

func TestWait(t *testing.T) {
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	soon, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	for _, c := range []struct {
		name string
		ctx  context.Context
		rate int64
		n    int
		err  error
	}{
		{"no limit", t.Context(), 0, 1 << 30, nil},
		{"below zero", t.Context(), -1, 1 << 30, nil},
		{"within the burst", t.Context(), 1, Burst, nil},
		{"nothing", t.Context(), 1, 0, nil},
		{"many bursts", t.Context(), 1 << 40, 10 * Burst, nil},
		{"too slow", soon, 1, Burst + 1, context.DeadlineExceeded},
		{"cancelled", ended, 1, Burst + 1, context.Canceled},
		{"cancelled without a limit", ended, 0, 1, context.Canceled},
	} {
		if err := New(c.rate).Wait(c.ctx, c.n); !errors.Is(err, c.err) {
			t.Errorf("%s: %v, want %v", c.name, err, c.err)
		}
	}
}

// All that share a limit share the rate.
func TestShared(t *testing.T) {
	l := New(1 << 20)
	start := time.Now()
	for range 4 {
		if err := l.Wait(t.Context(), Burst); err != nil {
			t.Fatal(err)
		}
	}
	// The first burst is free, the others are 192 KiB at 1 MiB/s.
	if took := time.Since(start); took < 150*time.Millisecond {
		t.Errorf("4 bursts took %v", took)
	}
}
