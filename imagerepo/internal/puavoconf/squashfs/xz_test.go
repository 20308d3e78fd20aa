package squashfs

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/ulikunitz/xz"

	"puavo-image-repository/testdata"
)

// unxz decompresses into n bytes, and returns the work too.
func unxz(b []byte, n int) (got []byte, work int, err error) {
	dst := make([]byte, n)
	k, err := newXZ(func(n int) error { work += n; return nil })(dst, b)
	return dst[:k], work, err
}

// noise returns n bytes that hardly compress.
func noise(n int) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range b {
		b[i] = byte(r.IntN(200))
	}
	return b
}

func TestXZ(t *testing.T) {
	mixed := slices.Concat(noise(100_000), make([]byte, 200_000), []byte(strings.Repeat("all work and no play ", 9999)), noise(70_000))
	for _, row := range []struct {
		name   string
		config xz.WriterConfig
		b      []byte
		want   string
	}{
		{"CRC-32", xz.WriterConfig{CheckSum: xz.CRC32}, mixed, ""},
		{"no check", xz.WriterConfig{NoCheckSum: true}, mixed, ""},
		{"small dictionary", xz.WriterConfig{CheckSum: xz.CRC32, DictCap: 4096}, mixed, ""},
		{"large dictionary", xz.WriterConfig{CheckSum: xz.CRC32, DictCap: 1 << 30, BufSize: 4096}, mixed[:5000], ""},
		{"byte", xz.WriterConfig{CheckSum: xz.CRC32}, mixed[:1], ""},
		{"CRC-64", xz.WriterConfig{CheckSum: xz.CRC64}, mixed, "check number 4"},
		{"SHA-256", xz.WriterConfig{CheckSum: xz.SHA256}, mixed, "check number 10"},
		{"two blocks", xz.WriterConfig{CheckSum: xz.CRC32, BlockSize: 200_000}, mixed, "one block"},
		{"two blocks, no check", xz.WriterConfig{NoCheckSum: true, BlockSize: 200_000}, mixed, "one block"},
	} {
		t.Run(row.name, func(t *testing.T) {
			if row.config.DictCap == 1<<30 {
				row.config.DictCap = 1 << 20
			}
			b := compress(t, func(w io.Writer) (io.WriteCloser, error) { return row.config.NewWriter(w) }, row.b)
			if row.name == "large dictionary" {
				setDict(b, 40)
			}
			got, _, err := unxz(b, len(mixed))
			if row.want != "" {
				if err == nil || !strings.Contains(err.Error(), row.want) {
					t.Errorf("got %d bytes, %v, want %q", len(got), err, row.want)
				}
			} else if err != nil || !bytes.Equal(got, row.b) {
				t.Errorf("got %d bytes, %v, want %d", len(got), err, len(row.b))
			}
		})
	}
}

// setDict changes the size of the dictionary in an xz stream without sizes in the
// block's header; 40 is the largest, 4 GiB less a byte.
func setDict(b []byte, size byte) {
	header := b[xzBlock : xzBlock+(int(b[xzBlock])+1)*4]
	header[4] = size
	binary.LittleEndian.PutUint32(header[len(header)-4:], crc32.ChecksumIEEE(header[:len(header)-4]))
}

// TestXZWork has streams that make the library allocate much by few bytes.
func TestXZWork(t *testing.T) {
	huge := compress(t, lzma2, noise(100))
	setDict(huge, 40)
	second := slices.Concat(compress(t, lzma2, noise(5000)), huge)
	// Chunks of a byte each, with new probabilities: 2 MiB of chunks for 1 MiB.
	head := []byte{0xe0, 0, 0, 0, 5, 0x5d}
	one := compress(t, lzma2, []byte{7})
	chunks, _, err := xzContent(one)
	if err != nil {
		t.Fatal(err)
	}
	size, stored, err := chunk(chunks, 1)
	if err != nil || size != 1 {
		t.Fatalf("got a chunk of %d, %v", size, err)
	}
	many := slices.Concat(one[:len(one)-len(chunks)], bytes.Repeat(chunks[:stored], 10_000), chunks[stored:])
	for _, row := range []struct {
		name    string
		b       []byte
		ceiling uint64
	}{
		{"dictionary", huge, 256 << 10},
		{"second stream", second, 256 << 10},
		{"context", slices.Concat(one[:len(one)-len(chunks)], head[:5], []byte{4*9 + 8}, chunks[6:]), 256 << 10},
		{"chunks", many, 10_000 * chunkWork},
	} {
		t.Run(row.name, func(t *testing.T) {
			work := 0
			n := testdata.Allocated(func() { _, work, _ = unxz(row.b, 20_000) })
			if n > row.ceiling || n > uint64(work)+64<<10 {
				t.Errorf("%d bytes for %d units of work, want at most %d", n, work, row.ceiling)
			}
		})
	}
}

func TestXZForged(t *testing.T) {
	good := compress(t, lzma2, []byte("some bytes, some bytes, some bytes"))
	chunks, _, err := xzContent(good)
	if err != nil {
		t.Fatal(err)
	}
	at := len(good) - len(chunks)
	_, stored, err := chunk(chunks, 1000)
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		name  string
		forge func(b []byte) []byte
		want  string
	}{
		{"magic", func(b []byte) []byte { b[0]++; return b }, "not a stream"},
		{"flags", func(b []byte) []byte { b[6]++; return b }, "not a stream"},
		{"no block", func(b []byte) []byte { b[xzBlock] = 0; return b }, "not a stream"},
		{"header size", func(b []byte) []byte { b[xzBlock] = 255; return b }, "unexpected EOF"},
		{"two filters", func(b []byte) []byte { b[xzBlock+1] |= 1; return b }, "not a stream"},
		{"three filters", func(b []byte) []byte { b[xzBlock+1] |= 2; return b }, "not a stream"},
		{"reserved", func(b []byte) []byte { b[xzBlock+1] |= 4; return b }, "not a stream"},
		{"filter", func(b []byte) []byte { b[xzBlock+2] = 4; return b }, "not a stream"},
		{"sizes", func(b []byte) []byte { b[xzBlock+1] |= 0xc0; return b }, "not a stream"},
		{"context", func(b []byte) []byte { b[at+5] = 8; return b }, "8 and 0 bits"},
		{"contexts", func(b []byte) []byte { b[at+5] = 4*9 + 1; return b }, "1 and 4 bits"},
		{"size+", func(b []byte) []byte { b[at+2]++; return b }, ""},
		{"size-", func(b []byte) []byte { b[at+2]--; return b }, ""},
		{"stored+", func(b []byte) []byte { b[at+4]++; return b }, "does not end where it says"},
		{"stored-", func(b []byte) []byte { b[at+4]--; return b }, ""},
		{"stored much", func(b []byte) []byte { b[at+3] = 0xff; return b }, "unexpected EOF"},
		{"first without reset", func(b []byte) []byte { b[at] = 0x80; return b }, "unexpected chunk type"},
		{"no end", func(b []byte) []byte { return b[:at+stored] }, "unexpected EOF"},
		{"no check", func(b []byte) []byte { return b[:at+stored+1] }, "unexpected EOF"},
		{"check", func(b []byte) []byte { b[(at+stored+4)&^3]++; return b }, "wrong checksum"},
		{"literal", func(b []byte) []byte { b[at+12] ^= 4; return b }, ""},
		{"nothing", func(b []byte) []byte { b[at] = 0; return b }, "wrong checksum"},
	} {
		t.Run(row.name, func(t *testing.T) {
			got, _, err := unxz(row.forge(bytes.Clone(good)), 1000)
			if err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("got %q, %v, want %q", got, err, row.want)
			}
		})
	}
}
