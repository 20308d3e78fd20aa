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
	reg     uint32     // the register: bits reversed, not complemented
	scratch [4096]byte // a multiple of 16, see reverseBits
}

// Write adds p to the CRC. It never returns an error.
func (c *crc) Write(p []byte) (int, error) {
	written := len(p)
	for len(p) > 0 {
		n := copy(c.scratch[:], p)
		reverseBits(c.scratch[:(n+15)&^15])
		c.reg = update(c.reg, c.scratch[:n])
		p = p[n:]
	}
	return written, nil
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

// reverseBits reverses the bits of each byte of p, of which the length is a
// multiple of 16. Nearly all time of the CRC is spent here. Two words at a time,
// without math/bits, which would also swap their bytes, take a third less.
func reverseBits(p []byte) {
	for i := 0; i < len(p); i += 16 {
		w := p[i : i+16]
		binary.LittleEndian.PutUint64(w, reverseEach(binary.LittleEndian.Uint64(w)))
		binary.LittleEndian.PutUint64(w[8:], reverseEach(binary.LittleEndian.Uint64(w[8:])))
	}
}

// reverseEach reverses the bits of each byte of x: it swaps neighbours, then
// pairs, then halves. A sum, where an "or" would do, is one instruction less.
func reverseEach(x uint64) uint64 {
	const ones, pairs, halves = 0x5555555555555555, 0x3333333333333333, 0x0f0f0f0f0f0f0f0f
	x = x>>1&ones + x&ones<<1
	x = x>>2&pairs + x&pairs<<2
	return x>>4&halves + x&halves<<4
}
