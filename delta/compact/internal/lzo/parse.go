package lzo

import (
	"errors"
	"fmt"
)

// parser reads a block.
type parser struct {
	block   []byte // what is left of it
	most    int    // bytes of content
	content []byte
	tokens  []Token
	state   int
}

// Parse returns the tokens of a block and its content, which has at most most bytes. It
// accepts all that the format allows, canonical or not, and nothing behind the end. The
// memory it takes is a multiple of the block's length and of the content's.
func Parse(block []byte, most int) (tokens []Token, content []byte, err error) {
	p := parser{
		block:   block,
		most:    most,
		content: make([]byte, 0, max(0, min(most, 4*len(block)))),
		tokens:  make([]Token, 0, len(block)/6),
	}
	if err := p.first(); err != nil {
		return nil, nil, err
	}
	for end := false; !end; {
		if end, err = p.instruction(); err != nil {
			return nil, nil, fmt.Errorf("after %d bytes of %d: %w", len(block)-len(p.block), len(block), err)
		}
	}
	if len(p.block) > 0 {
		return nil, nil, fmt.Errorf("%d bytes follow the end of the LZO block", len(p.block))
	}
	return p.tokens, p.content, nil
}

// first reads the first byte, if it is no instruction.
func (p *parser) first() error {
	switch {
	case len(p.block) == 0:
		return errCut
	case p.block[0] == 17 && len(p.block) >= 5:
		return errors.New("the block is in LZO-RLE, which is not supported")
	case p.block[0] < 18:
		return nil
	}
	n := int(p.block[0]) - 17
	p.block = p.block[1:]
	p.state = min(n, manyLits)
	return p.literals(n)
}

// instruction reads one, and reports whether it was the end.
func (p *parser) instruction() (end bool, err error) {
	code, err := p.byte()
	if err != nil {
		return false, err
	}
	c := int(code)
	switch {
	case c < 16 && p.state == 0:
		n, err := p.length(c, 4)
		if err != nil {
			return false, err
		}
		p.state = manyLits
		return false, p.literals(n + 3)
	case c < 16 && p.state < manyLits:
		return false, p.near(2, c>>2, 2, 1, c&3)
	case c < 16:
		return false, p.near(3, c>>2, 2, maxNear+1, c&3)
	case c < 32:
		return p.far(c&7, 3, c>>3&1<<14+maxMid)
	case c < 64:
		return p.far(c&31, 5, 1)
	case c < 128:
		return false, p.near(3+c>>5&1, c>>2&7, 3, 1, c&3)
	default:
		return false, p.near(5+c>>5&3, c>>2&7, 3, 1, c&3)
	}
}

// near reads the operand of a match whose distance has one byte above its low bits, and
// copies literals.
func (p *parser) near(length, low, bits, least, literals int) error {
	high, err := p.byte()
	if err != nil {
		return err
	}
	return p.match(length, int(high)<<bits+low+least, literals)
}

// far reads the operands of a match whose length starts with some bits of the code, and
// reports whether it was the end.
func (p *parser) far(start, bits, least int) (end bool, err error) {
	length, err := p.length(start, bits)
	if err != nil {
		return false, err
	}
	if len(p.block) < 2 {
		return false, errCut
	}
	low, high := int(p.block[0]), int(p.block[1])
	p.block = p.block[2:]
	distance := high<<6 + low>>2 + least
	if distance == maxMid && least == maxMid {
		if start != 1 || low&3 != 0 {
			return false, errors.New("an end that is not 0x11 0x00 0x00")
		}
		return true, nil
	}
	return false, p.match(length+2, distance, low&3)
}

// length returns a length that starts with some bits of the code.
func (p *parser) length(start, bits int) (int, error) {
	if start != 0 {
		return start, nil
	}
	n := 1<<bits - 1
	for {
		b, err := p.byte()
		if err != nil || b != 0 {
			return n + int(b), err
		}
		if n += 255; n > p.most {
			return 0, p.full()
		}
	}
}

// match copies from what was made before, and literals after it.
func (p *parser) match(length, distance, literals int) error {
	at := len(p.content)
	switch {
	case distance > at:
		return fmt.Errorf("a match from %d bytes before byte %d of the content", distance, at)
	case length > p.most-at:
		return p.full()
	}
	for left := length; left > 0; {
		// What was copied is repeated with what it came from, twice as much each time.
		k := min(left, len(p.content)-(at-distance))
		p.content = append(p.content, p.content[at-distance:at-distance+k]...)
		left -= k
	}
	p.tokens = append(p.tokens, Token{uint32(length), uint32(distance)})
	p.state = literals
	if literals == 0 {
		return nil
	}
	return p.literals(literals)
}

// literals copies n bytes of the block, at least one.
func (p *parser) literals(n int) error {
	switch {
	case n > len(p.block):
		return errCut
	case n > p.most-len(p.content):
		return p.full()
	}
	p.content = append(p.content, p.block[:n]...)
	p.block = p.block[n:]
	p.tokens = append(p.tokens, Token{Length: uint32(n)})
	return nil
}

func (p *parser) byte() (byte, error) {
	if len(p.block) == 0 {
		return 0, errCut
	}
	b := p.block[0]
	p.block = p.block[1:]
	return b, nil
}

func (p *parser) full() error {
	return fmt.Errorf("the LZO block makes more than %d bytes", p.most)
}
