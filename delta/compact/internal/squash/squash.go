// Package squash lists the packed blocks of squashfs images.
//
// The list need not be complete or right: what is not in it, or is no block, is bytes as they
// are for a compact delta. So a damaged image is no error, and has the blocks that are found
// until the damage. Time and memory are proportional to the size of the image: of tables and
// blocks that are more than an image of its size has, the rest is left out.
//
// The format is described by package imagerepo/internal/puavoconf/squashfs, which reads files.
// Of an image with LZO the blocks of files and of fragments are listed, and those of all
// tables but the one of extended attributes. Of others no block is listed.
package squash

import (
	"cmp"
	"encoding/binary"
	"errors"
	"slices"

	"puavo-image-repository/delta/compact/internal/lzo"
)

const (
	superLen  = 96
	methodLZO = 3
	metaLen   = 8 << 10 // bytes of content of a block of a table
	plainMeta = 1 << 15 // in its length: it is stored as it is
	plainData = 1 << 24 // the same of a file
	idLen     = 4       // bytes of an entry of the tables
	exportLen = 8
	fragLen   = 16
	noTable   = ^uint64(0)

	noFragment = ^uint32(0)
)

var le = binary.LittleEndian

// Block is a packed block of an image.
type Block struct {
	Offset, Size int64 // bytes in the image
	Table        bool  // it is of a table, and not of a file or of fragments
}

// image is an image with what its superblock says.
type image struct {
	bytes                      []byte
	blockSize                  uint64
	inodes, fragments, ids     uint64 // how many
	inodeTable, directoryTable uint64
	fragmentTable, exportTable uint64
	idTable                    uint64
	blocks                     []Block
	loads                      int // blocks of tables that may still be read
}

// Blocks returns the packed blocks of an image, in order. Of what is no squashfs with LZO it
// returns none.
func Blocks(b []byte) []Block {
	if len(b) < superLen || string(b[:4]) != "hsqs" || le.Uint16(b[20:]) != methodLZO || le.Uint32(b[12:]) == 0 {
		return nil
	}
	m := image{
		bytes: b, blockSize: uint64(le.Uint32(b[12:])),
		inodes: uint64(le.Uint32(b[4:])), fragments: uint64(le.Uint32(b[16:])), ids: uint64(le.Uint16(b[26:])),
		idTable: le.Uint64(b[48:]), inodeTable: le.Uint64(b[64:]), directoryTable: le.Uint64(b[72:]),
		fragmentTable: le.Uint64(b[80:]), exportTable: le.Uint64(b[88:]), loads: mostOf(b),
	}
	m.tables()
	m.files()
	m.fragmentBlocks()
	return m.sorted()
}

// mostOf returns how many blocks, or blocks of tables, an image has at most.
func mostOf(b []byte) int { return 1000 + len(b)/16 }

// sorted returns the blocks in order, without those that overlap.
func (m *image) sorted() []Block {
	slices.SortFunc(m.blocks, func(a, b Block) int {
		return cmp.Or(cmp.Compare(a.Offset, b.Offset), cmp.Compare(a.Size, b.Size))
	})
	var end int64
	return slices.DeleteFunc(m.blocks, func(b Block) bool {
		if b.Offset < end {
			return true
		}
		end = b.Offset + b.Size
		return false
	})
}

// Packed returns the packed blocks of files and fragments in an image, as parts of it.
func Packed(b []byte) (all [][]byte, err error) {
	for _, x := range Blocks(b) {
		if !x.Table {
			all = append(all, b[x.Offset:x.Offset+x.Size])
		}
	}
	if len(all) == 0 {
		return nil, errors.New("it is no squashfs with LZO, or has no packed blocks")
	}
	return all, nil
}

// add adds a block of n bytes, if the image has it.
func (m *image) add(offset, n uint64, table bool) {
	size := uint64(len(m.bytes))
	if n == 0 || offset > size || n > size-offset || len(m.blocks) == mostOf(m.bytes) {
		return
	}
	m.blocks = append(m.blocks, Block{int64(offset), int64(n), table})
}

// tables adds the blocks of tables. They follow each other from the table of inodes on, but
// for the lists of their offsets.
func (m *image) tables() {
	lists := map[uint64]uint64{
		m.fragmentTable: listLen(m.fragments, fragLen),
		m.exportTable:   listLen(m.inodes, exportLen),
		m.idTable:       listLen(m.ids, idLen),
	}
	delete(lists, noTable)
	for at := m.inodeTable; ; {
		if n := lists[at]; n > 0 {
			delete(lists, at)
			at += n
			continue
		}
		if len(lists) == 0 {
			return
		}
		b, packed, next := m.meta(at)
		if next == 0 {
			return
		}
		if packed {
			m.add(at+2, uint64(len(b)), true)
		}
		at = next
	}
}

func listLen(entries, size uint64) uint64 { return (entries*size + metaLen - 1) / metaLen * 8 }

// meta returns the bytes of the block of a table at an offset, whether they are packed, and
// the offset behind it, 0 if there is no block.
func (m *image) meta(at uint64) (b []byte, packed bool, next uint64) {
	size := uint64(len(m.bytes))
	if at > size || size-at < 2 {
		return nil, false, 0
	}
	head := le.Uint16(m.bytes[at:])
	n := uint64(head &^ plainMeta)
	if at += 2; n == 0 || n > metaLen || n > size-at {
		return nil, false, 0
	}
	return m.bytes[at : at+n], head&plainMeta == 0, at + n
}

// table reads what the blocks of a table make. After the end, or at a damage, it reads zeros.
type table struct {
	m     *image
	next  uint64 // the offset of the next block
	end   uint64 // where blocks end
	bytes []byte // what is left of the last one
	ended bool
}

func (t *table) read(p []byte) {
	for len(p) > 0 && !t.ended {
		if len(t.bytes) == 0 {
			t.load()
			continue
		}
		n := copy(p, t.bytes)
		p, t.bytes = p[n:], t.bytes[n:]
	}
	clear(p)
}

func (t *table) load() {
	b, packed, next := t.m.meta(t.next)
	if t.m.loads--; t.m.loads < 0 || t.next >= t.end || next == 0 {
		t.ended = true
		return
	}
	if packed {
		var err error
		if _, b, err = lzo.Parse(b, metaLen); err != nil || len(b) == 0 {
			t.ended = true
			return
		}
	}
	t.bytes, t.next = b, next
}

func (t *table) u16() uint16 {
	var b [2]byte
	t.read(b[:])
	return le.Uint16(b[:])
}

func (t *table) u32() uint32 {
	var b [4]byte
	t.read(b[:])
	return le.Uint32(b[:])
}

func (t *table) u64() uint64 {
	var b [8]byte
	t.read(b[:])
	return le.Uint64(b[:])
}

func (t *table) skip(n uint64) {
	var b [64]byte
	for n > 0 && !t.ended {
		k := min(n, uint64(len(b)))
		t.read(b[:k])
		n -= k
	}
}
