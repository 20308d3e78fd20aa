// Package lzo takes LZO1X blocks apart into tokens, and makes the same blocks of tokens
// again. It holds no compressor: it neither chooses tokens nor needs who chose them.
//
// # Tokens
//
// A block stands for its content. Its tokens cover the content from the first byte to the
// last: a run of literals, which lie in the block as they are, or a match, a copy of bytes
// that stand a distance before in the content. A match may reach into itself: length 9 at
// distance 1 repeats a byte nine times. Two runs of literals never follow each other.
//
// # Stream
//
// A block is a sequence of instructions. Each has one byte of code, which starts with a few
// bits that say what it is, and operands behind it. H, D, L and S below are bits of the code
// and of the operands. Each instruction but that of a long run copies, after its match, S
// literals, 0 to 3, that stand behind its operands. How many literals the instruction before
// copied is the state: 0 to 3, or 4 for four and more. At the start of a block it is 0.
//
//	code      operands  state  what it does
//	0000LLLL            0      L+3 literals, L of 4 bits, state 4 after it
//	0000DDSS  H         1..3   match of 2 bytes, distance H<<2 + D + 1
//	0000DDSS  H         4      match of 3 bytes, distance H<<2 + D + 2049
//	0001HLLL  DDDDDDSS DDDDDDDD   match of L+2 bytes, L of 3 bits, distance H<<14 + D + 16384
//	001LLLLL  DDDDDDSS DDDDDDDD   match of L+2 bytes, L of 5 bits, distance D + 1
//	01LDDDSS  H                match of L+3 bytes, distance H<<3 + D + 1
//	1LLDDDSS  H                match of L+5 bytes, distance H<<3 + D + 1
//
// The two bytes of D and S are a little-endian number of which S is the lowest two bits. So
// a distance is at most 49151.
//
// Where a table entry says "L of k bits" and these are all 0, more of L follows right behind
// the code, before other operands: bytes of 0, each of them 255, and then one that is not 0
// and counts as it is; 2^k - 1 is added to their sum.
//
// The first byte of a block, if it is 18 or more, is no instruction: it says that byte-17
// literals follow, 1 to 238, and sets the state to their number, at most 4. A first byte of
// 17 in a block of 5 bytes or more announces a later version of the format, LZO-RLE, which is
// not read.
//
// A match of the form 0001 with H and D of 0 has no distance; it ends the block. It must be
// written 0x11 0x00 0x00.
//
// # Canonical blocks
//
// There are often several ways to write a token. [Append] always takes the shortest, which
// is what compressors do: a first run of up to 238 literals in the first byte, a run of 1 to
// 3 behind a match in S of the match, each match in the form with the fewest bytes (of the
// forms with as many, only one can hold it), and lengths with no more bytes than they need. A
// block that is written otherwise does not come back the same; who keeps tokens instead of
// the block compares them once.
//
// The bytes "hello hello hello" can be the block
//
//	17     23 'h' 'e' 'l' 'l' 'o' ' '    a first run of 6 literals
//	33     0x29 0x14 0x00                a match of 11 at distance 6: L is 9, D is 5, S is 0
//	17     0x11 0x00 0x00                the end
//
// where the first column is the number that the code or the first byte is made from.
//
// Source: Documentation/staging/lzo.rst of Linux. It gives the first bytes 18 to 21 as 0 to
// 3 literals, where blocks in the world have 1 to 4.
package lzo

import "errors"

const (
	// MaxDistance is the distance of the farthest match that can be written, in bytes.
	MaxDistance = 49151

	maxPair  = 1024  // the farthest match of two bytes, after 1 to 3 literals
	maxNear  = 2048  // the farthest match that is written in two bytes
	maxLong  = 3072  // the same for three bytes after 4 literals and more
	maxMid   = 16384 // the farthest match of form 001
	maxFirst = 238   // literals that the first byte can announce
	manyLits = 4     // the state after so many literals, or more
)

// Token is a piece of a block's content.
type Token struct {
	// Length is the number of bytes, at least 1.
	Length uint32
	// Distance is how many bytes before itself a match has its source; 0 for literals.
	Distance uint32
}

// Writable reports whether a match of this length and distance can be written after a run
// of so many literals, 0 right after another match.
func Writable(length, distance, literals int) bool {
	if distance < 1 || distance > MaxDistance {
		return false
	}
	return length >= 3 || length == 2 && distance <= maxPair && 1 <= literals && literals < manyLits
}

var errCut = errors.New("the LZO block is cut off")
