package delta

import (
	"bytes"
	"errors"
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
			if err := patch(t.Context(), &out, bytes.NewReader(base), bytes.NewReader(d), int64(len(target))); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if !bytes.Equal(out.Bytes(), target) {
				t.Fatalf("%s makes another target", name)
			}
		}
	})
}

// addDeltas adds the deltas that there are of rdiff, and those that do harm.
func addDeltas(f *testing.F, add func(d []byte, size int64)) {
	for _, p := range testdata.Glob(f, "deltas/*.delta") {
		b, err := os.ReadFile(p)
		if err != nil {
			f.Fatal(err)
		}
		add(b, 1000)
	}
	add([]byte("rs\x02\x36\x45\x00\x01\x00"), 1)
	for _, c := range hostile {
		add([]byte("rs\x02\x36"+c.delta[:min(len(c.delta), 1000)]), c.size)
	}
	for _, commands := range commandsOf(2<<20, 100) {
		d, size := withLiterals(commands[:min(len(commands), 100)]...)
		add(d[:min(len(d), 1000)], size)
	}
}

// FuzzPatch gives any bytes as a delta: the decoders agree whether it is one and
// what it makes, and never read or write more than they may.
func FuzzPatch(f *testing.F) {
	addDeltas(f, func(d []byte, size int64) { f.Add(d, size) })
	data := random(1, 2<<20)
	f.Fuzz(func(t *testing.T, d []byte, size int64) {
		const most = 4 << 20
		size = min(max(size, 0), most)
		stats, inspectErr := Inspect(t.Context(), bytes.NewReader(d))
		if inspectErr == nil && stats.Target() < most {
			size = stats.Target()
		}
		var out [2]bytes.Buffer
		base := &hostileBase{t: t, data: data}
		err1 := Patch(t.Context(), &out[0], base, bytes.NewReader(d), size)
		if most := int64(len(d))*(9<<10) + size; base.read > most {
			t.Errorf("%d bytes are read of the base, at most %d are wanted", base.read, most)
		}
		err2 := Verify(t.Context(), &out[1], base, bytes.NewReader(d), size)
		if (err1 == nil) != (err2 == nil) {
			t.Fatalf("Patch: %v, Verify: %v", err1, err2)
		}
		if err1 != nil && (!errors.Is(err1, ErrFormat) || !errors.Is(err2, ErrFormat)) {
			t.Fatalf("Patch: %v, Verify: %v, want ErrFormat", err1, err2)
		}
		if err1 == nil && (!bytes.Equal(out[0].Bytes(), out[1].Bytes()) || inspectErr != nil || stats.BaseEnd > int64(len(data))) {
			t.Fatalf("two targets of one delta, or Inspect says %+v, %v", stats, inspectErr)
		}
		if int64(max(out[0].Len(), out[1].Len())) > size {
			t.Fatalf("%d and %d bytes written, at most %d allowed", out[0].Len(), out[1].Len(), size)
		}
	})
}

// FuzzResume gives any position, and any bytes as what follows there: no more is
// written than is left of the target, and any size is the one that it makes.
func FuzzResume(f *testing.F) {
	addDeltas(f, func(d []byte, size int64) {
		f.Add(d, size, int64(0), int64(0), int64(0))
		f.Add(d[4:], size, int64(4), int64(1), int64(0))
		f.Add(d[4:], int64(-1), int64(100), size, int64(3))
	})
	data := random(1, 5000)
	f.Fuzz(func(t *testing.T, d []byte, size, delta, target, literal int64) {
		from := Position{delta, target, literal}
		base := &hostileBase{t: t, data: data}
		out := &full{room: 1 << 20}
		err := Resume(t.Context(), out, base, bytes.NewReader(d), size, from, func(p Position) func() error {
			if p.Delta <= from.Delta && p.Target <= from.Target || p.Literal < 0 {
				t.Errorf("from %+v: told %+v", from, p)
			}
			return func() error { return nil }
		})
		written := int64(1<<20 - out.room)
		switch {
		case err != nil && !errors.Is(err, ErrFormat) && !errors.Is(err, errDisk):
			t.Fatal(err)
		case size >= 0 && written > 0 && written > size-target:
			t.Fatalf("%d bytes written after %d of %d", written, target, size)
		case err == nil && size >= 0 && target+written != size:
			t.Fatalf("%d bytes written after %d, want %d", written, target, size)
		case err == nil && (literal < 0 || target < 0 || target+written < 0):
			t.Fatalf("%d bytes written from %+v", written, from)
		}
	})
}
