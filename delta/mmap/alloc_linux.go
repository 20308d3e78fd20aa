package mmap

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Alloc returns n zeros, and a function that frees their memory, which the caller
// must call. They lie outside Go's heap, so that they take n bytes and no longer
// than needed, and in huge pages if the system has any: a table is read at random,
// and with small pages each read would miss the cache of page addresses too.
func Alloc[T byte | uint32 | uint64](n int64) (slots []T, free func(), err error) {
	const huge = 2 << 20 // bytes
	size := int(n) * int(unsafe.Sizeof(slots[0]))
	// One huge page more, of which what is not used is never there, for a start at
	// the border of one.
	region, err := unix.Mmap(-1, 0, size+huge, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return nil, nil, fmt.Errorf("no memory for a table of %d bytes: %w", size, err)
	}
	skip := -uintptr(unsafe.Pointer(&region[0])) % huge
	table := region[skip:][:size]
	// It is only faster with huge pages, so an error does not matter.
	_ = unix.Madvise(table[:size&^(huge-1)], unix.MADV_HUGEPAGE)
	return unsafe.Slice((*T)(unsafe.Pointer(&table[0])), n), func() { _ = unix.Munmap(region) }, nil
}
