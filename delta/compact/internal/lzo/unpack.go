package lzo

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Unpack puts the content of a block into dst and returns its length. It accepts what Parse
// accepts with a limit of len(dst), and is faster. It may write behind the content, but not
// behind dst.
func Unpack(dst, block []byte) (n int, err error) {
	in, out, err := unpackFirst(dst, block)
	if err != nil {
		return 0, err
	}
	for state := min(out, manyLits); ; {
		i, next, err := readInstruction(block, in, state)
		if err != nil {
			return 0, fmt.Errorf("after %d bytes of %d: %w", in, len(block), err)
		}
		in = next
		switch {
		case i.length > 0:
			if i.distance > out || i.length > len(dst)-out {
				return 0, fmt.Errorf("a match of %d bytes from %d before, after %d of %d", i.length, i.distance, out, len(dst))
			}
			repeat(dst, out, i.distance, i.length)
			out += i.length
		case i.literals == 0 && in < len(block):
			return 0, fmt.Errorf("%d bytes follow the end of the LZO block", len(block)-in)
		case i.literals == 0:
			return out, nil
		}
		state = min(i.literals, manyLits)
		if n := i.literals; n <= 3 && in+4 <= len(block) && out+4 <= len(dst) {
			binary.LittleEndian.PutUint32(dst[out:], binary.LittleEndian.Uint32(block[in:]))
		} else if n > len(block)-in || n > len(dst)-out {
			return 0, errBounds(block[in:], n)
		} else {
			copy(dst[out:], block[in:in+n])
		}
		in, out = in+i.literals, out+i.literals
	}
}

// unpackFirst reads the first byte, if it is no instruction, and the literals that it
// announces. It returns the offset behind them, and how many they are.
func unpackFirst(dst, block []byte) (in, out int, err error) {
	switch {
	case len(block) == 0:
		return 0, 0, errCut
	case block[0] == 17 && len(block) >= 5:
		return 0, 0, errors.New("the block is in LZO-RLE, which is not supported")
	case block[0] < 18:
		return 0, 0, nil
	}
	n := int(block[0]) - 17
	if n > len(block)-1 || n > len(dst) {
		return 0, 0, errBounds(block[1:], n)
	}
	return n + 1, copy(dst, block[1:1+n]), nil
}

// errBounds is the error for n literals that the block has not, or there is no room for.
func errBounds(block []byte, n int) error {
	if n > len(block) {
		return errCut
	}
	return errors.New("the LZO block makes more than there is room for")
}

// instruction is a match, and literals behind it.
type instruction struct{ length, distance, literals int }

// readInstruction reads the instruction at an offset, and returns the offset behind its
// operands. The end has nothing of all.
func readInstruction(block []byte, in, state int) (i instruction, next int, err error) {
	if in >= len(block) {
		return i, 0, errCut
	}
	c := int(block[in])
	in++
	if c >= 16 && c < 64 {
		return readFar(block, in, c)
	}
	if c < 16 && state == 0 {
		i.literals, in, err = readLength(block, in, c, 15)
		i.literals += 3
		return i, in, err
	}
	if in >= len(block) {
		return i, 0, errCut
	}
	high := int(block[in])
	i.literals = c & 3
	switch {
	case c >= 64 && c < 128:
		i.length, i.distance = 3+c>>5&1, high<<3+c>>2&7+1
	case c >= 128:
		i.length, i.distance = 5+c>>5&3, high<<3+c>>2&7+1
	case state < manyLits:
		i.length, i.distance = 2, high<<2+c>>2+1
	default:
		i.length, i.distance = 3, high<<2+c>>2+maxNear+1
	}
	return i, in + 1, nil
}

// readFar reads an instruction with two bytes of distance.
func readFar(block []byte, in, c int) (i instruction, next int, err error) {
	start, most, least := c&31, 31, 1
	if c < 32 {
		start, most, least = c&7, 7, c>>3&1<<14+maxMid
	}
	n, in, err := readLength(block, in, start, most)
	if err != nil {
		return i, 0, err
	}
	if len(block)-in < 2 {
		return i, 0, errCut
	}
	low, high := int(block[in]), int(block[in+1])
	i = instruction{n + 2, high<<6 + low>>2 + least, low & 3}
	if least == maxMid && i.distance == maxMid {
		if start != 1 || low&3 != 0 {
			return i, 0, errors.New("an end that is not 0x11 0x00 0x00")
		}
		i = instruction{}
	}
	return i, in + 2, nil
}

// readLength returns a length that starts with some bits of the code, and the offset behind it.
func readLength(block []byte, in, start, most int) (n, next int, err error) {
	if start != 0 {
		return start, in, nil
	}
	for n = most; in < len(block); n += 255 {
		b := block[in]
		if in++; b != 0 {
			return n + int(b), in, nil
		}
	}
	return 0, 0, errCut
}

// repeat copies n bytes that stand a distance before.
func repeat(dst []byte, at, distance, n int) {
	from := at - distance
	if distance >= 8 && at+n+8 <= len(dst) && n <= 64 {
		for k := 0; k < n; k += 8 {
			binary.LittleEndian.PutUint64(dst[at+k:], binary.LittleEndian.Uint64(dst[from+k:]))
		}
		return
	}
	for n > 0 {
		// What was copied is repeated with what it came from, twice as much each time.
		k := copy(dst[at:at+min(n, at-from)], dst[from:])
		at += k
		n -= k
	}
}
