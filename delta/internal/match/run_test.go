package match

import (
	"bytes"
	"slices"
	"testing"

	"puavo-image-repository/delta/internal/kernel"
)

// repeated returns n bytes of a period of random bytes.
func repeated(period, n int) []byte {
	return bytes.Repeat(random(uint64(100+period), period), n/period+1)[:n]
}

// between returns a run between other bytes, none of which goes on with it.
func between(before, period, n, after int) []byte {
	data := slices.Concat(random(1, before), repeated(period, n), random(2, after))
	if before > 0 {
		data[before-1] = data[before-1+period] + 1
	}
	if after > 0 {
		data[before+n] = data[before+n-period] + 1
	}
	return data
}

// A run of every period is found from its first byte to its last, wherever it stands,
// by the first place that it covers, as soon as it is long enough.
func TestNextRun(t *testing.T) {
	for period := 1; period <= kernel.MaxPeriod+1; period++ {
		for _, n := range []int{leastRun - 1, leastRun, leastRun + 1, 1000} {
			for _, before := range []int{0, 1, 59, 60, 61, 500} {
				data := between(before, period, n, 300)
				got := nextRun(data, 0, len(data))
				want := run{start: before, end: before + n, period: period, place: got.place}
				if n < leastRun || period > kernel.MaxPeriod {
					want = run{}
				}
				if got != want {
					t.Errorf("period %d, %d bytes behind %d: %+v, want %+v", period, n, before, got, want)
				}
			}
		}
	}
}

// A run that begins before the end of the search is found, as is one that the data
// ends in; one that begins behind it need not be.
func TestNextRunAtTheEnd(t *testing.T) {
	for before := range 200 {
		data := between(before, 64, leastRun, 300)
		if r := nextRun(data, 0, before+1); r.length() < leastRun {
			t.Errorf("%d bytes before it: not found", before)
		}
		if r := nextRun(data[:before+leastRun], 0, before+1); r.length() < leastRun {
			t.Errorf("%d bytes before it, none behind: not found", before)
		}
		if r := nextRun(data[:before+leastRun-1], 0, len(data)); r.length() > 0 {
			t.Errorf("%d bytes before it, cut short: %+v", before, r)
		}
	}
}

// Runs that repeat the same bytes have the same key, wherever in the period they begin;
// others do not.
func TestRunKey(t *testing.T) {
	keys := make(map[uint64]int)
	for period := 1; period <= kernel.MaxPeriod; period++ {
		data := repeated(period, 300)
		want := run{0, 300, period, 0}.key(data)
		for start := range period {
			if got := (run{start, 300, period, 0}).key(data); got != want {
				t.Errorf("period %d from its byte %d: another key", period, start)
			}
		}
		if other, taken := keys[want]; taken {
			t.Errorf("periods %d and %d have one key", other, period)
		}
		keys[want] = period
	}
}

// Of runs that repeat the same bytes, the longest is kept, and of those as long as it
// the first, in whatever order they come.
func TestLongestRun(t *testing.T) {
	base := slices.Concat(repeated(5, 200), random(1, 99), repeated(5, 400), random(2, 50), repeated(5, 400), repeated(7, 300))
	want := run{299, 699, 5, 0}
	for _, order := range [][]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}} {
		x := Index{base: base}
		for _, i := range order {
			x.runs.add(base, []run{{0, 200, 5, 0}, want, {749, 1149, 5, 0}}[i])
		}
		if got := x.findRun(base, run{0, 200, 5, 0}); got != want {
			t.Errorf("in the order %v: %+v, want %+v", order, got, want)
		}
		if got := x.findRun(base, run{2, 200, 5, 0}); got != (run{301, 699, 5, 0}) {
			t.Errorf("from its third byte on: %+v", got)
		}
		if got := x.findRun(base, run{1149, 1449, 7, 0}); got.length() > 0 {
			t.Errorf("another run: %+v", got)
		}
	}
}

// The longest runs, like the seeds, do not depend on the parts of the base that are
// read at a time, nor on where runs lie at the borders of parts.
func TestRunsInParts(t *testing.T) {
	var base []byte
	for i := range 400 {
		base = slices.Concat(base, repeated(1+i%64, 60+i*17), random(uint64(i), i*7%900))
	}
	base = slices.Concat(base, make([]byte, 300_000), random(1, step))
	want, err := New(t.Context(), base, 1<<20, effort, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer want.Close()
	withoutPlace := func(rs *runs) (list []run) {
		for _, r := range rs.table {
			r.place = 0
			list = append(list, r)
		}
		return list
	}
	for _, size := range []int{1000, 4099, 65536, 1_000_003} {
		x := &Index{base: base, slots: make([]uint64, len(want.slots)), threshold: want.threshold}
		for lo := 0; lo < len(base); lo += size {
			if err := x.From(lo).To(t.Context(), min(lo+size, len(base))); err != nil {
				t.Fatal(err)
			}
		}
		if !slices.Equal(x.slots, want.slots) {
			t.Errorf("parts of %d bytes: other seeds", size)
		}
		if !slices.Equal(withoutPlace(&x.runs), withoutPlace(&want.runs)) {
			t.Errorf("parts of %d bytes: other runs", size)
		}
	}
}

// No seed within a run takes a slot, but those at its ends do.
func TestRunHasNoSeeds(t *testing.T) {
	e := Effort{Sampling: 1}
	run := repeated(48, 100_000)
	base := slices.Concat(random(1, 1000), run, random(2, 1000))
	x, err := New(t.Context(), base, 1<<20, e, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	ends := 0
	for _, slot := range x.slots {
		at := int(slot&MaxBase) - 1
		if at >= 1000 && at+seedLen < 101_000 {
			t.Errorf("a seed within the run, at %d", at)
		}
		if at >= 0 && (at < 1000 && at+seedLen > 1000 || at < 101_000 && at+seedLen > 101_000) {
			ends++
		}
	}
	if ends < 10 {
		t.Errorf("%d seeds at the ends of the run", ends)
	}
}

// A run of the target is made of the base's longest, from the right byte of its period
// on, unless the base has it where the match beside it would go on.
func TestFill(t *testing.T) {
	long := repeated(12, 1000)
	base := slices.Concat(random(1, 500), long, random(2, 500), repeated(12, 300), random(3, 500))
	x, err := New(t.Context(), base, 1<<20, rare, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	own := random(4, 300)
	for _, c := range []struct {
		name          string
		target        []byte
		before, after int
		want          []Match
	}{
		{"as long", slices.Concat(own, long, own), unknown, unknown, []Match{{300, 500, 1000}}},
		{"shorter", slices.Concat(own, long[:600], own), unknown, unknown, []Match{{300, 500, 600}}},
		{"from the fourth byte on", slices.Concat(own, long[3:], own), unknown, unknown, []Match{{300, 503, 997}}},
		{"longer", slices.Concat(own, long[:996], long[:996], long[:100], own), unknown, unknown,
			[]Match{{300, 500, 996}, {1296, 500, 996}, {2292, 500, 100}}},
		{"longer, from the fourth byte on", slices.Concat(own, long[3:999], long[3:999], own), unknown, unknown,
			[]Match{{300, 503, 996}, {1296, 503, 996}}},
		{"in place before", slices.Concat(own, long[:300], own), 1700, unknown, []Match{{300, 2000, 300}}},
		{"in place behind", slices.Concat(own, long[:300], own), unknown, 1700, []Match{{300, 2000, 300}}},
		{"in place, with what is beside it", slices.Concat(own, base[1950:2400], own), 1650, unknown, []Match{{300, 1950, 450}}},
		{"before the base", slices.Concat(own, long, own), -301, unknown, []Match{{300, 500, 1000}}},
		{"behind the base", slices.Concat(own, long, own), 2000, unknown, []Match{{300, 500, 1000}}},
		{"too short", slices.Concat(own, long[:leastRun-1], own), unknown, unknown, nil},
		{"one that the base does not have", slices.Concat(own, repeated(13, 500), own), unknown, unknown, nil},
	} {
		f := x.NewFinder(c.target, Effort{})
		f.fill(0, len(c.target), c.before, c.after)
		if !slices.Equal(f.gap.found, c.want) {
			t.Errorf("%s: %+v, want %+v", c.name, f.gap.found, c.want)
		}
	}
}
