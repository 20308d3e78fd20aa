package token

import (
	"errors"

	"puavo-image-repository/delta/compact/internal/lzo"
)

const (
	leastLess  = 8  // lengths below the longest that have a question each
	farBits    = 16 // of a distance that is written in full
	lengthBits = 12 // of a length
)

// errContradiction is the error for a stream that asks for what the content does not have.
var errContradiction = errors.New("the token stream contradicts the content")

// walker goes through a block, from its second byte on, and codes or decodes its tokens.
type walker struct {
	search
	model
	coder

	literals int         // before the position, since the last match
	tokens   []lzo.Token // decoding: those so far; encoding: those that follow
	done     int         // encoding: bytes of the first of tokens that were coded
}

func newWalker() *walker { return &walker{model: model{first: trained()}} }

// writable reports whether a match can stand after a number of literals.
func writable(m match, literals int) bool {
	return m.length >= 3 || m.length == 2 && m.distance <= nearPair && 1 <= literals && literals < 4
}

// ask codes a bit in a context, or decodes it.
func (w *walker) ask(context int, yes bool) bool {
	c := &w.cells[context]
	yes = w.bit(yes, c.one)
	c.learn(yes)
	return yes
}

// askDetailed does so with a finer context besides, where that has been seen.
func (w *walker) askDetailed(context int, finer uint32, yes bool) bool {
	c := &w.cells[context]
	d := w.detailed(finer, c)
	one := d.one
	if d.seen < 3 {
		one = uint16((uint32(one) + uint32(c.one)) / 2)
	}
	yes = w.bit(yes, one)
	c.learn(yes)
	d.learn(yes)
	return yes
}

// askNumber codes a number, the highest bit first.
func (w *walker) askNumber(context, bits, number int) (n int) {
	for i := range bits {
		n = n<<1 | bit(w.ask(context+i, number>>(bits-1-i)&1 != 0))
	}
	return n
}

// block codes or decodes the tokens of a block of at least one byte.
func (w *walker) block() error {
	w.literals = 1
	w.done = 1
	for x := 1; x < w.n; {
		m, literals := w.step(x, w.wanted())
		if literals == 0 && m.length == 0 {
			return errContradiction
		}
		w.literals += literals
		x += literals + m.length
		if !w.decoding {
			w.done += literals + m.length
		} else if m.length > 0 {
			w.flush()
			w.tokens = append(w.tokens, lzo.Token{Length: uint32(m.length), Distance: uint32(m.distance)})
		}
		if m.length > 0 {
			w.literals = 0
		}
	}
	if w.decoding {
		w.flush()
	}
	return nil
}

// flush appends the literals before the position to the tokens.
func (w *walker) flush() {
	if w.literals > 0 {
		w.tokens = append(w.tokens, lzo.Token{Length: uint32(w.literals)})
	}
}

// want is what the encoder is to code: a match, or a number of literals.
type want struct {
	match
	literals int
}

// wanted returns what stands at the position; nothing if w is decoding.
func (w *walker) wanted() want {
	if w.decoding {
		return want{}
	}
	if w.done == int(w.tokens[0].Length) {
		w.tokens, w.done = w.tokens[1:], 0
	}
	t := w.tokens[0]
	if t.Distance == 0 {
		return want{literals: int(t.Length) - w.done}
	}
	return want{match: match{int(t.Length), int(t.Distance)}}
}

// step codes what stands at x, or decodes it: a match, or literals. It returns neither if the
// content has no such match.
func (w *walker) step(x int, want want) (_ match, literals int) {
	m := w.best(x, 2)
	if !writable(m, w.literals) {
		if w.p3[x] == 0 || !w.ask(startAt, want.literals == 0) {
			return match{}, 1
		}
		return w.other(x, match{}, want.match), 0
	}
	m, one, two := w.ahead(x, m, w.literals)
	if one.gain+two.gain > 0 && !w.takes(x, m, one, two, want) {
		return match{}, 1
	}
	if w.ask(w.stays(x, m), want.match == m) {
		return m, 0
	}
	if w.ask(outAt+lengthClass(m), want.literals >= m.length) {
		return match{}, m.length
	}
	if w.ask(literalAt+lengthClass(m), want.literals > 0) {
		return match{}, 1
	}
	return w.other(x, m, want.match), 0
}

// takes codes whether the compressor took m although there were later ones. The encoder says
// so too of a match that it seems to have taken and put back later.
func (w *walker) takes(x int, m match, one, two later, want want) bool {
	context := lazyContext(m, one, two)
	putBack := m.length <= 3 && want.literals >= m.length && w.cells[context].one >= half
	bucket, rank := 0, 0
	if m.length > 3 {
		bucket = size(m.length)
	}
	if one.gain >= 3 {
		rank = rankBit(one.rank, 5)
	}
	finer := ((context*runs+run(w.literals))*sizes+bucket)*8 + rank
	finer = finer*4 + bit(w.unsure(x)) + 2*bit(w.unsure(x+1))
	return w.askDetailed(context, uint32(finer), want.literals == 0 || putBack)
}

// stays returns the context of whether m, which was taken at x, is the token there.
func (w *walker) stays(x int, m match) int {
	if m.length <= 3 {
		return w.shortContext(x, m)
	}
	unsure := bit(w.unsure(x))
	kind := size(m.length)*classes + class(m.distance)
	return longAt + (kind*rankBits+rankBit(w.rankAt(x, m.distance), 7))*4 + 2*unsure + bit(w.literals >= 4)
}

// unsure reports whether there may be a longer match at x than was found.
func (w *walker) unsure(x int) bool { h := &w.held[x%slots]; return h.position == x && h.gaveUp }

// other codes a match at x that was not expected, or decodes it; m is the one that was.
func (w *walker) other(x int, m, want match) match {
	distance := w.otherDistance(x, m, want.distance)
	if distance < 1 || distance > min(x, farthest) {
		return match{}
	}
	most := w.common(x, distance, min(w.n-x, longestMatch))
	less := 0
	for less < leastLess && !w.ask(lessAt+less, want.length == most-less) {
		less++
	}
	found := match{most - less, distance}
	if less == leastLess {
		found.length = w.askNumber(lengthAt, lengthBits, want.length)
	}
	if found.length > most || !writable(found, w.literals) {
		return match{}
	}
	return found
}

// otherDistance codes the distance of such a match: one of those that a deeper search finds,
// or any.
func (w *walker) otherDistance(x int, m match, want int) int {
	if m.length > 0 {
		w.deep(x)
		for n := range min(w.found, listed) {
			if d := w.nth(n).distance; w.ask(listAt+n, d == want) {
				return d
			}
		}
	}
	return w.askNumber(farAt, farBits, want)
}

// deep fills the list for x with more effort.
func (w *walker) deep(x int) {
	depth := w.depth
	if w.work <= w.limit {
		w.depth *= deeper
	}
	w.longest(x, 2)
	if w.work <= w.limit {
		w.depth = depth
	}
}
