package kernel

import (
	"encoding"
	"encoding/binary"
	"hash"
)

// Lanes is the number of streams that [SHA512] takes at most.
const Lanes = 4

// blockSize is that of SHA-512, in bytes.
const blockSize = 128

// Stream is a stream of bytes with its SHA-512.
type Stream struct {
	Hash hash.Hash // from crypto/sha512.New
	Next []byte    // what comes next in the stream
}

// SHA512 adds what comes next in each stream to its hash, as Hash.Write would. It takes
// none to [Lanes] streams, of which no two have the same hash, and panics if there are
// more. It reads Next and keeps nothing.
//
// The kernel takes as many whole blocks as all streams have, so it is best given streams
// with as many bytes each. A single stream, the rest of the others, and those in the midst
// of a block are left to crypto/sha512.
func SHA512(streams ...Stream) {
	if len(streams) > Lanes {
		panic("kernel: more streams than lanes")
	}
	done := 0
	if len(streams) > 1 && HasSHA512() {
		done = interleave(streams)
	}
	for _, s := range streams {
		s.Hash.Write(s.Next[done:])
	}
}

// interleave adds a number of bytes to each of two or more streams, by the kernel, and
// returns it.
func interleave(streams []Stream) int {
	var states [stateWords][Lanes]uint64
	var next [Lanes]*byte
	var lengths [Lanes]uint64
	n := wholeBlocks(streams)
	if n == 0 {
		return 0
	}
	for i, s := range streams {
		var ok bool
		if lengths[i], ok = load(s.Hash, &states, i); !ok {
			return 0
		}
		next[i] = &s.Next[0]
	}
	for i := len(streams); i < Lanes; i++ {
		next[i] = next[0] // for nothing, but it must be memory
	}
	compress(&states, &next, n/blockSize)
	for i, s := range streams {
		store(s.Hash, &states, i, lengths[i]+uint64(n))
	}
	return n
}

// wholeBlocks returns how many bytes of whole blocks all streams have.
func wholeBlocks(streams []Stream) int {
	n := len(streams[0].Next)
	for _, s := range streams[1:] {
		n = min(n, len(s.Next))
	}
	return n - n%blockSize
}

// The binary form of a hash of crypto/sha512: these 4 bytes, the 8 words of its state, the
// block that is not full, and the length of the stream in bytes. All numbers are big-endian.
const (
	magic      = "sha\x07"
	stateWords = 8
	lengthAt   = len(magic) + 8*stateWords + blockSize
	binarySize = lengthAt + 8
)

// load puts the state of a hash in a lane, and returns how many bytes the hash has taken.
// It is not ok in the midst of a block, or if the binary form is another: package
// crypto/sha512 does not promise this one.
func load(h hash.Hash, states *[stateWords][Lanes]uint64, lane int) (length uint64, ok bool) {
	from, canAppend := h.(encoding.BinaryAppender)
	_, canRestore := h.(encoding.BinaryUnmarshaler)
	if !canAppend || !canRestore {
		return 0, false
	}
	b, err := from.AppendBinary(make([]byte, 0, binarySize))
	if err != nil || len(b) != binarySize || string(b[:len(magic)]) != magic {
		return 0, false
	}
	for i := range states {
		states[i][lane] = binary.BigEndian.Uint64(b[len(magic)+8*i:])
	}
	length = binary.BigEndian.Uint64(b[lengthAt:])
	return length, length%blockSize == 0
}

// store gives a hash that was loaded the state of a lane.
func store(h hash.Hash, states *[stateWords][Lanes]uint64, lane int, length uint64) {
	b := append(make([]byte, 0, binarySize), magic...)
	for i := range states {
		b = binary.BigEndian.AppendUint64(b, states[i][lane])
	}
	b = binary.BigEndian.AppendUint64(b[:lengthAt], length)
	if err := h.(encoding.BinaryUnmarshaler).UnmarshalBinary(b); err != nil {
		panic("kernel: crypto/sha512 does not read the form that it writes: " + err.Error())
	}
}
