package pool

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestEach(t *testing.T) {
	failed := errors.New("failed")
	for _, c := range []struct {
		name   string
		jobs   int
		cancel time.Duration // when the context ends, 0: never
		fail   int           // which item fails, 0: none
		want   error
		most   int64 // calls
	}{
		{"all", 3, 0, 0, nil, 10},
		{"one at a time", 1, 0, 0, nil, 10},
		{"no jobs is one", 0, 0, 0, nil, 10},
		{"one fails", 1, 0, 4, failed, 4},
		// 5 and 6 may return before 4 does, and 7 and 8 begin in their stead.
		{"one of many fails", 3, 0, 4, failed, 8},
		{"cancelled before", 3, 1, 0, context.Canceled, 3},
		{"cancelled", 3, 1500 * time.Millisecond, 0, context.Canceled, 6},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if c.cancel > 0 {
					time.AfterFunc(c.cancel, cancel)
				}
				var calls, running atomic.Int64
				err := Each(ctx, c.jobs, []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, func(ctx context.Context, i int) error {
					calls.Add(1)
					if n := running.Add(1); n > int64(max(c.jobs, 1)) {
						t.Errorf("%d calls at a time", n)
					}
					defer running.Add(-1)
					time.Sleep(time.Second) // does not look at ctx and returns nil
					if i == c.fail {
						return failed
					}
					return nil
				})
				if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
					t.Errorf("error %v, want %v", err, c.want)
				}
				if n := calls.Load(); n > c.most || running.Load() != 0 || err == nil && n != 10 {
					t.Errorf("%d calls, %d still running", n, running.Load())
				}
			})
		})
	}
}

func TestWithin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var used, most, calls atomic.Int64
		work := func(ctx context.Context, n int64) error {
			calls.Add(1)
			if now := used.Add(min(n, 10)); now > most.Load() {
				most.Store(now)
			}
			defer used.Add(-min(n, 10))
			time.Sleep(time.Second)
			return nil
		}
		need := func(n int64) int64 { return n }
		items := []int64{5, 5, 5, 3, 2, 99, 1, 1, 1, 1}
		if err := Within(ctx, 4, 10, items, need, work); err != nil || calls.Load() != 10 || most.Load() != 10 {
			t.Errorf("%v, %d calls, %d used at most", err, calls.Load(), most.Load())
		}
		time.AfterFunc(1500*time.Millisecond, cancel)
		if err := Within(ctx, 4, 10, items, need, work); err != context.Canceled || used.Load() != 0 || calls.Load() == 20 {
			t.Errorf("cancelled: %v, %d calls", err, calls.Load())
		}
	})
}

// Calls that share an amount wait for it.
func TestShared(t *testing.T) {
	for name, c := range map[string]struct {
		first, second int64 // of 100
		cancelled     bool
		want          time.Duration
	}{
		"both fit":            {60, 40, false, time.Minute},
		"one after the other": {60, 41, false, 2 * time.Minute},
		"more than there is":  {300, 1, false, 2 * time.Minute},
		"cancelled":           {60, 41, true, time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := NewShared(100)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				begun := time.Now()
				for i, n := range []int64{c.first, c.second} {
					go func() {
						err := s.With(ctx, n, func() error { time.Sleep(time.Minute); return nil })
						if waits := i == 1 && c.cancelled; waits != errors.Is(err, context.Canceled) || !waits && err != nil {
							t.Errorf("%d: %v", n, err)
						}
					}()
					synctest.Wait()
				}
				if c.cancelled {
					cancel()
				}
				if err := s.With(context.Background(), 100, func() error { return nil }); err != nil {
					t.Error(err)
				}
				if took := time.Since(begun); took != c.want {
					t.Errorf("%v, want %v", took, c.want)
				}
			})
		})
	}
}
