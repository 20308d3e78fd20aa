//go:build !purego

package kernel

import "golang.org/x/sys/cpu"

var hasAVX2 = cpu.X86.HasAVX2

// sampledFast sets all words of mask and returns how many these are, or does nothing and
// returns 0.
func sampledFast(mask []uint32, data []byte, threshold int32) int {
	if !hasAVX2 || len(mask) == 0 {
		return 0
	}
	sampledAVX2(&mask[0], &data[0], len(mask), threshold)
	return len(mask)
}

// recurFast is recur, or returns -1.
func recurFast(data []byte, places, step int) int {
	if !hasAVX2 {
		return -1
	}
	return recurAVX2(&data[0], places, step)
}
