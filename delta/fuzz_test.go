package delta

import (
	"bytes"
	"os"
	"testing"

	"puavo-image-repository/testdata"
)

// FuzzDiff makes a delta and applies it, for any base and target.
func FuzzDiff(f *testing.F) {
	for _, p := range pairs() {
		f.Add(p.base[:min(len(p.base), 2000)], p.target[:min(len(p.target), 2000)])
	}
	f.Fuzz(func(t *testing.T, base, target []byte) {
		d, stats := diff(t, base, target)
		if stats.Target() != int64(len(target)) || len(d) > len(target)+20 {
			t.Errorf("%+v in %d bytes for a target of %d", stats, len(d), len(target))
		}
		for name, patch := range decoders {
			var out bytes.Buffer
			if err := patch(t.Context(), &out, bytes.NewReader(base), int64(len(base)), bytes.NewReader(d), int64(len(target))); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if !bytes.Equal(out.Bytes(), target) {
				t.Fatalf("%s makes another target", name)
			}
		}
	})
}

// FuzzPatch gives any bytes as a delta: the decoders agree whether it is one and
// what it makes, and never write more than they may.
func FuzzPatch(f *testing.F) {
	for _, p := range testdata.Glob(f, "deltas/*.delta") {
		b, err := os.ReadFile(p)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, int64(1000))
	}
	f.Add([]byte("rs\x02\x36\x45\x00\x01\x00"), int64(1))
	base := random(1, 5000)
	f.Fuzz(func(t *testing.T, d []byte, size int64) {
		size = min(max(size, 0), 1<<20)
		stats, inspectErr := Inspect(t.Context(), bytes.NewReader(d))
		if inspectErr == nil && stats.Target() < 1<<20 {
			size = stats.Target()
		}
		var out [2]bytes.Buffer
		err1 := Patch(t.Context(), &out[0], bytes.NewReader(base), int64(len(base)), bytes.NewReader(d), size)
		err2 := Verify(t.Context(), &out[1], bytes.NewReader(base), int64(len(base)), bytes.NewReader(d), size)
		if (err1 == nil) != (err2 == nil) {
			t.Fatalf("Patch: %v, Verify: %v", err1, err2)
		}
		if err1 == nil && (!bytes.Equal(out[0].Bytes(), out[1].Bytes()) || inspectErr != nil) {
			t.Fatalf("two targets of one delta, or Inspect failed: %v", inspectErr)
		}
		if int64(max(out[0].Len(), out[1].Len())) > size {
			t.Fatalf("%d and %d bytes written, at most %d allowed", out[0].Len(), out[1].Len(), size)
		}
	})
}
