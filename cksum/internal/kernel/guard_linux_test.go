package kernel

import (
	"crypto/sha512"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// TestBounds has all that is read and written end where memory ends: a byte more is a
// fault that ends the test.
func TestBounds(t *testing.T) {
	size := os.Getpagesize()
	for _, n := range []int{64, 127, 128, 129, size} {
		src, dst := beforeGuard(t, n), beforeGuard(t, n)
		copy(src, random(n))
		ReverseBits(dst, src)
		SHA512(Stream{sha512.New(), src}, Stream{sha512.New(), dst})
		SHA512(Stream{sha512.New(), src}, Stream{sha512.New(), dst}, Stream{sha512.New(), src}, Stream{sha512.New(), dst})
	}
}

// beforeGuard returns n bytes, up to a page, before a page that cannot be touched.
func beforeGuard(t *testing.T, n int) []byte {
	t.Helper()
	size := os.Getpagesize()
	pages, err := unix.Mmap(-1, 0, 2*size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Munmap(pages) })
	if err := unix.Mprotect(pages[size:], unix.PROT_NONE); err != nil {
		t.Fatal(err)
	}
	return pages[size-n : size]
}
