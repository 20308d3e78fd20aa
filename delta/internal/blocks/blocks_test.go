package blocks

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"puavo-image-repository/delta/internal/match"
	"puavo-image-repository/delta/internal/sums"
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

var form = Form{Weak: sums.RabinKarp, BlockLen: 64, StrongLen: 32}

// sumsOf returns the sums of a base.
func sumsOf(f Form, base []byte) (b []byte) {
	strong := sums.NewStrong(f.MD4)
	for block := range slices.Chunk(base, f.BlockLen) {
		b = binary.BigEndian.AppendUint32(b, f.Weak.Sum(block))
		b = append(b, strong.Sum(block)[:f.StrongLen]...)
	}
	return b
}

func newTable(t testing.TB, f Form, base []byte) *Table {
	t.Helper()
	table, err := New(t.Context(), f, sumsOf(f, base), 2)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(table.Close)
	return table
}

// The table does not depend on how many cores fill it.
func TestNewOnCores(t *testing.T) {
	s := sumsOf(form, random(1, 1<<20))
	want, err := New(t.Context(), form, s, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer want.Close()
	for _, cores := range []int{2, 3, 7, 100} {
		x, err := New(t.Context(), form, s, cores)
		if err != nil || !slices.Equal(x.slots, want.slots) || !slices.Equal(x.filter, want.filter) {
			t.Errorf("%d cores: another table, %v", cores, err)
		}
		x.Close()
	}
}

func TestCancelled(t *testing.T) {
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	base := random(1, 10_000)
	if _, err := New(cancelled, form, sumsOf(form, base), 2); !errors.Is(err, context.Canceled) {
		t.Errorf("New: %v", err)
	}
	for name, b := range map[string][]byte{"some blocks": base, "no blocks": nil} {
		if _, err := newTable(t, form, b).NewFinder(base).Find(cancelled, 0, len(base)); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: Find: %v", name, err)
		}
	}
}

func TestFind(t *testing.T) {
	a, b := random(1, 64*100), random(2, 1000)
	short := a[:64*99+10]
	zeros := make([]byte, 64*50)
	cat := func(parts ...[]byte) []byte { return slices.Concat(parts...) }
	type place struct{ Target, Base, Len int }
	for _, c := range []struct {
		name         string
		base, target []byte
		lo, hi       int
		want         []place
	}{
		{"identical", a, a, 0, len(a), []place{{0, 0, len(a)}}},
		{"short last block", short, short, 0, len(short), []place{{0, 0, len(short)}}},
		{"short last block alone", short, cat(b, short[64*99:]), 0, 1010, []place{{1000, 64 * 99, 10}}},
		{"short last block before lo", short, cat(b, short[64*99:]), 1005, 1010, []place{{1000, 64 * 99, 10}}},
		{"short last block of the next piece", short, cat(b, short[64*99:]), 0, 1000, nil},
		{"short last block not at the end", short, cat(short[64*99:], b), 0, 1010, nil},
		{"shorter than a block", a[:10], a[:10], 0, 10, []place{{0, 0, 10}}},
		{"nothing", a, nil, 0, 0, nil},
		{"of nothing", nil, a, 0, len(a), nil},
		{"unrelated", a, b, 0, len(b), nil},
		{"inserted", a, cat(a[:640], b, a[640:]), 0, len(a) + 1000, []place{{0, 0, 640}, {1640, 640, len(a) - 640}}},
		{"at the last position", a, cat(b, a[:64]), 0, 1064, []place{{1000, 0, 64}}},
		{"a piece without its beginning", a, cat(a[:320], b), 100, 300, []place{{128, 128, 192}}},
		{"a byte short of a block", a, a[:703:703], 0, 703, []place{{0, 0, 640}}},
		{"a piece shorter than a block, at the end", a, b[:100:100], 100 - 63, 100, nil},
		{"beyond the piece", a, a, 0, 1, []place{{0, 0, len(a)}}},
		{"changed in place", a, cat(a[:64*3], b[:64], a[64*4:]), 0, len(a), []place{{0, 0, 64 * 3}, {64 * 4, 64 * 4, 64 * 96}}},
		{"zeros follow each other", cat(zeros, a), cat(zeros, a), 0, len(a) + len(zeros), []place{{0, 0, len(a) + len(zeros)}}},
		{"zeros changed in place", zeros, cat(zeros[:640], b[:64], zeros[:640]), 0, 1344, []place{{0, 0, 640}, {704, 704, 640}}},
	} {
		for name, f := range map[string]Form{
			"RabinKarp, BLAKE2": form,
			"rollsum, MD4":      {sums.Rollsum, true, 64, 8},
		} {
			matches, err := newTable(t, f, c.base).NewFinder(c.target).Find(t.Context(), c.lo, c.hi)
			var found []place
			for _, m := range matches {
				found = append(found, place(m))
			}
			if err != nil || !slices.Equal(found, c.want) {
				t.Errorf("%s, %s: %v, %v; want %v", name, c.name, found, err, c.want)
			}
		}
	}
}

// A block whose weak sum is that of a window, and whose strong sum is not, is no
// match, also where it would go on with one.
func TestStrongSumDecides(t *testing.T) {
	f := Form{Weak: sums.Rollsum, BlockLen: 64, StrongLen: 32}
	base := random(1, 64*3)
	base[70], base[71], base[72] = 10, 20, 30
	target := slices.Clone(base)
	target[70], target[71], target[72] = 11, 18, 31 // both halves of rollsum stay
	if f.Weak.Sum(base[64:128]) != f.Weak.Sum(target[64:128]) {
		t.Fatal("the weak sums differ: the test shows nothing")
	}
	for _, c := range []struct {
		name   string
		lo, hi int
		want   []match.Match
	}{
		{"in a run", 0, 192, []match.Match{{Target: 0, Base: 0, Len: 64}, {Target: 128, Base: 128, Len: 64}}},
		{"alone", 64, 65, nil},
	} {
		found, err := newTable(t, f, base).NewFinder(target).Find(t.Context(), c.lo, c.hi)
		if err != nil || !slices.Equal(found, c.want) {
			t.Errorf("%s: %+v, %v; want %+v", c.name, found, err, c.want)
		}
	}
}

func TestPower(t *testing.T) {
	for n, want := range map[int]int{0: 1, 1: 1, 2: 2, 3: 4, 4096: 4096, 4097: 8192} {
		if got := power(n); got != want {
			t.Errorf("of %d: %d, want %d", n, got, want)
		}
	}
}

// Where all weak sums are one, the table stays small and usable.
func TestEqualWeakSums(t *testing.T) {
	s := random(1, 36*5000)
	for i := 0; i < len(s); i += 36 {
		copy(s[i:], "same")
	}
	x, err := New(t.Context(), form, s, 2)
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	n := 0
	for _, e := range x.slots {
		n += min(1, int(e))
	}
	if n != maxProbes {
		t.Errorf("%d slots are in use, want %d", n, maxProbes)
	}
}

// Every block is found again, however full the table is, unless it is equal to
// another.
func TestAllAreFound(t *testing.T) {
	for _, n := range []int{1, 2, 2730, 2731, 50_000} {
		base := random(uint64(n), 8*n)
		f := Form{Weak: sums.RabinKarp, BlockLen: 8, StrongLen: 16}
		x := newTable(t, f, base)
		for b := range n {
			weak := x.weak(b)
			_, got := x.probe(hash(weak), weak, func(have int) bool { return bytes.Equal(x.strong(have), x.strong(b)) })
			if got != b || x.filter[hash(weak)>>x.filterShift]&mask(hash(weak)) != mask(hash(weak)) {
				t.Fatalf("block %d of %d: found %d", b, n, got)
			}
		}
	}
}

func BenchmarkFind(b *testing.B) {
	base := random(1, 64<<20)
	for _, n := range []int{128, 2048} {
		f := Form{Weak: sums.RabinKarp, BlockLen: n, StrongLen: 32}
		x := newTable(b, f, base)
		for name, target := range map[string][]byte{"unrelated": random(2, 16<<20), "identical": base[:16<<20]} {
			b.Run(name, func(b *testing.B) {
				b.SetBytes(int64(len(target)))
				for b.Loop() {
					if _, err := x.NewFinder(target).Find(b.Context(), 0, len(target)); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// colliding returns the sums of a base that begins with so many blocks that are no
// block of zeros, but have its weak sum, and goes on with one of zeros.
func colliding(decoys int) []byte {
	zeros := sumsOf(form, make([]byte, form.BlockLen))
	strong := random(9, 32*decoys)
	var s []byte
	for i := range decoys {
		s = append(append(s, zeros[:weakLen]...), strong[32*i:][:32]...)
	}
	return append(s, zeros...)
}

// Where somebody made weak sums collide, few windows are summed for nothing, and of
// many blocks that could be meant few are looked at.
func TestCollisions(t *testing.T) {
	for _, c := range []struct {
		name    string
		decoys  int
		real    bool // the block of zeros is there too
		windows int
		matches int
	}{
		{"some decoys", 3, true, 10_000, 10_000 / 64},
		{"some decoys and no block", 3, false, 10_000, 0},
		{"many decoys and no block", 400, false, 10_000, 0},
		{"more than are looked at", 600, true, 10_000, 0},
	} {
		s := colliding(c.decoys)
		if !c.real {
			s = s[:len(s)-weakLen-form.StrongLen]
		}
		x, err := New(t.Context(), form, s, 2)
		if err != nil {
			t.Fatal(err)
		}
		defer x.Close()
		f := x.NewFinder(make([]byte, c.windows))
		found, err := f.Find(t.Context(), 0, c.windows)
		length := 0
		for _, m := range found {
			length += m.Len
		}
		if err != nil || length/form.BlockLen != c.matches {
			t.Errorf("%s: %d blocks are found, want %d, %v", c.name, length/form.BlockLen, c.matches, err)
		}
		if most := form.BlockLen + maxProbes*form.StrongLen; f.idle < -most {
			t.Errorf("%s: %d bytes more than may be are summed", c.name, -f.idle)
		}
	}
}

// After too much was done for nothing the rest of a piece is left, and the next
// piece is searched again.
func TestCollisionsEnd(t *testing.T) {
	const n = 20_000
	base := random(1, form.BlockLen)
	s := append(colliding(500)[:500*36], sumsOf(form, base)...)
	x, err := New(t.Context(), form, s, 2)
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	target := slices.Concat(make([]byte, n), base, base, make([]byte, n))
	f := x.NewFinder(target)
	for _, c := range []struct{ lo, hi, matches int }{
		{0, len(target), 0},
		{n - 10, n + 10, 1},
		{n, n + 2*form.BlockLen, 2},
	} {
		found, err := f.Find(t.Context(), c.lo, c.hi)
		if err != nil || len(found) != c.matches {
			t.Errorf("from %d to %d: %v, %v", c.lo, c.hi, found, err)
		}
	}
}

// Not all ends of a target are summed, where all have the weak sum of the base's
// last block.
func TestCollidingEnds(t *testing.T) {
	const six = "Y;:i{F" // RabinKarp takes it, however often it stands, for nothing
	f := Form{Weak: sums.RabinKarp, BlockLen: 6000, StrongLen: 32}
	for _, c := range []struct {
		name  string
		times int // that six stands in the last block
		found bool
	}{
		{"an early end", 1, true},
		{"the last end that is summed", maxEnds, true},
		{"an end behind", maxEnds + 1, false},
	} {
		base := slices.Concat(random(1, f.BlockLen), bytes.Repeat([]byte(six), c.times))
		target := bytes.Repeat([]byte(six), 900)
		found, err := newTable(t, f, base).NewFinder(target).Find(t.Context(), 0, len(target))
		if err != nil || (len(found) == 1 && found[0].Len == 6*c.times) != c.found {
			t.Errorf("%s: %v, %v", c.name, found, err)
		}
	}
}
