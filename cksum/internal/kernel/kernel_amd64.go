//go:build !purego

package kernel

import "golang.org/x/sys/cpu"

var (
	hasAVX2   = cpu.X86.HasAVX2
	hasSHA512 = cpu.X86.HasAVX512F && cpu.X86.HasAVX512BW && cpu.X86.HasAVX512VL
)

// HasSHA512 reports whether [SHA512] is faster than its streams one after another.
func HasSHA512() bool { return hasSHA512 }

// reverseVectors is ReverseBits of the first bytes, and returns how many. dst and src are
// of the same length.
func reverseVectors(dst, src []byte) int {
	n := len(src) - len(src)%64
	if n == 0 || !hasAVX2 {
		return 0
	}
	reverseBitsAVX2(&dst[0], &src[0], n)
	return n
}

// compress adds a number of blocks, at least one, to each of four states of SHA-512: word i
// of stream j is states[i][j], and its blocks begin at next[j].
func compress(states *[stateWords][Lanes]uint64, next *[Lanes]*byte, blocks int) {
	sha512x4AVX512(states, next, blocks)
}
