package token

const (
	longLazy  = 128 // a match of so many bytes is always taken
	goodMatch = 32  // and with one of so many, less is looked at
	nearBytes = 8   // the longest match that takes two bytes when it is near
	near      = 2048
	maxGap    = 20 // literals that are guessed behind a match
)

// later is a match that begins at one of the next positions.
type later struct {
	gain int // how much longer it is than the match before, plus 1, at most 4; 0 if there is none
	match
	rank int
}

// context is a number below laters.
func (l later) context() int {
	if l.gain == 0 {
		return 0
	}
	return 1 + (l.gain-1)*classes + class(l.distance)
}

// ahead looks at the two positions behind x, where m could stand after a number of literals.
// It returns what they have; and m, or a better match at x, where one of theirs begins earlier
// than they do.
func (s *search) ahead(x int, m match, literals int) (_ match, one, two later) {
	if m.length >= longLazy {
		return m, one, two
	}
	a := s.best(x+1, m.length)
	if a.length >= 3 && s.extends(x+1, a.distance) {
		if longer := a.longer(1); !cheaper(longer, m) {
			m, a = s.refined(x, longer), match{}
		}
	}
	b := s.best(x+2, needAtTwo(m))
	if b.length > m.length && s.extends(x+2, b.distance) {
		m, a, b = s.earlier(x, m, a, b)
	}
	if m.length >= longLazy {
		return m, one, two
	}
	if a.length >= m.length && writable(a, literals+1) {
		one = s.later(x+1, a, m)
	}
	if b.length >= m.length {
		two = s.later(x+2, b, m)
	}
	return m, one, two
}

// earlier returns what stands at x, x+1 and x+2 if b, a match at x+2, is one from x+1 on: at
// x+1, or at x if it is one from there on. Elsewhere there are m and a, or nothing.
func (s *search) earlier(x int, m, a, b match) (match, match, match) {
	if !s.extends(x+1, b.distance) {
		a = s.refined(x+1, b.longer(1))
		s.held[(x+1)%slots].match = a
		return m, a, match{}
	}
	if longer := b.longer(2); !cheaper(longer, m) {
		return s.refined(x, longer), match{}, match{}
	}
	return m, a, b
}

// needAtTwo returns the length that a match two bytes behind m must have to be better.
func needAtTwo(m match) int {
	if m.length <= nearBytes && m.distance > near {
		return m.length // if it is near
	}
	return m.length + 1
}

// later returns what a match at x is to m, a match before it.
func (s *search) later(x int, a, m match) (l later) {
	rank := s.rankAt(x, a.distance)
	if m.length >= goodMatch && rank > lazyRank {
		return l
	}
	return later{min(a.length-m.length+1, 4), a, rank}
}

// lazyContext is that of whether m is taken although there are later ones.
func lazyContext(m match, one, two later) int {
	return lazyAt + (lengthClass(m)*laters+one.context())*laters + two.context()
}

// runCost returns how many bytes it takes to say that there are n literals.
func runCost(n int) int {
	switch {
	case n < 4:
		return 0
	case n <= 18:
		return 1
	case n <= 273:
		return 2
	}
	return 3
}

// matchCost returns how many bytes it takes to write a match of 2 or 3 bytes.
func matchCost(m match, literals int) int {
	if m.distance <= near || m.length == 3 && m.distance <= 3072 && literals >= 4 {
		return 2
	}
	return 3
}

// shortContext is that of whether m, a match of 2 or 3 bytes, stays: whether it costs less
// than its bytes as literals, with those before and those behind it.
func (w *walker) shortContext(x int, m match) int {
	cost, before, behind := matchCost(m, w.literals), w.literals, gaps-1
	margin := cost + runCost(before) - m.length
	if m.length == 2 || cost == 3 && before < 4 || cost == 2 && before >= 4 {
		n := w.gap(x + m.length)
		margin += runCost(n) - runCost(before+m.length+n)
		behind = min(n, gaps-2)
	} else {
		margin -= runCost(before + m.length)
	}
	kind := (m.length-2)*classes + class(m.distance)
	return shortAt + ((kind*runs+run(before))*gaps+behind)*margins + margin + 5
}

// gap guesses how many literals stand at x, behind a match.
func (w *walker) gap(x int) (n int) {
	for ; n < maxGap && x+n < w.n; n++ {
		m := w.best(x+n, 2)
		if !writable(m, n) {
			continue
		}
		m, one, two := w.ahead(x+n, m, n)
		if one.gain+two.gain == 0 || w.cells[lazyContext(m, one, two)].one >= half {
			break
		}
	}
	return n
}
