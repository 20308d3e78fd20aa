package match

import (
	"bytes"
	"context"
)

// Finder finds the matches of a target, a piece at a time. It holds what one search
// needs and is not for concurrent use; any number of Finders can work on one target
// concurrently.
type Finder struct {
	*Index
	target []byte
	effort Effort
	batch  samples
	gap    gapSearch

	// Of the piece that is searched: its matches so far, the end of the last one
	// in the target, and how far its place in the base is from that in the target.
	found    []Match
	done     int
	diagonal int
}

// NewFinder returns a Finder for a target.
func (x *Index) NewFinder(target []byte, effort Effort) *Finder {
	return &Finder{Index: x, target: target, effort: effort, gap: gapSearch{base: x.base, target: target, Effort: effort}}
}

// Find returns the matches in target[lo:hi], in order and without overlap. Which
// they are depends on base, target and the piece alone.
func (f *Finder) Find(ctx context.Context, lo, hi int) ([]Match, error) {
	f.found, f.done, f.diagonal = nil, lo, 0
	if err := f.seeds(ctx, lo, hi); err != nil {
		return nil, err
	}
	return f.gaps(ctx, lo, hi)
}

// seeds finds the matches of sampled seeds.
func (f *Finder) seeds(ctx context.Context, lo, hi int) error {
	target := f.target[:hi]
	at := max(lo, f.match(lo, lo, hi))
	// After a match few places are looked at in a batch, as the next match may be near
	// and what was scanned behind its start is scanned again.
	n := least
	for at+seedLen <= hi {
		if err := ctx.Err(); err != nil {
			return err
		}
		next := f.batch.scan(target, at, n, f.threshold)
		if end := f.tryAll(hi); end > at {
			next, n = end, least
		} else {
			n = min(2*n, most)
		}
		at = next
	}
	f.suffix(hi)
	return nil
}

// tryAll takes the first match that one of the samples leads to and returns its end
// in the target, 0 for none.
func (f *Finder) tryAll(hi int) (end int) {
	s := &f.batch
	for i, h := range s.hash[:s.n] {
		s.base[i] = f.lookup(h)
	}
	for i, p := range s.pos[:s.n] {
		if end := f.match(p+f.diagonal, p, hi); end > 0 {
			return end
		}
		if end := f.match(s.base[i], p, hi); end > 0 {
			return end
		}
	}
	return 0
}

// match takes the longest match around base[b:] and target[t:hi] if these begin
// with the same seed, and returns its end in the target, or 0.
func (f *Finder) match(b, t, hi int) (end int) {
	if b < 0 || len(f.base)-b < seedLen || hi-t < seedLen ||
		!bytes.Equal(f.base[b:b+seedLen], f.target[t:t+seedLen]) {
		return 0
	}
	n := seedLen + commonPrefix(f.base[b+seedLen:], f.target[t+seedLen:hi])
	back := commonSuffix(f.base[:b], f.target[f.done:t])
	f.diagonal, f.done = b-t, t+n
	f.found = append(f.found, Match{t - back, b - back, n + back})
	return f.done
}

// suffix takes the common end of base and target, which may hold no sample.
func (f *Finder) suffix(hi int) {
	if hi < len(f.target) {
		return
	}
	if n := commonSuffix(f.base, f.target[f.done:hi]); n >= seedLen {
		f.found = append(f.found, Match{hi - n, len(f.base) - n, n})
		f.done = hi
	}
}

// gaps searches what lies between the matches found so far, for runs and more matches.
func (f *Finder) gaps(ctx context.Context, lo, hi int) ([]Match, error) {
	g := &f.gap
	g.found = make([]Match, 0, 2*len(f.found))
	at, before := lo, unknown
	for _, m := range f.found {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		f.fill(at, m.Target, before, m.Base-m.Target)
		g.found = append(g.found, m)
		at, before = m.Target+m.Len, m.Base-m.Target
	}
	f.fill(at, hi, before, unknown)
	return g.found, ctx.Err()
}
