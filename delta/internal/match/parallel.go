package match

import (
	"sync"

	"puavo-image-repository/delta/mmap"
)

// Parallel calls do for all items concurrently, guarded, and returns the first
// error in the order of the items.
func Parallel(items []int, do func(int) error) error {
	errs := make([]error, len(items))
	var group sync.WaitGroup
	for i, item := range items {
		group.Go(func() { errs[i] = mmap.Guard(func() error { return do(item) }) })
	}
	group.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
