// Package mapfile gives the bytes of a file as memory.
package mapfile

import (
	"errors"
	"fmt"
	"os"
	"runtime/debug"

	"golang.org/x/sys/unix"
)

// ErrChanged is wrapped by the error for a file that was cut short while it was
// mapped.
var ErrChanged = errors.New("the file became shorter while it was read")

// Open maps a file for reading and returns its bytes, and a function that ends
// their use. The bytes are those of the file at the time they are looked at;
// beyond the end of a file that became shorter, looking is a fault: wrap all use
// of them in Guard.
func Open(path string) (data []byte, unmap func() error, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	if info.Size() == 0 {
		return nil, func() error { return nil }, nil
	}
	data, err = unix.Mmap(int(f.Fd()), 0, int(info.Size()), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, nil, fmt.Errorf("mapping %s: %w", path, err)
	}
	return data, func() error { return unix.Munmap(data) }, nil
}

// Guard calls use and turns a fault in it into an error that wraps ErrChanged.
// It guards the calling goroutine alone.
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
