package mmap

import (
	"errors"
	"runtime/debug"
)

// ErrChanged is wrapped by the error for a file that became shorter while its
// bytes, mapped into memory, were looked at.
var ErrChanged = errors.New("the file became shorter while it was read")

// Guard calls use and turns a fault in it, as looking beyond the end of a mapped
// file gives, into ErrChanged. It guards the goroutine that calls it alone: one
// that use starts needs a Guard of its own. What use has locked or half written
// when the fault comes stays so.
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
