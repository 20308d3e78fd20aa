package match

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"puavo-image-repository/delta/mmap"
)

var effort = Effort{Sampling: 4, Gap: 12, Slack: 8 << 10, Patience: 10}

// random returns n bytes that are the same in every run.
func random(seed uint64, n int) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// The index does not depend on how many parts of the base are read at a time.
func TestNewInParts(t *testing.T) {
	base := slices.Concat(random(1, 3<<20), make([]byte, 1<<20), random(1, 2<<20), random(2, 1<<20+77))
	const memory = 16 << 20 // so that some of the seeds that span two parts are sampled
	want, err := New(t.Context(), base, memory, effort, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer want.Close()
	for _, parts := range []int{2, 3, 7, 100} {
		x, err := New(t.Context(), base, memory, effort, parts)
		if err != nil || !slices.Equal(x.slots, want.slots) {
			t.Errorf("%d parts: another index, %v", parts, err)
		}
	}
	for _, each := range []int{1, 31, 4096, step - 1, step, len(base)} {
		x, err := Begin(base, memory, effort)
		if err != nil {
			t.Fatal(err)
		}
		defer x.Close()
		whole := x.From(0)
		for lo := 0; lo < len(base) && err == nil; { // short parts for a while, then long ones
			hi := min(lo+max(each, lo/2), len(base))
			err = whole.To(t.Context(), hi)
			lo = hi
		}
		if err != nil || !slices.Equal(x.slots, want.slots) {
			t.Errorf("in steps of %d: another index, %v", each, err)
		}
	}
}

func TestNewFails(t *testing.T) {
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := New(cancelled, random(1, 1000), 0, effort, 2); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	x, err := Begin(random(1, 1000), 0, effort)
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	if err := x.From(0).To(cancelled, 1000); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled step: %v", err)
	}
}

func TestGeometry(t *testing.T) {
	const mi, gi = 1 << 20, 1 << 30
	for _, c := range []struct{ size, memory int64 }{
		{0, 0}, {1, 1}, {mi, mi}, {gi, 64 * mi}, {10 * gi, 256 * mi}, {100 * gi, 64 * mi}, {MaxBase, mi}, {gi, 1000 * gi},
	} {
		slots, sampling := geometry(c.size, c.memory, 4)
		if slots*8 > max(c.memory, MinMemory) {
			t.Errorf("%+v: %d slots are more than the memory", c, slots)
		}
		if slots&(slots-1) != 0 || sampling < 4 || sampling > 31 {
			t.Errorf("%+v: %d slots, sampling %d", c, slots, sampling)
		}
		if slots < 2*(c.size>>sampling) {
			t.Errorf("%+v: %d slots for %d samples", c, slots, c.size>>sampling)
		}
	}
}

// Matches are in order, do not overlap, stay in their piece, and are right.
func TestFind(t *testing.T) {
	base := random(1, 1<<20)
	target := slices.Concat(base[500_000:], random(2, 10_000), base[:500_000])
	for i := 1000; i < len(target); i += 5000 {
		target[i]++
	}
	for _, e := range []Effort{{Sampling: 6}, effort, {Sampling: 3, Gap: 10, Slack: 64 << 10, Patience: 14}} {
		x, err := New(t.Context(), base, 1<<20, e, 2)
		if err != nil {
			t.Fatal(err)
		}
		defer x.Close()
		f := x.NewFinder(target, e)
		for _, piece := range [][2]int{{0, len(target)}, {0, 10}, {0, 0}, {300_001, 600_000}, {1 << 19, len(target)}} {
			found, err := f.Find(t.Context(), piece[0], piece[1])
			if err != nil {
				t.Fatal(err)
			}
			at, sum := piece[0], 0
			for _, m := range found {
				if m.Target < at || m.Len <= 0 || m.Target+m.Len > piece[1] || !bytes.Equal(base[m.Base:m.Base+m.Len], target[m.Target:m.Target+m.Len]) {
					t.Fatalf("%+v, piece %v: %+v after %d", e, piece, m, at)
				}
				at = m.Target + m.Len
				sum += m.Len
			}
			if n := piece[1] - piece[0]; n > 1000 && sum < n-12_000-n/100 {
				t.Errorf("%+v, piece %v: only %d bytes match", e, piece, sum)
			}
		}
	}
}

// What changed in place is found again to the byte, where the first pass has no
// samples.
func TestGapSearch(t *testing.T) {
	base := random(1, 200_000)
	x, err := New(t.Context(), base, 0, effort, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	for _, at := range []int{0, 100_000, 190_000} {
		target := slices.Clone(base)
		for i := at; i < at+10_000; i += 50 {
			target[i]++
			target[i+49]++
		}
		sum := func(e Effort) (n int) {
			found, err := x.NewFinder(target, e).Find(t.Context(), 0, len(target))
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range found {
				n += m.Len
			}
			return n
		}
		if n := len(target) - sum(effort); n > 600 {
			t.Errorf("%d bytes without a match, of which 400 changed, from %d", n, at)
		}
		without := effort
		without.Gap = 0
		if n := len(target) - sum(without); n < 1000 {
			t.Errorf("the first pass alone leaves only %d bytes, from %d: the test shows nothing", n, at)
		}
	}
}

// Places behind 4 GiB are found as any.
func TestFarOffsets(t *testing.T) {
	const far = 5 << 30
	f, err := os.Create(filepath.Join(t.TempDir(), "sparse"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	content := random(1, 100_000)
	// The zeros before it end early: to look at all of them as a run takes long.
	if _, err := f.WriteAt(slices.Concat(random(3, 1000), content), far-1000); err != nil {
		t.Fatal(err)
	}
	base, err := syscall.Mmap(int(f.Fd()), 0, far+len(content), syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Munmap(base)
	// Only the content is indexed: to read all the zeros takes long.
	x := &Index{base: base, slots: make([]uint64, 1<<13), threshold: threshold(4)}
	if err := x.From(far).To(t.Context(), len(base)); err != nil {
		t.Fatal(err)
	}
	target := slices.Concat(random(2, 1000), content[50_000:], content[:50_000])
	found, err := x.NewFinder(target, effort).Find(t.Context(), 0, len(target))
	if err != nil || len(found) != 2 || found[0].Base+found[0].Len != far+100_000 || found[1].Base != far {
		t.Errorf("%+v, %v", found, err)
	}
}

func TestCommon(t *testing.T) {
	a := random(1, 5000)
	for _, n := range []int{0, 1, 7, 8, 9, 63, 127, 128, 135, 136, 137, 639, 640, 648, 649, 1160, 1161, 4999, 5000} {
		b := slices.Clone(a)
		if n < len(b) {
			b[n]++
		}
		if got := commonPrefix(a, b); got != n {
			t.Errorf("prefix of %d: %d", n, got)
		}
		slices.Reverse(b)
		c := slices.Clone(a)
		slices.Reverse(c)
		if got := commonSuffix(c, b); got != n {
			t.Errorf("suffix of %d: %d", n, got)
		}
		if got := commonPrefix(a[:n], a); got != n {
			t.Errorf("prefix of all %d: %d", n, got)
		}
		if got := commonSuffix(a[len(a)-n:], a); got != n {
			t.Errorf("suffix of all %d: %d", n, got)
		}
	}
}

func TestParallel(t *testing.T) {
	one, two := errors.New("one"), errors.New("two")
	errs := []error{nil, one, two}
	if err := Parallel([]int{0, 2, 1}, func(i int) error { return errs[i] }); err != two {
		t.Errorf("got %v, want the first in order", err)
	}
	if err := Parallel(nil, nil); err != nil {
		t.Error(err)
	}
}

// A file cut short is an error, in each of the goroutines.
func TestParallelGuards(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, make([]byte, 1<<20), 0o666); err != nil {
		t.Fatal(err)
	}
	data, unmap, err := mmap.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer unmap()
	if err := os.Truncate(path, 10); err != nil {
		t.Fatal(err)
	}
	ends := make([]byte, 2)
	err = Parallel([]int{0, 1}, func(i int) error { ends[i] = data[len(data)-1-i]; return nil })
	if !errors.Is(err, mmap.ErrChanged) {
		t.Errorf("got %v", err)
	}
}

func BenchmarkNew(b *testing.B) {
	base := random(1, 64<<20)
	b.SetBytes(int64(len(base)))
	for b.Loop() {
		if _, err := New(b.Context(), base, 16<<20, effort, 1); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkFind(b *testing.B) {
	base := random(1, 64<<20)
	x, err := New(b.Context(), base, 16<<20, effort, 2)
	if err != nil {
		b.Fatal(err)
	}
	defer x.Close()
	changed := slices.Clone(base)
	for i := 0; i < len(changed); i += 4000 {
		changed[i]++
	}
	for _, c := range []struct {
		name   string
		target []byte
		effort Effort
	}{
		{"unrelated seeds", random(2, 64<<20), Effort{Sampling: 4}},
		{"unrelated", random(2, 64<<20), effort},
		{"changed", changed, effort},
		{"identical", base, effort},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.SetBytes(int64(len(c.target)))
			f := x.NewFinder(c.target, c.effort)
			for b.Loop() {
				if _, err := f.Find(b.Context(), 0, len(c.target)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
