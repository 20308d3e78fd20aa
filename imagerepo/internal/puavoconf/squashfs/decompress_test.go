package squashfs

import (
	"bytes"
	"compress/zlib"
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"

	"puavo-image-repository/testdata"
)

func deflate(w io.Writer) (io.WriteCloser, error) { return zlib.NewWriter(w), nil }
func zstandard(w io.Writer) (io.WriteCloser, error) {
	return zstd.NewWriter(w, zstd.WithWindowSize(1<<20))
}

// lzma2 compresses as mksquashfs does: a check of CRC-32.
func lzma2(w io.Writer) (io.WriteCloser, error) {
	return xz.WriterConfig{DictCap: 1 << 20, CheckSum: xz.CRC32}.NewWriter(w)
}

// compress returns b as a writer compresses it.
func compress(t testing.TB, open func(io.Writer) (io.WriteCloser, error), b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := open(&out)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
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

// compressors compress n zeros, by the number of the method.
var compressors = map[uint16]func(t testing.TB, n int) []byte{
	1: func(t testing.TB, n int) []byte { return compress(t, deflate, make([]byte, n)) },
	3: func(_ testing.TB, n int) []byte { return lzoZeros(n) },
	4: func(t testing.TB, n int) []byte { return compress(t, lzma2, make([]byte, n)) },
	6: func(t testing.TB, n int) []byte { return compress(t, zstandard, make([]byte, n)) },
}

// forMethods runs a test for each method that is supported.
func forMethods(t *testing.T, test func(t *testing.T, method uint16, r *Reader)) {
	for method := range compressors {
		t.Run(methods[method].name, func(t *testing.T) {
			r := &Reader{superblock: superblock{compression: method}, ctx: context.Background()}
			r.decompress = methods[method].open(r)
			test(t, method, r)
		})
	}
}

// room returns n bytes that are not zeros, followed by some that are not to be
// touched, and a function that tells if they are.
func room(n int) (dst []byte, touched func() bool) {
	b := bytes.Repeat([]byte{0x55}, n+100)
	return b[:n], func() bool { return !bytes.Equal(b[n:], bytes.Repeat([]byte{0x55}, 100)) }
}

// TestBomb decompresses as much as there is room for, less, and more.
func TestBomb(t *testing.T) {
	forMethods(t, func(t *testing.T, method uint16, r *Reader) {
		for _, size := range []int{500, maxMetadata, maxBlock} {
			for _, n := range []int{size - 1, size, size + 1, 2 * size} {
				dst, touched := room(size)
				got, err := r.decompress(dst, compressors[method](t, n))
				switch {
				case n > size && err == nil:
					t.Errorf("got %d of %d bytes into %d", got, n, size)
				case n <= size && (err != nil || got != n || !bytes.Equal(dst[:n], make([]byte, n))):
					t.Errorf("got %d of %d bytes into %d, %v", got, n, size, err)
				case touched():
					t.Errorf("%d bytes into %d: wrote more", n, size)
				}
			}
		}
	})
}

// A bomb takes no more memory than there is room for, and what the libraries need.
func TestBombMemory(t *testing.T) {
	forMethods(t, func(t *testing.T, method uint16, r *Reader) {
		bomb := compressors[method](t, 4<<20)
		dst := make([]byte, maxMetadata)
		if _, err := r.decompress(dst, bomb); err == nil { // what is made once, too
			t.Fatal("no error")
		}
		const ceiling = 1 << 20
		if n := testdata.Allocated(func() { r.decompress(dst, bomb) }); n > ceiling {
			t.Errorf("%d bytes, more than %d", n, ceiling)
		}
	})
}

func TestRubbish(t *testing.T) {
	forMethods(t, func(t *testing.T, method uint16, r *Reader) {
		good := compressors[method](t, 5000)
		for _, b := range [][]byte{nil, {0}, make([]byte, 100), bytes.Repeat([]byte{0xff}, 100), []byte(strings.Repeat("rubbish", 99))} {
			if got, err := r.decompress(make([]byte, 5000), b); err == nil && got > 0 {
				t.Errorf("got %d bytes from %q", got, b)
			}
			// What was read before makes no difference.
			if got, err := r.decompress(make([]byte, 5000), good); err != nil || got != 5000 {
				t.Errorf("got %d bytes, %v", got, err)
			}
		}
		for n := range good {
			if got, err := r.decompress(make([]byte, 5000), good[:n]); err == nil && got > 0 && got < 5000 {
				t.Errorf("got %d bytes of %d from %d of %d", got, 5000, n, len(good))
			}
		}
	})
}

// A decompressor that panics is an error.
func TestPanic(t *testing.T) {
	image := load(t, "gzip")
	for _, row := range []struct {
		name string
		do   decompressor
		want string
	}{
		{"panic", func([]byte, []byte) (int, error) { panic("out of ideas") }, "out of ideas"},
		{"index", func(dst, b []byte) (int, error) { return int(dst[len(dst)]), nil }, "index out of range"},
		{"error", func([]byte, []byte) (int, error) { return 0, errors.New("out of ideas") }, "out of ideas"},
		{"nothing", func([]byte, []byte) (int, error) { return 0, nil }, "it is empty"},
	} {
		t.Run(row.name, func(t *testing.T) {
			r, err := open(image)
			if err != nil {
				t.Fatal(err)
			}
			r.decompress = row.do
			got, err := collect(r)
			if err == nil || !strings.Contains(err.Error(), row.want) || !strings.Contains(err.Error(), "damaged") {
				t.Errorf("got %v, %v, want %q", got, err, row.want)
			}
		})
	}
}

// slow is a reader that returns one byte at a time, and the error with the last.
type slow struct {
	n   int
	err error
}

func (s *slow) Read(p []byte) (int, error) {
	if s.n--; s.n > 0 {
		return 1, nil
	}
	return 1, s.err
}

func TestFill(t *testing.T) {
	errBroken := errors.New("broken")
	for _, row := range []struct {
		room, n int
		err     error
		want    error
	}{
		{10, 9, io.EOF, nil},
		{10, 10, io.EOF, nil},
		{10, 11, io.EOF, errFull},
		{10, 12, io.EOF, errFull},
		{10, 9, io.ErrUnexpectedEOF, io.ErrUnexpectedEOF},
		{10, 10, errBroken, errBroken},
		{10, 11, errBroken, errFull},
	} {
		got, err := fill(make([]byte, row.room), &slow{row.n, row.err})
		if err != row.want || err == nil && got != row.n {
			t.Errorf("%+v: got %d, %v", row, got, err)
		}
	}
}
