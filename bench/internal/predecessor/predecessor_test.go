package predecessor

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// Jobs are begun in their order, some at a time, and none after one has failed.
func TestAtMost(t *testing.T) {
	failed := errors.New("failed")
	for _, c := range []struct {
		name   string
		n      int
		fail   int           // which job fails, 0: none
		cancel time.Duration // when the context ends, 0: never
		want   error
		begun  int
	}{
		{"all", 2, 0, 0, nil, 8},
		{"one at a time", 1, 0, 0, nil, 8},
		{"one fails", 1, 3, 0, failed, 3},
		{"cancelled", 2, 0, 1500 * time.Millisecond, context.Canceled, 4},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if c.cancel > 0 {
					time.AfterFunc(c.cancel, cancel)
				}
				var running, begun atomic.Int64
				var jobs []job
				for i := range 8 {
					jobs = append(jobs, func(context.Context) error {
						begun.Add(1)
						if n := running.Add(1); n > int64(c.n) {
							t.Errorf("%d at a time", n)
						}
						defer running.Add(-1)
						time.Sleep(time.Second)
						if i+1 == c.fail {
							return failed
						}
						return nil
					})
				}
				if err := atMost(ctx, c.n, jobs); !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
					t.Errorf("error %v, want %v", err, c.want)
				}
				if n := begun.Load(); n != int64(c.begun) || running.Load() != 0 {
					t.Errorf("%d jobs begun, want %d; %d running", n, c.begun, running.Load())
				}
			})
		})
	}
}
