package delta

import (
	"bytes"
	"errors"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"puavo-image-repository/testdata"
)

// sign returns the signature of data, written in pieces.
func sign(t testing.TB, form Signature, data []byte, piece int) []byte {
	t.Helper()
	var b bytes.Buffer
	s := NewSigner(&b, form)
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

// magics are the magic numbers with rdiff's options for them.
var magics = map[Magic][]string{
	RollsumMD4:      {"-H", "md4", "-R", "rollsum"},
	RollsumBLAKE2:   {"-H", "blake2", "-R", "rollsum"},
	RabinKarpMD4:    {"-H", "md4"},
	RabinKarpBLAKE2: nil,
}

// Our signatures are byte for byte those of stock rdiff, for all options, and
// where it chooses.
func TestSignerIsRdiff(t *testing.T) {
	testdata.Tool(t, "rdiff")
	dir := t.TempDir()
	for i, size := range []int{0, 1, 127, 128, 129, 10_000, 256 * 256, 256*256 + 1, 384*384 - 1, 384 * 384, 1 << 20} {
		if i%testdata.Scale(1, 3) > 0 {
			continue
		}
		data := random(uint64(size), size)
		base := write(t, dir, "base", data)
		for magic, args := range magics {
			for _, c := range []struct{ blockLen, strongLen int }{
				{0, 0}, {0, Shortest}, {128, 0}, {2048, 8}, {1000, 16}, {1 << 20, Shortest}, {1, 1}, {3, 2},
			} {
				if size > 10_000 && c.blockLen > 0 && c.blockLen < 10 {
					continue
				}
				args := append(slices.Clone(args), "-b", strconv.Itoa(c.blockLen), "-S", strconv.Itoa(c.strongLen), "signature", base, "-")
				want := testdata.Run(t, "rdiff", args...)
				form, err := NewSignature(magic, c.blockLen, c.strongLen, int64(size))
				if err != nil {
					t.Fatal(err)
				}
				for _, piece := range []int{777, 1 << 20} {
					if !bytes.Equal(sign(t, form, data, piece), want) {
						t.Errorf("%d bytes in pieces of %d, %q: another signature than rdiff's", size, piece, args)
					}
				}
				s, err := ReadSignature(bytes.NewReader(want))
				if err != nil || !s.Fits(int64(size)) || s.Fits(int64(size+s.BlockLen)) {
					t.Errorf("%d bytes: %+v, %v does not fit", size, s, err)
				}
			}
		}
	}
}

func TestNewSignature(t *testing.T) {
	const blake2, md4 = RabinKarpBLAKE2, RollsumMD4
	for _, c := range []struct {
		name                string
		magic               Magic
		blockLen, strongLen int
		size                int64
		want                Signature
		err                 error
	}{
		{"unknown size", blake2, 0, 0, -1, Signature{blake2, 2048, 32, 0}, nil},
		{"unknown size, shortest", blake2, 0, Shortest, -1, Signature{blake2, 2048, 12, 0}, nil},
		{"less than 64 KiB", blake2, 0, 0, 50_000, Signature{blake2, 256, 32, 0}, nil},
		{"64 KiB", blake2, 0, 0, 1 << 16, Signature{blake2, 256, 32, 0}, nil},
		{"a byte less than the square of 384", blake2, 0, 0, 384*384 - 1, Signature{blake2, 256, 32, 0}, nil},
		{"the square of 384", md4, 0, 0, 384 * 384, Signature{md4, 384, 16, 0}, nil},
		{"one block, shortest", blake2, 0, Shortest, 255, Signature{blake2, 256, 5, 0}, nil},
		{"two blocks, shortest", blake2, 0, Shortest, 300, Signature{blake2, 256, 6, 0}, nil},
		{"1 GiB, shortest", md4, 0, Shortest, 1 << 30, Signature{md4, 32768, 8, 0}, nil},
		{"2^62 bytes", blake2, 0, 0, 1 << 62, Signature{}, ErrFormat},
		{"negative block length", blake2, -1, 0, 100, Signature{}, ErrFormat},
		{"negative, shortest", blake2, -1, Shortest, 100, Signature{}, ErrFormat},
		{"strong length -2", blake2, 0, -2, 100, Signature{}, ErrFormat},
		{"MD4 too long", md4, 0, 17, 100, Signature{}, ErrFormat},
		{"BLAKE2 too long", blake2, 0, 33, 100, Signature{}, ErrFormat},
		{"another magic", deltaMagic, 0, 0, 100, Signature{}, ErrMagic},
	} {
		got, err := NewSignature(c.magic, c.blockLen, c.strongLen, c.size)
		if !errors.Is(err, c.err) || err == nil && got != c.want {
			t.Errorf("%s: %+v, %v; want %+v, %v", c.name, got, err, c.want, c.err)
		}
		if _, werr := NewSigner(io.Discard, got).Write([]byte("x")); (werr == nil) != (err == nil) {
			t.Errorf("%s: a Signer says %v", c.name, werr)
		}
	}
}

// A signature has the size that was told before it was made.
func TestSignatureSize(t *testing.T) {
	for _, size := range []int{0, 1, SignBlockLen - 1, SignBlockLen, SignBlockLen + 1, 100_000} {
		if got := len(sign(t, Kept, random(1, size), 1<<20)); SignatureSize(int64(size)) != int64(got) {
			t.Errorf("of %d bytes: %d were told, it has %d", size, SignatureSize(int64(size)), got)
		}
	}
}

// Roots are exact, also of squares that a float64 does not hold.
func TestRoot(t *testing.T) {
	for _, r := range []int64{1, 2, 256, 1<<26 + 1, 94_906_267, 1<<30 - 1, 1<<31 - 1} {
		for n, want := range map[int64]int64{r*r - 1: r - 1, r * r: r, r*r + 1: r, (r+1)*(r+1) - 1: r} {
			if got := root(n); int64(got) != want {
				t.Errorf("of %d: %d, want %d", n, got, want)
			}
		}
	}
	if got := root(0); got != 0 {
		t.Errorf("of 0: %d", got)
	}
}

func TestSignerFails(t *testing.T) {
	data := random(1, 100_000)
	form := Signature{RollsumBLAKE2, 128, 32, 0}
	whole := len(sign(t, form, data, len(data)))
	for room := 0; room < whole; room += 4999 {
		s := NewSigner(&full{room}, form)
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
		{"no blocks", strings.NewReader(head("rs\x01\x37", block, strong)), Signature{RollsumBLAKE2, 2048, 32, 0}, nil},
		{"two blocks", strings.NewReader(head("rs\x01\x47", block, "\x00\x00\x00\x08") + strings.Repeat("x", 24)), Signature{RabinKarpBLAKE2, 2048, 8, 2}, nil},
		{"MD4", strings.NewReader(head("rs\x01\x36", block, "\x00\x00\x00\x10") + strings.Repeat("x", 20)), Signature{RollsumMD4, 2048, 16, 1}, nil},
		{"empty", strings.NewReader(""), Signature{}, ErrFormat},
		{"header cut", strings.NewReader(head("rs\x01\x37", block, "\x00")), Signature{}, ErrFormat},
		{"a delta", strings.NewReader(head("rs\x02\x36", block, strong)), Signature{}, ErrFormat},
		{"block length 0", strings.NewReader(head("rs\x01\x37", "\x00\x00\x00\x00", strong)), Signature{}, ErrFormat},
		{"strong length 0", strings.NewReader(head("rs\x01\x37", block, "\x00\x00\x00\x00")), Signature{}, ErrFormat},
		{"MD4 too long", strings.NewReader(head("rs\x01\x36", block, strong)), Signature{}, ErrFormat},
		{"block cut", strings.NewReader(head("rs\x01\x37", block, strong) + "xxxxx"), Signature{}, io.ErrUnexpectedEOF},
		{"block length 2^31", strings.NewReader(head("rs\x01\x37", "\x80\x00\x00\x00", strong)), Signature{}, ErrFormat},
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
