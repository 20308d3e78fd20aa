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
	"github.com/pierrec/lz4/v4"
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

func uncheckedLZMA2(w io.Writer) (io.WriteCloser, error) {
	return xz.WriterConfig{DictCap: 1 << 20, NoCheckSum: true}.NewWriter(w)
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

// lz4Block returns b as a block of lz4.
func lz4Block(t testing.TB, b []byte) []byte {
	t.Helper()
	out := make([]byte, lz4.CompressBlockBound(len(b)))
	var c lz4.Compressor
	n, err := c.CompressBlock(b, out)
	if err != nil {
		t.Fatal(err)
	}
	return out[:n]
}

// compressors compress n zeros, by the number of the method.
var compressors = map[uint16]func(t testing.TB, n int) []byte{
	1: func(t testing.TB, n int) []byte { return compress(t, deflate, make([]byte, n)) },
	3: func(_ testing.TB, n int) []byte { return lzoZeros(n) },
	4: func(t testing.TB, n int) []byte { return compress(t, lzma2, make([]byte, n)) },
	5: func(t testing.TB, n int) []byte { return lz4Block(t, make([]byte, n)) },
	6: func(t testing.TB, n int) []byte { return compress(t, zstandard, make([]byte, n)) },
}

// forMethods runs a test for each method that is supported.
func forMethods(t *testing.T, test func(t *testing.T, method uint16, r *Reader)) {
	for method := range compressors {
		t.Run(methods[method].name, func(t *testing.T) {
			r := &Reader{superblock: superblock{compression: method}, ctx: context.Background(), most: Work}
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
		endless := methods[method].name == "lz4" // a block that is cut after a copy is one, too
		for n := range good {
			if got, err := r.decompress(make([]byte, 5000), good[:n]); err == nil && got > 0 && got < 5000 && !endless {
				t.Errorf("got %d bytes of %d from %d of %d", got, 5000, n, len(good))
			}
		}
	})
}

// TestLZ4Options has other options than those that mksquashfs writes: 8 bytes as
// they are, version 1 and no flags.
func TestLZ4Options(t *testing.T) {
	const size, version = superSize, superSize + 2 // offsets
	for _, row := range []struct {
		name  string
		forge func(f *forgery)
		want  string // a part of the error, if any
	}{
		{"same", func(f *forgery) {}, ""},
		{"flags", func(f *forgery) { f.u32(version+4, 1) }, ""},
		{"unknown flags", func(f *forgery) { f.u32(version+4, 1<<32-1) }, ""},
		{"none", func(f *forgery) { f.u16(24, le.Uint16(f.b[24:])&^hasOptions); f.u32(version, 9) }, ""},
		{"version 0", func(f *forgery) { f.u32(version, 0) }, "compressed with lz4 of version 0, which is not supported"},
		{"version 2", func(f *forgery) { f.u32(version, 2) }, "compressed with lz4 of version 2, which is not supported"},
		{"version 2^24+1", func(f *forgery) { f.b[version+3] = 1 }, "lz4 of version 16777217"},
		{"size 0", func(f *forgery) { f.u16(size, 0x8000) }, "damaged: 0 bytes at offset 98"},
		{"size 8193", func(f *forgery) { f.u16(size, 0x8000|8193) }, "damaged: 8193 bytes at offset 98"},
		{"compressed", func(f *forgery) { f.u16(size, 8) }, "damaged: the block at offset 98"},
		{"nothing else", func(f *forgery) { f.b = f.b[:superSize+1]; f.u64(40, superSize+1) }, "damaged: tables"},
	} {
		t.Run(row.name, func(t *testing.T) {
			f := &forgery{t, load(t, "lz4")}
			row.forge(f)
			r, err := open(f.b)
			if err == nil {
				_, err = collect(r)
			}
			if (err == nil) != (row.want == "") || err != nil && !strings.Contains(err.Error(), row.want) {
				t.Errorf("got %v, want %q", err, row.want)
			}
		})
	}
}

// TestLZ4Forged has blocks that end, copy or fill wrongly.
func TestLZ4Forged(t *testing.T) {
	ones := bytes.Repeat([]byte{0xff}, 5000)
	for _, row := range []struct {
		name string
		b    string
		want string // what it makes, or a part of the error
	}{
		{"literals", "\x50hello", "hello"},
		{"copy", "\x14a\x01\x00\x50hello", "aaaaaaaaahello"},
		{"copy of two", "\x22ab\x02\x00\x50hello", "abababab" + "hello"},
		{"cut literals", "\x50hell", "wrong copy"},
		{"cut length of literals", "\xf0\xff", "wrong copy"},
		{"cut distance", "\x14a\x01", "wrong copy"},
		{"cut length of a copy", "\x1fa\x01\x00", "wrong copy"},
		{"distance 0", "\x14a\x00\x00\x50hello", "wrong copy"},
		{"distance before the start", "\x14a\x02\x00\x50hello", "wrong copy"},
		{"distance 65535", "\x14a\xff\xff\x50hello", "wrong copy"},
		{"copy first", "\x04\x01\x00\x50hello", "wrong copy"},
		{"many literals", "\xf0" + string(ones), "too many bytes"},
		{"long copy", "\x1fa\x01\x00" + string(ones) + "\x00\x50hello", "too many bytes"},
		{"longer copy", "\x1fa\x01\x00" + strings.Repeat(string(ones), 200) + "\x00\x50hello", "too many bytes"},
		{"copy by a byte too long", "\x1fa\x01\x00\x0b", "too many bytes"}, // 1 + 15 + 11 + 4 of 30
		{"copy to the end", "\x1fa\x01\x00\x0a", strings.Repeat("a", 30)},
	} {
		t.Run(row.name, func(t *testing.T) {
			dst, touched := room(30)
			n, err := unlz4(dst, []byte(row.b))
			if got := string(dst[:n]); err == nil && got != row.want || err != nil && !strings.Contains(err.Error(), row.want) {
				t.Errorf("got %q, %v, want %q", got, err, row.want)
			}
			if touched() {
				t.Error("it wrote more")
			}
		})
	}
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
