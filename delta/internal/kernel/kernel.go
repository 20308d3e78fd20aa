// Package kernel has the two loops that look at every byte of a base or target. It gives
// the same results on every processor, and is faster on those of amd64 with AVX2.
//
//   - [Sampled] says which places are sampled. AVX2 multiplies the words at eight places
//     at once, and 32 comparisons become the 32 bits of a word, without a branch.
//   - [Recur] finds places whose first bytes stand again soon. AVX2 compares a byte with
//     the 64 bytes behind it in two instructions.
//
// The environment variable GODEBUG=cpu.avx2=off switches the assembly off, as the build tag
// purego leaves it out. The program in _asm, a module of its own, writes kernel_amd64.s and
// stubs_amd64.go. After a change there, run
//
//	go generate ./delta/internal/kernel
//
// and commit both files with it.
package kernel

import (
	"bytes"
	"encoding/binary"
)

//go:generate go -C _asm run . -out ../kernel_amd64.s -stubs ../stubs_amd64.go -pkg kernel

const (
	// Lookahead is how many bytes from a place on decide whether it is sampled.
	Lookahead = 4

	// MaxPeriod is the largest distance, in bytes, at which Recur finds four bytes again.
	MaxPeriod = 64

	// RecurAhead is how many bytes from a place on Recur looks at.
	RecurAhead = MaxPeriod + 4

	multiplier = 0x9e3779b1 // 2^32 divided by the golden ratio, which mixes well
	wordBits   = 32
)

// Sampled sets the bits of mask, least significant first, for the first n places of
// data: a place is sampled if the product of its four bytes, little-endian, with a
// constant, taken as a signed number of 32 bits, is below threshold. Nothing before the
// place matters, unlike with a rolling hash. data has n+3 bytes or more, and mask a
// word for each 32 places, of which the last may be set in part.
func Sampled(mask []uint32, data []byte, n int, threshold int32) {
	data, mask = data[:n+Lookahead-1], mask[:(n+wordBits-1)/wordBits]
	done := sampledFast(mask[:n/wordBits], data, threshold)
	for i := done; i < len(mask); i++ {
		at := i * wordBits
		mask[i] = sampledWord(data[at:], min(n-at, wordBits), threshold)
	}
}

// sampledWord returns the bits of the first n places of data.
func sampledWord(data []byte, n int, threshold int32) (word uint32) {
	four := binary.LittleEndian.Uint32(data) << 8
	for i, c := range data[Lookahead-1 : n+Lookahead-1] {
		four = four>>8 | uint32(c)<<24
		if int32(four*multiplier) < threshold {
			word |= 1 << (i & 31)
		}
	}
	return word
}

// Recur looks at every step-th place of data, from the first on, and returns the first
// whose four bytes stand again 1 to MaxPeriod bytes behind it. It returns -1 if there
// is none. Places with less than RecurAhead bytes are not looked at.
func Recur(data []byte, step int) int {
	if len(data) < RecurAhead {
		return -1
	}
	places := (len(data)-RecurAhead)/step + 1
	i := recurFast(data, places, step)
	if i < 0 {
		i = recur(data, places, step)
	}
	if i == places {
		return -1
	}
	return i * step
}

// recur returns the index of the first place that Recur finds, or places.
func recur(data []byte, places, step int) int {
	for i := range places {
		at := data[i*step:][:RecurAhead]
		four, rest := at[:4], at[1:]
		for len(rest) >= 4 {
			n := bytes.IndexByte(rest[:len(rest)-3], four[0])
			if n < 0 {
				break
			}
			if bytes.Equal(rest[n:n+4], four) {
				return i
			}
			rest = rest[n+1:]
		}
	}
	return places
}
