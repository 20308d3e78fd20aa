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
	shared := NewShared(most)
	return Each(ctx, jobs, items, func(ctx context.Context, item T) error {
		return shared.With(ctx, need(item), func() error { return do(ctx, item) })
	})
}

// Shared is an amount, such as memory, that several calls share. It can be used concurrently.
type Shared struct {
	free *semaphore.Weighted
	most int64
}

// NewShared returns an amount of which all is free.
func NewShared(most int64) *Shared { return &Shared{semaphore.NewWeighted(most), most} }

// With calls do when n of the amount are free, in the order in which it was called, and takes them
// until do returns. One that needs more than there is runs alone.
func (s *Shared) With(ctx context.Context, n int64, do func() error) error {
	n = min(n, s.most)
	if err := s.free.Acquire(ctx, n); err != nil {
		return err
	}
	defer s.free.Release(n)
	return do()
}
