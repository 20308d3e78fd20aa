package compactdelta

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sync/semaphore"
)

// What is made and applied at the same time has the memory for it, or waits.
func TestWithin(t *testing.T) {
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
				f := &farmed{memory: semaphore.NewWeighted(100), most: 100}
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				begun := time.Now()
				for i, memory := range []int64{c.first, c.second} {
					go func() {
						err := f.within(ctx, memory, func() error { time.Sleep(time.Minute); return nil })
						if waits := i == 1 && c.cancelled; waits != errors.Is(err, context.Canceled) || !waits && err != nil {
							t.Errorf("%d: %v", memory, err)
						}
					}()
					synctest.Wait()
				}
				if c.cancelled {
					cancel()
				}
				if err := f.memory.Acquire(context.Background(), 100); err != nil {
					t.Error(err)
				}
				if took := time.Since(begun); took != c.want {
					t.Errorf("%v, want %v", took, c.want)
				}
			})
		})
	}
}
