// Package kernel has the inner loops of package cksum that are worth assembly. It gives
// the same bytes on every processor, and is faster on some.
//
// # Kernels
//
//   - [ReverseBits] reverses the bits of each byte, which the CRC of cksum(1) needs before
//     hash/crc32 can take it. With AVX2 it is nine times as fast: a byte reversed is two
//     halves reversed and swapped, and VPSHUFB looks up 32 halves at once.
//   - [SHA512] computes up to four SHA-512 at once. With AVX-512VL that takes as long as
//     one: a step of SHA-512 waits for the one before it, but steps of four streams are
//     independent and fit the four lanes of 64 bits of a register. AVX-512VL has rotation
//     and any function of three bits as one instruction, where AVX2 has three or four, and
//     32 registers, so that nothing is kept in memory. AVX2 without these gains nothing,
//     so there it is crypto/sha512.
//
// # Processors
//
// The kernels are for amd64. golang.org/x/sys/cpu says, once at the start, what the
// processor and the system have:
//
//	kernel       needs                         otherwise
//	ReverseBits  AVX2                          Go, 16 bytes a turn
//	SHA512       AVX-512F, -BW and -VL         crypto/sha512, one stream after another
//
// That package reads the environment variable GODEBUG, so cpu.avx2=off and cpu.avx512vl=off
// in it switch the kernels off (both, separated by a comma). They also do so for the
// standard library, where the same names are known. The build tag purego leaves the
// assembly out.
//
// # Regenerating
//
// The assembly, kernel_amd64.s, and its declarations, stubs_amd64.go, are written by a
// program in the folder _asm. It is a module of its own, so that this one does not need
// what it is made with (github.com/mmcloughlin/avo). After a change there, run
//
//	go generate ./cksum/internal/kernel
//
// and commit both files with it.
package kernel

//go:generate go -C _asm run . -out ../kernel_amd64.s -stubs ../stubs_amd64.go -pkg kernel

import (
	"encoding/binary"
	"math/bits"
)

// ReverseBits writes the bytes of src to dst, the bits of each reversed: 0x01 becomes 0x80.
// dst may be src, but must not overlap it otherwise. It panics if dst is shorter than src.
func ReverseBits(dst, src []byte) {
	dst = dst[:len(src)]
	n := reverseVectors(dst, src)
	reverseGeneric(dst[n:], src[n:])
}

// reverseGeneric is ReverseBits in Go. Two words at a time, without math/bits, which would
// also swap their bytes, take a third less.
func reverseGeneric(dst, src []byte) {
	for len(src) >= 16 {
		d, s := dst[:16], src[:16]
		binary.LittleEndian.PutUint64(d, reverseEach(binary.LittleEndian.Uint64(s)))
		binary.LittleEndian.PutUint64(d[8:], reverseEach(binary.LittleEndian.Uint64(s[8:])))
		dst, src = dst[16:], src[16:]
	}
	for i, b := range src {
		dst[i] = bits.Reverse8(b)
	}
}

// reverseEach reverses the bits of each byte of x: it swaps neighbours, then pairs, then
// halves. A sum, where an "or" would do, is one instruction less.
func reverseEach(x uint64) uint64 {
	const ones, pairs, halves = 0x5555555555555555, 0x3333333333333333, 0x0f0f0f0f0f0f0f0f
	x = x>>1&ones + x&ones<<1
	x = x>>2&pairs + x&pairs<<2
	return x>>4&halves + x&halves<<4
}
