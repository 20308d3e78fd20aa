package match

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// rare samples hardly any seed: what is found, is found without.
var rare = Effort{Sampling: 24}

// find returns the matches of a piece of a target.
func find(t *testing.T, base, target []byte, e Effort, lo, hi int) []Match {
	t.Helper()
	x, err := New(t.Context(), base, 1<<20, e, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	found, err := x.NewFinder(target, e).Find(t.Context(), lo, hi)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// A match reaches to the ends of base, target and piece, and not beyond.
func TestMatchEnds(t *testing.T) {
	base := random(1, 1000)
	for _, c := range []struct {
		name           string
		target         []byte
		b, t, done, hi int
		want           Match // none of length 0
	}{
		{"all", base, 100, 100, 0, 1000, Match{0, 0, 1000}},
		{"to the end of the piece", base, 100, 100, 0, 700, Match{0, 0, 700}},
		{"from what is done", base, 100, 100, 60, 1000, Match{60, 60, 940}},
		{"to the end of the base", slices.Concat(base, base[:40]), 500, 500, 0, 1040, Match{0, 0, 1000}},
		{"the last seed of the base", base[968:], 968, 0, 0, 32, Match{0, 968, 32}},
		{"behind the last seed of the base", base[969:], 969, 0, 0, 31, Match{}},
		{"the last seed of the piece", base, 100, 100, 100, 132, Match{100, 100, 32}},
		{"behind the last seed of the piece", base, 100, 100, 100, 131, Match{}},
		{"before the base", base, -1, 0, 0, 1000, Match{}},
		{"not the same", base, 100, 101, 0, 1000, Match{}},
		{"not the same at the seed's end", slices.Concat(base[:31], random(2, 100)), 0, 0, 0, 131, Match{}},
	} {
		f := (&Index{base: base}).NewFinder(c.target, rare)
		f.done = c.done
		end, want := f.match(c.b, c.t, c.hi), []Match{c.want}
		if c.want.Len == 0 {
			want = nil
		}
		if !slices.Equal(f.found, want) || end != c.want.Target+c.want.Len {
			t.Errorf("%s: %+v up to %d, want %+v", c.name, f.found, end, c.want)
		}
	}
}

// What base and target begin with, and end with, is found without samples.
func TestCommonEnds(t *testing.T) {
	base, other := random(1, 10_000), random(2, 5000)
	for _, c := range []struct {
		name   string
		target []byte
		lo, hi int
		want   []Match
	}{
		{"the beginning", slices.Concat(base[:1000], other), 0, 6000, []Match{{0, 0, 1000}}},
		{"the beginning of a piece, at its place", slices.Concat(other, base[5000:6000], other), 5000, 6000, []Match{{5000, 5000, 1000}}},
		{"the end", slices.Concat(other, base[9000:]), 0, 6000, []Match{{5000, 9000, 1000}}},
		{"the last 32 bytes", slices.Concat(other, base[9968:]), 0, 5032, []Match{{5000, 9968, 32}}},
		{"the last 31 bytes", slices.Concat(other, base[9969:]), 0, 5031, nil},
		{"both", slices.Concat(base[:1000], other, base[9000:]), 0, 7000, []Match{{0, 0, 1000}, {6000, 9000, 1000}}},
		{"both, and nothing between them", slices.Concat(base[:1000], base[9000:]), 0, 2000, []Match{{0, 0, 1000}, {1000, 9000, 1000}}},
	} {
		if got := find(t, base, c.target, rare, c.lo, c.hi); !slices.Equal(got, c.want) {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
}

// A piece that is one seed is found if the seed is sampled, as about one in four is.
func TestSingleSeeds(t *testing.T) {
	const n = 2000
	base := random(1, n+seedLen-1)
	e := Effort{Sampling: 2}
	x, err := New(t.Context(), base, 1<<20, e, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	found := 0
	for at := range n {
		// Another byte goes before, so that the piece is not looked up at its own place.
		target := slices.Concat(random(2, n), base[at:at+seedLen], base[:seedLen])
		matches, err := x.NewFinder(target, e).Find(t.Context(), n, n+seedLen)
		if err != nil || len(matches) > 0 && !slices.Equal(matches, []Match{{n, at, seedLen}}) {
			t.Fatalf("the seed at %d: %+v, %v", at, matches, err)
		}
		found += len(matches)
	}
	if found < n/5 || found > n/3 {
		t.Errorf("%d of %d seeds are found", found, n)
	}
}

// Of content that the base has twice, that where the last match would go on is
// taken, or else the one that stands first.
func TestWhichOfTwo(t *testing.T) {
	twice, own := random(1, 4000), random(2, 4000)
	base := slices.Concat(twice, own, twice)
	one := []byte{own[0] + 1}
	for _, c := range []struct {
		name   string
		target []byte
		want   Match // the last one
	}{
		{"after another match", slices.Concat(own[:3999], one, twice, one), Match{4000, 8000, 4000}},
		{"after nothing", slices.Concat(random(3, 5000), twice, one), Match{5000, 0, 4000}},
	} {
		got := find(t, base, c.target, Effort{Sampling: 4}, 0, len(c.target))
		if len(got) == 0 || got[len(got)-1] != c.want {
			t.Errorf("%s: %+v, want %+v in the end", c.name, got, c.want)
		}
	}
}

// The search ends with its context.
func TestFindCancelled(t *testing.T) {
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	base := random(1, 10_000)
	for _, c := range []struct {
		name   string
		target []byte
		effort Effort
	}{
		{"without the gap search", random(2, 10_000), Effort{Sampling: 4}},
		{"unrelated", random(2, 10_000), effort},
		{"a byte left out", slices.Concat(base[:100], base[101:]), effort},
		{"shorter than a seed", random(2, seedLen-1), effort},
	} {
		x, err := New(t.Context(), base, 0, c.effort, 1)
		if err != nil {
			t.Fatal(err)
		}
		defer x.Close()
		if found, err := x.NewFinder(c.target, c.effort).Find(cancelled, 0, len(c.target)); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %+v, %v", c.name, found, err)
		}
	}
}

// distinct returns a small base each of whose gap seeds has a slot of its own.
func distinct(t *testing.T) []byte {
	t.Helper()
	for seed := range uint64(1000) {
		g := gapSearch{base: random(seed, 64)}
		g.load(0, len(g.base))
		used := 0
		for _, e := range g.table {
			used += int(min(1, e))
		}
		if used == (len(g.base)-gapSeed)/gapStep+1 {
			return g.base
		}
	}
	t.Fatal("each base has two seeds in one slot")
	return nil
}

// The gap search takes what is as long as it was told to, at any place, and no more
// than its gap has.
func TestGapLengths(t *testing.T) {
	base := distinct(t)
	x, y := random(1002, 100), random(1003, 100)
	for _, c := range []struct {
		name   string
		target []byte
		lo, hi int
		want   Match // none of length 0
	}{
		{"the shortest", slices.Concat(x, base[21:32], y), 0, 211, Match{100, 21, 11}},
		{"too short", slices.Concat(x, base[20:30], y), 0, 210, Match{}},
		{"longer", slices.Concat(x, base[10:60], y), 0, 250, Match{100, 10, 50}},
		{"at the start", slices.Concat(base[21:32], y), 0, 111, Match{0, 21, 11}},
		{"at the end", slices.Concat(x, base[21:32]), 0, 111, Match{100, 21, 11}},
		{"all of the gap", base[21:32], 0, 11, Match{0, 21, 11}},
		{"all of a gap that is too short", base[20:30], 0, 10, Match{}},
		{"the end of the base", slices.Concat(x, base[53:], y), 0, 211, Match{100, 53, 11}},
		{"all of the base", slices.Concat(x, base, y), 0, 264, Match{100, 0, 64}},
		{"cut off at the gap's end", slices.Concat(x, base[10:60], y), 0, 130, Match{100, 10, 30}},
		{"cut off at the gap's start", slices.Concat(x, base[10:60], y), 130, 250, Match{130, 40, 20}},
	} {
		g := gapSearch{base: base, target: c.target, Effort: Effort{Gap: 11, Slack: 4000, Patience: 10}}
		g.search(c.lo, c.hi, unknown, unknown)
		want := []Match{c.want}
		if c.want.Len == 0 {
			want = nil
		}
		if !slices.Equal(g.found, want) {
			t.Errorf("%s: %+v, want %+v", c.name, g.found, want)
		}
	}
}

// The gap search looks where the matches around the gap lead to, and not far from
// there.
func TestGapPlaces(t *testing.T) {
	const far, slack = 500_000, 300
	base := random(1, 2*far)
	near := func(at int) []byte { return base[at : at+100] }
	junk := random(2, 200_000)
	e := Effort{Gap: 12, Slack: slack, Patience: 30}
	for _, c := range []struct {
		name          string
		target        []byte
		before, after int
		want          []Match
	}{
		{"the same place", near(0), unknown, unknown, []Match{{0, 0, 100}}},
		{"within the slack", near(slack - 100), unknown, unknown, []Match{{0, slack - 100, 100}}},
		{"beyond the slack", near(slack + 200), unknown, unknown, nil},
		{"known before", near(far), far, unknown, []Match{{0, far, 100}}},
		{"known after", near(far), unknown, far, []Match{{0, far, 100}}},
		{"before, known after too", slices.Concat(near(0), junk[:50]), 0, far, []Match{{0, 0, 100}}},
		{"after, known before too", slices.Concat(junk[:50], near(far)), 0, far - 50, []Match{{50, far, 100}}},
		{"one of each", slices.Concat(near(0), junk[:50], near(far)), 0, far - 150, []Match{{0, 0, 100}, {150, far, 100}}},
		{"the second is the first", slices.Concat(near(far), junk[:50], near(0)), -150, far, []Match{{150, 0, 100}}},
		{"in a long gap, at its start", slices.Concat(near(0), junk[:3*gapPiece]), 0, far, []Match{{0, 0, 100}}},
		{"in a long gap, at its end", slices.Concat(junk[:3*gapPiece], near(far)), 0, far - 3*gapPiece, []Match{{3 * gapPiece, far, 100}}},
		{"before the base", slices.Concat(junk[:50], near(0)), -50, -50, []Match{{50, 0, 100}}},
		{"far before the base", near(0), -far, -far, nil},
		{"at the base's end", near(2*far - 100), 2*far - 100, unknown, []Match{{0, 2*far - 100, 100}}},
		{"far behind the base", near(2*far - 100), 3 * far, unknown, nil},
	} {
		g := gapSearch{base: base, target: c.target, Effort: e}
		g.search(0, len(c.target), c.before, c.after)
		if !slices.Equal(g.found, c.want) {
			t.Errorf("%s: %+v, want %+v", c.name, g.found, c.want)
		}
	}
}

// Where the content shifts on and on, the place to look at follows it.
func TestGapFollows(t *testing.T) {
	const shift, slack, pieces = 10_000, 12_000, 6
	base := random(1, pieces*(gapPiece+shift))
	var target []byte
	for i := range pieces {
		target = append(target, base[i*(gapPiece+shift):][:gapPiece]...)
	}
	g := gapSearch{base: base, target: target, Effort: Effort{Gap: 12, Slack: slack, Patience: 10}}
	g.search(0, len(target), 0, (pieces-1)*shift)
	sum := 0
	for _, m := range g.found {
		sum += m.Len
	}
	if sum < len(target)-100 {
		t.Errorf("%d bytes of %d are found", sum, len(target))
	}
}

// Bytes with the hash of others are not taken for them.
func TestGapCollision(t *testing.T) {
	base := random(1, 64)
	g := gapSearch{base: base, Effort: Effort{Gap: gapSeed, Slack: 1000, Patience: 30}}
	g.load(0, len(base))
	target, n := make([]byte, gapSeed), uint64(0)
	for collides := false; !collides; {
		n++
		h := gapHash(n)
		e := g.table[h>>g.shift]
		collides = e != 0 && uint16(e) == uint16(h)
	}
	binary.LittleEndian.PutUint64(target, n)
	g.target = target
	if g.search(0, gapSeed, unknown, unknown); len(g.found) > 0 {
		t.Errorf("% x is taken for one of the base: %+v", target, g.found)
	}
}

// A base that is larger than a slot can tell is refused before it is read.
func TestTooLargeBase(t *testing.T) {
	base, err := syscall.Mmap(-1, 0, MaxBase+1, syscall.PROT_NONE, syscall.MAP_ANON|syscall.MAP_PRIVATE|syscall.MAP_NORESERVE)
	if err != nil {
		t.Skip("there is no room for so many addresses: ", err)
	}
	defer syscall.Munmap(base)
	if _, err := New(t.Context(), base, 0, rare, 1); err == nil || !strings.Contains(err.Error(), "1099511627776") {
		t.Errorf("%v", err)
	}
}
