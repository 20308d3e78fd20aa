package cksum

import (
	"bytes"
	"io"
	"slices"
	"testing"
)

func FuzzParseCKSUMS(f *testing.F) {
	f.Add([]byte(""))
	f.Add([]byte("930766865 9 b.img\n0 0 a b.rdiff\n"))
	f.Add([]byte("1 2 a\r\n"))
	f.Add([]byte("1 02 a/../b\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		roundTrip(t, data, ParseCKSUMS, AppendCKSUMS)
	})
}

func FuzzParseSHA256SUMS(f *testing.F) {
	f.Add([]byte(""))
	f.Add([]byte(mixed + "  rdiffs/b.rdiff\n" + zeros + "  a\n"))
	f.Add([]byte(mixed + " *a\n"))
	f.Add([]byte(zeros + "  ../a\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		roundTrip(t, data, ParseSHA256SUMS, AppendSHA256SUMS)
	})
}

// roundTrip checks that a list that parses has one notation: written again, it
// has the lines it had, sorted and each once, and gives the same list once more.
func roundTrip[T comparable](t *testing.T, data []byte, parse func(io.Reader) ([]T, error), write func([]byte, []T) []byte) {
	lines, err := parse(bytes.NewReader(data))
	if err != nil {
		if lines != nil {
			t.Fatalf("lines with an error: %v, %v", lines, err)
		}
		return
	}
	list := write(nil, lines)
	if !slices.Equal(sortedLines(list), slices.Compact(sortedLines(data))) {
		t.Fatalf("%q is written as %q", data, list)
	}
	again, err := parse(bytes.NewReader(list))
	if err != nil {
		t.Fatalf("%q: %v", list, err)
	}
	if len(again) != len(lines) || slices.ContainsFunc(lines, func(l T) bool { return !slices.Contains(again, l) }) {
		t.Fatalf("got %v, want %v", again, lines)
	}
	if twice := write(nil, again); !bytes.Equal(twice, list) {
		t.Fatalf("%q is written as %q", list, twice)
	}
}

func sortedLines(list []byte) []string {
	var lines []string
	for l := range bytes.Lines(list) {
		lines = append(lines, string(l))
	}
	slices.Sort(lines)
	return lines
}

func FuzzCRC(f *testing.F) {
	f.Add([]byte("123456789"), 4)
	f.Add(random(5000), 4099)
	f.Fuzz(func(t *testing.T, data []byte, split int) {
		split = min(max(split, 0), len(data))
		var parts, whole crc
		parts.Write(data[:split])
		parts.Write(data[split:])
		whole.Write(data)
		size := int64(len(data))
		want := referenceCRC(data, size)
		if got := whole.sum(size); got != want {
			t.Errorf("%d bytes: got %d, want %d", size, got, want)
		}
		if got := parts.sum(size); got != want {
			t.Errorf("%d bytes split at %d: got %d, want %d", size, split, got, want)
		}
	})
}
