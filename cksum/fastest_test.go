package cksum

import (
	"bytes"
	"errors"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

// only returns the size of s, and the digests that are named.
func only(s Sums, names ...string) Sums {
	some := Sums{Size: s.Size}
	for _, a := range fastestFirst {
		if slices.Contains(names, a.name) {
			copy(a.of(&some), a.of(&s))
		}
	}
	return some
}

// One digest is left, whatever there is besides.
func TestFastest(t *testing.T) {
	all := sumsOf([]byte("a"))
	for _, tt := range []struct {
		name          string
		s             Sums
		with, without string // the digest that is left, by whether SHA-256 is fast
	}{
		{name: "all", s: all, with: "BLAKE3", without: "BLAKE3"},
		{name: "no BLAKE3", s: only(all, "SHA-256", "SHA-512"), with: "SHA-256", without: "SHA-512"},
		{name: "of the predecessor, without SHA-256", s: only(all, "SHA-512"), with: "SHA-512", without: "SHA-512"},
		{name: "SHA-256", s: only(all, "SHA-256"), with: "SHA-256", without: "SHA-256"},
		{name: "BLAKE3", s: only(all, "BLAKE3"), with: "BLAKE3", without: "BLAKE3"},
		{name: "BLAKE3 and SHA-512", s: only(all, "BLAKE3", "SHA-512"), with: "BLAKE3", without: "BLAKE3"},
		{name: "a CRC alone", s: Sums{Size: all.Size, CRC: all.CRC}},
		{name: "nothing"},
	} {
		for has, name := range map[bool]string{true: tt.with, false: tt.without} {
			if got, want := tt.s.first(inOrder(has)), only(tt.s, name); got != want {
				t.Errorf("%s, fast SHA-256 %v: got %+v, want %+v", tt.name, has, got, want)
			}
		}
		if got := tt.s.Fastest(); got != tt.s.first(inOrder(hasSHA256)) {
			t.Errorf("%s: got %+v here", tt.name, got)
		}
	}
}

// The instructions are those that the kernel says the processor has.
func TestHasSHA256(t *testing.T) {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil || runtime.GOARCH != "amd64" {
		t.Skip("nobody else to ask")
	}
	flags := strings.Fields(string(text))
	if want := slices.Contains(flags, "sha_ni") && slices.Contains(flags, "avx"); hasSHA256 != want {
		t.Errorf("got %v, the kernel says %v", hasSHA256, want)
	}
}

// A Hash for some digests computes these, and of a document's those that it has.
func TestNewFor(t *testing.T) {
	for _, size := range []int{0, 1, short, short + 1, 2*bufferSize + 12345} {
		data := random(size)
		all := oneShot(data)
		for _, want := range []Sums{
			only(all), only(all, "BLAKE3"), only(all, "SHA-256"), only(all, "SHA-512"),
			only(all, "BLAKE3", "SHA-512"), only(all, "BLAKE3", "SHA-256", "SHA-512"),
		} {
			h := NewFor(want)
			writePieces(h, data, bufferSize)
			wantSums(t, "Write", h, want)
			h = NewFor(want)
			if n, err := io.Copy(h, iotest.HalfReader(bytes.NewReader(data))); n != int64(size) || err != nil {
				t.Errorf("ReadFrom: %d of %d bytes, %v", n, size, err)
			}
			wantSums(t, "ReadFrom", h, want)
		}
	}
}

func TestReadFromBroken(t *testing.T) {
	broken := errors.New("broken")
	h := New()
	h.Write([]byte("12"))
	n, err := h.ReadFrom(io.MultiReader(strings.NewReader("345"), iotest.ErrReader(broken)))
	if n != 3 || err != broken {
		t.Errorf("%d bytes, %v", n, err)
	}
	wantSums(t, "what was read before", h, oneShot([]byte("12345")))
}

// Every digest that both have counts, and without one nothing is proven.
func TestCompare(t *testing.T) {
	right, other := sumsOf([]byte("a")), sumsOf([]byte("b"))
	mixed := right
	mixed.SHA256 = other.SHA256
	for _, tt := range []struct {
		name       string
		is, want   Sums
		comparable bool
		err        string
	}{
		{"all", right, right, true, ""},
		{"all, other", right, other, true, "its BLAKE3 is " + right.BLAKE3.String() + ", want " + other.BLAKE3.String()},
		{"one of all", right, only(right, "SHA-512"), true, ""},
		{"one of all, other", right, only(other, "SHA-512"), true, "its SHA-512 is " + right.SHA512.String() + ", want " + other.SHA512.String()},
		{"all of one", only(right, "SHA-256"), right, true, ""},
		{"one of three is other", right, mixed, true, "its SHA-256 is " + right.SHA256.String() + ", want " + other.SHA256.String()},
		{"different ones", only(right, "BLAKE3"), only(right, "SHA-512", "SHA-256"), false, ""},
		{"none", only(right), right, false, ""},
		{"CRC and size alone", Sums{Size: 1, CRC: right.CRC}, Sums{Size: 1, CRC: right.CRC}, false, ""},
		{"nothing", Sums{}, Sums{}, false, ""},
	} {
		known, err := tt.is.Compare(tt.want)
		if known != tt.comparable || (err == nil) != (tt.err == "") || err != nil && err.Error() != tt.err {
			t.Errorf("%s: %v, %v; want %v, %q", tt.name, known, err, tt.comparable, tt.err)
		}
	}
}
