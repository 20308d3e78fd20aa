// Package units parses values with units: sizes and durations.
package units

import (
	"fmt"
	"strconv"
	"strings"
)

// Size parses a number of bytes, with an optional unit k, m, g or t, powers of
// 1024, in upper or lower case.
func Size(s string) (int64, error) {
	const units = "kmgt"
	digits, shift := s, 0
	if n := len(s); n > 0 {
		if i := strings.IndexByte(units, s[n-1]|0x20); i >= 0 {
			digits, shift = s[:n-1], 10*(i+1)
		}
	}
	n, err := strconv.ParseUint(digits, 10, 63)
	if err != nil || n > 1<<(62-shift) {
		return 0, fmt.Errorf("size %q, want such as 64m", s)
	}
	return int64(n) << shift, nil
}
