package squashfs

import (
	"bytes"
	"errors"
	"fmt"
)

// File is a file of an image, of any type.
type File struct {
	r *Reader
	inode
	parent *File // nil for the root directory
	depth  int   // of parents
}

// IsDir reports whether f is a directory.
func (f *File) IsDir() bool { return f.kind == typeDirectory }

// Type is what a file is.
type Type string

// The types of files.
const (
	Directory       Type = "directory"
	Regular         Type = "file"
	Link            Type = "link" // a symbolic one
	BlockDevice     Type = "block device"
	CharacterDevice Type = "character device"
	Pipe            Type = "pipe"
	Socket          Type = "socket"
)

// Type returns what f is.
func (f *File) Type() Type {
	return [...]Type{
		typeDirectory: Directory, typeFile: Regular, typeLink: Link, typeBlock: BlockDevice, typeCharacter: CharacterDevice,
		typePipe: Pipe, typeSocket: Socket,
	}[f.kind]
}

// Size returns how many bytes are in f, a regular file, as it says.
func (f *File) Size() uint64 { return f.size }

// Mode returns the permissions of f, with the bits for set-user-ID, set-group-ID and
// sticky: at most 07777.
func (f *File) Mode() uint16 { return f.mode & 0o7777 }

// Owner returns the user ID and the group ID of f.
func (f *File) Owner() (user, group uint32, err error) {
	if user, err = f.r.id(f.user); err == nil {
		group, err = f.r.id(f.group)
	}
	return user, group, err
}

// Device returns the number of f, a device.
func (f *File) Device() (major, minor uint32) {
	return f.device >> 8 & 0xfff, f.device&0xff | f.device>>12&0xfff00
}

// id returns the ID of an index.
func (r *Reader) id(index uint16) (uint32, error) {
	if index >= r.ids {
		return 0, damaged("ID %d of %d", index, r.ids)
	}
	const entries, entrySize = 2048, 4
	c := r.tableCursor(r.idTable, int(index), entries, entrySize)
	id := c.u32()
	return id, c.err
}

// IsRegular reports whether f is a regular file.
func (f *File) IsRegular() bool { return f.kind == typeFile }

// ReadAll returns what is in f, a regular file of at most limit bytes.
func (f *File) ReadAll(limit int) ([]byte, error) {
	if !f.IsRegular() {
		return nil, errors.New("not a regular file")
	}
	if f.size > uint64(max(limit, 0)) {
		return nil, fmt.Errorf("%w: it has %d bytes, the limit is %d", ErrTooLarge, f.size, limit)
	}
	if err := f.r.spend(int(f.size)); err != nil {
		return nil, err
	}
	all := make([]byte, f.size)
	sizes, off := f.rest, f.start
	for left := all; len(left) > 0; {
		n := min(len(left), f.r.blockSize)
		if n < f.r.blockSize && f.fragment != noFragment {
			return all, f.readTail(left)
		}
		size := sizes.u32()
		if sizes.err != nil {
			return nil, sizes.err
		}
		if err := f.r.readData(left[:n:n], off, size); err != nil {
			return nil, err
		}
		off += uint64(size &^ plainBit)
		left = left[n:]
	}
	return all, nil
}

// plainBit is set in the size of a block that is not compressed.
const plainBit = 1 << 24

// readData fills dst, which is zeros, with the block of a file at an offset.
func (r *Reader) readData(dst []byte, off uint64, size uint32) error {
	if size == 0 {
		return r.ctx.Err()
	}
	b, err := r.readBlock(dst, off, int(size&^plainBit), size&plainBit != 0)
	if err == nil && len(b) < len(dst) {
		err = damaged("the block at offset %d makes %d bytes instead of %d", off, len(b), len(dst))
	}
	return err
}

// readTail fills dst with the end of f, which lies in a fragment.
func (f *File) readTail(dst []byte) error {
	b, err := f.r.readFragment(f.fragment)
	if err != nil {
		return err
	}
	if uint64(f.offset)+uint64(len(dst)) > uint64(len(b)) {
		return damaged("%d bytes at offset %d of a fragment of %d", len(dst), f.offset, len(b))
	}
	copy(dst, b[f.offset:])
	return nil
}

// readFragment returns a fragment, which is not to be changed.
func (r *Reader) readFragment(index uint32) ([]byte, error) {
	if b, ok := r.fragmentData[index]; ok {
		return b, nil
	}
	off, size, err := r.fragmentAt(index)
	if err != nil {
		return nil, err
	}
	b, err := r.readBlock(make([]byte, r.blockSize), off, int(size&^plainBit), size&plainBit != 0)
	if err != nil {
		return nil, err
	}
	if len(r.fragmentData) == keptFragments {
		clear(r.fragmentData)
	}
	r.fragmentData[index] = b
	return b, nil
}

// fragmentAt returns where a fragment is stored, and its size with the plainBit.
func (r *Reader) fragmentAt(index uint32) (off uint64, size uint32, err error) {
	if index >= r.fragments {
		return 0, 0, damaged("fragment %d of %d", index, r.fragments)
	}
	const entries, entrySize = 512, 16
	c := r.tableCursor(r.fragmentTable, int(index), entries, entrySize)
	off, size = c.u64(), c.u32()
	return off, size, c.err
}

// tableCursor returns a cursor at the entry of an index in a table, of which each metadata
// block has so many entries.
func (r *Reader) tableCursor(table uint64, index, entries, entrySize int) cursor {
	var block [8]byte
	if err := r.readAt(block[:], table+uint64(index/entries*8)); err != nil {
		return cursor{r: r, err: err}
	}
	return r.cursor(le.Uint64(block[:]), index%entries*entrySize)
}

// Comparison compares files of two images. Blocks that are stored alike are not
// decompressed, where that proves that they make the same. It is not for concurrent use,
// and while it is used, nothing else may use its Readers.
type Comparison struct {
	a, b  *Reader
	alike map[[2]uint32]bool // whether two fragments are stored alike, by their indexes
}

// Compare returns the Comparison of two images, whose Readers are different.
func Compare(a, b *Reader) *Comparison {
	return &Comparison{a, b, make(map[[2]uint32]bool)}
}

// keptAlike is how many pairs of fragments are remembered.
const keptAlike = 1 << 16

// Same reports whether two regular files, of the one and of the other image, have the same
// bytes. It reads no more than it takes to tell. A block that is damaged alike in both
// images counts as the same.
func (m *Comparison) Same(a, b *File) (bool, error) {
	if !a.IsRegular() || !b.IsRegular() || a.r != m.a || b.r != m.b {
		return false, errors.New("not regular files of the two images")
	}
	if a.size != b.size {
		return false, nil
	}
	x, y := a.content(), b.content()
	for {
		if len(x.have)+len(y.have) == 0 {
			skipped, err := m.skip(x, y)
			if err != nil || skipped && x.left == 0 {
				return err == nil, err
			}
			if skipped {
				continue
			}
		}
		if err := errors.Join(x.load(), y.load()); err != nil {
			return false, err
		}
		n := min(len(x.have), len(y.have))
		if n == 0 {
			return true, nil // both have ended, since their sizes are the same
		}
		if !bytes.Equal(x.have[:n], y.have[:n]) {
			return false, nil
		}
		x.have, y.have = x.have[n:], y.have[n:]
	}
}

// skip skips a part of both files, and reports whether it did: if both are as long and
// are stored alike.
func (m *Comparison) skip(x, y *content) (bool, error) {
	if err := errors.Join(x.next(), y.next()); err != nil {
		return false, err
	}
	alike, err := m.storedAlike(x.part, y.part)
	if alike {
		x.part, y.part = part{}, part{}
	}
	return alike, err
}

// storedAlike reports whether two parts are stored alike, so that they make the same bytes.
func (m *Comparison) storedAlike(x, y part) (bool, error) {
	if x.n != y.n || x.kind != y.kind || x.size != y.size || x.kind != sparse && m.a.compression != m.b.compression {
		return false, nil
	}
	switch x.kind {
	case sparse:
		return true, m.a.spend(entryWork)
	case tail:
		return m.tailsAlike(x, y)
	default:
		return m.blocksAlike(x.off, y.off, x.size)
	}
}

// tailsAlike reports whether two parts lie at the same place in fragments that are stored
// alike.
func (m *Comparison) tailsAlike(x, y part) (bool, error) {
	if x.off != y.off {
		return false, nil
	}
	pair := [2]uint32{x.fragment, y.fragment}
	if alike, known := m.alike[pair]; known {
		return alike, nil
	}
	offX, sizeX, err := m.a.fragmentAt(x.fragment)
	if err != nil {
		return false, err
	}
	offY, sizeY, err := m.b.fragmentAt(y.fragment)
	if err != nil {
		return false, err
	}
	alike := false
	if sizeX == sizeY {
		if alike, err = m.blocksAlike(offX, offY, sizeX); err != nil {
			return false, err
		}
	}
	if len(m.alike) == keptAlike {
		clear(m.alike)
	}
	m.alike[pair] = alike
	return alike, nil
}

// blocksAlike reports whether two blocks of one size, with the plainBit, are stored alike.
func (m *Comparison) blocksAlike(offA, offB uint64, size uint32) (bool, error) {
	n := int(size &^ plainBit)
	a, err := m.a.readStored(offA, n)
	if err != nil {
		return false, err
	}
	b, err := m.b.readStored(offB, n)
	return err == nil && bytes.Equal(a, b), err
}

// readStored returns the n bytes at an offset as they are stored, until the Reader reads
// something else.
func (r *Reader) readStored(off uint64, n int) ([]byte, error) {
	if n > r.blockSize {
		return nil, damaged("%d bytes at offset %d for a block of %d", n, off, r.blockSize)
	}
	if err := r.spend(blockWork + n); err != nil {
		return nil, err
	}
	if cap(r.stored) < n {
		r.stored = make([]byte, r.blockSize)
	}
	return r.stored[:n], r.readAt(r.stored[:n], off)
}

// content is what is in a regular file, from somewhere on.
type content struct {
	f     *File
	sizes cursor // of the blocks that follow
	off   uint64 // of the next block
	left  uint64 // bytes after the part
	part  part   // the next one, of no bytes if it was loaded
	have  []byte // what is left of the one before, valid until the next is loaded
}

// part is what one block, or a fragment, has of a file.
type part struct {
	kind     partKind
	n        int    // bytes, decompressed
	off      uint64 // of the block in the image, or of the bytes in the fragment
	size     uint32 // of the block, with the plainBit
	fragment uint32
}

type partKind uint8

const (
	block partKind = iota
	sparse
	tail
)

// zeros are the bytes of a sparse block.
var zeros [maxBlock]byte

func (f *File) content() *content {
	return &content{f: f, sizes: f.rest, off: f.start, left: f.size}
}

// next finds the part that comes next, unless it was found.
func (c *content) next() error {
	if c.part.n > 0 || c.left == 0 {
		return nil
	}
	n := c.f.r.blockSize
	if c.left < uint64(n) {
		n = int(c.left)
	}
	if n < c.f.r.blockSize && c.f.fragment != noFragment {
		c.part = part{kind: tail, n: n, off: uint64(c.f.offset), fragment: c.f.fragment}
	} else {
		size := c.sizes.u32()
		if c.sizes.err != nil {
			return c.sizes.err
		}
		c.part = part{kind: block, n: n, off: c.off, size: size}
		if size == 0 {
			c.part.kind = sparse
		}
		c.off += uint64(size &^ plainBit)
	}
	c.left -= uint64(n)
	return nil
}

// load loads the part that comes next, if there is nothing of the one before.
func (c *content) load() error {
	if len(c.have) > 0 {
		return nil
	}
	if err := c.next(); err != nil {
		return err
	}
	p, r := c.part, c.f.r
	c.part = part{}
	switch {
	case p.n == 0:
	case p.kind == sparse:
		c.have = zeros[:p.n]
		return r.spend(entryWork)
	default:
		if r.block == nil {
			r.block = make([]byte, r.blockSize)
		}
		c.have = r.block[:p.n:p.n]
		if p.kind == tail {
			return c.f.readTail(c.have)
		}
		return r.readData(c.have, p.off, p.size)
	}
	return nil
}
