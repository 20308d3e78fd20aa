package main

import (
	"fmt"
	"math"
	"math/big"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// The sizes of SHA-512 (FIPS 180-4) and of the kernel.
const (
	rounds     = 80
	blockWords = 16 // of 8 bytes
	blockSize  = blockWords * 8
	stateWords = 8
	lanes      = 4 // of 64 bits in a 256-bit register
	vectorSize = lanes * 8
)

// state is the working variables a to h, a register each, which has a lane a stream.
type state [stateWords]VecVirtual

// block is the last 16 words of the message schedule, likewise. Word t is at t mod 16.
type block [blockWords]VecVirtual

// sha512 compresses four streams at once. All that a round needs is in the 32 registers
// of AVX-512: 8 of the state, 16 of the schedule, one for the order of bytes, and 7 that
// are free. Registers of 512 bits would take eight streams, but wide shifts and rotations
// have one port instead of two.
//
// 64 rounds each make the word of the schedule that comes 16 rounds later, in four turns
// of a loop; the last 16 rounds make none.
func sha512() {
	TEXT("sha512x4AVX512", NOSPLIT, "func(state *[8][4]uint64, p *[4]*byte, blocks int)")
	Pragma("noescape")
	Doc("sha512x4AVX512 adds the given number of 128-byte blocks, at least one, to each of",
		"four SHA-512 states. state[i][j] is word i of stream j, p[j] is where its blocks",
		"begin. Streams may share their blocks.")
	saved := Mem{Base: Load(Param("state"), GP64())}
	streams := loadPointers()
	blocks := Load(Param("blocks"), GP64())
	constants, firstConstant := GP64(), roundConstants()
	order := YMM()
	VMOVDQU64(bigEndian(), order)
	s := loadState(saved)

	Label("block")
	w := loadBlock(streams, order)
	LEAQ(firstConstant, constants)
	turns := GP64()
	MOVQ(U64(rounds/blockWords-1), turns)

	Label("rounds")
	for t := range blockWords {
		s.round(t, w[t], Mem{Base: constants, Disp: 8 * t})
		w.schedule(t)
	}
	ADDQ(Imm(blockSize), constants)
	DECQ(turns)
	JNZ(LabelRef("rounds"))

	for t := range blockWords {
		s.round(t, w[t], Mem{Base: constants, Disp: 8 * t})
	}
	s.add(saved)
	for _, stream := range streams {
		ADDQ(U32(blockSize), stream)
	}
	DECQ(blocks)
	JNZ(LabelRef("block"))
	VZEROUPPER()
	RET()
}

// round does round t. The variables do not move from register to register; instead each
// round takes the registers one place further on, so that the new a is where h was. After
// 8 rounds all are where they began.
func (s *state) round(t int, word VecVirtual, constant Mem) {
	variable := func(i int) VecVirtual { return s[(i+rounds-t)%stateWords] }
	a, b, c, d := variable(0), variable(1), variable(2), variable(3)
	e, f, g, h := variable(4), variable(5), variable(6), variable(7)
	Comment(fmt.Sprintf("Round %d of 16.", t))

	VPADDQ(word, h, h)
	VPADDQ_BCST(constant, h, h)
	choice := ternary(choose, e, f, g)
	VPADDQ(choice, h, h)
	VPADDQ(xorOf(rotated(e, 14), rotated(e, 18), rotated(e, 41)), h, h) // h is now T1
	VPADDQ(h, d, d)
	majority := ternary(majority, a, b, c)
	VPADDQ(majority, h, h)
	VPADDQ(xorOf(rotated(a, 28), rotated(a, 34), rotated(a, 39)), h, h)
}

// schedule makes the word of round t+16 in the place of the word of round t.
func (w *block) schedule(t int) {
	word := func(i int) VecVirtual { return w[(t+i)%blockWords] }
	VPADDQ(word(9), word(0), word(0))
	VPADDQ(xorOf(rotated(word(1), 1), rotated(word(1), 8), shifted(word(1), 7)), word(0), word(0))
	VPADDQ(xorOf(rotated(word(14), 19), rotated(word(14), 61), shifted(word(14), 6)), word(0), word(0))
}

// Truth tables of VPTERNLOGQ, which does what would take three or four instructions. Bit
// 4x+2y+z of a table is the result for the bits x, y and z.
const (
	xor      = 0b10010110
	choose   = 0b11001010 // y where x is 1, else z
	majority = 0b11101000 // what two or three of them are
)

// ternary returns a function of x, y and z in a new register.
func ternary(table uint8, x, y, z VecVirtual) VecVirtual {
	r := YMM()
	VMOVDQA64(x, r)
	VPTERNLOGQ(U8(table), z, y, r)
	return r
}

// xorOf returns the exclusive or of x, y and z in the register of x.
func xorOf(x, y, z VecVirtual) VecVirtual {
	VPTERNLOGQ(U8(xor), z, y, x)
	return x
}

func rotated(x VecVirtual, n uint8) VecVirtual {
	r := YMM()
	VPRORQ(U8(n), x, r)
	return r
}

func shifted(x VecVirtual, n uint8) VecVirtual {
	r := YMM()
	VPSRLQ(U8(n), x, r)
	return r
}

// loadPointers loads where the streams begin.
func loadPointers() (streams [lanes]Register) {
	p := Load(Param("p"), GP64())
	for i := range streams {
		pointer := GP64()
		MOVQ(Mem{Base: p, Disp: 8 * i}, pointer)
		streams[i] = pointer
	}
	return streams
}

func loadState(saved Mem) (s state) {
	for i := range s {
		s[i] = YMM()
		VMOVDQU64(saved.Offset(vectorSize*i), s[i])
	}
	return s
}

// add adds the state before a block to that after it, and saves the sum.
func (s *state) add(saved Mem) {
	for i, v := range s {
		VPADDQ(saved.Offset(vectorSize*i), v, v)
		VMOVDQU64(v, saved.Offset(vectorSize*i))
	}
}

// loadBlock loads a block of each stream, two words at a time: a register has 16 bytes of
// streams 0 and 2, another has those of 1 and 3. Interleaved, they are one word of all
// streams, and the next.
func loadBlock(streams [lanes]Register, order VecVirtual) (w block) {
	for i := range w {
		w[i] = YMM()
	}
	for i := 0; i < blockWords; i += 2 {
		even := pair(streams[0], streams[2], 8*i)
		odd := pair(streams[1], streams[3], 8*i)
		VPSHUFB(order, even, even)
		VPSHUFB(order, odd, odd)
		VPUNPCKLQDQ(odd, even, w[i])
		VPUNPCKHQDQ(odd, even, w[i+1])
	}
	return w
}

// pair loads 16 bytes of each of two streams. (The first load fills both halves, since the
// generator would take that of a half for one that leaves the other half as it was.)
func pair(lower, upper Register, offset int) VecVirtual {
	v := YMM()
	VBROADCASTI32X4(Mem{Base: lower, Disp: offset}, v)
	VINSERTI32X4(U8(1), Mem{Base: upper, Disp: offset}, v, v)
	return v
}

// bigEndian places the order of bytes by which VPSHUFB swaps those of each word.
func bigEndian() Mem {
	order := GLOBL("bigEndian", RODATA|NOPTR)
	for i := range vectorSize {
		DATA(i, U8(i%16^7))
	}
	return order
}

// roundConstants places the constants of the rounds: the first 64 bits of the fractional
// parts of the cube roots of the first 80 primes.
func roundConstants() Mem {
	table := GLOBL("roundConstants", RODATA|NOPTR)
	fraction := new(big.Int).SetUint64(math.MaxUint64)
	placed := 0
	for n := int64(2); placed < rounds; n++ {
		if prime := big.NewInt(n); prime.ProbablyPrime(0) {
			root := cubeRoot(prime.Lsh(prime, 3*64))
			DATA(8*placed, U64(root.And(root, fraction).Uint64()))
			placed++
		}
	}
	return table
}

// cubeRoot returns the cube root of n, rounded down, which has less than 72 bits.
func cubeRoot(n *big.Int) *big.Int {
	root := new(big.Int)
	for bit := 71; bit >= 0; bit-- {
		root.SetBit(root, bit, 1)
		if new(big.Int).Exp(root, big.NewInt(3), nil).Cmp(n) > 0 {
			root.SetBit(root, bit, 0)
		}
	}
	return root
}
