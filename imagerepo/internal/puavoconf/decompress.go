package puavoconf

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"io"
	"sync"

	"github.com/KarpelesLab/squashfs"
	"github.com/anchore/go-lzo"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// The decompressors of the library have no limit, or exist only with build tags.
func init() {
	for method, decompress := range map[squashfs.Compression]squashfs.Decompressor{
		squashfs.GZip: gunzip,
		squashfs.LZO:  unlzo,
		squashfs.XZ:   unxz,
		squashfs.ZSTD: unzstd,
	} {
		squashfs.RegisterCompHandler(method, &squashfs.CompHandler{Decompress: decompress})
	}
}

func gunzip(b []byte) ([]byte, error) {
	r, err := zlib.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	return readBlock(r)
}

// lzoBuffers holds outputs for lzo, which does not say how long they get.
var lzoBuffers = sync.Pool{New: func() any { return new([maxBlock]byte) }}

func unlzo(b []byte) ([]byte, error) {
	buf := lzoBuffers.Get().(*[maxBlock]byte)
	defer lzoBuffers.Put(buf)
	n, err := lzo.Decompress(b, buf[:])
	if err != nil {
		return nil, err
	}
	return bytes.Clone(buf[:n]), nil
}

func unxz(b []byte) ([]byte, error) {
	if !smallDict(b) {
		return nil, errors.New("xz: not one LZMA2 filter with a dictionary of at most 1 MiB")
	}
	// DictCap is the least dictionary: 8 MiB unless set.
	r, err := xz.ReaderConfig{DictCap: minBlock, SingleStream: true}.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	return readBlock(r)
}

// smallDict reports whether the first block of an xz stream can be read with a
// dictionary of [maxBlock], which no block of a squashfs needs to exceed.
//
// See https://tukaani.org/xz/xz-file-format.txt, sections 3.1 and 5.3.1.
func smallDict(b []byte) bool {
	const header = 12 // of the stream
	if len(b) < header+2 {
		return false
	}
	flags, b := b[header+1], b[header+2:]
	for _, size := range []byte{0x40, 0x80} { // compressed, uncompressed
		if flags&size != 0 {
			_, n := binary.Uvarint(b)
			b = b[max(n, 0):]
		}
	}
	const lzma2, propSize, mebibyte = 0x21, 1, 16
	return flags&3 == 0 && len(b) > 2 && b[0] == lzma2 && b[1] == propSize && b[2] <= mebibyte
}

var zstdDecoder = sync.OnceValues(func() (*zstd.Decoder, error) {
	return zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxBlock))
})

func unzstd(b []byte) ([]byte, error) {
	d, err := zstdDecoder()
	if err != nil {
		return nil, err
	}
	return d.DecodeAll(b, nil)
}

// readBlock returns all of r, which must not be more than a block.
func readBlock(r io.Reader) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxBlock+1))
	if err == nil && len(b) > maxBlock {
		err = errors.New("a block is larger than 1 MiB")
	}
	return b, err
}
