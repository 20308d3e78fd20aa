// Package token codes which tokens an LZO1X block is made of, for those who have its content.
//
// Given the content, the tokens are almost determined: a compressor looked for matches, and who
// looks in the same way knows nearly always which it chose. So encoder and decoder go through
// the content alike, guess at each position what stands there, and code whether the guess was
// right: about a twentieth of a bit for each match, a six-hundredth of the packed block. A block
// of another compressor costs more, but comes back all the same.
//
// What follows is the format: all that it takes to write another decoder. Its rules about what
// the compressor does were found in blocks of mksquashfs 4.5.1; they may be wrong about a block,
// but not different. All numbers are integers, / rounds down, and log2 counts the bits of a
// number, 0 for 0.
//
// # Stream
//
// A group is a sequence of blocks that share a stream and what is learned. Nothing passes from
// one group to the next. The stream has no header and says neither how many blocks there are nor
// how long they are; a block of no bytes adds nothing to it. [Effort] is known from elsewhere.
//
// The content of a block has n bytes, at most 1 MiB. A position x is the offset of one. A match
// (l, d) at x says that the l bytes from x on are those from x-d on. It is writable, after a
// number of literals, if l >= 3, or if l = 2, d <= 1024 and there are 1 to 3 literals. A token is
// a match of at most 2048 bytes with d <= 49151, or a literal. The first is a literal, of which
// nothing is coded. The following ones are coded in order, see Walk.
//
// # Tables
//
// Four tables have for each position x the distance to the last position before it with the same
// hash; 0 if there is none, or it is farther than 49151, for P2 farther than 1024. The grams of 2,
// 3, 5 and 8 bytes from x on are hashed to 16 bits, as little-endian numbers g:
//
//	P2   g
//	P3   (g<<8  * 0x9e3779b1         mod 2^32) >> 16
//	P5   (g<<24 * 0x9e3779b97f4a7c15 mod 2^64) >> 48
//	P8   (g     * 0x9e3779b97f4a7c15 mod 2^64) >> 48
//
// They are 0 where the gram does not lie in the content. rank(x) is 1 where P3 is 0, else
// rank(x - P3[x]) + 1; and rank(x, d), of a match at x, is rank(x) - rank(x-d), mod 2^16: how
// many positions with these three bytes the compressor looked at before it came to this one.
//
// # Search
//
// Depth is that of the Effort. T(need) is P3 with w = 3 and 4*depth candidates for need < 5, P5 with
// w = 5 and depth candidates for need < 8, else P8 with w = 8 and as many.
//
// walk(T, x, o, d, need, most) looks for a match at x. While d <= min(x, 49151): if there were as
// many candidates as T has, it gives up and there is no match. Else d is a candidate: k is how
// many bytes are alike at x and x-d, at most most; if k >= need, the match is (k, d), but if its
// rank is over 2048 there is none. If not, but k >= 8, then o becomes the one of o, 0 and k-8
// whose T[x-d+o] is 0, or else the greatest; the first of equals. If T[x-d+o] is 0 there is no
// match, else d grows by it.
//
// next(x, need, d0, most) is the nearest match of need bytes that is farther than d0, the distance
// of a match of need-1 bytes, or 0. There is none if need > most. T is T(need), o = need-w and
// d = T[x+o]. For o' = o-1, o-1-s, o-1-2s and so on, with s = o/4 or at least 1, where each o' < s
// is replaced by 0 and is the last: d' = T[x-d0+o'] + d0; if d' > d, that o' and d' replace o and d.
// If any of these entries of T is 0 there is none. Else it is walk(T, x, o, d, need, most).
//
// longest(x, need) is a list of matches whose lengths and distances both grow. most is
// min(n-x, 2048), or 64 in place of 2048 if the block is spent by then, see Work. The first match is
//
//   - if need <= 8 and most >= 8, and P8[x] is not 0: walk(P8, x, 0, P8[x], 8, most); if there is
//     none, and the walk did not give up, most becomes 7
//   - if there is none so far, and need <= 5 and most >= 5: the same with P5, 5 and 4
//   - if there is none so far: next(x, max(need, 3), 0, most)
//
// The next are next(x, l+1, d, most), where (l, d) is the one before, until there is none. The
// list is unsure if that last walk gave up. If it has one match (l, d), and 4 <= l <= 9 and d >
// 2048, or 10 <= l <= 34 and d > 16384, then next(x, l-1, 0, l-1), if there is one, goes before it:
// closer. If the list is empty, need is 2 and P2[x] is not 0, it is (2, P2[x]).
//
// A shorter match (k, e) is cheaper than (l, d) if
//
//   - l = 10, d > 16384, k = 8 and e <= 2048
//   - or k = l-1, 4 <= l <= 9, d > 2048 and e <= 2048
//   - or k = l-1, 10 <= l <= 34, d > 16384 and e <= 16384
//
// best(x, need) is the last match of longest(x, need), or the last but one if it is cheaper, or
// else the one before that if it is; and there is none if it has less than need bytes. It is held: when
// asked again for that x, it is what was found if that has need bytes, and none if not; but where
// nothing was found, a smaller need is searched for. And it is none without a search if x + need
// > n, or if T(need)[x] or T(need)[x+need-w] is 0; for need = 2 if P3[x] and P2[x] are both 0.
//
// refined(x, m) is what is closer than m, if it is cheaper, else m. A match at x and d extends if
// x > d, the bytes at x-1 and x-1-d are alike and rank(x-1, d) <= 2048.
//
// # Later matches
//
// At x, where m could stand, a and b are matches at the next two positions. For l >= 128 there are
// none. Else a = best(x+1, l). If a has 3 bytes or more and extends, it is one at x: with (a.l+1,
// a.d), unless m is cheaper than that, m = refined(x, that), and a is none. Then b = best(x+2, l+1), or
// best(x+2, l) if l <= 8 and d > 2048. If b is longer than m and extends:
//
//   - if it extends from x+1 on as well: with (b.l+2, b.d), unless m is cheaper than that, m =
//     refined(x, that), and a and b are none
//   - else a = refined(x+1, (b.l+1, b.d)), which is held for x+1, and b is none
//
// Such lengths are at most 2048. If m has 128 bytes now, there is neither a nor b. There is no a
// if it is shorter than m, or not writable with one more literal; no b if it is shorter than m.
// There is none of rank over 512 if m has 32 bytes or more.
//
// The gain of a is min(a.l - m.l + 1, 4), and so of b; 0 if there is none.
//
// # Walk
//
// From x = 1 on, with r literals before x since the last match:
//
//  1. m = best(x, 2). If it is not writable: a literal if P3[x] is 0; else the bit start, 0 for a
//     literal, 1 for another match.
//  2. Find the later matches; m may change. If there is one, the bit lazy: 0 for a literal.
//  3. The bit short if l <= 3, long if not: 1 for m.
//  4. The bit out: 1 for l literals.
//  5. The bit literal: 1 for a literal.
//  6. Another match.
//
// Literals and matches move x, until it is n. It is up to the encoder whether a literal is one of step 2, 4
// or 5; this one takes 4 where l literals follow.
//
// Another match: if there was an m, longest(x, 2) is made with 8 times the depth, but not in a
// spent block, and for each of its last 8 matches, the last one first, there is a bit list: 1 for its
// distance. If there is no m or none of them was it, the distance follows in 16 bits far, the highest
// first. It must be 1 to min(x, 49151). most is how many bytes are alike there, at most 2048 and
// n-x. Then up to 8 bits less: 1 for a length of most, most-1 and so on; if all are 0, 12 bits
// length. The match must be no longer than most, and writable; a stream that says otherwise is refused.
//
// The compressor took some short matches and put them back later: those that cost as much as their
// bytes as literals do. So in step 3, for l <= 3, it matters how many literals z follow. z is guessed
// from x+l on: the positions up to the first y, of at most 20, where best(y, 2) is writable, after y-x-l
// literals, and it has no later matches, or the probability of 1 in its context of lazy is a half or more.
//
// # Contexts
//
// Each bit has a context, and each context a probability. The class of a distance is 0 to 1024, 1 to
// 2048, 2 to 3072, 3 to 16384 and 4 beyond. K(m) is (min(l, 9) - 2)*5 + its class. R is min(r, 4).
// L(a), of a later match, is 0 if there is none, else 1 + (gain-1)*5 + its class. In the order in
// which they are numbered, from 0:
//
//	lazy     8*5*21*21    (K(m)*21 + L(a))*21 + L(b)
//	short    2*5*5*6*13   ((((l-2)*5 + class)*5 + R)*6 + Z)*13 + c + g(r) + g(z) - l - g(r+l+z) + 5
//	long     16*5*6*4     ((S*5 + class)*6 + log2(rank(x, d) >> 7))*4 + 2*U + (1 if r >= 4)
//	out      8*5          K(m)
//	literal  8*5          K(m)
//	start    1
//	list     8            how many were asked before
//	less     8            the same
//	far      16           the same
//	length   12           the same
//
// S, for l >= 4, is l-4 to 11, 8 + (l-10)/8 to 33, 11 to 127, 12 + (l-128)/68 to 263, and 14 beyond. U is 1 if the
// search for x was unsure. g(n) is how many bytes it takes to say that there are n literals: 0 for up to 3, 1 to
// 18, 2 to 273, 3 beyond. c is how many m takes: 2 if d <= 2048, or l = 3, d <= 3072 and r >= 4; else 3. Z is
// min(z, 4), but where z can't matter it is not guessed: Z is 5 and z is 0, unless l = 2, or c = 3 and r < 4, or c
// = 2 and r >= 4.
//
// The bit lazy has a finer context besides, a number of 32 bits:
//
//	(((lazy*5 + R)*16 + S)*8 + Q)*4 + U + 2*U1
//
// where S is 0 for l <= 3, Q is log2(rank(x+1, a.d) >> 5) if a gains 3 or more, else 0, and U1 is 1 if there was a
// search for x+1 and it was unsure.
//
// # Probabilities
//
// A cell is a probability p of 1, of 65536, and a number s of bits seen. After a bit, p grows by
// ((65535 or 0) - p) * ((131072/(2s+3)) >> 1) >> 15, an arithmetic shift, is kept within 8 and 65528, and s grows, up to
// 250. Each context has a cell. Finer contexts have cells in a table of 2^16, empty at the
// start of a group: h = context * 0x9e3779b1 mod 2^32 says which, h >> 16, and that cell is used if its
// check is (h >> 8 mod 256) | 1; if not it starts again, with that check, the p of the coarse cell and s = 0. The
// bit is coded with the finer p, but with the mean of both, rounded down, while the finer s < 3; then both learn.
//
// At the start of a group the cells of the contexts are those of the trained start: a table that
// was made from real images and belongs to the format. It is in start.go, in base64 and deflate:
// a byte v of p for each context and then a byte of s for each. p is (8 + v%8) << v/8 for v up to 96, and
// 65536 less the p of 255-v for v from 159 on.
//
// # Coder
//
// low is 0 and high 2^32 - 1 at the start of a group. For a bit, middle = low + ((high-low) * p >> 16); for 1 high becomes
// middle, for 0 low becomes middle + 1. While the highest bytes of low and high are the same, that
// byte goes out, and both are shifted left by 8 bits, with 0 and 255 coming in. At the end the encoder adds the
// fewest bytes, up to four, that make a number from low to high with zeros behind them; a decoder takes what
// is behind the end for zeros.
//
// # Work
//
// Work in a block is counted: 1 for each candidate of a walk, and k/64 where 8 bytes or more, or need, are alike; it is added up when the
// walk ends. Beyond the allowance of the Effort, times n, the block is spent, up to its end: depth is 1 from then
// on. So is bounded what a stream can make a decoder do. Of what was tried, the worst took 13 n
// with an allowance of 8, and a quarter of a second for a MiB, where usual blocks take a
// twentieth; real ones come to 7 n.
package token

import (
	"bytes"
	"errors"
	"fmt"

	"puavo-image-repository/delta/compact/internal/lzo"
)

// MaxBlock is the largest content of a block, in bytes.
const MaxBlock = 1 << 20

// Effort says how hard the search for matches tries. Who decodes must use the Effort of who
// encoded.
type Effort struct {
	// Depth is how many candidates are looked at for each length of match, 1 to 255: the more,
	// the smaller the stream.
	Depth int
	// Allowance bounds the work in a block: it is for each byte of the content, 1 to 255.
	Allowance int
}

// Default is what is good for most.
var Default = Effort{Depth: 32, Allowance: 8}

func (e Effort) check() error {
	if e.Depth < 1 || e.Depth > 255 || e.Allowance < 1 || e.Allowance > 255 {
		return fmt.Errorf("no token codec has the depth %d and the allowance %d", e.Depth, e.Allowance)
	}
	return nil
}

// Encoder makes the token streams of groups of blocks, one group after another. It is not
// for concurrent use. It takes 1.5 MiB, and 11 bytes for each byte of the largest block.
type Encoder struct {
	w      *walker
	effort Effort
}

// NewEncoder returns an Encoder at the start of a group.
func NewEncoder(effort Effort) (*Encoder, error) {
	if err := effort.check(); err != nil {
		return nil, err
	}
	e := &Encoder{w: newWalker(), effort: effort}
	e.Finish(nil)
	return e, nil
}

// Add adds the tokens of a block to the group. An error says that the block cannot be coded,
// which must be kept as it is; the group is as before then.
func (e *Encoder) Add(content []byte, tokens []lzo.Token) error {
	if err := check(content, tokens); err != nil || len(content) == 0 {
		return err
	}
	e.w.begin(content, e.effort.Depth, e.effort.Allowance)
	e.w.tokens = tokens
	return e.w.block()
}

// Finish ends the group, appends its stream to dst, and starts the next.
func (e *Encoder) Finish(dst []byte) []byte {
	e.w.coder.finish()
	dst = append(dst, e.w.out...)
	e.w.coder = encodingTo(e.w.out[:0])
	e.w.model.reset()
	return dst
}

// check says what of the tokens can't be coded.
func check(content []byte, tokens []lzo.Token) error {
	x, literals := 0, 0
	for _, t := range tokens {
		n, d := int(t.Length), int(t.Distance)
		switch {
		case n < 1 || n > len(content)-x || len(content) > MaxBlock:
			return fmt.Errorf("the tokens do not make %d bytes", len(content))
		case d == 0 && literals == 0:
			literals = n
		case d == 0 || d > x || n > longestMatch || !lzo.Writable(n, d, literals):
			return fmt.Errorf("a match of %d bytes at distance %d, after %d of the content and %d literals", n, d, x, literals)
		case !bytes.Equal(content[x:x+n], content[x-d:x-d+n]):
			return errors.New("the tokens are not those of the content")
		default:
			literals = 0
		}
		x += n
	}
	if x != len(content) {
		return fmt.Errorf("the tokens make %d bytes of %d", x, len(content))
	}
	return nil
}

// Decoder reads the token stream of a group. It is not for concurrent use. It takes as much
// memory as an Encoder.
type Decoder struct {
	w      *walker
	effort Effort
}

// NewDecoder returns a Decoder that has no group yet.
func NewDecoder(effort Effort) (*Decoder, error) {
	if err := effort.check(); err != nil {
		return nil, err
	}
	return &Decoder{newWalker(), effort}, nil
}

// Start starts a group with its stream, which must not change until the group is done.
func (d *Decoder) Start(stream []byte) {
	d.w.coder = decodingFrom(stream)
	d.w.model.reset()
}

// Next appends the tokens of the group's next block to dst, and returns the longer slice. The
// content is that of the block. After an error, no block of the group can be had.
func (d *Decoder) Next(dst []lzo.Token, content []byte) ([]lzo.Token, error) {
	if len(content) > MaxBlock {
		return nil, fmt.Errorf("a block of %d bytes", len(content))
	}
	if len(content) == 0 {
		return dst, nil
	}
	d.w.begin(content, d.effort.Depth, d.effort.Allowance)
	d.w.tokens = dst
	err := d.w.block()
	dst, d.w.tokens = d.w.tokens, nil
	if err != nil {
		return nil, err
	}
	return dst, nil
}

// Finish reports whether the blocks of the group used all of its stream, and no more.
func (d *Decoder) Finish() error {
	switch left := len(d.w.in) + 4 - d.w.at; {
	case left < 0:
		return errors.New("the token stream is cut off")
	case left > 4:
		return fmt.Errorf("the token stream has %d bytes behind its end", left-4)
	}
	return nil
}
