package units

import "testing"

func TestSize(t *testing.T) {
	for s, want := range map[string]int64{
		"0": 0, "7": 7, "1k": 1024, "1K": 1024, "64m": 64 << 20, "3G": 3 << 30, "2t": 2 << 40, "4194304t": 1 << 62,
		"": -1, "k": -1, "-1": -1, "+1": -1, "1kb": -1, "1 k": -1, "1.5g": -1, "1x": -1, "0x10": -1, "8388608t": -1, "9223372036854775808": -1, "k1": -1, "1[": -1,
	} {
		got, err := Size(s)
		if (err != nil) != (want < 0) || err == nil && got != want {
			t.Errorf("%q: %d, %v; want %d", s, got, err, want)
		}
	}
}
