package cksum

import (
	"encoding/binary"
	"hash/crc32"
	"math/bits"
)

// crc is the running CRC of cksum(1); its zero value is ready for use.
//
// The fast CRC of the standard library has the same polynomial but takes the
// least significant bit of each byte first. So bytes go in, and the result
// comes out, with their bits reversed. It also starts from all ones, where
// cksum(1) starts from 0.
type crc struct {
	reg     uint32 // the register: bits reversed, not complemented
	scratch [4096]byte
}

// write adds p to the CRC.
func (c *crc) write(p []byte) {
	for len(p) > 0 {
		n := reverseBits(c.scratch[:], p)
		c.reg = update(c.reg, c.scratch[:n])
		p = p[n:]
	}
}

// sum returns the CRC of what was written, followed by size.
func (c *crc) sum(size int64) uint32 {
	reg := c.reg
	for ; size > 0; size >>= 8 {
		reg = update(reg, []byte{bits.Reverse8(byte(size))})
	}
	return ^bits.Reverse32(reg)
}

// update returns the register reg after the bytes p, which are bit-reversed.
func update(reg uint32, p []byte) uint32 {
	return ^crc32.Update(^reg, crc32.IEEETable, p)
}

// reverseBits fills dst with the bytes of src, the bits of each reversed, and
// returns how many it wrote: the shorter of both lengths.
func reverseBits(dst, src []byte) int {
	n := min(len(dst), len(src))
	dst, src = dst[:n], src[:n]
	for len(src) >= 8 && len(dst) >= 8 {
		x := bits.Reverse64(binary.LittleEndian.Uint64(src))
		binary.LittleEndian.PutUint64(dst, bits.ReverseBytes64(x))
		dst, src = dst[8:], src[8:]
	}
	for i, b := range src {
		dst[i] = bits.Reverse8(b)
	}
	return n
}
