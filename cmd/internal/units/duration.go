package units

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

const day = 24 * time.Hour

// Duration parses a positive duration such as 30d, 36h or 1d12h: days of 24 hours,
// and then what Go's time.ParseDuration takes.
func Duration(s string) (time.Duration, error) {
	wrong := fmt.Errorf("time %q, want a value such as 30d or 12h", s)
	days, rest, found := strings.Cut(s, "d")
	if !found {
		days, rest = "0", s
	}
	n, err := strconv.ParseUint(days, 10, 32)
	if err != nil || n >= math.MaxInt64/uint64(day) || found && strings.ContainsAny(rest, "+-") {
		return 0, wrong
	}
	var d time.Duration
	if rest != "" {
		if d, err = time.ParseDuration(rest); err != nil {
			return 0, wrong
		}
	} else if !found {
		return 0, wrong
	}
	if d += time.Duration(n) * day; d <= 0 {
		return 0, wrong
	}
	return d, nil
}
