package delta

import (
	"bytes"
	"errors"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
)

// benchBase is the size of the base that the decoders are measured on, in bytes.
const benchBase = 64 << 20

// commandsOf returns the commands of deltas that copy all of a base of size bytes
// each, and of some of so many copies of one byte.
func commandsOf(size, tiny int64) map[string][]command {
	all := map[string][]command{
		"one copy": {{offset: 0, length: size}},
		"literal":  {{literal: true, length: size}},
	}
	add := func(name string, offset, length int64) {
		all[name] = append(all[name], command{offset: offset, length: length})
	}
	for at := int64(0); at < size; at += 8 << 10 {
		add("8 KiB, forward", at, 8<<10)
	}
	for at := size - 1000; at >= 0; at -= 1000 {
		add("1000 bytes, backward", at, 1000)
	}
	for i := range tiny {
		add("a byte, near", 1<<20+i%(32<<10), 1)
		add("a byte, random", 1<<16+i*2654435761%(size-1<<16), 1)
		// Each is near the one before, and too far for what was read ahead.
		add("a byte, downward", size-1-i*(40<<10)%(size-1<<16), 1)
		add("a byte, far and near", (i%2*(size-1<<20)+i/2*(60<<10))%(size-1), 1)
		add("a byte, upward", i*(64<<10)%size, 1)
	}
	return all
}

// withLiterals is encoded, with zeros for the bytes of literals.
func withLiterals(commands ...command) (d []byte, size int64) {
	d = []byte("rs\x02\x36")
	for _, c := range commands {
		if d = c.appendHeader(d); c.literal {
			d = append(d, make([]byte, c.length)...)
		}
		size += c.length
	}
	return append(d, opEnd), size
}

// Data after the end is an error of its own only where the target is whole.
func TestTrailing(t *testing.T) {
	d := "rs\x02\x36\x05hello\x45\x00\x05\x00"
	for _, c := range []struct {
		name  string
		delta string
		room  int
		size  int64
		want  error
		other error // what it is not
	}{
		{"nothing after it", d, 10, -1, nil, ErrTrailing},
		{"a byte after it", d + "x", 10, -1, ErrTrailing, errDisk},
		{"a delta after it", d + d, 10, 10, ErrTrailing, errDisk},
		{"and the disk full", d + "x", 9, -1, errDisk, ErrTrailing},
		{"and another size", d + "x", 10, 11, ErrFormat, ErrTrailing},
	} {
		dst := &full{c.room}
		err := Patch(t.Context(), dst, strings.NewReader("0123456789"), strings.NewReader(c.delta), c.size)
		if !errors.Is(err, c.want) || errors.Is(err, c.other) || c.want == ErrTrailing && (dst.room != 0 || !errors.Is(err, ErrFormat)) {
			t.Errorf("%s: %v, want %v, not %v", c.name, err, c.want, c.other)
		}
	}
	want, err := Inspect(t.Context(), strings.NewReader(d))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := Inspect(t.Context(), strings.NewReader(d+"x")); got != want || !errors.Is(err, ErrTrailing) {
		t.Errorf("Inspect: %+v, %v, want %+v", got, err, want)
	}
}

// Short copies at the edges of what was read ahead are what the base has there.
func TestPatchWindow(t *testing.T) {
	const size, around = 1 << 20, 500_000
	const start, end = around - 32<<10, around - 32<<10 + 256<<10 // of the window
	base := random(1, size)
	for _, c := range []command{
		{offset: start - 2, length: 1}, {offset: start - 1, length: 1}, {offset: start - 1, length: 2}, {offset: start, length: 1},
		{offset: end - 1, length: 1}, {offset: end - 1, length: 2}, {offset: end, length: 1}, {offset: end - 9000, length: 9000}, {offset: end - 9000, length: 9001},
	} {
		commands := slices.Repeat([]command{{offset: around, length: 1}}, moveEvery) // the last one reads the window
		d := encoded(append(commands, c)...)
		want := slices.Concat(bytes.Repeat(base[around:around+1], moveEvery), base[c.offset:c.offset+c.length])
		var out bytes.Buffer
		b := &hostileBase{t: t, data: base}
		if err := Patch(t.Context(), &out, b, bytes.NewReader(d), int64(len(want))); err != nil || !bytes.Equal(out.Bytes(), want) {
			t.Errorf("%+v: %v, or other bytes", c, err)
		}
		if b.read < end-start {
			t.Errorf("%+v: only %d bytes were read: the test shows nothing", c, b.read)
		}
	}
}

func BenchmarkPatch(b *testing.B) {
	f, _ := mapped(b, random(1, benchBase))
	deltas := commandsOf(benchBase, 1<<20)
	for _, name := range slices.Sorted(maps.Keys(deltas)) {
		d, size := withLiterals(deltas[name]...)
		b.Run(name, func(b *testing.B) {
			b.SetBytes(size)
			b.ReportMetric(float64(len(d)), "delta-bytes")
			for b.Loop() {
				if err := Patch(b.Context(), io.Discard, io.NewSectionReader(f, 0, benchBase), bytes.NewReader(d), size); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("changes", func(b *testing.B) { benchmarkChanges(b, f) })
}

// benchmarkChanges applies a delta of BenchmarkVerify's kind.
func benchmarkChanges(b *testing.B, f *os.File) {
	base := random(1, benchBase)
	target := scattered(base)
	d, _ := diff(b, base, target)
	b.SetBytes(benchBase)
	b.ResetTimer()
	for b.Loop() {
		if err := Patch(b.Context(), io.Discard, io.NewSectionReader(f, 0, benchBase), bytes.NewReader(d), benchBase); err != nil {
			b.Fatal(err)
		}
	}
}
