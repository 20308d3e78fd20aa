// Package squashfs reads files out of squashfs 4.0 images that nobody vouches
// for: whatever an image holds, what is read of it takes a bounded amount of
// memory and of work, and ends in an error at worst.
//
// # Format
//
// All integers are little-endian and without sign. An image begins with the
// superblock, of 96 bytes:
//
//	offset  bytes  field
//	     0      4  magic, "hsqs"
//	     4      4  number of inodes
//	     8      4  time of making
//	    12      4  block size in bytes: a power of two, 4 KiB to 1 MiB
//	    16      4  number of fragments
//	    20      2  compression: 1 gzip (zlib), 2 lzma, 3 lzo, 4 xz, 5 lz4, 6 zstd
//	    22      2  binary logarithm of the block size
//	    24      2  flags; bit 10: options of the compression follow
//	    26      2  number of IDs
//	    28      4  version: 4 and 0, of two bytes each
//	    32      8  reference to the inode of the root directory
//	    40      8  bytes used: the image's size, without padding
//	    48      8  offset of the table of IDs
//	    56      8  offset of the table of extended attributes
//	    64      8  offset of the inode table
//	    72      8  offset of the directory table
//	    80      8  offset of the fragment table
//	    88      8  offset of the export table
//
// All offsets are bytes from the start of the image, unless it is said.
//
// The options of the compression, if any, are a metadata block after the superblock.
// Only those of lz4 are read: 4 bytes of version, which must be 1, and 4 of flags.
//
// # Metadata
//
// Inodes, listings of directories and the entries of fragments lie in metadata
// blocks: two bytes of size, then that many stored bytes. Bit 15 of the size, if
// set, says that they are as they are; else they are compressed. Either way they
// make 1 to 8192 bytes. What is longer goes on in the next block.
//
// An inode is referred to by 8 bytes: the low two are its offset in the metadata
// block's bytes, the others the offset of the block from the inode table's start.
//
// # Inodes
//
// An inode begins with 16 bytes: two each of type, permissions, user ID and
// group ID, four each of time and number. What follows, by type, in bytes and
// order:
//
//	1 directory         4 block, 4 links, 2 size, 2 offset, 4 parent
//	8 same, extended    4 links, 4 size, 4 block, 4 parent, 2 indexes, 2 offset,
//	                    4 attributes, the indexes
//	2 file              4 start, 4 fragment, 4 offset, 4 size, the block sizes
//	9 same, extended    8 start, 8 size, 8 sparse, 4 links, 4 fragment, 4 offset,
//	                    4 attributes, the block sizes
//	3, 10 symbolic link 4 links, 4 size, the target
//	4, 11 block device  4 links, 4 number
//	5, 12 character     the same
//	6, 7, 13, 14        pipes and sockets
//
// The user and the group of an inode are indexes in the table of IDs: 2048 IDs of 4 bytes
// in each metadata block, whose offsets, of 8 bytes each, the table holds. The number of a
// device has 8 bits of the minor, 12 of the major, and the other 12 of the minor.
//
// Extended attributes are not read.
//
// # Directories
//
// The listing of a directory begins at the offset in the metadata block at block
// from the directory table's start; it is three bytes shorter than the size. It
// is made of headers (4 number of entries less one, at most 255; 4 block of the
// inodes; 4 number of an inode) and, after each, its entries (2 offset of the
// inode in that block, 2 number of the inode less that of the header, 2 basic
// type, 2 length of the name less one, at most 255; the name).
//
// # Files
//
// A file lies in blocks, one after another from its start. Each has 4 bytes of
// size: bit 24 says that its bytes are stored as they are; the others are the
// number of stored bytes, or 0 for a block of zeros. Each makes as many bytes as
// a block has, the last one what the file has left.
//
// If the inode has a fragment (not 0xffffffff), that last part of the file lies
// in it instead, at the offset. The entries of the fragments have 16 bytes (8
// start, 4 size as above, 4 nothing), 512 in each metadata block; the fragment
// table holds the offsets of those blocks, of 8 bytes each.
//
// # Compressions
//
// lzma is not read. An lzo or lz4 block has no frame around it. An xz stream has one
// block, and a CRC-32 of its bytes or no check. Its filter is LZMA2, before which a BCJ
// filter may stand, for the programs of a processor: that for x86 is read, others are
// not. mksquashfs -Xbcj tries each of its filters, and none, for each block of files,
// and stores what is smallest; metadata it does not filter.
//
// # Limits
//
//   - what the format limits: 1 MiB for a block of a file, 8 KiB for one of
//     metadata, 256 bytes for a name
//   - 4 MiB for the listing of a directory, about a quarter of a million names
//   - 4096 bytes for the target of a symbolic link, 40 links on the way to a file
//   - 256 directories below each other
//   - what the caller allows, for a file and for the names in a directory
//   - [Work] in all, which bounds the time: up to some 15 seconds, for xz. Whoever
//     reads all of an image allows more
//
// What is kept in memory is 256 metadata blocks, 8 fragments and a block, at most
// 11 MiB, besides what is returned; one block more where files are compared.
//
// # Sources
//
//   - https://dr-emann.github.io/squashfs/squashfs.html
//   - https://docs.kernel.org/filesystems/squashfs.html, and fs/squashfs there
//   - https://tukaani.org/xz/xz-file-format.txt, and src/liblzma/simple/x86.c of xz
//   - https://github.com/lz4/lz4/blob/dev/doc/lz4_Block_format.md
package squashfs

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"
)

const (
	superSize = 96
	minBlock  = 4 << 10 // bytes of a block of a file, as the format has it
	maxBlock  = 1 << 20 // the same

	hasOptions = 1 << 10 // flag of the superblock
)

// Work is the most that a [Reader] does in its life, unless it is allowed more: a unit for each byte that
// is read, decompressed or allocated, and some more for each block, directory
// entry and step on the way to a file. A usual image takes a thousandth.
const Work = 1 << 30

var (
	// ErrRead is wrapped in the error that also wraps one of the image's ReadAt.
	// All other errors, but those of the context, come of what the image holds.
	ErrRead = errors.New("reading the image")

	// ErrCut is wrapped in the error for an image that has fewer bytes than it says.
	ErrCut = errors.New("the squashfs is cut off")

	// ErrTooLarge is wrapped in the error that says that there is more of a file
	// or of a directory than the caller allows.
	ErrTooLarge = errors.New("too large")
)

// le reads the integers of an image.
var le = binary.LittleEndian

// damaged returns an error that says what is wrong with the image.
func damaged(format string, args ...any) error {
	return fmt.Errorf("the squashfs is damaged: %w", fmt.Errorf(format, args...))
}

// superblock is what is used of one.
type superblock struct {
	blockSize   int
	fragments   uint32 // how many there are
	compression uint16
	flags       uint16
	ids         uint16 // how many there are
	root        uint64 // reference to an inode
	used        uint64 // bytes

	idTable, inodeTable, directoryTable, fragmentTable uint64 // offsets
}

// Reader reads an image. Neither it nor what it returns is for concurrent use;
// several Readers may read one image. There is nothing to close.
type Reader struct {
	superblock
	ctx        context.Context
	image      io.ReaderAt
	decompress decompressor // nil if it is not supported
	work       int          // that was done
	most       int          // Work, or more

	metadata     map[uint64]metadata // blocks that were read, by offset
	fragmentData map[uint32][]byte   // the same, by index
	stored       []byte              // a block before it is decompressed
	block        []byte              // what it made, where files are compared
}

// Open returns a Reader of an image of size bytes, having read its superblock and
// the options of its compression. When ctx ends, all that is read ends with its error.
func Open(ctx context.Context, image io.ReaderAt, size int64) (*Reader, error) {
	if size < superSize {
		return nil, fmt.Errorf("the image is not a squashfs: it has %d bytes", size)
	}
	r := &Reader{
		superblock:   superblock{used: superSize},
		ctx:          ctx,
		image:        image,
		most:         Work,
		metadata:     make(map[uint64]metadata),
		fragmentData: make(map[uint32][]byte),
	}
	var b [superSize]byte
	err := r.readAt(b[:], 0)
	if err == nil {
		r.superblock, err = parse(&b, uint64(size))
	}
	if err != nil {
		return nil, err
	}
	if err := r.openMethod(); err != nil {
		return nil, err
	}
	return r, nil
}

// parse returns the superblock of an image of size bytes.
func parse(b *[superSize]byte, size uint64) (superblock, error) {
	s := superblock{
		blockSize:      int(le.Uint32(b[12:])),
		fragments:      le.Uint32(b[16:]),
		compression:    le.Uint16(b[20:]),
		flags:          le.Uint16(b[24:]),
		ids:            le.Uint16(b[26:]),
		root:           le.Uint64(b[32:]),
		used:           le.Uint64(b[40:]),
		idTable:        le.Uint64(b[48:]),
		inodeTable:     le.Uint64(b[64:]),
		directoryTable: le.Uint64(b[72:]),
		fragmentTable:  le.Uint64(b[80:]),
	}
	log, major, minor := le.Uint16(b[22:]), le.Uint16(b[28:]), le.Uint16(b[30:])
	switch {
	case string(b[:4]) != "hsqs":
		return s, fmt.Errorf("the image is not a squashfs: it starts with %q", b[:4])
	case major != 4 || minor != 0:
		return s, fmt.Errorf("the squashfs has version %d.%d instead of 4.0", major, minor)
	case s.blockSize < minBlock || s.blockSize > maxBlock || bits.OnesCount(uint(s.blockSize)) != 1 || s.blockSize != 1<<log:
		return s, damaged("blocks of %d bytes, or two to the power of %d", s.blockSize, log)
	case s.compression == 0 || int(s.compression) >= len(methods):
		return s, damaged("compression number %d", s.compression)
	case s.used > size:
		return s, fmt.Errorf("%w: it has %d of %d bytes", ErrCut, size, s.used)
	case max(s.inodeTable, s.directoryTable) > s.used || s.fragments > 0 && s.fragmentTable > s.used:
		return s, damaged("tables at %d, %d and %d of %d bytes", s.inodeTable, s.directoryTable, s.fragmentTable, s.used)
	}
	return s, nil
}

// Allow sets how much work r may do in its life, instead of Work. To read all of an image
// costs about four units for each byte that is decompressed.
func (r *Reader) Allow(work int) { r.most = work }

// spend adds to the work, of which there must be some left, and looks at the
// context.
func (r *Reader) spend(work int) error {
	if err := r.ctx.Err(); err != nil {
		return err
	}
	if r.work += work; r.work > r.most {
		return damaged("reading it takes more than %d units of work", r.most)
	}
	return nil
}

// readAt fills p with the bytes of the image at an offset.
func (r *Reader) readAt(p []byte, off uint64) error {
	if off > r.used || uint64(len(p)) > r.used-off {
		return damaged("%d bytes at offset %d of %d", len(p), off, r.used)
	}
	n, err := r.image.ReadAt(p, int64(off))
	if n == len(p) {
		return nil
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("%w at offset %d: %w", ErrRead, off+uint64(n), err)
}
