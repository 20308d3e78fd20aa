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
	"github.com/pierrec/lz4/v4"
)

// decompressor puts into dst what b makes, and returns how much that is. More
// than dst has room for is an error. It is not for concurrent use.
type decompressor func(dst, b []byte) (int, error)

// methods are the compressions by their numbers in the superblock.
var methods = [...]struct {
	name    string
	open    func(*Reader) decompressor // nil if it is not supported
	options func(first uint32) error   // of their first number; nil if those in the image do not matter
}{
	1: {"gzip", func(*Reader) decompressor { return newGzip() }, nil},
	2: {"lzma", nil, nil},
	3: {"lzo", func(*Reader) decompressor { return unlzo }, nil},
	4: {"xz", func(r *Reader) decompressor { return newXZ(r.spend) }, nil},
	5: {"lz4", func(*Reader) decompressor { return unlz4 }, checkLZ4},
	6: {"zstd", func(*Reader) decompressor { return unzstd }, nil},
}

var errFull = errors.New("a block has too many bytes")

// unsupported is the error for a compression that is right, but not read here.
type unsupported string

func (u unsupported) Error() string {
	return "the squashfs is compressed with " + string(u) + ", which is not supported"
}

// openMethod makes r ready to decompress, as far as its method is supported.
func (r *Reader) openMethod() error {
	m := methods[r.compression]
	if m.open == nil {
		return nil
	}
	r.decompress = m.open(r)
	if m.options == nil || r.flags&hasOptions == 0 {
		return nil
	}
	c := r.cursor(superSize, 0)
	first := c.u32()
	if c.err != nil {
		return c.err
	}
	return m.options(first)
}

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

// checkLZ4 looks at the version, which the options of lz4 begin with.
func checkLZ4(version uint32) error {
	if version != 1 {
		return unsupported(fmt.Sprintf("lz4 of version %d", version))
	}
	return nil
}

var errLZ4 = errors.New("a wrong copy, or too many bytes")

// unlz4 reads a block, which has no frame. That it was cut is not noticed where it
// was cut after a copy.
func unlz4(dst, b []byte) (int, error) {
	n, err := lz4.UncompressBlock(b, dst)
	if err != nil { // which does not say more
		return 0, errLZ4
	}
	return n, nil
}

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
