// Package piece compresses the streams of compact deltas.
//
// A piece is a stream, or the part of it that a section has:
//
//	1 byte   codec: 0 stored, 1 zstd, 2 LZMA
//	varint   length of the content, in bytes
//	varint   length of what follows, in bytes; not if it is stored
//	         the content, or what the codec made of it
//
// Content and what is made of it have at most [Most] bytes, and what is made of it is
// shorter than the content. A varint is that of protobuf.
//
// zstd is one frame of RFC 8878 without a dictionary, whose window is at most 8 MiB.
//
// LZMA is one byte of properties, (pb*5 + lp)*9 + lc with lc + lp of at most 4, and a raw LZMA
// stream as liblzma's LZMA1 filter makes it: no header, no size. It may end with the marker
// of the end. A distance reaches back to the start of the content at most.
package piece

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"github.com/klauspost/compress/zstd"

	"puavo-image-repository/delta/compact/internal/lzma"
)

// Most is the largest content of a piece, in bytes.
const Most = 8 << 20

const (
	stored = iota
	zstandard
	lzmaRaw
)

// encoders are those that are not used. Each has some 100 MiB.
var encoders sync.Pool

func encoder() (*zstd.Encoder, error) {
	if e, ok := encoders.Get().(*zstd.Encoder); ok {
		return e, nil
	}
	return zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedBestCompression), zstd.WithWindowSize(Most),
		zstd.WithEncoderCRC(false), zstd.WithSingleSegment(true), zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true))
}

// Effort is how hard Append tries.
type Effort int

const (
	// Fast is zstd, at its best level.
	Fast Effort = iota
	// Best is LZMA where that is smaller by some percent. It takes ten times as long to make,
	// and ten times as long to read.
	Best
)

// worth is the part of a piece that LZMA must save, one in worth.
const worth = 32

// Append appends the piece of a content to dst. It makes the same of the same on all
// machines. It may be called concurrently; each call takes some 100 MiB while it runs.
func Append(dst, content []byte, effort Effort) ([]byte, error) {
	if len(content) > Most {
		return nil, fmt.Errorf("a piece of %d bytes, the limit is %d", len(content), Most)
	}
	e, err := encoder()
	if err != nil {
		return nil, err
	}
	packed := e.EncodeAll(content, nil)
	encoders.Put(e)
	codec := byte(zstandard)
	// What zstd finds nothing in, is for LZMA the same in more time.
	if effort == Best && len(packed) < len(content)-len(content)/worth {
		other := lzma.Append([]byte{lzma.Properties}, content)
		if len(other) < len(packed)-len(packed)/worth {
			codec, packed = lzmaRaw, other
		}
	}
	if len(packed) >= len(content) {
		dst = binary.AppendUvarint(append(dst, stored), uint64(len(content)))
		return append(dst, content...), nil
	}
	dst = binary.AppendUvarint(append(dst, codec), uint64(len(content)))
	dst = binary.AppendUvarint(dst, uint64(len(packed)))
	return append(dst, packed...), nil
}

// ErrCut is the error for a piece that ends before its end.
var ErrCut = errors.New("the piece is cut off")
