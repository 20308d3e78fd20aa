package main

import (
	"math/bits"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// reverseBits reverses the bits of a byte by its two halves: VPSHUFB looks up 32 of
// them at once in a table of 16, so two lookups and an "or" are all that it takes.
func reverseBits() {
	TEXT("reverseBitsAVX2", NOSPLIT, "func(dst, src *byte, n int)")
	Pragma("noescape")
	Doc("reverseBitsAVX2 reverses the bits of each of the n bytes at src into dst, which",
		"may be src. n is a positive multiple of 64.")
	dst := Load(Param("dst"), GP64())
	src := Load(Param("src"), GP64())
	n := Load(Param("n"), GP64())

	low, high, mask := YMM(), YMM(), YMM()
	VMOVDQU(nibbles("lowNibbles", func(n int) byte { return bits.Reverse8(byte(n)) }), low)
	VMOVDQU(nibbles("highNibbles", func(n int) byte { return bits.Reverse8(byte(n << 4)) }), high)
	VMOVDQU(nibbles("nibbleMask", func(int) byte { return 0x0f }), mask)

	Label("loop")
	for offset := range 2 {
		x := YMM()
		VMOVDQU(Mem{Base: src, Disp: 32 * offset}, x)
		reverseVector(x, low, high, mask)
		VMOVDQU(x, Mem{Base: dst, Disp: 32 * offset})
	}
	ADDQ(Imm(64), src)
	ADDQ(Imm(64), dst)
	SUBQ(Imm(64), n)
	JNZ(LabelRef("loop"))
	VZEROUPPER()
	RET()
}

// reverseVector reverses the bits of each byte of x. The bytes of mask are 0x0f.
func reverseVector(x, low, high, mask VecVirtual) {
	upper := YMM()
	VPSRLQ(Imm(4), x, upper)
	VPAND(mask, upper, upper)
	VPAND(mask, x, x)
	VPSHUFB(x, low, x)
	VPSHUFB(upper, high, upper)
	VPOR(upper, x, x)
}

// nibbles places a table of value(0) to value(15) twice, once for each half of a
// register, since VPSHUFB looks up within its half.
func nibbles(name string, value func(nibble int) byte) Mem {
	table := GLOBL(name, RODATA|NOPTR)
	for i := range 32 {
		DATA(i, U8(value(i%16)))
	}
	return table
}
