package match

import (
	"errors"
	"runtime/debug"
	"sync"
)

// ErrChanged is wrapped by the error for a file that became shorter while its
// bytes, mapped into memory, were looked at.
var ErrChanged = errors.New("the file became shorter while it was read")

// Guard calls use and turns a fault in it, as looking beyond the end of a mapped
// file gives, into ErrChanged.
func Guard(use func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			// Only a fault has an address; anything else is a mistake of ours.
			if _, fault := r.(interface{ Addr() uintptr }); !fault {
				panic(r)
			}
			err = ErrChanged
		}
	}()
	return use()
}

// Parallel calls do for each item at the same time, guarded, and returns the
// first error in the order of the items.
func Parallel(items []int, do func(int) error) error {
	errs := make([]error, len(items))
	var group sync.WaitGroup
	for i, item := range items {
		group.Go(func() { errs[i] = Guard(func() error { return do(item) }) })
	}
	group.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
