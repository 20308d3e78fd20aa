package match

import (
	"fmt"
	"syscall"
	"unsafe"
)

// Alloc returns n zeros and a function that gives their memory back. They lie
// outside of Go's heap, so that they cost what they are and end when they are
// said to, and in huge pages where there are any: a table is looked at all over,
// and with small pages each look would miss the cache of page addresses too.
func Alloc[T uint32 | uint64](n int64) (slots []T, free func(), err error) {
	const huge = 2 << 20
	size := int(n) * int(unsafe.Sizeof(slots[0]))
	// One huge page more, of which what is not used is never there, for a start at
	// the border of one.
	region, err := syscall.Mmap(-1, 0, size+huge, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		return nil, nil, fmt.Errorf("no memory for a table of %d bytes: %w", size, err)
	}
	skip := -uintptr(unsafe.Pointer(&region[0])) % huge
	table := region[skip:][:size]
	// It is only faster with huge pages, so an error does not matter.
	_ = syscall.Madvise(table[:size&^(huge-1)], 14 /* MADV_HUGEPAGE */)
	return unsafe.Slice((*T)(unsafe.Pointer(&table[0])), n), func() { _ = syscall.Munmap(region) }, nil
}
