package piece

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"slices"

	"github.com/klauspost/compress/zstd"

	"puavo-image-repository/delta/compact/internal/lzma"
)

// Reader reads pieces. It is not for concurrent use. It keeps what is not unpacked yet, at
// most Most bytes.
type Reader struct {
	Packed []byte // memory for what is not unpacked yet; where it has no room, Read allocates some
	zstd   *zstd.Decoder
}

// Read reads a piece whose content has at most most bytes into dst, of which it reuses the
// memory, and returns the content.
func (r *Reader) Read(src *bufio.Reader, dst []byte, most int) ([]byte, error) {
	codec, err := src.ReadByte()
	if err != nil {
		return nil, cut(err)
	}
	n, err := length(src, min(most, Most))
	if err != nil {
		return nil, err
	}
	dst = slices.Grow(dst[:0], n)[:n]
	if codec == stored {
		_, err := io.ReadFull(src, dst)
		return dst, cut(err)
	}
	p, err := length(src, n-1)
	if err != nil {
		return nil, err
	}
	r.Packed = slices.Grow(r.Packed[:0], p)[:p]
	if _, err := io.ReadFull(src, r.Packed); err != nil {
		return nil, cut(err)
	}
	return dst, r.unpack(codec, dst)
}

// length reads a length.
func length(src io.ByteReader, most int) (int, error) {
	n, err := binary.ReadUvarint(src)
	if err != nil {
		return 0, cut(err)
	}
	if most < 0 || n > uint64(most) {
		return 0, fmt.Errorf("a length of %d, the limit is %d", n, most)
	}
	return int(n), nil
}

// cut makes the end of the source an error that is none of the source.
func cut(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return ErrCut
	}
	return err
}

// unpack fills dst. A panic of the libraries is an error.
func (r *Reader) unpack(codec byte, dst []byte) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	switch codec {
	case zstandard:
		return r.unzstd(dst)
	case lzmaRaw:
		return r.unlzma(dst)
	default:
		return fmt.Errorf("a piece with the codec %d, which is not known", codec)
	}
}

func (r *Reader) unzstd(dst []byte) (err error) {
	if r.zstd == nil {
		r.zstd, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxMemory(Most), zstd.WithDecoderMaxWindow(Most), zstd.WithDecodeAllCapLimit(true))
		if err != nil {
			return err
		}
	}
	got, err := r.zstd.DecodeAll(r.Packed, dst[:0:len(dst)])
	if err != nil {
		return fmt.Errorf("zstd: %w", err)
	}
	if len(got) != len(dst) {
		return fmt.Errorf("zstd makes %d bytes instead of %d", len(got), len(dst))
	}
	copy(dst, got) // which the decoder may have moved
	return nil
}

func (r *Reader) unlzma(dst []byte) error {
	if len(r.Packed) == 0 {
		return ErrCut
	}
	return lzma.Decode(dst, r.Packed[1:], r.Packed[0])
}
