package match

import (
	"encoding/binary"
	"math"
	"math/bits"
)

const (
	gapSeed  = 8        // bytes that are hashed
	gapStep  = 4        // bytes of the base between two hashes
	gapPiece = 16 << 10 // of the target that is searched at once
	gapBits  = 13       // of the largest table
)

// unknown is the diagonal without a match that gives one.
const unknown = math.MinInt

// gapSearch looks for short matches in the gaps between long ones, in the stretch
// of the base where the gap's content is likely to be. The stretch is hashed into
// a small table, which stays in the first-level cache.
type gapSearch struct {
	base, target []byte
	Effort
	found []Match

	// The window of the base that is in the table: for each hash the last place,
	// in the high half in units of gapStep from the window's start, and 16 more
	// bits of the hash in the low half. 0 is empty.
	table  [1 << gapBits]uint32
	shift  uint
	window []byte
	start  int

	// skip is where the last match ended, or the gap began: the farther behind it, the
	// longer the steps.
	skip int
}

// search looks for matches in target[lo:hi], before which the diagonal, base less
// target, is before, and after which it is after.
func (g *gapSearch) search(lo, hi, before, after int) {
	if g.Gap == 0 || hi-lo < g.Gap {
		return
	}
	g.skip = lo
	if before == unknown {
		before = after
	}
	if after == unknown {
		after = before
	}
	if before == unknown {
		before, after = 0, 0
	}
	done := lo
	for at := lo; at < hi; at += gapPiece {
		end := min(at+gapPiece, hi)
		slack := min(g.Slack, max(256, end-at))
		from, to := at+before-slack, end+before+slack
		if end == hi {
			from2, to2 := at+after-slack, end+after+slack
			if from2 <= to && from <= to2 && max(to, to2)-min(from, from2) <= 4*gapPiece {
				from, to = min(from, from2), max(to, to2)
			} else if at > lo {
				from, to = from2, to2
			} else {
				// Two places: the gap is searched for both in turn.
				g.load(from, to)
				done, _ = g.scan(at, end, done)
				if done < end {
					g.load(from2, to2)
					done, _ = g.scan(done, end, done)
				}
				continue
			}
		}
		g.load(from, to)
		var d int
		if done, d = g.scan(at, end, done); d != unknown {
			before = d
		}
	}
}

// load hashes base[from:to], clipped to the base.
func (g *gapSearch) load(from, to int) {
	from, to = max(from, 0), min(to, len(g.base))
	if to-from < gapSeed {
		g.window = nil
		return
	}
	g.start, g.window = from, g.base[from:to]
	size := min(bits.Len(uint(len(g.window)/gapStep)), gapBits)
	g.shift = uint(64 - size)
	clear(g.table[:1<<size])
	w := g.window
	for i := uint32(0); len(w) >= gapSeed; i++ {
		h := gapHash(binary.LittleEndian.Uint64(w))
		g.table[h>>g.shift] = i<<16 | uint32(h&0xffff)
		w = w[gapStep:]
	}
}

func gapHash(x uint64) uint64 { x *= 0x9e3779b97f4a7c15; return x ^ x>>29 }

// scan takes the matches of target[at:end] with the window; done is the end of
// the last match before. It returns the end of the last match and its diagonal.
func (g *gapSearch) scan(at, end, done int) (int, int) {
	diagonal := unknown
	if g.window == nil {
		return done, diagonal
	}
	for p := at; p+gapSeed <= end; {
		step := 1 + (p-g.skip)>>g.Patience
		if p+3*step+gapSeed <= end && !g.anyOfFour(p, step) {
			p += 4 * step
			continue
		}
		x := binary.LittleEndian.Uint64(g.target[p:])
		e, ok := g.lookup(x)
		if !ok {
			p += step
			continue
		}
		b := g.start + int(e)*gapStep
		if binary.LittleEndian.Uint64(g.base[b:]) != x {
			p++
			continue
		}
		n := gapSeed + commonPrefix(g.base[b+gapSeed:], g.target[p+gapSeed:end])
		back := commonSuffix(g.base[:b], g.target[done:p])
		if n+back < g.Gap {
			p++
			continue
		}
		g.found = append(g.found, Match{p - back, b - back, n + back})
		diagonal = b - p
		p += n
		done, g.skip = p, p
	}
	return done, diagonal
}

// lookup returns the place of the window, in units of gapStep, where the eight bytes x
// may stand.
func (g *gapSearch) lookup(x uint64) (place uint32, ok bool) {
	h := gapHash(x)
	e := g.table[h>>g.shift&(1<<gapBits-1)]
	return e >> 16, uint16(e) == uint16(h)
}

// anyOfFour reports whether the window may have the bytes at one of four places of the
// target. The four are looked up together, as none of them waits for another.
func (g *gapSearch) anyOfFour(p, step int) bool {
	t := g.target[p : p+3*step+gapSeed]
	_, a := g.lookup(binary.LittleEndian.Uint64(t))
	_, b := g.lookup(binary.LittleEndian.Uint64(t[step:]))
	_, c := g.lookup(binary.LittleEndian.Uint64(t[2*step:]))
	_, d := g.lookup(binary.LittleEndian.Uint64(t[3*step:]))
	return a || b || c || d
}
