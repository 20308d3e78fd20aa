// Package mapfile gives the bytes of a file as memory, as package delta takes
// them. It stands beside delta, which knows no files, for all who use that.
package mapfile

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Open maps a file for reading and returns its bytes, and a function that ends
// their use. The bytes are those of the file at the time they are looked at;
// beyond the end of a file that became shorter, looking is a fault.
func Open(path string) (data []byte, unmap func() error, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	return Map(f)
}

// Map does what Open does for an open file, which may be closed afterwards.
func Map(f *os.File) (data []byte, unmap func() error, err error) {
	info, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	if info.Size() == 0 {
		return nil, func() error { return nil }, nil
	}
	data, err = unix.Mmap(int(f.Fd()), 0, int(info.Size()), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, nil, fmt.Errorf("mapping %s: %w", f.Name(), err)
	}
	return data, func() error { return unix.Munmap(data) }, nil
}

// Forget takes the first n mapped bytes out of this process's memory, for those
// that will hardly be looked at again. They stay what they are: a look at one
// fetches it anew.
func Forget(data []byte, n int) {
	if n &^= os.Getpagesize() - 1; n > 0 {
		// It only saves memory, so an error does not matter.
		_ = unix.Madvise(data[:n], unix.MADV_DONTNEED)
	}
}
