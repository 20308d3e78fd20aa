package units

import "testing"

func TestSize(t *testing.T) {
	for s, want := range map[string]int64{
		"0": 0, "7": 7, "1k": 1024, "1K": 1024, "64m": 64 << 20, "3G": 3 << 30, "2t": 2 << 40, "4194304t": 1 << 62,
		"2GiB": 2 << 30, "2gib": 2 << 30, "1KIB": 1024, "3MiB": 3 << 20, "1TiB": 1 << 40, "2GB": 2e9, "2gb": 2e9, "1kB": 1000, "1kb": 1000, "5MB": 5e6, "4TB": 4e12,
		"4611686TB": 4611686e12, "4611687TB": -1, "7b": -1, "7ib": -1, "ib": -1, "b": -1, "gib": -1, "1gi": -1, "1gbb": -1, "1gibib": -1, "1 GiB": -1, "-1GB": -1,
		"": -1, "k": -1, "-1": -1, "+1": -1, "1 k": -1, "1.5g": -1, "1x": -1, "0x10": -1, "8388608t": -1, "9223372036854775808": -1, "k1": -1, "1[": -1,
	} {
		got, err := Size(s)
		if (err != nil) != (want < 0) || err == nil && got != want {
			t.Errorf("%q: %d, %v; want %d", s, got, err, want)
		}
	}
}
