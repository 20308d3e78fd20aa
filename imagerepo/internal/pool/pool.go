// Package pool runs jobs beside each other, a bounded number at a time.
package pool

import (
	"context"

	"golang.org/x/sync/errgroup"
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
