// Package squash lists the compressed blocks of squashfs images, for tests of the compact
// delta and for the training of its model. It trusts the images: it is for ones that were
// made here.
package squash

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"puavo-image-repository/delta/compact/internal/lzo"
)

const (
	plain     = 1 << 24 // in the size of a block: it is stored as it is
	metaBlock = 8 << 10
	lzoMethod = 3
)

var le = binary.LittleEndian

// Blocks returns the compressed blocks of files and fragments in an image with LZO, in the
// order of the inodes. They are parts of image.
func Blocks(image []byte) (blocks [][]byte, err error) {
	defer func() {
		if p := recover(); p != nil { // an index out of range
			err = fmt.Errorf("the squashfs is damaged: %v", p)
		}
	}()
	if !bytes.HasPrefix(image, []byte("hsqs")) || le.Uint16(image[20:]) != lzoMethod {
		return nil, errors.New("not a squashfs with LZO")
	}
	l := list{image: image, blockSize: uint64(le.Uint32(image[12:]))}
	inodes, err := l.metadata(le.Uint64(image[64:]), le.Uint64(image[72:]))
	if err == nil {
		l.inodes(inodes, int(le.Uint32(image[4:])))
		err = l.fragments(le.Uint64(image[80:]), int(le.Uint32(image[16:])))
	}
	return l.blocks, err
}

type list struct {
	image     []byte
	blockSize uint64
	blocks    [][]byte
}

// metadata returns what the metadata blocks in a part of the image make.
func (l *list) metadata(from, to uint64) (all []byte, err error) {
	for from < to {
		size := uint64(le.Uint16(l.image[from:]))
		n := size & 0x7fff
		b := l.image[from+2 : from+2+n]
		if size == n {
			if _, b, err = lzo.Parse(b, metaBlock); err != nil {
				return nil, err
			}
		}
		all = append(all, b...)
		from += 2 + n
	}
	return all, nil
}

// add adds a block of a size as the image has it, and returns the offset behind it.
func (l *list) add(off uint64, size uint32) uint64 {
	n := uint64(size &^ plain)
	if size&plain == 0 && n > 0 {
		l.blocks = append(l.blocks, l.image[off:off+n])
	}
	return off + n
}

// inodes adds the blocks of n inodes.
func (l *list) inodes(b []byte, n int) {
	for range n {
		kind := le.Uint16(b)
		b = b[16:]
		switch kind {
		case 1: // directory
			b = b[16:]
		case 8: // the same, with an index
			index := le.Uint16(b[16:])
			b = b[24:]
			for range index {
				b = b[12+le.Uint32(b[8:])+1:]
			}
		case 2: // file
			b = l.file(b[16:], uint64(le.Uint32(b)), le.Uint32(b[4:]), uint64(le.Uint32(b[12:])))
		case 9:
			b = l.file(b[40:], le.Uint64(b), le.Uint32(b[28:]), le.Uint64(b[8:]))
		case 3: // link
			b = b[8+le.Uint32(b[4:]):]
		case 10:
			b = b[12+le.Uint32(b[4:]):]
		case 4, 5:
			b = b[8:]
		case 11, 12:
			b = b[12:]
		case 6, 7:
			b = b[4:]
		case 13, 14:
			b = b[8:]
		default:
			panic(fmt.Sprintf("an inode of type %d", kind))
		}
	}
}

// file adds the blocks whose sizes b starts with, and returns what follows them.
func (l *list) file(b []byte, start uint64, fragment uint32, size uint64) []byte {
	n := size / l.blockSize
	if fragment == 0xffffffff {
		n = (size + l.blockSize - 1) / l.blockSize
	}
	for range n {
		start = l.add(start, le.Uint32(b))
		b = b[4:]
	}
	return b
}

// fragments adds the n blocks of fragments, whose table is at an offset.
func (l *list) fragments(table uint64, n int) error {
	const entries, size = 512, 16
	for i := 0; i < n; i += entries {
		at := le.Uint64(l.image[table+uint64(i/entries*8):])
		b, err := l.metadata(at, at+1)
		if err != nil {
			return err
		}
		for ; len(b) > 0; b = b[size:] {
			l.add(le.Uint64(b), le.Uint32(b[8:]))
		}
	}
	return nil
}
