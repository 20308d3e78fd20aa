package match

import (
	"syscall"
	"unsafe"
)

// alloc returns n zero slots, in huge pages where there are any: the table is
// looked at all over, and with small pages each look would miss the cache of
// page addresses too.
func alloc(n int64) []uint64 {
	slots := make([]uint64, n)
	const huge = 2 << 20
	start := uintptr(unsafe.Pointer(&slots[0]))
	skip := (huge - start%huge) % huge
	if bytes := uintptr(n * 8); bytes > skip+huge {
		all := unsafe.Slice((*byte)(unsafe.Pointer(&slots[0])), bytes)
		// It is only faster with huge pages, so an error does not matter.
		_ = syscall.Madvise(all[skip:bytes-(bytes-skip)%huge], 14 /* MADV_HUGEPAGE */)
	}
	return slots
}
