package blocks

import (
	"bytes"
	"context"

	"puavo-image-repository/delta/internal/match"
	"puavo-image-repository/delta/internal/sums"
)

// The number of positions that are looked at in one batch. After a match few are,
// as the next match may be near.
const (
	leastBatch = 16
	mostBatch  = 1024

	// leastOverrun is how many bytes behind a piece, at least, a run of blocks that
	// began in it goes on. Within bytes that repeat, as zeros do, the next piece may
	// find blocks at other places and so miss where the run goes on.
	leastOverrun = 32 << 10

	// maxIdle is how many bytes, for each byte of a piece, may be summed for windows
	// that no block matches, or compared of strong sums. Where somebody made weak
	// sums collide it would be a block's length and more. Of the pieces of real files
	// no one took over 72, and that only for blocks of 16 bytes.
	maxIdle = 256

	// maxEnds is of how many ends of the target strong sums are computed, to find the
	// base's last block.
	maxEnds = 256
)

// Finder finds the blocks in a target, a piece at a time. It is not for
// concurrent use; any number of Finders can work on one target.
type Finder struct {
	*Table
	target []byte
	roller *sums.Roller
	sum    *sums.Strong

	batch  [mostBatch + 1]uint32 // weak sums
	passed [mostBatch]uint32     // positions in the batch that the filter let pass

	// Of the piece that is searched: its matches so far, the end of the positions
	// that are looked at, and that of those where a run can go on.
	found    []match.Match
	end, run int
	idle     int // bytes that may still be summed or compared, of maxIdle
}

// NewFinder returns a Finder for a target.
func (t *Table) NewFinder(target []byte) *Finder {
	return &Finder{Table: t, target: target, roller: t.Weak.NewRoller(t.BlockLen), sum: sums.NewStrong(t.MD4)}
}

// Find returns the matches that begin in target[lo:hi], in order. They may end
// behind hi. The base's last block, if it is short, matches at the target's end
// alone, and then begins where it must. The matches depend on the signature, the
// target and the piece alone. Where weak sums collide as they only do by intent,
// not all matches are found.
func (f *Finder) Find(ctx context.Context, lo, hi int) ([]match.Match, error) {
	f.found = nil
	if f.n == 0 {
		return nil, ctx.Err()
	}
	f.idle = maxIdle*(hi-lo) + 16*f.BlockLen
	windows := len(f.target) - f.BlockLen + 1
	f.end, f.run = min(hi, windows), min(hi+f.overrun(), windows)
	if lo < f.end {
		f.batch[0] = f.Weak.Sum(f.window(lo))
	}
	for at, most := lo, leastBatch; at < f.end; {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		next, matched := f.scan(at, min(most, f.end-at))
		if at, most = next, min(2*most, mostBatch); matched {
			most = leastBatch
		}
	}
	if hi == len(f.target) {
		f.tail()
	}
	return f.found, ctx.Err()
}

// Behind returns how many bytes behind a piece, at most, Find looks at. A target that
// ends there gives the same matches.
func (t *Table) Behind() int { return t.overrun() + t.BlockLen }

// overrun is how many bytes behind a piece a run of blocks goes on.
func (t *Table) overrun() int { return max(leastOverrun, 4*t.BlockLen) }

func (f *Finder) window(at int) []byte { return f.target[at : at+f.BlockLen] }

// scan looks at n positions from at on, up to a match. It returns where to go on,
// and whether behind a match. The sum of the first window must be in the batch;
// when it returns without a match, that of the next is.
func (f *Finder) scan(at, n int) (next int, matched bool) {
	steps := n
	if at+n+f.BlockLen > len(f.target) {
		steps-- // no next window
	}
	f.roller.Roll(f.batch[:steps+1], f.target[at:])
	for _, i := range f.passed[:f.fetch(f.sift(n))] {
		if b := f.block(at+int(i), f.batch[i]); b >= 0 {
			return f.take(at+int(i), b), true
		}
	}
	f.batch[0] = f.batch[steps]
	return at + n, false
}

// sift looks up the first n sums of the batch in the filter, and returns how many
// passed it.
func (f *Finder) sift(n int) (passed int) {
	filter, shift := f.filter, f.filterShift
	for i, weak := range f.batch[:n] {
		h := hash(weak)
		m, pass := mask(h), 0
		if filter[h>>(shift&63)]&m == m {
			pass = 1
		}
		f.passed[passed] = uint32(i)
		passed += pass
	}
	return passed
}

// fetch drops of the first n positions that passed those whose slot is empty. The
// slots are in the cache then for the others.
func (f *Finder) fetch(n int) (passed int) {
	for _, i := range f.passed[:n] {
		f.passed[passed] = i
		if f.slots[top(hash(f.batch[i]), len(f.slots))] != 0 {
			passed++
		}
	}
	return passed
}

// block returns a block that is the window at a position, or -1. Of several it
// prefers the one that continues the last match.
func (f *Finder) block(at int, weak uint32) int {
	if f.idle <= 0 {
		return -1
	}
	var strong []byte // of the window, once it is needed
	same := func(b int) bool {
		if strong == nil {
			strong = f.sum.Sum(f.window(at))[:f.StrongLen]
			f.idle -= f.BlockLen
		}
		f.idle -= f.StrongLen
		return bytes.Equal(strong, f.strong(b))
	}
	b := f.expected(at)
	if b < 0 || f.weak(b) != weak || !same(b) {
		_, b = f.probe(hash(weak), weak, same)
	}
	if b >= 0 {
		f.idle += f.BlockLen
	}
	return b
}

// expected returns the block that is at a position if what lies between it and
// the last match was changed in place, or -1.
func (f *Finder) expected(at int) int {
	if len(f.found) == 0 {
		return -1
	}
	last := f.found[len(f.found)-1]
	if b := last.Base + at - last.Target; b%f.BlockLen == 0 && b/f.BlockLen < f.n {
		return b / f.BlockLen
	}
	return -1
}

// take takes the match of a block, and those of the blocks that follow it, and
// returns where they end. The batch then has the sum of the window there, if the
// search goes on.
func (f *Finder) take(at, b int) (end int) {
	m := match.Match{Target: at, Base: b * f.BlockLen}
	for {
		m.Len += f.BlockLen
		at += f.BlockLen
		b++
		if at >= f.run {
			break
		}
		w := f.window(at)
		f.batch[0] = f.Weak.Sum(w)
		if b == f.n || f.weak(b) != f.batch[0] || !f.is(w, b) {
			break
		}
	}
	f.add(m)
	return at
}

// is reports whether a window has the strong sum of a block.
func (f *Finder) is(window []byte, b int) bool {
	return bytes.Equal(f.sum.Sum(window)[:f.StrongLen], f.strong(b))
}

// add adds a match to those found, to the last one if it continues that.
func (f *Finder) add(m match.Match) {
	if len(f.found) > 0 {
		last := &f.found[len(f.found)-1]
		if m.Target == last.Target+last.Len && m.Base == last.Base+last.Len {
			last.Len += m.Len
			return
		}
	}
	f.found = append(f.found, m)
}

// tail looks for the base's last block, if it is short, at the target's end.
func (f *Finder) tail() {
	b := f.n - 1
	ends := 0
	n := f.Weak.Suffix(f.target, f.BlockLen-1, f.weak(b), func(end []byte) bool {
		ends++
		return ends <= maxEnds && f.is(end, b)
	})
	if n > 0 {
		f.add(match.Match{Target: len(f.target) - n, Base: b * f.BlockLen, Len: n})
	}
}
