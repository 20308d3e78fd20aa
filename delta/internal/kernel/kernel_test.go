package kernel

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"puavo-image-repository/delta/mmap"
)

// random returns n bytes that are the same in every run.
func random(seed uint64, n int) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// each calls do with the assembly, if there is any, and with Go alone.
func each(t *testing.T, do func(t *testing.T)) {
	has := hasAVX2
	defer func() { hasAVX2 = has }()
	for _, on := range slices.Compact([]bool{has, false}) {
		hasAVX2 = on
		t.Run(fmt.Sprintf("AVX2=%v", on), do)
	}
}

// A bit says what the product of four bytes says, for all numbers of places, and the
// bits of places behind the last are not set.
func TestSampled(t *testing.T) {
	each(t, func(t *testing.T) {
		data := random(1, 2000)
		for _, threshold := range []int32{math.MinInt32, math.MinInt32 + 1<<28, 0, math.MaxInt32} {
			for n := range 300 {
				at := n % 41
				mask := slices.Repeat([]uint32{0xa5a5a5a5}, n/32+2)
				Sampled(mask, data[at:at+n+3], n, threshold)
				for i := range (n + 31) / 32 * 32 {
					product := binary.LittleEndian.Uint32(data[at+i:]) * multiplier
					want := i < n && int32(product) < threshold
					if got := mask[i/32]>>(i%32)&1 == 1; got != want {
						t.Fatalf("threshold %d, %d places: place %d is sampled: %v", threshold, n, i, got)
					}
				}
				if mask[(n+31)/32] != 0xa5a5a5a5 {
					t.Fatalf("%d places: a word more is written", n)
				}
			}
		}
	})
}

// Four bytes that stand again are found at every distance up to the largest, at the
// first place of the step, and never in bytes that are not there.
func TestRecur(t *testing.T) {
	each(t, func(t *testing.T) {
		for distance := 1; distance <= MaxPeriod+1; distance++ {
			for _, place := range []int{0, 60, 240} {
				data := make([]byte, 400)
				for i := range data {
					data[i] = byte(i%125 + 1) // recurs at no smaller distance
				}
				copy(data[place+distance:], []byte{200, 200, 200, 200}[:min(4, len(data)-place-distance)])
				copy(data[place:], []byte{200, 200, 200, 200}[:min(4, distance)])
				if distance < 4 {
					for i := range distance + 4 {
						data[place+i] = 200
					}
				}
				want := place
				if distance > MaxPeriod {
					want = -1
				}
				if got := Recur(data, 60); got != want {
					t.Errorf("distance %d, place %d: found at %d", distance, place, got)
				}
				if got := Recur(data[:place+RecurAhead-1], 60); got != -1 {
					t.Errorf("distance %d, place %d: found at %d, where the data ends early", distance, place, got)
				}
			}
		}
		if got := Recur(make([]byte, RecurAhead), 60); got != 0 {
			t.Errorf("zeros: found at %d", got)
		}
	})
}

// Three bytes that stand again are not enough, whichever they are.
func TestRecurThreeOfFour(t *testing.T) {
	each(t, func(t *testing.T) {
		for distance := 4; distance <= MaxPeriod; distance++ {
			for other := range 4 {
				data := make([]byte, RecurAhead)
				for i := range data {
					data[i] = byte(i + 100)
				}
				copy(data[distance:], data[:4])
				data[distance+other]++
				if got := Recur(data, 60); got != -1 {
					t.Fatalf("distance %d, byte %d differs: found at %d", distance, other, got)
				}
			}
		}
	})
}

// A file that became shorter is an error also while assembly reads it.
func TestChanged(t *testing.T) {
	each(t, func(t *testing.T) {
		for name, look := range map[string]func(data []byte){
			"sampled": func(data []byte) { Sampled(make([]uint32, len(data)/32), data, len(data)-3, 0) },
			"recur":   func(data []byte) { Recur(data, 60) },
		} {
			path := filepath.Join(t.TempDir(), "file")
			if err := os.WriteFile(path, random(1, 64<<10), 0o666); err != nil {
				t.Fatal(err)
			}
			data, unmap, err := mmap.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer unmap()
			if err := os.Truncate(path, 0); err != nil {
				t.Fatal(err)
			}
			if err := mmap.Guard(func() error { look(data); return nil }); err == nil {
				t.Errorf("%s: no error", name)
			}
		}
	})
}

func BenchmarkSampled(b *testing.B) {
	data, mask := random(1, 64<<10), make([]uint32, 2<<10)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		Sampled(mask, data, len(data)-3, math.MinInt32+1<<26)
	}
}

func BenchmarkRecur(b *testing.B) {
	data := random(1, 64<<10)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		Recur(data, 60)
	}
}
