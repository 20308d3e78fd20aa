package cksum

import (
	"hash/crc32"
	"math/bits"

	"puavo-image-repository/cksum/internal/kernel"
)

// crc is the running CRC of cksum(1); its zero value is ready for use.
//
// The fast CRC of the standard library has the same polynomial but takes the
// least significant bit of each byte first. So bytes go in, and the result
// comes out, with their bits reversed. It also starts from all ones, where
// cksum(1) starts from 0.
type crc struct {
	reg     uint32     // the register: bits reversed, not complemented
	scratch [4096]byte // for bytes with their bits reversed; stays in the nearest cache
}

// Write adds p to the CRC. It never returns an error.
func (c *crc) Write(p []byte) (int, error) {
	written := len(p)
	for len(p) > 0 {
		n := min(len(p), len(c.scratch))
		kernel.ReverseBits(c.scratch[:n], p[:n])
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
