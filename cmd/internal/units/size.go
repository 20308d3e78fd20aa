// Package units parses values with units: sizes and durations.
package units

import (
	"fmt"
	"strconv"
	"strings"
)

// Size parses a number of bytes, with an optional unit: k, m, g and t, as well as KiB, MiB,
// GiB and TiB, are powers of 1024, and kB, MB, GB and TB are powers of 1000. Upper and lower
// case are the same.
func Size(s string) (int64, error) {
	digits, factor := s, uint64(1)
	lower := strings.ToLower(s)
	base := uint64(1024)
	if rest, ok := strings.CutSuffix(lower, "ib"); ok {
		lower = rest
	} else if rest, ok := strings.CutSuffix(lower, "b"); ok {
		lower, base = rest, 1000
	}
	if i := strings.IndexByte("kmgt", last(lower)); i >= 0 {
		digits = lower[:len(lower)-1]
		for range i + 1 {
			factor *= base
		}
	}
	n, err := strconv.ParseUint(digits, 10, 63)
	if err != nil || n > (1<<62)/factor {
		return 0, fmt.Errorf("size %q, want a value such as 64m, 2GiB or 2GB", s)
	}
	return int64(n * factor), nil
}

// last returns the last byte of a text, 0 for none.
func last(s string) byte {
	if s == "" {
		return 0
	}
	return s[len(s)-1]
}
