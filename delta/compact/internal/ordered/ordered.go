// Package ordered runs jobs concurrently, and uses their results in order.
package ordered

import (
	"context"

	"golang.org/x/sync/errgroup"

	"puavo-image-repository/delta/mmap"
)

// Each calls do for 0 to n-1 on some workers, each of which has a do of its own, and emit with
// the results in order, one at a time. At most three results for each worker wait. The first
// error ends it all and is returned; where ctx ended, its error is. Both may read mapped files
// that become shorter, see package mmap.
func Each[T any](ctx context.Context, workers, n int, newDo func() func(i int) (T, error), emit func(i int, result T) error) error {
	group, inner := errgroup.WithContext(ctx)
	todo, pending := make(chan job[T]), make(chan job[T], 2*workers)
	group.Go(func() error {
		defer close(todo)
		defer close(pending)
		return feed(inner, n, pending, todo)
	})
	for range min(workers, n) {
		group.Go(func() error {
			do := newDo()
			for j := range todo {
				var result T
				err := mmap.Guard(func() (err error) { result, err = do(j.i); return err })
				if err != nil {
					return err
				}
				j.result <- result
			}
			return nil
		})
	}
	group.Go(func() error {
		return mmap.Guard(func() error { return drain(inner, pending, emit) })
	})
	err := group.Wait()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// job is a number, and where its result is waited for.
type job[T any] struct {
	i      int
	result chan T
}

// feed sends n jobs to both channels.
func feed[T any](ctx context.Context, n int, pending, todo chan<- job[T]) error {
	for i := range n {
		j := job[T]{i, make(chan T, 1)}
		for _, to := range []chan<- job[T]{pending, todo} {
			select {
			case to <- j:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
	return nil
}

// drain waits for the results of jobs, and emits them.
func drain[T any](ctx context.Context, pending <-chan job[T], emit func(i int, result T) error) error {
	for j := range pending {
		select {
		case result := <-j.result:
			if err := emit(j.i, result); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}
