// Package pieces computes BLAKE3 of a large file from digests of its pieces, so that only
// pieces that changed are read.
//
// BLAKE3 is a tree over chunks of 1 KiB. Each piece of 1 MiB is a subtree, whose chaining value
// depends on its content and its place alone. The digest is made from the chaining values of
// all pieces, and is the ordinary BLAKE3 of the file, as b3sum prints it.
//
// # File
//
// A list is written as the chaining values one after the other, 32 bytes each, as many as the
// file has pieces. A file of at most one piece has its digest instead. The digest that comes out
// must be that of the file, so the list needs no other check.
package pieces

import (
	"encoding/binary"
	"errors"
	"math/bits"

	"lukechampine.com/blake3"
	"lukechampine.com/blake3/guts"

	"puavo-image-repository/cksum"
)

// Size is the size of a piece in bytes. The last can be smaller.
const Size = 1 << 20

// Sum is the chaining value of a piece.
type Sum [32]byte

// List has the sums of all pieces of a file, in their order.
type List []Sum

// ErrList is wrapped by the error for a list that is not the one of a file.
var ErrList = errors.New("it is not the list of the pieces of this version")

// Count returns how many pieces a file of size bytes has.
func Count(size int64) int64 { return (size + Size - 1) / Size }

// Of returns the sum of the piece of a file of size bytes that begins at offset, a multiple of
// Size.
func Of(size, offset int64, piece []byte) Sum {
	if size <= Size {
		return blake3.Sum256(piece)
	}
	return bytesOf(guts.ChainingValue(node(piece, uint64(offset/guts.ChunkSize))))
}

// node returns the node of the tree that is above consecutive chunks.
func node(p []byte, chunk uint64) guts.Node {
	const most = guts.MaxSIMD * guts.ChunkSize
	if len(p) <= most {
		var buf [most]byte
		return guts.CompressBuffer(&buf, copy(buf[:], p), &guts.IV, chunk, 0)
	}
	left := leftOf((len(p) + guts.ChunkSize - 1) / guts.ChunkSize)
	return parent(
		guts.ChainingValue(node(p[:left*guts.ChunkSize], chunk)),
		guts.ChainingValue(node(p[left*guts.ChunkSize:], chunk+uint64(left))))
}

// leftOf returns how many of n leaves are in the left branch of their tree: the largest power
// of two that leaves some for the right.
func leftOf(n int) int { return 1 << (bits.Len(uint(n-1)) - 1) }

func parent(left, right [8]uint32) guts.Node { return guts.ParentNode(left, right, &guts.IV, 0) }

// Digest returns the BLAKE3 of the file, or the zero digest for an empty list.
func (l List) Digest() cksum.Digest256 {
	switch len(l) {
	case 0:
		return cksum.Digest256{}
	case 1:
		return cksum.Digest256(l[0])
	}
	root := l.root()
	root.Flags |= guts.FlagRoot
	return cksum.Digest256(bytesOf(guts.ChainingValue(root)))
}

// root returns the node above at least two pieces.
func (l List) root() guts.Node {
	left := leftOf(len(l))
	return parent(l[:left].value(), l[left:].value())
}

// value returns the chaining value above pieces.
func (l List) value() (cv [8]uint32) {
	if len(l) > 1 {
		return guts.ChainingValue(l.root())
	}
	for i := range cv {
		cv[i] = binary.LittleEndian.Uint32(l[0][4*i:])
	}
	return cv
}

func bytesOf(cv [8]uint32) (s Sum) {
	for i, w := range cv {
		binary.LittleEndian.PutUint32(s[4*i:], w)
	}
	return s
}

// Encode returns the list as it is written.
func (l List) Encode() []byte {
	data := make([]byte, 0, len(l)*len(Sum{}))
	for _, s := range l {
		data = append(data, s[:]...)
	}
	return data
}

// Parse parses the list of a file of size bytes, whose BLAKE3 is digest.
func Parse(data []byte, size int64, digest cksum.Digest256) (List, error) {
	if size < 1 || int64(len(data)) != Count(size)*int64(len(Sum{})) {
		return nil, ErrList
	}
	l := make(List, Count(size))
	for i := range l {
		copy(l[i][:], data[i*len(Sum{}):])
	}
	if l.Digest() != digest {
		return nil, ErrList
	}
	return l, nil
}
