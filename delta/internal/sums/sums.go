// Package sums computes the sums of blocks that rdiff signatures hold.
//
// A weak sum has 32 bits and can be rolled: that of the window one byte further
// on follows from the last sum, the byte that leaves and the byte that enters.
// For a block x of n bytes, all arithmetic modulo 2^16 for rollsum and 2^32 for
// RabinKarp:
//
//	rollsum    a = sum of (x[i]+31), b = sum of (n-i)*(x[i]+31); b<<16 | a
//	RabinKarp  M^n + sum of x[i]*M^(n-1-i), where M = 0x08104225
//
// A strong sum is the beginning of MD4 or BLAKE2b-256 of the block. The source is
// librsync: rollsum.h, rabinkarp.h, checksum.c.
package sums

import (
	"hash"

	"golang.org/x/crypto/blake2b"
	"golang.org/x/crypto/md4" //lint:ignore SA1019 the format has it
)

// MaxStrong is the length of the longest strong sum in bytes.
const MaxStrong = blake2b.Size256

// Strong computes strong sums. It is not for concurrent use.
type Strong struct {
	md4 hash.Hash // nil for BLAKE2b
	sum [MaxStrong]byte
}

// NewStrong returns a Strong for MD4, or else for BLAKE2b-256.
func NewStrong(isMD4 bool) *Strong {
	if isMD4 {
		return &Strong{md4: md4.New()}
	}
	return &Strong{}
}

// Sum returns the whole strong sum of a block. It is valid until the next call.
func (s *Strong) Sum(block []byte) []byte {
	if s.md4 == nil {
		s.sum = blake2b.Sum256(block)
		return s.sum[:]
	}
	s.md4.Reset()
	s.md4.Write(block) // never fails
	return s.md4.Sum(s.sum[:0])
}

// StrongLen returns the length of a whole strong sum in bytes.
func StrongLen(isMD4 bool) int {
	if isMD4 {
		return md4.Size
	}
	return blake2b.Size256
}
