// Package pool runs jobs concurrently, a bounded number at a time.
package pool

import (
	"context"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"
)

// Each calls do for each item, in order, at most jobs at a time, and returns
// when all calls have. The first error ends the context of the others, keeps
// those not begun from beginning, and is returned. Where ctx ended, its error is
// returned even if all calls returned nil: what was cancelled is not done.
func Each[T any](ctx context.Context, jobs int, items []T, do func(context.Context, T) error) error {
	group, inner := errgroup.WithContext(ctx)
	group.SetLimit(max(jobs, 1))
	for _, item := range items {
		if inner.Err() != nil {
			break
		}
		group.Go(func() error {
			if err := inner.Err(); err != nil {
				return err
			}
			return do(inner, item)
		})
	}
	err := group.Wait()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// Within does what Each does, and begins a call only when all calls together need no
// more than most, as need says of each item. One that needs more than that runs alone.
func Within[T any](ctx context.Context, jobs int, most int64, items []T, need func(T) int64, do func(context.Context, T) error) error {
	free := semaphore.NewWeighted(most)
	return Each(ctx, jobs, items, func(ctx context.Context, item T) error {
		n := min(need(item), most)
		if err := free.Acquire(ctx, n); err != nil {
			return err
		}
		defer free.Release(n)
		return do(ctx, item)
	})
}
