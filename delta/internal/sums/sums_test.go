package sums

import (
	"bytes"
	"encoding/hex"
	"math/rand/v2"
	"testing"
)

func random(n int) []byte {
	r := rand.New(rand.NewPCG(1, uint64(n)))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// byDefinition computes a sum as the package's documentation defines it.
func byDefinition(k Weak, x []byte) uint32 {
	if k == RabinKarp {
		h := uint32(1)
		for range x {
			h *= mult
		}
		for i, c := range x {
			m := uint32(1)
			for range len(x) - 1 - i {
				m *= mult
			}
			h += uint32(c) * m
		}
		return h
	}
	var a, b uint16
	for i, c := range x {
		a += uint16(c) + 31
		b += uint16(len(x)-i) * (uint16(c) + 31)
	}
	return uint32(b)<<16 | uint32(a)
}

var kinds = map[string]Weak{"rollsum": Rollsum, "RabinKarp": RabinKarp}

func TestSum(t *testing.T) {
	for name, k := range kinds {
		for _, n := range []int{0, 1, 7, 8, 9, 15, 16, 17, 100, 2048} {
			for _, x := range [][]byte{random(n), make([]byte, n), bytes.Repeat([]byte{0xff}, n)} {
				if got, want := k.Sum(x), byDefinition(k, x); got != want {
					t.Errorf("%s of %d bytes: %08x, want %08x", name, n, got, want)
				}
			}
		}
	}
}

func TestRoll(t *testing.T) {
	data := random(5000)
	for name, k := range kinds {
		for _, n := range []int{1, 2, 3, 128, 1000, 4990} {
			r := k.NewRoller(n)
			for _, count := range []int{1, 2, 3, 8, 11} {
				sums := make([]uint32, count)
				sums[0] = k.Sum(data[:n])
				r.Roll(sums, data[:n+count-1])
				for i, got := range sums {
					if want := k.Sum(data[i : i+n]); got != want {
						t.Errorf("%s, %d bytes at %d: %08x, want %08x", name, n, i, got, want)
					}
				}
			}
		}
	}
}

func TestSuffix(t *testing.T) {
	data := random(500)
	yes := func([]byte) bool { return true }
	for name, k := range kinds {
		for _, c := range []struct {
			name   string
			of     []byte
			most   int
			accept func([]byte) bool
			want   int
		}{
			{"one byte", data[499:], 500, yes, 1},
			{"many", data[100:], 500, yes, 400},
			{"all", data, 500, yes, 500},
			{"more than there is", data, 1000, yes, 500},
			{"too long", data[100:], 399, yes, 0},
			{"not the end", data[100:499], 500, yes, 0},
			{"another strong sum", data[100:], 500, func([]byte) bool { return false }, 0},
		} {
			if got := k.Suffix(data, c.most, k.Sum(c.of), c.accept); got != c.want {
				t.Errorf("%s, %s: %d, want %d", name, c.name, got, c.want)
			}
		}
	}
}

// The values are those of RFC 1320 and of b2sum -l 256.
func TestStrong(t *testing.T) {
	for _, c := range []struct {
		md4  bool
		want string
	}{
		{true, "a448017aaf21d8525fc10ae87aa6729d"},
		{false, "bddd813c634239723171ef3fee98579b94964e3bb1cb3e427262c8c068d52319"},
	} {
		s := NewStrong(c.md4)
		for range 2 {
			if got := hex.EncodeToString(s.Sum([]byte("abc"))); got != c.want || len(got) != 2*StrongLen(c.md4) {
				t.Errorf("MD4 %v: %s, want %s", c.md4, got, c.want)
			}
		}
	}
}

func BenchmarkRoll(b *testing.B) {
	data := random(2048 + 1024)
	sums := make([]uint32, 1024)
	for name, k := range kinds {
		r := k.NewRoller(2048)
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(sums)))
			for b.Loop() {
				r.Roll(sums, data)
			}
		})
	}
}
