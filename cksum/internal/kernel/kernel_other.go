//go:build !amd64 || purego

package kernel

// HasSHA512 reports whether [SHA512] is faster than its streams one after another.
func HasSHA512() bool { return false }

// reverseVectors leaves all bytes to reverseGeneric.
func reverseVectors(_, _ []byte) int { return 0 }

// compress is not reached: HasSHA512 says so.
func compress(*[stateWords][Lanes]uint64, *[Lanes]*byte, int) { panic("kernel: no lanes") }
