package mmap

import "testing"

// Memory that is not there is an error, not the end of the process.
func TestAllocFails(t *testing.T) {
	if _, _, err := Alloc[uint64](1 << 56); err == nil {
		t.Error("2^59 bytes were found")
	}
}
