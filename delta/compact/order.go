package compact

import (
	"context"

	"golang.org/x/sync/errgroup"

	"puavo-image-repository/delta/mmap"
)

// inOrder calls do for 0 to n-1 on some workers, each with a do of its own, and emit with the
// results in order, one at a time. At most three results a worker wait. The first error ends
// it all; so does the end of ctx.
func inOrder[T any](ctx context.Context, workers, n int, newDo func() func(i int) (T, error), emit func(i int, result T) error) error {
	type job struct {
		i      int
		result chan T
	}
	group, inner := errgroup.WithContext(ctx)
	todo, pending := make(chan job), make(chan job, 2*workers)
	group.Go(func() error {
		defer close(todo)
		defer close(pending)
		for i := range n {
			j := job{i, make(chan T, 1)}
			for _, to := range []chan job{pending, todo} {
				select {
				case to <- j:
				case <-inner.Done():
					return inner.Err()
				}
			}
		}
		return nil
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
		for j := range pending {
			select {
			case result := <-j.result:
				if err := emit(j.i, result); err != nil {
					return err
				}
			case <-inner.Done():
				return inner.Err()
			}
		}
		return nil
	})
	err := group.Wait()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}
