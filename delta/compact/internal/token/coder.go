package token

// coder codes bits, or decodes them: a carryless arithmetic coder of 32 bits. What is coded
// narrows the interval from low to high; the leading bytes that both share are written.
type coder struct {
	low, high uint32
	decoding  bool
	out       []byte // what was coded

	in   []byte // what is to be decoded
	at   int    // the offset in it of the next byte, maybe behind its end
	code uint32 // the bytes of in that stand against low and high
}

func encodingTo(dst []byte) coder { return coder{high: 1<<32 - 1, out: dst} }

func decodingFrom(src []byte) coder {
	c := coder{high: 1<<32 - 1, decoding: true, in: src}
	for range 4 {
		c.read()
	}
	return c
}

// read moves a byte into code; behind the end there are zeros.
func (c *coder) read() {
	c.code <<= 8
	if c.at < len(c.in) {
		c.code |= uint32(c.in[c.at])
	}
	c.at++
}

// bit codes a bit, or, decoding, returns one and ignores the argument. It is 1 with the
// probability one/65536, which is more than 0 and less than 1.
func (c *coder) bit(bit bool, one uint16) bool {
	middle := c.low + uint32(uint64(c.high-c.low)*uint64(one)>>16)
	if c.decoding {
		bit = c.code <= middle
	}
	if bit {
		c.high = middle
	} else {
		c.low = middle + 1
	}
	for (c.low^c.high)>>24 == 0 {
		c.shift()
	}
	return bit
}

func (c *coder) shift() {
	if c.decoding {
		c.read()
	} else {
		c.out = append(c.out, byte(c.low>>24))
	}
	c.low, c.high = c.low<<8, c.high<<8|0xff
}

// finish writes the fewest bytes that, with zeros behind them, stand in the interval.
func (c *coder) finish() {
	for kept := 0; kept <= 32; kept += 8 {
		rest := uint64(1)<<(32-kept) - 1
		if code := (uint64(c.low) + rest) &^ rest; code <= uint64(c.high) {
			for ; code != 0; code = code << 8 & (1<<32 - 1) {
				c.out = append(c.out, byte(code>>24))
			}
			return
		}
	}
}
