package delta

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"puavo-image-repository/testdata"
)

func sign(t testing.TB, data []byte, blockLen, piece int) []byte {
	t.Helper()
	var b bytes.Buffer
	s := NewSigner(&b, blockLen)
	for len(data) > 0 {
		n := min(piece, len(data))
		if _, err := s.Write(data[:n]); err != nil {
			t.Fatal(err)
		}
		data = data[n:]
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// Our signatures are byte for byte those of stock rdiff.
func TestSignerIsRdiff(t *testing.T) {
	testdata.Tool(t, "rdiff")
	dir := t.TempDir()
	for _, size := range []int{0, 1, 127, 128, 129, 10_000, 100_000} {
		data := random(uint64(size), size)
		want := testdata.Run(t, "rdiff", "-b", "128", "-S", "32", "-H", "blake2", "-R", "rollsum", "signature", write(t, dir, "base", data), "-")
		for _, piece := range []int{1, 100, 1 << 20} {
			if got := sign(t, data, 128, piece); !bytes.Equal(got, want) {
				t.Errorf("%d bytes in pieces of %d: another signature than rdiff's", size, piece)
			}
		}
		s, err := ReadSignature(bytes.NewReader(want))
		if err != nil || !s.Fits(int64(size)) || s.Fits(int64(size)+128) {
			t.Errorf("%d bytes: %+v, %v does not fit", size, s, err)
		}
	}
}

func TestSignerFails(t *testing.T) {
	data := random(1, 100_000)
	whole := len(sign(t, data, 128, len(data)))
	for room := 0; room < whole; room += 4999 {
		s := NewSigner(&full{room}, 128)
		_, err := s.Write(data)
		if err == nil {
			err = s.Close()
		}
		if !errors.Is(err, errDisk) {
			t.Errorf("with room for %d bytes of %d: %v", room, whole, err)
		}
	}
}

func TestReadSignature(t *testing.T) {
	head := func(magic, block, strong string) string { return magic + block + strong }
	block, strong := "\x00\x00\x08\x00", "\x00\x00\x00\x20"
	for _, c := range []struct {
		name string
		sig  io.Reader
		want Signature
		err  error
	}{
		{"no blocks", strings.NewReader(head("rs\x01\x37", block, strong)), Signature{rollsumBLAKE2, 2048, 32, 0}, nil},
		{"two blocks", strings.NewReader(head("rs\x01\x47", block, "\x00\x00\x00\x08") + strings.Repeat("x", 24)), Signature{rabinKarpBLAKE2, 2048, 8, 2}, nil},
		{"MD4", strings.NewReader(head("rs\x01\x36", block, "\x00\x00\x00\x10") + strings.Repeat("x", 20)), Signature{rollsumMD4, 2048, 16, 1}, nil},
		{"empty", strings.NewReader(""), Signature{}, ErrFormat},
		{"header cut", strings.NewReader(head("rs\x01\x37", block, "\x00")), Signature{}, ErrFormat},
		{"a delta", strings.NewReader(head("rs\x02\x36", block, strong)), Signature{}, ErrFormat},
		{"block length 0", strings.NewReader(head("rs\x01\x37", "\x00\x00\x00\x00", strong)), Signature{}, ErrFormat},
		{"strong length 0", strings.NewReader(head("rs\x01\x37", block, "\x00\x00\x00\x00")), Signature{}, ErrFormat},
		{"MD4 too long", strings.NewReader(head("rs\x01\x36", block, strong)), Signature{}, ErrFormat},
		{"block cut", strings.NewReader(head("rs\x01\x37", block, strong) + "xxxxx"), Signature{}, ErrFormat},
		{"unreadable", badReader{}, Signature{}, errDisk},
	} {
		got, err := ReadSignature(c.sig)
		if !errors.Is(err, c.err) || got != c.want {
			t.Errorf("%s: %+v, %v; want %+v, %v", c.name, got, err, c.want, c.err)
		}
	}
}

func FuzzReadSignature(f *testing.F) {
	for _, p := range testdata.Glob(f, "signatures/*.sig") {
		b, err := os.ReadFile(p)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := ReadSignature(bytes.NewReader(b))
		if err == nil && s.Blocks*int64(4+s.StrongLen)+12 != int64(len(b)) {
			t.Errorf("%+v of %d bytes", s, len(b))
		}
	})
}
