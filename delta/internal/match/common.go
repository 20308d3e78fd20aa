package match

import (
	"bytes"
	"encoding/binary"
	"math/bits"
)

// commonPrefix returns how many bytes a and b have in common at their starts.
func commonPrefix(a, b []byte) int {
	n := min(len(a), len(b))
	a, b = a[:n], b[:n]
	i := 0
	for n-i >= 8 {
		if x := binary.LittleEndian.Uint64(a[i:]) ^ binary.LittleEndian.Uint64(b[i:]); x != 0 {
			return i + bits.TrailingZeros64(x)/8
		}
		i += 8
		// What has become long is compared in larger pieces.
		for i >= 128 && n-i >= 512 && bytes.Equal(a[i:i+512], b[i:i+512]) {
			i += 512
		}
	}
	for i < n && a[i] == b[i] {
		i++
	}
	return i
}

// commonSuffix returns how many bytes a and b have in common at their ends.
func commonSuffix(a, b []byte) int {
	n := min(len(a), len(b))
	a, b = a[len(a)-n:], b[len(b)-n:]
	for ; n >= 8; n -= 8 {
		if x := binary.LittleEndian.Uint64(a[n-8:]) ^ binary.LittleEndian.Uint64(b[n-8:]); x != 0 {
			return len(a) - n + bits.LeadingZeros64(x)/8
		}
		for len(a)-n >= 120 && n >= 520 && bytes.Equal(a[n-520:n-8], b[n-520:n-8]) {
			n -= 512
		}
	}
	for n > 0 && a[n-1] == b[n-1] {
		n--
	}
	return len(a) - n
}
