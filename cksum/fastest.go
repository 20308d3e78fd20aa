package cksum

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"fmt"
	"hash"

	"github.com/klauspost/cpuid/v2"
	"golang.org/x/sys/cpu"
)

// algorithm takes one of the digests that prove a content.
type algorithm struct {
	name string // in errors
	new  func() hash.Hash
	of   func(*Sums) []byte // its digest, not a copy
}

var (
	bySHA512 = algorithm{"SHA-512", sha512.New, func(s *Sums) []byte { return s.SHA512[:] }}
	bySHA256 = algorithm{"SHA-256", sha256.New, func(s *Sums) []byte { return s.SHA256[:] }}
	byBLAKE3 = algorithm{"BLAKE3", NewBLAKE3, func(s *Sums) []byte { return s.BLAKE3[:] }}
)

// fastestFirst are all algorithms, on this processor.
var fastestFirst = inOrder(hasSHA256)

// hasSHA256 reports whether crypto/sha256 uses instructions that the processor has for
// it, which make it three times as fast as SHA-512, and not half as fast.
var hasSHA256 = cpu.ARM64.HasSHA2 || cpuid.CPU.Supports(cpuid.SHA, cpuid.AVX, cpuid.SSE4, cpuid.SSSE3)

func inOrder(hasSHA256 bool) [3]algorithm {
	if hasSHA256 {
		return [...]algorithm{byBLAKE3, bySHA256, bySHA512}
	}
	return [...]algorithm{byBLAKE3, bySHA512, bySHA256}
}

// isKnown reports whether s has the digest.
func (a *algorithm) isKnown(s Sums) bool {
	return !bytes.Equal(a.of(&s), a.of(new(Sums)))
}

// Fastest returns the size of s and the one of its digests to check a content by, see
// the documentation of the package. What s has none of it has not either.
func (s Sums) Fastest() Sums { return s.first(fastestFirst) }

// first returns the size of s and the first of its digests.
func (s Sums) first(order [3]algorithm) Sums {
	one := Sums{Size: s.Size}
	for _, a := range order {
		if a.isKnown(s) {
			copy(a.of(&one), a.of(&s))
			break
		}
	}
	return one
}

// Compare compares the digests of a content with those that it should have: all that
// both have, but neither size nor CRC. It reports whether there is such a digest, and
// returns an error for one that is wrong, "its SHA-512 is 12…, want 34…". Without a
// digest to compare, nothing is proven, and there is no error.
func (s Sums) Compare(want Sums) (comparable bool, err error) {
	for _, a := range fastestFirst {
		if !a.isKnown(s) || !a.isKnown(want) {
			continue
		}
		if is, should := a.of(&s), a.of(&want); !bytes.Equal(is, should) {
			return true, fmt.Errorf("its %s is %x, want %x", a.name, is, should)
		}
		comparable = true
	}
	return comparable, nil
}
