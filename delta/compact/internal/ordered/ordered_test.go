package ordered

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func TestEach(t *testing.T) {
	failed := errors.New("failed")
	for _, c := range []struct {
		name                string
		workers, n          int
		failDo, failEmit    int // -1: never
		cancel              time.Duration
		want                error
		least, most, atOnce int // results that are emitted, and calls of do at the same time
	}{
		{"nothing", 3, 0, -1, -1, 0, nil, 0, 0, 0},
		{"one worker", 1, 10, -1, -1, 0, nil, 10, 10, 1},
		{"some workers", 3, 10, -1, -1, 0, nil, 10, 10, 3},
		{"more workers than jobs", 30, 10, -1, -1, 0, nil, 10, 10, 10},
		{"do fails", 3, 100, 20, -1, 0, failed, 0, 20, 3},
		{"emit fails", 3, 100, -1, 20, 0, failed, 20, 20, 3},
		{"cancelled before", 3, 100, -1, -1, 1, context.Canceled, 0, 3, 3},
		{"cancelled", 3, 100, -1, -1, 10500 * time.Millisecond, context.Canceled, 10, 50, 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if c.cancel > 0 {
					time.AfterFunc(c.cancel, cancel)
				}
				running, most, ahead := 0, 0, 0
				lock := make(chan struct{}, 1)
				var emitted []int
				newDo := func() func(int) (int, error) {
					return func(i int) (int, error) {
						lock <- struct{}{}
						running++
						most = max(most, running)
						ahead = max(ahead, i-len(emitted))
						<-lock
						time.Sleep(time.Second + time.Duration(i%3)*time.Second/2)
						lock <- struct{}{}
						running--
						<-lock
						if i == c.failDo {
							return 0, failed
						}
						return i, nil
					}
				}
				err := Each(ctx, c.workers, c.n, newDo, func(i, result int) error {
					if i == c.failEmit {
						return failed
					}
					lock <- struct{}{}
					emitted = append(emitted, result)
					<-lock
					return nil
				})
				if !errors.Is(err, c.want) || (c.want == nil) != (err == nil) {
					t.Errorf("%v, want %v", err, c.want)
				}
				if n := len(emitted); n < c.least || n > c.most || !slices.IsSorted(emitted) || n > 0 && emitted[n-1] != n-1 {
					t.Errorf("emitted %v, want %d to %d", emitted, c.least, c.most)
				}
				if most > c.atOnce || ahead > 4*c.workers {
					t.Errorf("%d at the same time, want %d; %d ahead", most, c.atOnce, ahead)
				}
			})
		})
	}
}
