package squashfs

// Of xz, only the LZMA2 decoder is a library's. The reader of ulikunitz/xz
// allocates the dictionary that a stream asks for, up to 4 GiB, and new tables of
// 40 KiB for a chunk of 15 bytes; and it reads no filter of mksquashfs -Xbcj.
// mikelolasagasti/xz bounds its memory, and reads all of these filters. But its code
// has not changed since xi2/xz of 2017, and it does not tell how many chunks it
// decodes: 195 kB of tiny ones kept it busy for a second, which Work could not bound.

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/ulikunitz/xz/lzma"
)

const (
	xzMagic     = "\xfd7zXZ\x00\x00"
	xzCheck     = 7  // offset of the byte that says which check there is
	xzBlock     = 12 // offset of the block
	lzma2Filter = 0x21

	chunkWork = 40 << 10 // units of work for the probabilities of a chunk
	byteWork  = 8        // the same for a stored byte, since this is slow
)

var errXZ = errors.New("not a stream of one block with an LZMA2 filter, alone or after a BCJ filter")

// newXZ reads streams by itself, since the library's reader of them takes any
// number of blocks, each with a dictionary of up to 4 GiB. Here, the dictionary is
// as large as dst: nothing lies farther back. What that takes is spent.
func newXZ(spend func(int) error) decompressor {
	return func(dst, b []byte) (int, error) {
		lzma2, x86, err := xzContent(b)
		if err != nil {
			return 0, err
		}
		n, rest, err := unlzma2(dst, lzma2, spend)
		if err != nil {
			return 0, err
		}
		if x86 {
			unx86(dst[:n])
		}
		return n, checkXZ(dst[:n], b, len(b)-len(rest))
	}
}

// xzContent returns b, an xz stream, from where the LZMA2 chunks of its block
// begin, and whether the filter for x86 is to be undone after them.
func xzContent(b []byte) (lzma2 []byte, x86 bool, err error) {
	if len(b) <= xzBlock || string(b[:len(xzMagic)]) != xzMagic || b[xzBlock] == 0 {
		return nil, false, errXZ
	}
	size := (int(b[xzBlock]) + 1) * 4
	if len(b) < xzBlock+size {
		return nil, false, io.ErrUnexpectedEOF
	}
	flags, header := b[xzBlock+1], b[xzBlock+2:xzBlock+size]
	for _, present := range []byte{0x40, 0x80} { // sizes, compressed and not
		if flags&present != 0 {
			_, n := binary.Uvarint(header)
			header = header[max(n, 0):]
		}
	}
	x86, err = checkFilters(flags&0x3f, header)
	return b[xzBlock+size:], x86, err
}

// checkFilters looks at the filters, whose number less one is more, and returns
// whether that for x86 is one of them.
func checkFilters(more byte, filters []byte) (x86 bool, err error) {
	if more > 1 {
		return false, errXZ
	}
	if more == 1 && len(filters) >= 2 {
		name, ok := bcjFilters[filters[0]]
		if !ok || filters[1] != 0 { // it has another start than 0
			return false, errXZ
		}
		if filters[0] != x86Filter {
			return false, unsupported("xz and the BCJ filter " + name)
		}
		x86, filters = true, filters[2:]
	}
	if len(filters) < 3 || filters[0] != lzma2Filter || filters[1] != 1 {
		return false, errXZ
	}
	return x86, nil
}

// unlzma2 decompresses chunks until the mark of their end, and returns what
// follows that. No chunk gets to the library that has not been looked at.
func unlzma2(dst, b []byte, spend func(int) error) (n int, rest []byte, err error) {
	if err := spend(max(len(dst), lzma.MinDictCap)); err != nil {
		return 0, nil, err
	}
	src := bytes.NewReader(b)
	var r *lzma.Reader2
	for len(b) > 0 && b[0] != 0 {
		size, stored, err := chunk(b, len(dst)-n)
		if err != nil {
			return 0, nil, err
		}
		if err := spend(chunkWork + byteWork*stored); err != nil {
			return 0, nil, err
		}
		if r == nil { // which reads the header of the first chunk
			r, err = lzma.Reader2Config{DictCap: max(len(dst), lzma.MinDictCap)}.NewReader2(src)
		}
		if err == nil {
			_, err = io.ReadFull(r, dst[n:n+size])
		}
		if err != nil {
			return 0, nil, err
		}
		if b = b[stored:]; src.Len() != len(b) {
			return 0, nil, fmt.Errorf("a chunk of %d bytes does not end where it says", stored)
		}
		n += size
	}
	if len(b) == 0 {
		return 0, nil, io.ErrUnexpectedEOF
	}
	return n, b[1:], nil
}

// chunk returns the size of the LZMA2 chunk that b begins with, for which there
// is some room, and how many bytes of b it takes.
func chunk(b []byte, room int) (size, stored int, err error) {
	const plainHeader, header = 3, 6
	var h [header]byte
	copy(h[:], b)
	size = int(binary.BigEndian.Uint16(h[1:])) + 1
	stored = plainHeader + size
	if h[0] >= 0x80 {
		size += int(h[0]&0x1f) << 16
		stored = header - 1 + int(binary.BigEndian.Uint16(h[3:])) + 1
	}
	if h[0] >= 0xc0 { // with properties: (pb * 5 + lp) * 9 + lc
		stored++
		if lc, lp := h[5]%9, h[5]/9%5; lc+lp > 4 {
			return 0, 0, fmt.Errorf("a chunk with %d and %d bits of context", lc, lp)
		}
	}
	switch {
	case stored > len(b):
		return 0, 0, io.ErrUnexpectedEOF
	case size > room:
		return 0, 0, errFull
	}
	return size, stored, nil
}

// checkXZ compares what was decompressed with the check in b, a stream whose
// chunks end at an offset, and looks that no other block follows.
func checkXZ(got, b []byte, end int) error {
	sum := (end + 3) &^ 3
	next := sum // offset of what follows the check
	switch b[xzCheck] {
	case 0:
	case 1:
		next += crc32.Size
	default:
		return fmt.Errorf("check number %d", b[xzCheck])
	}
	switch {
	case next >= len(b):
		return io.ErrUnexpectedEOF
	case next > sum && crc32.ChecksumIEEE(got) != binary.LittleEndian.Uint32(b[sum:]):
		return errors.New("wrong checksum")
	case b[next] != 0: // not the index
		return errXZ
	}
	return nil
}
