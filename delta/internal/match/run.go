package match

import (
	"bytes"
	"encoding/binary"
	"sync"

	"puavo-image-repository/delta/internal/kernel"
)

const (
	// leastRun is the length of the shortest run, in bytes. Two runs that have as many
	// bytes in common are parts of one, so what is a run does not depend on where the
	// search for it began.
	leastRun = 2 * kernel.MaxPeriod
	// maxOverlap is how far, at most, a run reaches into the next.
	maxOverlap = leastRun
	// runStep is how far apart the places are at which runs are looked for. Each run
	// has one from which its period, and four bytes more, can be seen.
	runStep = leastRun - kernel.RecurAhead
	// stretch is how much of a base is searched for runs, and then for seeds while it
	// is in the processor's cache.
	stretch = 64 << 10
)

// run is a stretch that repeats its first period bytes, of which there are as few as
// possible, and that neither side continues.
type run struct {
	start, end, period int
	place              int // where it was found
}

func (r run) length() int { return r.end - r.start }

// nextRun returns the first run of data that is found at or after place, and before
// end or at the first place behind that: so all that start before end. The zero run is
// returned if there is none.
func nextRun(data []byte, place, end int) run {
	place = (place + runStep - 1) / runStep * runStep
	end = min((end+runStep-1)/runStep*runStep+kernel.RecurAhead, len(data))
	for place < end {
		n := kernel.Recur(data[place:end], runStep)
		if n < 0 {
			break
		}
		if r := runAt(data, place+n); r.length() > 0 {
			return r
		}
		place += n + runStep
	}
	return run{}
}

// runAt returns the run around a place where four bytes recur, the zero run if they do
// for no run.
func runAt(data []byte, place int) run {
	four := binary.LittleEndian.Uint32(data[place:])
	for period := 1; period <= kernel.MaxPeriod; period++ {
		again := place + period
		if binary.LittleEndian.Uint32(data[again:]) != four {
			continue
		}
		end := again + commonPrefix(data[place:], data[again:])
		start := place - commonSuffix(data[:place], data[:again])
		if end-start >= leastRun {
			return run{start, end, period, place}
		}
	}
	return run{}
}

// key is the same for all runs that repeat the same bytes, wherever they start.
func (r run) key(data []byte) uint64 {
	sum := uint64(r.period)
	for i := range r.period {
		sum += gapHash(binary.LittleEndian.Uint64(data[r.start+i:]))
	}
	return gapHash(sum)
}

// runs has the longest runs of a base, and of those the first: one for each of what
// they repeat, as far as their keys differ.
type runs struct {
	mu    sync.Mutex
	table [1 << 12]run
}

func (rs *runs) at(key uint64) *run { return &rs.table[key>>(64-12)] }

func (rs *runs) add(base []byte, r run) {
	key := r.key(base)
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if have := rs.at(key); r.length() > have.length() || r.length() == have.length() && r.start < have.start {
		*have = r
	}
}

// findRun returns the longest run of the base that repeats what the run r of the target
// repeats, from where it goes on as r begins. It returns the zero run if there is none.
func (x *Index) findRun(target []byte, r run) run {
	b := *x.runs.at(r.key(target))
	if b.period != r.period {
		return run{}
	}
	phase := bytes.Index(x.base[b.start:b.start+2*b.period-1], target[r.start:r.start+r.period])
	if phase < 0 {
		return run{}
	}
	b.start += phase
	return b
}

// fill finds what matches target[lo:hi] between two matches: runs, and what the gap
// search finds between them.
func (f *Finder) fill(lo, hi, before, after int) {
	gap := f.target[lo:hi] // so that no time is spent on the rest of a run behind it
	for start, place := lo, 0; ; {
		r := nextRun(gap, place, len(gap))
		if r.length() == 0 {
			break
		}
		place = max(r.end-maxOverlap, r.place+1)
		if r.start, r.end = max(start+r.start, lo), start+r.end; r.length() < leastRun {
			continue
		}
		if m := f.inPlace(r, lo, hi, before, after); m.Len > 0 {
			f.gap.search(lo, m.Target, before, after)
			f.gap.found = append(f.gap.found, m)
			lo = m.Target + m.Len
		} else if b := f.findRun(f.target, r); b.length() > 0 {
			f.gap.search(lo, r.start, before, after)
			f.repeat(r, b)
			lo = r.end
		}
	}
	f.gap.search(lo, hi, before, after)
}

// inPlace returns the match around a run that the base has on one of two diagonals too.
func (f *Finder) inPlace(r run, lo, hi, before, after int) Match {
	for _, diagonal := range [...]int{before, after} {
		b := r.start + diagonal
		if diagonal == unknown || b < 0 || b+r.length() > len(f.base) ||
			!bytes.Equal(f.base[b:b+r.length()], f.target[r.start:r.end]) {
			continue
		}
		back := commonSuffix(f.base[:b], f.target[lo:r.start])
		n := r.length() + commonPrefix(f.base[b+r.length():], f.target[r.end:hi])
		return Match{r.start - back, b - back, n + back}
	}
	return Match{}
}

// repeat makes a run of the run b of the base, over and over: each copy but the last
// takes whole periods up to where the base's run begins.
func (f *Finder) repeat(r, b run) {
	at := r.start
	for at < r.end {
		n := min(b.length(), r.end-at)
		if at+n < r.end {
			n -= n % b.period
		}
		f.gap.found = append(f.gap.found, Match{at, b.start, n})
		at += n
	}
}
