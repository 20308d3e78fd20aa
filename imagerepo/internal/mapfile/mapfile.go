// Package mapfile gives the bytes of a file as memory.
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
