package lzma

import "errors"

var (
	errProperties = errors.New("LZMA: properties that are not read")
	errCut        = errors.New("LZMA: the stream is cut off")
	errDistance   = errors.New("LZMA: a match from before the start, or behind the end")
	errEnd        = errors.New("LZMA: the stream does not end where it should")
)

// Decode fills dst with the content of a stream, which may have a marker of its end. lc + lp
// is 4 at most. All of the stream is used, or it is an error. It takes 30 KiB.
func Decode(dst, stream []byte, properties byte) error {
	d, err := newDecoder(dst, stream, properties)
	if err != nil {
		return err
	}
	for d.at < len(dst) {
		if err := d.step(); err != nil {
			return err
		}
	}
	return d.end()
}

// decoder reads a stream.
type decoder struct {
	// The range decoder: behind the end of the stream, zeros are read.
	stream      []byte
	width, code uint32

	dst              []byte
	at               int // bytes of dst that are made
	state            uint32
	reps             [reps]uint32 // the last distances, less one
	lc               uint
	lpMask, posMask  uint32
	cut              bool // whether bytes behind the end were read
	isMatch, rep0Len [states << 4]prob
	rest             models
	lengths          [2]positionLengths
	literals         []prob
}

// positionLengths are the probabilities of lengths where positions are a context.
type positionLengths struct {
	lengths
	lows, mids [16][8]prob
}

func newDecoder(dst, stream []byte, properties byte) (*decoder, error) {
	lc, lp, pb := uint(properties%9), uint(properties/9%5), uint(properties/45)
	if lc+lp > 4 || pb > 4 {
		return nil, errProperties
	}
	if len(stream) < 5 || stream[0] != 0 {
		return nil, errCut
	}
	d := &decoder{
		dst: dst, stream: stream[5:], width: 1<<32 - 1, lc: lc, lpMask: 1<<lp - 1, posMask: 1<<pb - 1,
		literals: make([]prob, literalOf<<(lc+lp)),
	}
	for _, b := range stream[1:5] {
		d.code = d.code<<8 | uint32(b)
	}
	d.reset()
	return d, nil
}

func (d *decoder) reset() {
	reset(append(d.rest.all(), d.isMatch[:], d.rep0Len[:], d.literals)...)
	for i := range d.lengths {
		l := &d.lengths[i]
		l.reset()
		for k := range l.lows {
			reset(l.lows[k][:], l.mids[k][:])
		}
	}
}

// bit reads a bit.
func (d *decoder) bit(p *prob) uint32 {
	bound := d.width >> probBits * uint32(*p)
	var bit uint32
	if d.code < bound {
		d.width = bound
		*p += (maxProb - *p) >> moveBits
	} else {
		d.width -= bound
		d.code -= bound
		*p -= *p >> moveBits
		bit = 1
	}
	if d.width < topValue {
		d.shift()
	}
	return bit
}

func (d *decoder) shift() {
	d.width <<= 8
	d.code <<= 8
	if len(d.stream) == 0 {
		d.cut = true
		return
	}
	d.code |= uint32(d.stream[0])
	d.stream = d.stream[1:]
}

// tree reads n bits, the highest first.
func (d *decoder) tree(probs []prob, n int) uint32 {
	m := uint32(1)
	for range n {
		m = m<<1 | d.bit(&probs[m])
	}
	return m - 1<<n
}

// reverse reads n bits, the lowest first.
func (d *decoder) reverse(probs []prob, n int) (number uint32) {
	m := uint32(1)
	for i := range n {
		b := d.bit(&probs[m])
		m = m<<1 | b
		number |= b << i
	}
	return number
}

func (d *decoder) direct(n int) (number uint32) {
	for range n {
		d.width >>= 1
		number <<= 1
		if d.code >= d.width {
			d.code -= d.width
			number |= 1
		}
		if d.width < topValue {
			d.shift()
		}
	}
	return number
}

// step reads a literal or a match.
func (d *decoder) step() error {
	position := uint32(d.at) & d.posMask
	if d.bit(&d.isMatch[d.state<<4+position]) == 0 {
		d.literal()
		d.state = uint32(afterLiteral(uint8(d.state)))
		if d.cut {
			return errCut
		}
		return nil
	}
	if d.bit(&d.rest.isRep[d.state]) != 0 {
		return d.copy(d.repeated(position))
	}
	n := d.length(0, position)
	d.reps[3], d.reps[2], d.reps[1] = d.reps[2], d.reps[1], d.reps[0]
	d.reps[0] = d.distance(lenState(n))
	d.state = uint32(afterMatch(uint8(d.state)))
	return d.copy(n)
}

// repeated reads which of the last distances a match has, which becomes the first of them,
// and returns its length.
func (d *decoder) repeated(position uint32) int {
	m := &d.rest
	if d.bit(&m.isRep0[d.state]) == 0 {
		if d.bit(&d.rep0Len[d.state<<4+position]) == 0 {
			d.state = uint32(afterShortRep(uint8(d.state)))
			return 1
		}
	} else {
		k := 1
		if d.bit(&m.isRep1[d.state]) != 0 {
			k = 2 + int(d.bit(&m.isRep2[d.state]))
		}
		distance := d.reps[k]
		copy(d.reps[1:k+1], d.reps[:k])
		d.reps[0] = distance
	}
	n := d.length(1, position)
	d.state = uint32(afterRep(uint8(d.state)))
	return n
}

// length reads a length, of a new distance or of a repeated one.
func (d *decoder) length(kind int, position uint32) int {
	l := &d.lengths[kind]
	switch {
	case d.bit(&l.choice) == 0:
		return minMatch + int(d.tree(l.lows[position][:], 3))
	case d.bit(&l.choice2) == 0:
		return minMatch + 8 + int(d.tree(l.mids[position][:], 3))
	default:
		return minMatch + 16 + int(d.tree(l.high[:], 8))
	}
}

// distance reads a distance less one.
func (d *decoder) distance(lenState int) uint32 {
	slot := d.tree(d.rest.slot[lenState][:], 6)
	if slot < 4 {
		return slot
	}
	n := int(slot>>1) - 1
	base := (2 | slot&1) << n
	if slot < directSlot {
		return base + d.reverse(d.rest.special[base-slot:], n)
	}
	return base + d.direct(n-alignBits)<<alignBits + d.reverse(d.rest.align[:], alignBits)
}

// copy makes a match at the first of the last distances.
func (d *decoder) copy(n int) error {
	distance := int(d.reps[0]) + 1
	if d.cut {
		return errCut
	}
	if distance > d.at || n > len(d.dst)-d.at {
		return errDistance
	}
	from, to := d.at-distance, d.at
	d.at += n
	if distance >= n {
		copy(d.dst[to:d.at], d.dst[from:])
		return nil
	}
	for ; to < d.at; to++ {
		d.dst[to] = d.dst[from]
		from++
	}
	return nil
}

// literal reads a byte. It has its own copy of the range decoder, as most time goes here.
func (d *decoder) literal() {
	before := uint32(0)
	if d.at > 0 {
		before = uint32(d.dst[d.at-1])
	}
	context := (uint32(d.at)&d.lpMask)<<d.lc + before>>(8-d.lc)
	probs := d.literals[context*literalOf:][:literalOf]
	m := uint32(1)
	if d.state >= firstMatched && int(d.reps[0]) < d.at {
		matched := uint32(d.dst[d.at-int(d.reps[0])-1])
		for m < 0x100 {
			matched <<= 1
			b := d.bit(&probs[0x100+matched&0x100+m])
			m = m<<1 | b
			if matched>>8&1 != b {
				break
			}
		}
	}
	width, code := d.width, d.code
	for m < 0x100 {
		p := &probs[m]
		bound := width >> probBits * uint32(*p)
		if code < bound {
			width = bound
			*p += (maxProb - *p) >> moveBits
			m <<= 1
		} else {
			width -= bound
			code -= bound
			*p -= *p >> moveBits
			m = m<<1 | 1
		}
		if width < topValue {
			d.width, d.code = width, code
			d.shift()
			width, code = d.width, d.code
		}
	}
	d.width, d.code = width, code
	d.dst[d.at] = byte(m)
	d.at++
}

// end reads what is behind the content: nothing, or the marker of the end.
func (d *decoder) end() error {
	if d.code == 0 && len(d.stream) == 0 && !d.cut {
		return nil
	}
	position := uint32(d.at) & d.posMask
	if d.bit(&d.isMatch[d.state<<4+position]) == 0 || d.bit(&d.rest.isRep[d.state]) != 0 {
		return errEnd
	}
	n := d.length(0, position)
	if d.distance(lenState(n)) != 1<<32-1 || d.code != 0 || len(d.stream) > 0 || d.cut {
		return errEnd
	}
	return nil
}
