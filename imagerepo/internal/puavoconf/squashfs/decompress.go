package squashfs

import (
	"bytes"
	"compress/zlib"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/anchore/go-lzo"
	"github.com/klauspost/compress/zstd"
)

// decompressor puts into dst what b makes, and returns how much that is. More
// than dst has room for is an error. It is not for concurrent use.
type decompressor func(dst, b []byte) (int, error)

// methods are the compressions by their numbers in the superblock.
var methods = [...]struct {
	name string
	open func(*Reader) decompressor // nil if it is not supported
}{
	1: {"gzip", func(*Reader) decompressor { return newGzip() }},
	2: {"lzma", nil},
	3: {"lzo", func(*Reader) decompressor { return unlzo }},
	4: {"xz", func(r *Reader) decompressor { return newXZ(r.spend) }},
	5: {"lz4", nil},
	6: {"zstd", func(*Reader) decompressor { return unzstd }},
}

var errFull = errors.New("a block has too many bytes")

// guarded decompresses. A panic, of the libraries that do it, is an error.
func (r *Reader) guarded(dst, b []byte) (n int, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return r.decompress(dst, b)
}

// newGzip keeps the window and the tables from one block to the next.
func newGzip() decompressor {
	var z io.ReadCloser
	src := new(bytes.Reader)
	return func(dst, b []byte) (int, error) {
		src.Reset(b)
		var err error
		if z == nil {
			z, err = zlib.NewReader(src)
		} else {
			err = z.(zlib.Resetter).Reset(src, nil)
		}
		if err != nil {
			return 0, err
		}
		return fill(dst, z)
	}
}

// fill puts all of r into dst.
func fill(dst []byte, r io.Reader) (n int, err error) {
	var more [1]byte
	for err == nil {
		into := dst[n:]
		if len(into) == 0 {
			into = more[:]
		}
		var k int
		k, err = r.Read(into)
		if n += k; n > len(dst) {
			return 0, errFull
		}
	}
	if err == io.EOF {
		err = nil
	}
	return n, err
}

func unlzo(dst, b []byte) (int, error) { return lzo.Decompress(b, dst) }

// The memory is a limit for what a frame says of itself; the room in dst counts.
var zstdDecoder = sync.OnceValues(func() (*zstd.Decoder, error) {
	return zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxBlock), zstd.WithDecodeAllCapLimit(true))
})

func unzstd(dst, b []byte) (int, error) {
	d, err := zstdDecoder()
	if err != nil {
		return 0, err
	}
	out, err := d.DecodeAll(b, dst[:0:len(dst)])
	if err == nil && len(out) > len(dst) {
		err = errFull
	}
	if err != nil {
		return 0, err
	}
	return copy(dst, out), nil // the decoder may have moved to memory of its own
}
