package units

import (
	"testing"
	"time"
)

func TestDuration(t *testing.T) {
	for s, want := range map[string]time.Duration{
		"30d": 720 * time.Hour, "1d": 24 * time.Hour, "12h": 12 * time.Hour, "1d12h": 36 * time.Hour, "90m": 90 * time.Minute,
		"106750d": 106750 * 24 * time.Hour, "0d1s": time.Second,
		"": 0, "d": 0, "0": 0, "0d": 0, "0h": 0, "-1d": 0, "+1d": 0, "-1h": 0, "1d-1h": 0, "1.5d": 0, "1d1d": 0, "1": 0, "1w": 0, "1D": 0,
		" 1d": 0, "1 d": 0, "106751d": 0, "106750d24h": 106751 * 24 * time.Hour, "106750d48h": 0, "4294967296d": 0, "99999999999999999999d": 0,
	} {
		got, err := Duration(s)
		if (err != nil) != (want == 0) || got != want {
			t.Errorf("%q: %v, %v; want %v", s, got, err, want)
		}
	}
}
