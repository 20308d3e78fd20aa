package lzma

const (
	window  = 4 << 10 // bytes of a stretch whose steps are chosen together
	nice    = 200     // a match of so many bytes is taken at once
	keepFor = 1 << 10 // bytes after which prices are computed again
)

// node is a place of the stretch: the cheapest way to it that is known.
type node struct {
	price uint32
	from  uint32 // the node before
	step  step
	first step  // what comes before it, if more is
	more  uint8 // steps from the node before: 0 more, first, or first and a literal
	state uint8
	reps  [reps]uint32
}

// refresh computes the prices that are the same for many places.
func (e *encoder) refresh() {
	if e.done < e.fresh {
		return
	}
	e.fresh = e.done + keepFor
	for k, l := range []*lengths{&e.length, &e.repLength} {
		for n := uint32(0); n <= maxMatch-minMatch; n++ {
			e.lens[k][n+minMatch] = l.price(n)
		}
	}
	for i := range e.aligned {
		e.aligned[i] = reversePrice(e.align[:], uint32(i), alignBits)
	}
	for s := range lenStates {
		for slot := range uint32(slots) {
			e.slotted[s][slot] = treePrice(e.slot[s][:], slot, 6)
			if slot >= directSlot {
				e.slotted[s][slot] += (slot>>1 - 1 - alignBits) << priceBits
			}
		}
		for d := range uint32(len(e.near[s])) {
			slot := slotOf(d)
			e.near[s][d] = e.slotted[s][slot]
			if slot >= 4 {
				n := int(slot>>1) - 1
				base := (2 | slot&1) << n
				e.near[s][d] += reversePrice(e.special[base-slot:], d-base, n)
			}
		}
	}
}

func (l *lengths) price(n uint32) uint32 {
	switch {
	case n < 8:
		return price0(l.choice) + treePrice(l.low[:], n, 3)
	case n < 16:
		return price1(l.choice) + price0(l.choice2) + treePrice(l.mid[:], n-8, 3)
	default:
		return price1(l.choice) + price1(l.choice2) + treePrice(l.high[:], n-16, 8)
	}
}

func (e *encoder) distancePrice(d uint32, lenState int) uint32 {
	if d < uint32(len(e.near[lenState])) {
		return e.near[lenState][d]
	}
	return e.slotted[lenState][slotOf(d)] + e.aligned[d&(1<<alignBits-1)]
}

// literalPrice returns what the literal at a place takes, but for the bit that it is one.
func (e *encoder) literalPrice(at int, state uint8, rep uint32) (sum uint32) {
	probs, b := e.literalProbs(at), uint32(e.content[at])
	if state < firstMatched {
		return treePrice(probs, b, 8)
	}
	matched := uint32(e.content[at-int(rep)-1])
	offset, m := uint32(0x100), uint32(1)
	for i := 7; i >= 0; i-- {
		matched <<= 1
		bit := b >> i & 1
		sum += price(probs[offset+matched&offset+m], bit)
		m = m<<1 | bit
		offset &= ^(matched ^ bit<<8)
	}
	return sum
}

// repPrice returns what it takes to say which of the last distances, but for the length.
func (e *encoder) repPrice(k int, state uint8) uint32 {
	sum := price1(e.isMatch[state]) + price1(e.isRep[state])
	switch k {
	case 0:
		return sum + price0(e.isRep0[state]) + price1(e.isRep0Long[state])
	case 1:
		return sum + price1(e.isRep0[state]) + price0(e.isRep1[state])
	default:
		return sum + price1(e.isRep0[state]) + price1(e.isRep1[state]) + price(e.isRep2[state], uint32(k-2))
	}
}

// path chooses the steps of a stretch, and writes them.
func (e *encoder) path() {
	e.nodes[0] = node{state: e.state, reps: e.reps}
	e.end = 0
	start, at := e.done, 0
	for ; ; at++ {
		if at > 0 {
			e.settle(at)
		}
		if at == window || at == e.end && at >= window/2 || start+at == len(e.content) {
			break
		}
		matches := e.finder.next()
		if n := len(matches); n > 0 && matches[n-1].length >= nice {
			e.writeTo(at)
			e.write(step{matches[n-1].length, matches[n-1].distance - 1 + reps})
			e.finder.skip(int(matches[n-1].length) - 1)
			return
		}
		e.relax(at, start+at, matches)
	}
	e.writeTo(at)
}

// settle computes the state and the last distances of a node, to which the way is known now.
func (e *encoder) settle(at int) {
	n := &e.nodes[at]
	from := &e.nodes[n.from]
	n.state, n.reps = from.state, from.reps
	if n.more > 0 {
		n.follow(n.first)
	}
	if n.more > 1 {
		n.follow(step{1, isLiteral})
	}
	n.follow(n.step)
}

// follow changes the state and the last distances as a step does.
func (n *node) follow(s step) {
	switch {
	case s.back == isLiteral:
		n.state = afterLiteral(n.state)
	case s.back >= reps:
		copy(n.reps[1:], n.reps[:])
		n.reps[0] = s.back - reps
		n.state = afterMatch(n.state)
	default:
		d := n.reps[s.back]
		copy(n.reps[1:s.back+1], n.reps[:s.back])
		n.reps[0] = d
		if s.length == 1 {
			n.state = afterShortRep(n.state)
		} else {
			n.state = afterRep(n.state)
		}
	}
}

// reach returns the node at a place if a way to it is cheaper than those known, with its
// price and the node before, or nil.
func (e *encoder) reach(to int, price uint32, from int) *node {
	for ; e.end < to; e.end++ {
		e.nodes[e.end+1].price = infinite
	}
	n := &e.nodes[to]
	if price >= n.price {
		return nil
	}
	n.price, n.from, n.more = price, uint32(from), 0
	return n
}

// relax goes on from a node, at a place of the content, by all steps that are worth it.
func (e *encoder) relax(at, place int, matches []match) {
	from := &e.nodes[at]
	state, last := from.state, from.reps
	literal := from.price + price0(e.isMatch[state]) + e.literalPrice(place, state, last[0])
	if n := e.reach(at+1, literal, at); n != nil {
		n.step = step{1, isLiteral}
	}
	if place > int(last[0]) && e.content[place-int(last[0])-1] == e.content[place] {
		p := from.price + price1(e.isMatch[state]) + price1(e.isRep[state]) + price0(e.isRep0[state]) + price0(e.isRep0Long[state])
		if n := e.reach(at+1, p, at); n != nil {
			n.step = step{1, 0}
		}
	} else {
		e.repeat(at, place+1, literal, afterLiteral(state), step{1, isLiteral}, last[0], 1)
	}
	e.relaxReps(at, place, state, last)
	e.relaxMatches(at, place, state, matches)
}

// relaxReps goes on by matches at the last distances.
func (e *encoder) relaxReps(at, place int, state uint8, last [reps]uint32) {
	for k, d := range last {
		n := e.same(place, d)
		if n < minMatch {
			continue
		}
		p := e.nodes[at].price + e.repPrice(k, state)
		for l := n; l >= minMatch; l-- {
			if x := e.reach(at+l, p+e.lens[1][l], at); x != nil {
				x.step = step{uint32(l), uint32(k)}
			}
		}
		e.behind(at, place+n, p+e.lens[1][n], afterRep(state), step{uint32(n), uint32(k)}, d)
	}
}

// relaxMatches goes on by matches at new distances.
func (e *encoder) relaxMatches(at, place int, state uint8, matches []match) {
	p := e.nodes[at].price + price1(e.isMatch[state]) + price0(e.isRep[state])
	l := minMatch
	for _, m := range matches {
		d := m.distance - 1
		sum := uint32(0)
		for ; l <= int(m.length); l++ {
			sum = p + e.lens[0][l] + e.distancePrice(d, lenState(l))
			if x := e.reach(at+l, sum, at); x != nil {
				x.step = step{uint32(l), d + reps}
			}
		}
		e.behind(at, place+int(m.length), sum, afterMatch(state), step{m.length, d + reps}, d)
	}
}

// same returns how many bytes from a place on are those at a distance.
func (e *encoder) same(place int, d uint32) int {
	limit := min(len(e.content)-place, maxMatch)
	if place <= int(d) || limit < minMatch {
		return 0
	}
	return common(e.content[place-int(d)-1:], e.content[place:], 0, limit)
}

// behind tries a literal and a match at the same distance behind a match, which led to a
// place.
func (e *encoder) behind(at, place int, price uint32, state uint8, first step, d uint32) {
	if place+minMatch < len(e.content) {
		price += price0(e.isMatch[state]) + e.literalPrice(place, state, d)
		e.repeat(at, place+1, price, afterLiteral(state), first, d, 2)
	}
}

// repeat tries a match at the last distance behind some steps, which led to a place.
func (e *encoder) repeat(at, place int, price uint32, state uint8, first step, d uint32, more uint8) {
	n := e.same(place, d)
	to := at + int(first.length) + int(more) - 1 + n
	if n < minMatch || to >= len(e.nodes) {
		return
	}
	if x := e.reach(to, price+e.repPrice(0, state)+e.lens[1][n], at); x != nil {
		x.step, x.first, x.more = step{uint32(n), 0}, first, more
	}
}

// writeTo writes the steps that lead to a node.
func (e *encoder) writeTo(at int) {
	var steps [window + 1]step
	n := len(steps)
	for at > 0 {
		x := &e.nodes[at]
		n--
		steps[n] = x.step
		if x.more > 1 {
			n--
			steps[n] = step{1, isLiteral}
		}
		if x.more > 0 {
			n--
			steps[n] = x.first
		}
		at = int(x.from)
	}
	for _, s := range steps[n:] {
		e.write(s)
	}
}
