package puavoconf

import (
	"bytes"
	"compress/zlib"
	"io"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

func deflate(w io.Writer) (io.WriteCloser, error) { return zlib.NewWriter(w), nil }
func newZstd(w io.Writer) (io.WriteCloser, error) {
	return zstd.NewWriter(w, zstd.WithWindowSize(1<<20))
}
func newXZ(w io.Writer) (io.WriteCloser, error) {
	return xz.WriterConfig{DictCap: 1 << 20}.NewWriter(w)
}
func newLargeXZ(w io.Writer) (io.WriteCloser, error) {
	return xz.WriterConfig{DictCap: 2 << 20}.NewWriter(w)
}

// compress returns n zeros as a writer compresses them.
func compress(t *testing.T, open func(io.Writer) (io.WriteCloser, error), n int) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := open(&b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(make([]byte, n)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// lzoZeros returns n zeros as lzo, n at least 294: five literals, a copy
// of the last one, the end.
// See https://docs.kernel.org/staging/lzo.html.
func lzoZeros(n int) []byte {
	rest := n - 5 - 33 // a copy's length is 33 + 255 for each zero + a byte that is not zero
	zeros, last := rest/255, rest%255
	if last == 0 {
		zeros, last = zeros-1, 255
	}
	b := append([]byte{22, 0, 0, 0, 0, 0, 0x20}, make([]byte, zeros)...)
	return append(b, byte(last), 0, 0, 0x11, 0, 0)
}

// TestBomb decompresses as much as is allowed, and a byte more.
func TestBomb(t *testing.T) {
	for _, row := range []struct {
		name       string
		compress   func(n int) []byte
		decompress func([]byte) ([]byte, error)
	}{
		{"gzip", func(n int) []byte { return compress(t, deflate, n) }, gunzip},
		{"lzo", lzoZeros, unlzo},
		{"xz", func(n int) []byte { return compress(t, newXZ, n) }, unxz},
		{"zstd", func(n int) []byte { return compress(t, newZstd, n) }, unzstd},
	} {
		t.Run(row.name, func(t *testing.T) {
			got, err := row.decompress(row.compress(maxBlock))
			if err != nil || !bytes.Equal(got, make([]byte, maxBlock)) {
				t.Errorf("got %d bytes, %v", len(got), err)
			}
			for _, n := range []int{maxBlock + 1, 2 * maxBlock} {
				if got, err := row.decompress(row.compress(n)); err == nil {
					t.Errorf("got %d of %d bytes without an error", len(got), n)
				}
			}
			for _, b := range [][]byte{{0}, make([]byte, 100), bytes.Repeat([]byte{0xff}, 100)} {
				if got, err := row.decompress(b); err == nil {
					t.Errorf("got %d bytes from rubbish", len(got))
				}
			}
		})
	}
}

func TestXZDictionary(t *testing.T) {
	if got, err := unxz(compress(t, newLargeXZ, 1000)); err == nil {
		t.Errorf("got %d bytes", len(got))
	}
}
