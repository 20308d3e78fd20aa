package base

import (
	"context"
	"math"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// None is ever more than a window ahead of the slowest that has not left, and all come
// to their ends: whoever is slow, leaves early, or does not begin for long.
func TestPace(t *testing.T) {
	const window, step, size = 10, 4, 100
	type walker struct {
		begin, each time.Duration
		end         int64 // where it leaves
	}
	for _, c := range []struct {
		name    string
		walkers []walker
		took    time.Duration
	}{
		{"alone", []walker{{0, 1, size}}, 25},
		{"as fast", []walker{{0, 1, size}, {0, 1, size}}, 25},
		{"one is slow", []walker{{0, 1, size}, {0, 10, size}, {0, 2, size}}, 250},
		{"the slow one fails", []walker{{0, 1, size}, {0, 100, 4}}, 122},
		{"one that leaves at once", []walker{{0, 1, size}, {0, 0, 0}}, 25},
		{"one begins late", []walker{{0, 1, size}, {1000, 1, size}}, 1025},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPace(len(c.walkers), window)
				at := make([]atomic.Int64, len(c.walkers)) // math.MaxInt64 if it has left
				start := time.Now()
				var group sync.WaitGroup
				for i, w := range c.walkers {
					group.Go(func() {
						time.Sleep(w.begin)
						for at[i].Load() < w.end {
							time.Sleep(w.each)
							at[i].Add(step)
							p.advance(t.Context(), i, step)
							for j := range at {
								if ahead := at[i].Load() - at[j].Load(); ahead > window {
									t.Errorf("%d goes on, %d ahead of %d", i, ahead, j)
								}
							}
						}
						at[i].Store(math.MaxInt64)
						p.leave(i)
						p.advance(t.Context(), i, size) // which does not wait
						p.leave(i)
					})
				}
				group.Wait()
				if took := time.Since(start); took != c.took {
					t.Errorf("it took %d, want %d", took, c.took)
				}
			})
		})
	}
}

// A walker that waits ends with its context.
func TestPaceCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPace(2, 10)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		p.advance(ctx, 0, 10)
		if ctx.Err() != nil {
			t.Error("it waits within the window")
		}
		p.advance(ctx, 0, 1)
		if ctx.Err() == nil {
			t.Error("it does not wait beyond the window")
		}
	})
}
