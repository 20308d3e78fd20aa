package cksum

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
)

// vectors are from cksum, sha256sum, sha512sum (coreutils 9.1) and b3sum.
var vectors = []struct {
	in                     string
	crc                    uint32
	sha256, sha512, blake3 string
}{
	{
		"", 4294967295,
		"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
		"cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e",
		"af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262",
	},
	{
		"a", 1220704766,
		"ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb",
		"1f40fc92da241694750979ee6cf582f2d5d7d28e18335de05abc54d0560e0f5302860c652bf08d560252aa5e74210546f369fbbbce8c12cfc7957b2652fe9a75",
		"17762fddd969a453925d65717ac3eea21320b66b54342fde15128d6caf21215f",
	},
	{
		"123456789", 930766865,
		"15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225",
		"d9e6762dd1c8eaf6d61b3c6192fc408d4d6d5f1176d0c29169bc24e71c3f274ad27fcd5811b313d681f7e55ec02d73d499c95455b6b5bb503acf574fba8ffe85",
		"b7d65b48420d1033cb2595293263b6f72eabee20d55e699d0df1973b3c9deed1",
	},
}

func TestVectors(t *testing.T) {
	for _, v := range vectors {
		got := sumsOf([]byte(v.in))
		want := Sums{Size: int64(len(v.in)), CRC: v.crc}
		hex.Decode(want.SHA256[:], []byte(v.sha256))
		hex.Decode(want.SHA512[:], []byte(v.sha512))
		hex.Decode(want.BLAKE3[:], []byte(v.blake3))
		if got != want {
			t.Errorf("%q: got %+v, want %+v", v.in, got, want)
		}
	}
}

// TestBLAKE3Long has vectors of BLAKE3's own test_vectors.json, around and
// beyond its chunks of 1024 bytes. The input is 0, 1, ..., 250, 0, 1, ...
func TestBLAKE3Long(t *testing.T) {
	for size, want := range map[int]string{
		1023:  "10108970eeda3eb932baac1428c7a2163b0e924c9a9e25b35bba72b28f70bd11",
		1025:  "d00278ae47eb27b34faecf67b4fe263f82d5412916c1ffd97c8cb7fb814b8444",
		31744: "62b6960e1a44bcc1eb1a611a8d6235b6b4b78f32e7abc4fb4c6cdcce94895c47",
	} {
		in := make([]byte, size)
		for i := range in {
			in[i] = byte(i % 251)
		}
		if got := sumsOf(in).BLAKE3.String(); got != want {
			t.Errorf("%d bytes: got %s, want %s", size, got, want)
		}
	}
}

// TestCRCSize tests the size in the CRC on sizes too large to write: zeros
// leave the CRC at 0, so only their number counts.
func TestCRCSize(t *testing.T) {
	for size, want := range map[int64]uint32{
		5 << 30:   3128462852, // truncate -s 5G z; cksum z
		1 << 32:   referenceCRC(nil, 1<<32),
		1<<63 - 1: referenceCRC(nil, 1<<63-1),
	} {
		if got := new(crc).sum(size); got != want {
			t.Errorf("%d zeros: got %d, want %d", size, got, want)
		}
	}
}

func TestSplits(t *testing.T) {
	data := random(3*len(crc{}.scratch) + 5)
	want := sumsOf(data)
	if ref := referenceCRC(data, int64(len(data))); want.CRC != ref {
		t.Fatalf("CRC %d, want %d", want.CRC, ref)
	}
	for _, step := range []int{1, 7, 63, 1021, 4095, 4096, 4097, 8193} {
		h := New()
		for p := data; len(p) > 0; p = p[min(step, len(p)):] {
			h.Write(p[:min(step, len(p))])
			h.Write(nil)
		}
		if got := h.Sums(); got != want {
			t.Errorf("in steps of %d: got %+v, want %+v", step, got, want)
		}
	}
}

func TestSumsDoesNotDisturb(t *testing.T) {
	data := random(10000)
	h := New()
	for i := 0; i <= len(data); i += 2500 {
		for range 2 {
			if got, want := h.Sums(), sumsOf(data[:i]); got != want {
				t.Errorf("after %d bytes: got %+v, want %+v", i, got, want)
			}
		}
		h.Write(data[i:min(i+2500, len(data))])
	}
}

func TestNewBLAKE3(t *testing.T) {
	data, h := random(5000), NewBLAKE3()
	h.Write(data)
	if want := sumsOf(data).BLAKE3; !bytes.Equal(h.Sum(nil), want[:]) {
		t.Errorf("got %x, want %x", h.Sum(nil), want)
	}
}

func TestRead(t *testing.T) {
	data := random(bufferSize + 100)
	broken := errors.New("broken")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended, end := context.WithCancel(t.Context())
	end()
	whole := func() io.Reader { return bytes.NewReader(data) }
	for _, tt := range []struct {
		name string
		ctx  context.Context
		r    io.Reader
		err  error
	}{
		{"whole", ctx, whole(), nil},
		{"short reads", ctx, iotest.HalfReader(whole()), nil},
		{"data with EOF", ctx, iotest.DataErrReader(whole()), nil},
		{"broken", ctx, io.MultiReader(whole(), iotest.ErrReader(broken)), broken},
		{"cut short", ctx, io.MultiReader(whole(), iotest.ErrReader(io.ErrUnexpectedEOF)), io.ErrUnexpectedEOF},
		{"cancelled before", ended, iotest.ErrReader(broken), context.Canceled},
		{"cancelled", ctx, &cancelReader{whole(), cancel}, context.Canceled},
	} {
		want := sumsOf(data)
		if tt.err != nil {
			want = Sums{}
		}
		got, err := Read(tt.ctx, tt.r)
		if got != want || !errors.Is(err, tt.err) {
			t.Errorf("%s: got %+v, %v, want %+v, %v", tt.name, got, err, want, tt.err)
		}
	}
}

// TestReadCancelledAtEnd has the context end in the read that returns io.EOF.
func TestReadCancelledAtEnd(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	got, err := Read(ctx, &cancelReader{iotest.DataErrReader(strings.NewReader("a")), cancel})
	if got != (Sums{}) || err != context.Canceled {
		t.Errorf("got %+v, %v", got, err)
	}
}

// TestCommands compares the digests and both lists with coreutils.
func TestCommands(t *testing.T) {
	t.Chdir(t.TempDir())
	var lines []Line
	var shaLines []SHA256Line
	var sha512s strings.Builder
	for i, size := range []int{0, 1, rand.IntN(1 << 10), rand.IntN(1 << 16), rand.IntN(1 << 22)} {
		name, data := fmt.Sprintf("%d of 5.img", i), random(size)
		if err := os.WriteFile(name, data, 0o666); err != nil {
			t.Fatal(err)
		}
		s := sumsOf(data)
		lines = append(lines, Line{s.CRC, s.Size, name})
		shaLines = append(shaLines, SHA256Line{s.SHA256, name})
		fmt.Fprintf(&sha512s, "%s  %s\n", s.SHA512, name)
	}
	files, err := filepath.Glob("*.img")
	if err != nil {
		t.Fatal(err)
	}
	cksums, sha256s := AppendCKSUMS(nil, lines), AppendSHA256SUMS(nil, shaLines)
	for tool, want := range map[string]string{
		"cksum": string(cksums), "sha256sum": string(sha256s), "sha512sum": sha512s.String(),
	} {
		t.Run(tool, func(t *testing.T) {
			if got := run(t, tool, files...); got != want {
				t.Errorf("got\n%swant\n%s", got, want)
			}
		})
	}
	t.Run("sha256sum -c", func(t *testing.T) {
		if err := os.WriteFile("SHA256SUMS", sha256s, 0o666); err != nil {
			t.Fatal(err)
		}
		run(t, "sha256sum", "--strict", "-c", "SHA256SUMS")
	})
}

func BenchmarkHash(b *testing.B) {
	for _, bb := range []struct {
		name string
		w    io.Writer
	}{
		{"CRC", new(crc)},
		{"SHA256", sha256.New()},
		{"SHA512", sha512.New()},
		{"BLAKE3", NewBLAKE3()},
		{"all", New()},
	} {
		b.Run(bb.name, func(b *testing.B) {
			data := random(bufferSize)
			perCPU(b, bufferSize, func() { bb.w.Write(data) })
		})
	}
}

// run returns the standard output of a tool. Without the tool the test is
// skipped, but fails where CI is set.
func run(t *testing.T, tool string, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath(tool); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("%s is missing: %v", tool, err)
		}
		t.Skipf("%s is missing", tool)
	}
	cmd := exec.Command(tool, args...)
	cmd.Stderr = t.Output()
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v", tool, err)
	}
	return string(out)
}

// referenceCRC is the CRC of cksum(1), bit by bit.
func referenceCRC(p []byte, size int64) uint32 {
	p = bytes.Clone(p)
	for ; size > 0; size >>= 8 {
		p = append(p, byte(size))
	}
	var reg uint32
	for _, b := range p {
		reg ^= uint32(b) << 24
		for range 8 {
			top := reg >> 31
			reg = reg<<1 ^ top*0x04C11DB7
		}
	}
	return ^reg
}

// cancelReader cancels in its first read, and must not be read again.
type cancelReader struct {
	io.Reader
	cancel context.CancelFunc
}

func (r *cancelReader) Read(p []byte) (int, error) {
	if r.Reader == nil {
		panic("read after the context has ended")
	}
	r.cancel()
	n, err := r.Reader.Read(p)
	r.Reader = nil
	return n, err
}

func sumsOf(p []byte) Sums {
	h := New()
	h.Write(p)
	return h.Sums()
}

// random returns the same n bytes for the same n.
func random(n int) []byte {
	p := make([]byte, n)
	rand.NewChaCha8([32]byte{31: 1}).Read(p)
	return p
}
