package lzo

import "fmt"

// writer makes a block.
type writer struct {
	dst     []byte
	content []byte // what is left of it
	run     int    // literals of the token before, 0 after a match
	spare   int    // offset in dst of the byte whose low bits are S of the match before
	begun   bool
}

// Append appends to dst the canonical block of content and its tokens, and returns the
// longer slice. That the tokens cover the content and can be written is checked; that the
// bytes of each match are those at its distance is not.
func Append(dst, content []byte, tokens []Token) ([]byte, error) {
	w := writer{dst: dst, content: content}
	for i, t := range tokens {
		if err := w.token(int(t.Length), int(t.Distance)); err != nil {
			return nil, fmt.Errorf("token %d of %d, at byte %d: %w", i, len(tokens), len(content)-len(w.content), err)
		}
	}
	if len(w.content) > 0 {
		return nil, fmt.Errorf("%d tokens leave %d bytes of %d", len(tokens), len(w.content), len(content))
	}
	return append(w.dst, 0x11, 0, 0), nil
}

func (w *writer) token(length, distance int) error {
	at := length
	switch {
	case length < 1 || length > len(w.content):
		return fmt.Errorf("%d bytes of the %d that are left", length, len(w.content))
	case distance == 0 && w.run > 0:
		return fmt.Errorf("literals after literals")
	case distance == 0:
		w.literals(length)
	case !w.begun || !Writable(length, distance, w.run):
		return fmt.Errorf("no match of %d bytes at distance %d can be written after %d literals", length, distance, w.run)
	default:
		w.match(length, distance)
	}
	w.begun = true
	w.content = w.content[at:]
	return nil
}

func (w *writer) literals(n int) {
	switch {
	case !w.begun && n <= maxFirst:
		w.dst = append(w.dst, byte(17+n))
	case w.begun && n < manyLits:
		w.dst[w.spare] |= byte(n)
	default:
		w.length(0, n-3, 4)
	}
	w.run = n
	w.dst = append(w.dst, w.content[:n]...)
}

// match writes a match in the shortest form, with S of 0.
func (w *writer) match(length, distance int) {
	d := distance - 1
	switch {
	case length == 2:
		w.near(d&3<<2, d>>2)
	case length <= 4 && distance <= maxNear:
		w.near(64+(length-3)<<5+d&7<<2, d>>3)
	case length <= 8 && distance <= maxNear:
		w.near(128+(length-5)<<5+d&7<<2, d>>3)
	case length == 3 && distance <= maxLong && w.run >= manyLits:
		d -= maxNear
		w.near(d&3<<2, d>>2)
	case distance <= maxMid:
		w.length(32, length-2, 5)
		w.far(d)
	default:
		d = distance - maxMid
		w.length(16+d>>14<<3, length-2, 3)
		w.far(d & (maxMid - 1))
	}
	w.run = 0
}

// near writes an instruction that keeps S in its code.
func (w *writer) near(code, high int) {
	w.spare = len(w.dst)
	w.dst = append(w.dst, byte(code), byte(high))
}

// far writes the operand that keeps S.
func (w *writer) far(d int) {
	w.spare = len(w.dst)
	w.dst = append(w.dst, byte(d<<2), byte(d>>6))
}

// length writes a code and a length of some bits in it, and what does not fit behind it.
func (w *writer) length(code, n, bits int) {
	most := 1<<bits - 1
	if n <= most {
		w.dst = append(w.dst, byte(code+n))
		return
	}
	w.dst = append(w.dst, byte(code))
	for n -= most; n > 255; n -= 255 {
		w.dst = append(w.dst, 0)
	}
	w.dst = append(w.dst, byte(n))
}
