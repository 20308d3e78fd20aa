package kernel

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"fmt"
	"hash"
	"math/rand/v2"
	"testing"
)

// TestSHA512 takes streams of all lengths around the borders of blocks, some after bytes
// that their hashes have taken, and compares with crypto/sha512 alone.
func TestSHA512(t *testing.T) {
	const long = 64 * blockSize
	for _, tt := range []struct{ taken, next []int }{
		{nil, nil},
		{[]int{0}, []int{long}},
		{[]int{0, 0}, []int{0, 0}},
		{[]int{0, 0}, []int{0, long}},
		{[]int{0, 0}, []int{1, 111}},
		{[]int{0, 0, 0}, []int{112, 127, 128}},
		{[]int{0, 0, 0, 0}, []int{128, 128, 128, 128}},
		{[]int{0, 0, 0, 0}, []int{128, 129, 255, 256}},
		{[]int{128, 0, 256, 1280}, []int{long, long, long, long}},
		{[]int{128, 0, 256, 1280}, []int{long + 1, long - 1, 2 * long, long}},
		{[]int{127, 0, 129, 1}, []int{long, long, long, long}},
		{[]int{0, 0, 0, 64}, []int{long, long, long, long}},
	} {
		t.Run(fmt.Sprint(tt.taken, tt.next), func(t *testing.T) {
			compare(t, tt.taken, tt.next)
		})
	}
	for range 100 {
		var taken, next []int
		for range 1 + rand.IntN(Lanes) {
			taken = append(taken, blockSize*rand.IntN(3))
			next = append(next, rand.IntN(long))
		}
		compare(t, taken, next)
	}
}

// compare gives SHA512 streams that have taken and have next so many bytes, twice.
func compare(t *testing.T, taken, next []int) {
	t.Helper()
	var streams []Stream
	var wanted []hash.Hash
	for i := range next {
		got, want := sha512.New(), sha512.New()
		got.Write(random(taken[i]))
		want.Write(random(taken[i]))
		want.Write(random(next[i] + i))
		want.Write(random(next[i] + i))
		streams = append(streams, Stream{got, random(next[i] + i)})
		wanted = append(wanted, want)
	}
	SHA512(streams...)
	SHA512(streams...)
	for i, s := range streams {
		s.Hash.Write([]byte("more"))
		wanted[i].Write([]byte("more"))
		if got, want := s.Hash.Sum(nil), wanted[i].Sum(nil); !bytes.Equal(got, want) {
			t.Errorf("%d bytes after %d: stream %d has %x, want %x", next, taken, i, got, want)
		}
	}
}

// TestInterleave fails where crypto/sha512 has another binary form, so that the kernel
// would never be used.
func TestInterleave(t *testing.T) {
	if !HasSHA512() {
		t.Skip("this processor has no AVX-512VL")
	}
	streams := func(second hash.Hash) []Stream {
		return []Stream{{sha512.New(), random(300)}, {second, random(400)}}
	}
	midst := sha512.New()
	midst.Write([]byte("a"))
	for name, tt := range map[string]struct {
		second hash.Hash
		want   int
	}{
		"SHA-512":                 {sha512.New(), 256},
		"another digest":          {sha512.New384(), 0},
		"another size":            {sha256.New(), 0},
		"in the midst of a block": {midst, 0},
		"without a binary form":   {struct{ hash.Hash }{sha512.New()}, 0},
	} {
		if got := interleave(streams(tt.second)); got != tt.want {
			t.Errorf("%s: the kernel took %d bytes, want %d", name, got, tt.want)
		}
	}
}

func TestSHA512TooMany(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("no panic for 5 streams")
		}
	}()
	SHA512(make([]Stream, Lanes+1)...)
}

func FuzzSHA512(f *testing.F) {
	f.Add([]byte("a"), random(200), random(300), random(1000))
	f.Fuzz(func(t *testing.T, a, b, c, d []byte) {
		var streams []Stream
		for _, p := range [][]byte{a, b, c, d} {
			streams = append(streams, Stream{sha512.New(), p})
		}
		SHA512(streams...)
		for _, s := range streams {
			if want := sha512.Sum512(s.Next); !bytes.Equal(s.Hash.Sum(nil), want[:]) {
				t.Errorf("%x: got %x, want %x", s.Next, s.Hash.Sum(nil), want)
			}
		}
	})
}
