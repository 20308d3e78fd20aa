package squashfs

import (
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
	if index >= r.fragments {
		return nil, damaged("fragment %d of %d", index, r.fragments)
	}
	const entries, entrySize = 512, 16
	var table [8]byte
	if err := r.readAt(table[:], r.fragmentTable+uint64(index/entries*8)); err != nil {
		return nil, err
	}
	c := r.cursor(le.Uint64(table[:]), int(index%entries*entrySize))
	off, size := c.u64(), c.u32()
	if c.err != nil {
		return nil, c.err
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
