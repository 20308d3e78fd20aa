package match

import (
	"syscall"
	"unsafe"
)

// Alloc returns n zeros, at least one, in huge pages where there are any: a table
// is looked at all over, and with small pages each look would miss the cache of
// page addresses too.
func Alloc[T uint32 | uint64](n int64) []T {
	slots := make([]T, n)
	const huge = 2 << 20
	start := uintptr(unsafe.Pointer(&slots[0]))
	skip := (huge - start%huge) % huge
	if bytes := uintptr(n) * unsafe.Sizeof(slots[0]); bytes > skip+huge {
		all := unsafe.Slice((*byte)(unsafe.Pointer(&slots[0])), bytes)
		// It is only faster with huge pages, so an error does not matter.
		_ = syscall.Madvise(all[skip:bytes-(bytes-skip)%huge], 14 /* MADV_HUGEPAGE */)
	}
	return slots
}
