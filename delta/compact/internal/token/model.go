package token

import (
	"compress/flate"
	"encoding/base64"
	"fmt"
	"io"
	"math/bits"
	"strings"
	"sync"
)

const (
	half    = 1 << 15
	certain = 8   // the least probability, of 65536, and the least of its complement
	seenMax = 250 // after so many bits the rate of learning stays
)

// cell is a probability that is learned.
type cell struct {
	one   uint16 // the probability of a 1, of 65536
	seen  uint8  // bits that were learned, at most seenMax
	check uint8  // of the context that a detailed cell is for; 0 if for none
}

// rates are the steps of learning, of 65536, by the bits seen: 2/3, 2/5, 2/7 and so on, what
// makes the probability the mean of the bits but for a first guess that weighs half a bit.
var rates = func() (all [seenMax + 1]int32) {
	for n := range all {
		all[n] = 65536 * 2 / int32(2*n+3)
	}
	return all
}()

func (c *cell) learn(bit bool) {
	one, target := int32(c.one), int32(0)
	if bit {
		target = 65535
	}
	one += (target - one) * (rates[c.seen] >> 1) >> 15
	c.one = uint16(min(max(one, certain), 65536-certain))
	c.seen = min(c.seen+1, seenMax)
}

// The contexts are numbers, those of each question after those of the question before.
const (
	lengths  = 8  // 2 to 9 and more
	classes  = 5  // of distances
	laters   = 21 // 4 gains, of each class, or nothing
	sizes    = 16 // buckets of lengths from 4 on
	rankBits = 6
	runs     = 5 // of literals: 0 to 3, 4 and more
	gaps     = 6 // the same, and unknown
	margins  = 13

	lazyAt    = 0
	shortAt   = lazyAt + lengths*classes*laters*laters
	longAt    = shortAt + 2*classes*runs*gaps*margins
	outAt     = longAt + sizes*classes*rankBits*4
	literalAt = outAt + lengths*classes
	startAt   = literalAt + lengths*classes
	listAt    = startAt + 1
	lessAt    = listAt + listed
	farAt     = lessAt + leastLess
	lengthAt  = farAt + farBits
	contexts  = lengthAt + lengthBits
)

// model has the probabilities of all contexts.
type model struct {
	cells [contexts]cell
	// detail has the cells of finer contexts, by a hash of them.
	detail [1 << 16]cell
	first  *[contexts]cell // what cells are at the start of a group
}

// reset makes m what it is at the start of a group.
func (m *model) reset() {
	m.cells = *m.first
	clear(m.detail[:])
}

// detailed returns the cell of a finer context, with its first guess from c if it is new.
func (m *model) detailed(context uint32, c *cell) *cell {
	h := context * hash32
	d := &m.detail[h>>16]
	if check := uint8(h>>8) | 1; d.check != check {
		*d = cell{one: c.one, check: check}
	}
	return d
}

// class returns how costly a distance is to write.
func class(distance int) int {
	switch {
	case distance <= 1024:
		return 0
	case distance <= 2048:
		return 1
	case distance <= 3072:
		return 2
	case distance <= 16384:
		return 3
	}
	return 4
}

// size returns the bucket of a length of 4 and more.
func size(length int) int {
	switch {
	case length < 12:
		return length - 4
	case length < 34:
		return 8 + (length-10)/8
	case length < longLazy:
		return 11
	case length < 264:
		return 12 + (length-128)/68
	}
	return 14
}

// rankBit returns how long a rank is in bits, those that do not matter left out.
func rankBit(rank, from int) int { return bits.Len(uint(rank >> from)) }

// lengthClass is the context of a match's length and distance.
func lengthClass(m match) int { return (min(m.length, lengths+1)-2)*classes + class(m.distance) }

// run is the context of a number of literals.
func run(literals int) int { return min(literals, runs-1) }

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}

const (
	mantissa    = 3  // bits of a byte for a probability
	halfByte    = 96 // the byte for a half
	mantissaMax = 1<<mantissa - 1
)

// trained returns the cells that a group starts with, which never change.
var trained = sync.OnceValue(func() *[contexts]cell {
	packed := base64.NewDecoder(base64.StdEncoding, strings.NewReader(start))
	table, err := io.ReadAll(flate.NewReader(packed))
	if err != nil || len(table) != 2*contexts {
		panic(fmt.Sprintf("the trained start has %d bytes for %d contexts: %v", len(table), contexts, err))
	}
	cells := new([contexts]cell)
	for i := range cells {
		cells[i] = cell{one: probability(table[i]), seen: table[contexts+i]}
	}
	return cells
})

// probability returns what a byte of the trained start stands for, of 65536. From 0 to 96 it
// has an exponent and three bits below the leading one: 8 to 32768. From 255 down to 159 it
// is the same for the complement; there is nothing between.
func probability(b byte) uint16 {
	if b > 255-halfByte {
		return -probability(255 - b) // of 65536
	}
	b = min(b, halfByte)
	return (1<<mantissa | uint16(b)&mantissaMax) << (b >> mantissa)
}

// Byte returns the byte whose probability is nearest. It is for package train.
func Byte(one float64) byte {
	if one > 0.5 {
		return 255 - Byte(1-one)
	}
	b := byte(0)
	for b < halfByte && float64(probability(b))+float64(probability(b+1)) < 2*one*65536 {
		b++
	}
	return b
}

// Learned is what a group taught in a context: the probability of a 1, of 65536, and how many
// bits were seen, at most 250.
type Learned struct {
	One  uint16
	Seen uint8
}

// Learned returns what the group taught so far, for each context. It is for package train.
func (e *Encoder) Learned() (all []Learned) {
	for _, c := range e.w.cells {
		all = append(all, Learned{c.one, c.seen})
	}
	return all
}

// NewUntrained returns an Encoder without the trained start. It is for package train.
func NewUntrained(effort Effort) (*Encoder, error) {
	if err := effort.check(); err != nil {
		return nil, err
	}
	untrained := new([contexts]cell)
	for i := range untrained {
		untrained[i].one = half
	}
	e := &Encoder{w: &walker{model: model{first: untrained}}, effort: effort}
	e.Finish(nil)
	return e, nil
}
