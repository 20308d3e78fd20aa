// Command _asm writes the assembly of package kernel and its Go declarations. Run it
// by "go generate" in the folder of the package.
package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

func main() {
	ConstraintExpr("!purego")
	sampled()
	recur()
	Generate()
}

// multiplier is that of package kernel.
const multiplier = 0x9e3779b1

// sampled looks at 32 places a turn. The four bytes at every fourth place are the
// words of a vector; of four vectors, each loaded a byte further on, the comparisons
// yield words of all ones or all zeros. A different byte of each goes into one vector,
// so that its sign bits are the places' bits in their order.
func sampled() {
	TEXT("sampledAVX2", NOSPLIT, "func(mask *uint32, data *byte, words int, threshold int32)")
	Doc("sampledAVX2 is sampled for words of the mask.")
	mask, data := Load(Param("mask"), GP64()), Load(Param("data"), GP64())
	words := Load(Param("words"), GP64())

	threshold, factor, second, third := YMM(), YMM(), YMM(), YMM()
	broadcast := func(to VecVirtual, from Op) {
		VMOVD(from, to.AsX())
		VPBROADCASTD(to.AsX(), to)
	}
	bits := GP32()
	broadcast(threshold, Load(Param("threshold"), GP32()))
	for _, c := range []struct {
		to    VecVirtual
		value uint32
	}{{factor, multiplier}, {second, 0xff00}, {third, 0xff0000}} {
		MOVL(U32(c.value), bits)
		broadcast(c.to, bits)
	}

	Label("turn")
	var below [4]VecVirtual
	for k := range below {
		below[k] = YMM()
		VPMULLD(Mem{Base: data, Disp: k}, factor, below[k])
		VPCMPGTD(below[k], threshold, below[k])
	}
	VPSRLD(U8(24), below[0], below[0])
	VPAND(second, below[1], below[1])
	VPAND(third, below[2], below[2])
	VPSLLD(U8(24), below[3], below[3])
	VPOR(below[0], below[1], below[1])
	VPOR(below[2], below[3], below[3])
	VPOR(below[1], below[3], below[3])
	VPMOVMSKB(below[3], bits)
	MOVL(bits, Mem{Base: mask})
	ADDQ(U8(32), data)
	ADDQ(U8(4), mask)
	DECQ(words)
	JNZ(LabelRef("turn"))
	VZEROUPPER()
	RET()
}

// recur compares each of the four bytes at a place with the 64 bytes that follow it:
// where all four are equal at the same distance, they recur.
func recur() {
	TEXT("recurAVX2", NOSPLIT, "func(data *byte, places, step int) int")
	Doc("recurAVX2 returns the index of the first of the places where four bytes recur, or places.")
	data, places := Load(Param("data"), GP64()), Load(Param("places"), GP64())
	step := Load(Param("step"), GP64())
	i := GP64()
	XORQ(i, i)

	Label("place")
	near, far := YMM(), YMM()
	for k := range 4 {
		one, a, b := YMM(), near, far
		if k > 0 {
			a, b = YMM(), YMM()
		}
		VPBROADCASTB(Mem{Base: data, Disp: k}, one)
		VPCMPEQB(Mem{Base: data, Disp: k + 1}, one, a)
		VPCMPEQB(Mem{Base: data, Disp: k + 33}, one, b)
		if k > 0 {
			VPAND(a, near, near)
			VPAND(b, far, far)
		}
	}
	VPOR(near, far, near)
	VPTEST(near, near)
	JNZ(LabelRef("found"))
	ADDQ(step, data)
	INCQ(i)
	CMPQ(i, places)
	JLT(LabelRef("place"))
	Label("found")
	Store(i, ReturnIndex(0))
	VZEROUPPER()
	RET()
}
