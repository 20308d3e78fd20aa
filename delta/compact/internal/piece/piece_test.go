package piece

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/klauspost/compress/zstd"

	"puavo-image-repository/testdata"
)

func noise(n int) []byte {
	r := rand.New(rand.NewPCG(1, 2))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func text(n int) []byte { return bytes.Repeat([]byte("some words that repeat, "), n/24+1)[:n] }

// read reads a piece from bytes, of which it leaves none.
func read(t testing.TB, b []byte, most int) ([]byte, error) {
	t.Helper()
	var r Reader
	src := bufio.NewReader(bytes.NewReader(b))
	got, err := r.Read(src, nil, most)
	if _, end := src.ReadByte(); err == nil && end == nil {
		t.Error("it leaves bytes")
	}
	return got, err
}

// xz returns a content as LZMA by the xz tool.
func xz(t testing.TB, content []byte, options string, properties byte) []byte {
	t.Helper()
	testdata.Tool(t, "xz")
	cmd := exec.CommandContext(t.Context(), "xz", "--format=raw", "--lzma1="+options, "-c")
	cmd.Stdin = bytes.NewReader(content)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return pieceOf(lzmaRaw, len(content), append([]byte{properties}, out...))
}

func pieceOf(codec byte, n int, packed []byte) []byte {
	b := binary.AppendUvarint([]byte{codec}, uint64(n))
	return append(binary.AppendUvarint(b, uint64(len(packed))), packed...)
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	for name, content := range map[string][]byte{
		"nothing": nil, "a byte": {7}, "noise": noise(100_000), "text": text(100_000), "zeros": make([]byte, testdata.Scale(Most, 1<<20)), "both": append(text(70_000), noise(70_000)...),
	} {
		for _, effort := range []Effort{Fast, Best} {
			roundTrip(t, name, content, effort)
		}
	}
	if _, err := Append(nil, make([]byte, Most+1), Fast); err == nil {
		t.Error("a piece that is too large")
	}
}

func roundTrip(t *testing.T, name string, content []byte, effort Effort) {
	t.Helper()
	b, err := Append([]byte("before"), content, effort)
	if err != nil || !bytes.HasPrefix(b, []byte("before")) {
		t.Fatalf("%s: %v", name, err)
	}
	b = b[len("before"):]
	if len(b) > len(content)+8 {
		t.Errorf("%s: %d bytes of %d", name, len(b), len(content))
	}
	if got, err := read(t, b, len(content)); err != nil || !bytes.Equal(got, content) {
		t.Errorf("%s: %d bytes, %v", name, len(got), err)
	}
	if len(content) == 0 {
		return
	}
	if _, err := read(t, b, len(content)-1); err == nil {
		t.Errorf("%s: more than there is room for", name)
	}
	for n := 0; n < len(b); n += 1 + len(b)/50 {
		if _, err := read(t, b[:n], Most); !errors.Is(err, ErrCut) {
			t.Errorf("%s: %d of %d bytes: %v", name, n, len(b), err)
		}
	}
}

// LZMA is taken where it is smaller by some percent.
func TestEffort(t *testing.T) {
	t.Parallel()
	source, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(testdata.Run(t, "go", "env", "GOROOT"))), "src/net/http/server.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name    string
		content []byte
		effort  Effort
		codec   byte
	}{
		{"fast", source, Fast, zstandard}, {"best", source, Best, lzmaRaw}, {"noise", noise(1000), Best, stored}, {"nothing to gain", make([]byte, 1000), Best, zstandard},
	} {
		b, err := Append(nil, c.content, c.effort)
		if err != nil || b[0] != c.codec {
			t.Errorf("%s: codec %d, %v, want %d", c.name, b[0], err, c.codec)
		}
	}
}

// What the xz tool makes is read, whatever its properties.
func TestLZMA(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, options string
		content       []byte
		properties    byte
	}{
		{"defaults", "preset=6", append(text(200_000), noise(1000)...), 93},
		{"the largest", "preset=1,dict=8MiB", make([]byte, Most), 93},
		{"lc 4", "preset=6,lc=4,lp=0,pb=0", text(50_000), 4},
		{"lp 4", "preset=6,lc=0,lp=4,pb=4", text(50_000), (4*5+4)*9 + 0},
	} {
		b := xz(t, c.content, c.options, c.properties)
		if got, err := read(t, b, len(c.content)); err != nil || !bytes.Equal(got, c.content) {
			t.Errorf("%s: %d bytes, %v", c.name, len(got), err)
		}
	}
}

func TestReadErrors(t *testing.T) {
	t.Parallel()
	content := text(10_000)
	lzma := xz(t, content, "preset=6", 93)
	e, err := zstd.NewWriter(nil, zstd.WithWindowSize(16<<20), zstd.WithEncoderLevel(zstd.SpeedFastest))
	if err != nil {
		t.Fatal(err)
	}
	frame := e.EncodeAll(content, nil)
	for _, c := range []struct {
		name, want string
		b          []byte
	}{
		{"an unknown codec", "codec 3", pieceOf(3, 10, []byte("abc"))},
		{"a long length", "a length of", binary.AppendUvarint([]byte{stored}, Most+1)},
		{"no length", "overflow", append([]byte{stored}, bytes.Repeat([]byte{0xff}, 11)...)},
		{"longer than its content", "a length of 10", pieceOf(zstandard, 10, make([]byte, 10))},
		{"no zstd", "zstd", pieceOf(zstandard, 10, []byte("no frame"))},
		{"zstd that makes less", "instead of", pieceOf(zstandard, len(content)+1, frame)},
		{"zstd that makes more", "zstd", pieceOf(zstandard, len(content)-1, frame)},
		{"zstd and more", "zstd", pieceOf(zstandard, len(content), append(bytes.Clone(frame), "more"...))},
		{"two frames", "zstd", pieceOf(zstandard, len(content), append(bytes.Clone(frame), frame...))},
		{"nothing of LZMA", "cut off", pieceOf(lzmaRaw, 10, nil)},
		{"no LZMA", "LZMA", pieceOf(lzmaRaw, 10, []byte("\x5dno lzma"))},
		{"properties of much memory", "properties", pieceOf(lzmaRaw, 10, []byte("\xe0no lzma"))},
		{"no properties", "properties", pieceOf(lzmaRaw, 10, []byte("\xffno lzma"))},
		{"LZMA that ends", "LZMA", pieceOf(lzmaRaw, len(content)+1, lzma[5:])},
	} {
		if _, err := read(t, c.b, Most); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
	failed := errors.New("failed")
	var r Reader
	if _, err := r.Read(bufio.NewReader(iotest.ErrReader(failed)), nil, Most); !errors.Is(err, failed) {
		t.Errorf("%v", err)
	}
}

// A bomb takes as much memory as there is room for, and what the codecs need.
func TestMemory(t *testing.T) {
	const ceiling = 12 << 20
	b, err := Append(nil, make([]byte, Most), Fast)
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{"zstd": b, "LZMA": xz(t, make([]byte, Most), "preset=1,dict=8MiB", 93)} {
		b[1] = 16 // so that it says 16 bytes, and makes more
		b = append(b[:2], b[5:]...)
		if n := testdata.Allocated(func() { read(t, b, Most) }); n > ceiling {
			t.Errorf("%s: %d bytes of memory", name, n)
		}
	}
}

func FuzzRead(f *testing.F) {
	for _, content := range [][]byte{nil, noise(100), text(1000)} {
		b, err := Append(nil, content, Fast)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add(xz(f, text(1000), "preset=6", 93))
	f.Fuzz(func(t *testing.T, b []byte) {
		var r Reader
		const most = 1 << 16
		if got, err := r.Read(bufio.NewReader(bytes.NewReader(b)), nil, most); err == nil && len(got) > most {
			t.Errorf("%d bytes", len(got))
		}
	})
}
