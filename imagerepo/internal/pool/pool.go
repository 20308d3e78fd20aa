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

// Pipe calls first for each item, in order, and what that returned concurrently with
// the call for the next item. So two calls work at a time, and two items hold what first
// keeps for the rest. It ends, and returns errors, as Each does; but what first returned
// is called in any case, at least to clean up: it looks at the context that first got.
func Pipe[T any](ctx context.Context, items []T, first func(context.Context, T) (rest func() error, err error)) error {
	group, inner := errgroup.WithContext(ctx)
	group.SetLimit(1)
	var err error
	for _, item := range items {
		if err = inner.Err(); err != nil {
			break
		}
		var rest func() error
		if rest, err = first(inner, item); err != nil {
			break
		}
		group.Go(rest)
	}
	if restErr := group.Wait(); restErr != nil {
		err = restErr // the context's end, which first may have met, came of it
	}
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
