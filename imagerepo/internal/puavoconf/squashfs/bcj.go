package squashfs

import "math/bits"

// The filters of xz for programs ("branch, call, jump") by their numbers. They make
// the distances in calls and jumps absolute addresses, so that all calls of a function
// look alike. mksquashfs -Xbcj has them by these names.
var bcjFilters = map[byte]string{
	4: "x86", 5: "powerpc", 6: "ia64", 7: "arm", 8: "armthumb", 9: "sparc", 10: "arm64", 11: "riscv",
}

const x86Filter = 4

// unx86 undoes the filter for x86, in place. No kept library that can be imported has
// it.
//
// CALL and JMP are an opcode, E8 or E9, and an operand: four bytes, little-endian,
// with the distance from their end. An operand was filtered if its last byte was 00 or
// FF, and still is. No opcode is looked for in it. The bytes before an opcode may be
// opcodes that were not filtered, so that it may be in an operand itself; opcodes has
// them, the byte just before as bit 0.
func unx86(b []byte) {
	opcodes := uint(0)
	for i := 0; i+5 <= len(b); i++ {
		switch {
		case b[i]&0xfe != 0xe8:
			opcodes = opcodes << 1 & 7
		case !filtered(b[i+1:i+5], opcodes):
			opcodes = (opcodes<<1 | 1) & 7
		default:
			le.PutUint32(b[i+1:], relative(le.Uint32(b[i+1:]), uint32(i+5), opcodes))
			opcodes = 0
			i += 4
		}
	}
}

// filtered reports whether an operand was filtered. After one opcode it was not if the
// last byte of that one's operand, which lies in this one, is 00 or FF; after more it
// never was.
func filtered(operand []byte, opcodes uint) bool {
	back := bits.Len(opcodes)
	return extreme(operand[3]) && bits.OnesCount(opcodes) <= 1 && (back == 0 || !extreme(operand[3-back]))
}

// relative returns the distance from end to an address, as 25 bits with sign. After an
// opcode, the filter has repeated itself where the result would not have been taken
// for a filtered operand; that happens once at most.
func relative(address, end uint32, opcodes uint) uint32 {
	distance := address - end
	if back := bits.Len(opcodes); back > 0 && extreme(byte(distance>>(24-8*back))) {
		distance = distance ^ (1<<(32-8*back) - 1) - end
	}
	return uint32(int32(distance<<7) >> 7)
}

func extreme(b byte) bool { return b == 0 || b == 0xff }
