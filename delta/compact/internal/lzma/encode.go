package lzma

// Append appends the stream of a content, of less than 1 GiB, to dst. It takes 8 bytes for each
// byte of the content, and some 20 MiB.
func Append(dst, content []byte) []byte {
	e := &encoder{coder: newCoder(dst), model: newModel(), finder: newFinder(content), content: content}
	for e.done < len(content) {
		e.refresh()
		e.path()
	}
	return e.coder.finish()
}

// encoder writes a stream.
type encoder struct {
	coder coder
	*model
	finder  *finder
	content []byte
	done    int // bytes that were written
	state   uint8
	reps    [reps]uint32 // the last distances, less one

	end     int // the farthest node that was reached
	nodes   [window + maxMatch + 1]node
	lens    [2][maxMatch + 1]uint32 // prices of lengths, of new and of repeated distances
	slotted [lenStates][slots]uint32
	aligned [1 << alignBits]uint32
	near    [lenStates][1 << (directSlot / 2)]uint32 // of distances below 128
	fresh   int                                      // the byte from which prices are computed again
}

// step is how a node was reached: by a literal, by a match at a distance, or at one of the
// last distances.
type step struct {
	length uint32
	back   uint32 // 0 to 3 a last distance; the distance less one + 4; or isLiteral
}

const isLiteral = 1<<32 - 1

// write writes a step at the place that comes next.
func (e *encoder) write(s step) {
	if s.back == isLiteral {
		e.coder.bit(&e.isMatch[e.state], 0)
		e.writeLiteral()
		e.state = afterLiteral(e.state)
		e.done++
		return
	}
	e.coder.bit(&e.isMatch[e.state], 1)
	if s.back < reps {
		e.writeRep(s)
	} else {
		e.writeMatch(s)
	}
	e.done += int(s.length)
}

// literalProbs returns the probabilities of the literal at a place.
func (e *encoder) literalProbs(at int) []prob {
	before := 0
	if at > 0 {
		before = int(e.content[at-1]) >> (8 - lc)
	}
	return e.literal[before*literalOf:][:literalOf]
}

func (e *encoder) writeLiteral() {
	probs, b := e.literalProbs(e.done), uint32(e.content[e.done])
	if e.state < firstMatched {
		e.coder.tree(probs, b, 8)
		return
	}
	// As long as the bits are those of the byte at the last distance, that is context too.
	matched := uint32(e.content[e.done-int(e.reps[0])-1])
	offset, m := uint32(0x100), uint32(1)
	for i := 7; i >= 0; i-- {
		matched <<= 1
		bit := b >> i & 1
		context := offset + matched&offset + m
		e.coder.bit(&probs[context], bit)
		m = m<<1 | bit
		offset &= ^(matched ^ bit<<8)
	}
}

func (e *encoder) writeRep(s step) {
	e.coder.bit(&e.isRep[e.state], 1)
	d := e.reps[s.back]
	if s.back == 0 {
		e.coder.bit(&e.isRep0[e.state], 0)
		e.coder.bit(&e.isRep0Long[e.state], min(s.length-1, 1))
	} else {
		e.coder.bit(&e.isRep0[e.state], 1)
		e.coder.bit(&e.isRep1[e.state], min(s.back-1, 1))
		if s.back > 1 {
			e.coder.bit(&e.isRep2[e.state], s.back-2)
		}
		copy(e.reps[1:s.back+1], e.reps[:s.back])
		e.reps[0] = d
	}
	if s.length == 1 {
		e.state = afterShortRep(e.state)
		return
	}
	e.writeLength(&e.repLength, s.length)
	e.state = afterRep(e.state)
}

func (e *encoder) writeMatch(s step) {
	e.coder.bit(&e.isRep[e.state], 0)
	e.writeLength(&e.length, s.length)
	d := s.back - reps
	e.writeDistance(d, lenState(int(s.length)))
	copy(e.reps[1:], e.reps[:])
	e.reps[0] = d
	e.state = afterMatch(e.state)
}

func (e *encoder) writeLength(l *lengths, n uint32) {
	switch n -= minMatch; {
	case n < 8:
		e.coder.bit(&l.choice, 0)
		e.coder.tree(l.low[:], n, 3)
	case n < 16:
		e.coder.bit(&l.choice, 1)
		e.coder.bit(&l.choice2, 0)
		e.coder.tree(l.mid[:], n-8, 3)
	default:
		e.coder.bit(&l.choice, 1)
		e.coder.bit(&l.choice2, 1)
		e.coder.tree(l.high[:], n-16, 8)
	}
}

func (e *encoder) writeDistance(d uint32, lenState int) {
	slot := slotOf(d)
	e.coder.tree(e.slot[lenState][:], slot, 6)
	if slot < 4 {
		return
	}
	n := int(slot>>1) - 1
	base := (2 | slot&1) << n
	if slot < directSlot {
		e.coder.reverse(e.special[base-slot:], d-base, n)
		return
	}
	e.coder.direct((d-base)>>alignBits, n-alignBits)
	e.coder.reverse(e.align[:], d&(1<<alignBits-1), alignBits)
}
