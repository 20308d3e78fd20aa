// Package lzma makes raw LZMA streams: no header, no size, no marker of the end.
//
// It is for contents of some megabytes that are made once and read often. It finds matches by
// a binary tree for each four bytes, and chooses among all ways to write a stretch the one
// that takes the fewest bits, as the probabilities stand at its start. The same content
// always makes the same stream.
//
// The properties are fixed: lc is 4, lp and pb are 0. What is compressed here are bytes from
// many places one after another, so that the position says nothing, and the byte before much.
//
// The format is that of the LZMA specification, a part of the LZMA SDK, which is in the
// public domain.
package lzma

// Properties is the byte that says lc, lp and pb.
const Properties = (pb*5+lp)*9 + lc

const (
	lc, lp, pb = 4, 0, 0

	states       = 12
	firstMatched = 7 // the first state after a match
	reps         = 4
	minMatch     = 2
	maxMatch     = 273
	lenStates    = 4
	slots        = 64
	alignBits    = 4
	directSlot   = 14 // the first slot of distances with bits that have no probabilities
	special      = 128 - directSlot + 1

	half      = 1 << 10 // a probability
	probBits  = 11
	moveBits  = 5
	maxProb   = 1 << probBits
	topValue  = 1 << 24
	literalOf = 0x300 // probabilities for each context of literals
)

type prob = uint16

// lengths are the probabilities of lengths.
type lengths struct {
	choice, choice2 prob
	low, mid        [8]prob
	high            [256]prob
}

// models are the probabilities that positions are no context of.
type models struct {
	isRep, isRep0, isRep1, isRep2 [states]prob
	slot                          [lenStates][slots]prob
	special                       [special]prob
	align                         [1 << alignBits]prob
}

func (m *models) all() [][]prob {
	return [][]prob{
		m.isRep[:], m.isRep0[:], m.isRep1[:], m.isRep2[:], m.special[:], m.align[:],
		m.slot[0][:], m.slot[1][:], m.slot[2][:], m.slot[3][:],
	}
}

// model has all probabilities of the encoder.
type model struct {
	models
	isMatch, isRep0Long [states]prob
	length, repLength   lengths
	literal             [literalOf << lc]prob
}

func newModel() *model {
	m := new(model)
	reset(append(m.all(), m.isMatch[:], m.isRep0Long[:], m.literal[:])...)
	m.length.reset()
	m.repLength.reset()
	return m
}

// reset makes nothing known.
func reset(all ...[]prob) {
	for _, probs := range all {
		for i := range probs {
			probs[i] = half
		}
	}
}

func (l *lengths) reset() {
	l.choice, l.choice2 = half, half
	reset(l.low[:], l.mid[:], l.high[:])
}

// The states after a literal, a match, a match at a distance of before, and one of such of a
// byte.
func afterLiteral(s uint8) uint8 {
	switch {
	case s < 4:
		return 0
	case s < 10:
		return s - 3
	default:
		return s - 6
	}
}

func after(s, unmatched, matched uint8) uint8 {
	if s < firstMatched {
		return unmatched
	}
	return matched
}

func afterMatch(s uint8) uint8    { return after(s, 7, 10) }
func afterRep(s uint8) uint8      { return after(s, 8, 11) }
func afterShortRep(s uint8) uint8 { return after(s, 9, 11) }

// slotOf returns the slot of a distance less one.
func slotOf(d uint32) uint32 {
	if d < 4 {
		return d
	}
	n := uint32(bitLen(d)) - 1
	return 2*n + d>>(n-1)&1
}

func lenState(length int) int { return min(length-minMatch, lenStates-1) }
