// Package torrent makes and parses torrent files, by which clients fetch one file of a
// mirror from each other as well as from its hosts.
//
// # The format
//
// A torrent file is that of BitTorrent v1 (BEP 3) for a single file. It is a dictionary in
// bencode, with these members; others are skipped when it is read:
//
//	announce       string            the first tracker (BEP 3), if there is one
//	announce-list  [[string], ...]   all trackers, if there are several (BEP 12): each in a
//	                                 tier of its own, so clients ask them in this order
//	info           dictionary        what peers must agree on (BEP 3):
//	  length        integer           of the file, in bytes, at least 1
//	  name          string            of the file, without a directory
//	  piece length  integer           in bytes; the last piece can be shorter
//	  pieces        string            the SHA-1 of each piece, 20 bytes each, in order
//	url-list       [string, ...]     the seeds: where the file is on the web (BEP 19); when
//	                                 it is read, also one string
//
// Bencode has four kinds of values:
//
//	string      its length in bytes, decimal, a colon, and its bytes    4:spam
//	integer     i, decimal, e                                           i-7e
//	list        l, its values, e                                        l4:spami-7ee
//	dictionary  d, its keys, each before its value, e                   d4:spami-7ee
//
// Keys are strings, sorted by their bytes, and none stands twice. Numbers have no leading
// zeros and no sign but a minus, zero none. So each value has one form, and any other is an
// error here.
//
// Peers know each other by the info hash: the SHA-1 of the bytes of info. It follows from
// the file and the piece length. Other trackers or seeds leave it as it is.
//
// There are no dates: the same file, trackers and seeds make the same bytes.
//
// # Piece length
//
// [PieceLength] is a power of two that follows from the size of the image: of the file
// itself, or of the one that a delta makes, which is known before the delta. There are about
// 12288 pieces at most, so that a torrent stays smaller than [MaxSize]. A peer gets a piece
// before it can check it and pass it on, so pieces are no longer than that needs, but no
// shorter than 32 KiB.
//
//	up to 384 MiB    32 KiB
//	up to   3 GiB   256 KiB
//	up to  12 GiB     1 MiB
//	up to   1.5 TiB 128 MiB
//
// # Sources
//
//   - https://www.bittorrent.org/beps/bep_0003.html, the protocol and the format
//   - https://www.bittorrent.org/beps/bep_0012.html, several trackers
//   - https://www.bittorrent.org/beps/bep_0019.html, seeds on the web
package torrent

import (
	"crypto/sha1"
	"hash"
	"slices"
)

// MaxSize is what every torrent file is smaller than, in bytes.
const MaxSize = 256 << 10

const (
	leastPiece = 32 << 10
	manyPieces = 12 << 10
	mostPieces = 12500 // a delta can be a little larger than its image; they take 244 KiB
)

// PieceLength returns the length of the pieces, in bytes, of an image of size bytes, and of
// the deltas that make it.
func PieceLength(size int64) int64 {
	n := int64(leastPiece)
	for pieces(size, n) > manyPieces {
		n *= 2
	}
	return n
}

// pieces returns how many pieces of a length a file of size bytes has.
func pieces(size, length int64) int64 {
	if size <= 0 {
		return 0
	}
	return (size-1)/length + 1
}

// File is the file of a torrent.
type File struct {
	Name        string // without a directory
	Size        int64  // in bytes
	PieceLength int64  // in bytes
	Pieces      []byte // the SHA-1 of each piece, one after the other
}

// Hash computes the SHA-1 of the pieces of what is written to it. Make one with [NewHash].
// It is not safe for concurrent use, and starts no goroutines. To compute other digests of the
// same bytes, write to each in a goroutine of its own, as cksum.Hash does.
type Hash struct {
	length int64 // of a piece
	size   int64 // of what was written
	piece  hash.Hash
	pieces []byte // of those that are complete
}

// NewHash returns a Hash of pieces of a length, in bytes, which must be positive.
func NewHash(pieceLength int64) *Hash {
	return &Hash{length: pieceLength, piece: sha1.New()}
}

// Write adds p. It never returns an error.
func (h *Hash) Write(p []byte) (int, error) {
	written := len(p)
	for len(p) > 0 {
		n := min(int64(len(p)), h.length-h.size%h.length)
		h.piece.Write(p[:n])
		h.size += n
		p = p[n:]
		if h.size%h.length == 0 {
			h.pieces = h.piece.Sum(h.pieces)
			h.piece.Reset()
		}
	}
	return written, nil
}

// File returns the file of this name whose content is what was written so far. It does not
// change h: you may write more after it.
func (h *Hash) File(name string) File {
	f := File{Name: name, Size: h.size, PieceLength: h.length, Pieces: slices.Clip(h.pieces)}
	if h.size%h.length != 0 {
		f.Pieces = h.piece.Sum(f.Pieces)
	}
	return f
}
