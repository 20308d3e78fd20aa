package pieces

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"

	"puavo-image-repository/cksum"
)

func random(size int) []byte {
	p := make([]byte, size)
	rand.NewChaCha8([32]byte{1}).Read(p)
	return p
}

func listOf(p []byte) (l List) {
	for off := 0; off < len(p); off += Size {
		l = append(l, Of(int64(len(p)), int64(off), p[off:min(len(p), off+Size)]))
	}
	return l
}

func blake3Of(p []byte) cksum.Digest256 {
	h := cksum.NewBLAKE3()
	h.Write(p)
	return cksum.Digest256(h.Sum(nil))
}

// The digest is that of another implementation, whatever the size.
func TestDigest(t *testing.T) {
	t.Parallel()
	all := random(9*Size + 12345)
	sizes := []int{1, 64, 1023, 1024, 1025, 2048, 16 << 10, 16<<10 + 1, 17 << 10, 100000, Size - 1, Size, Size + 1, Size + 1024, Size + 1025,
		2 * Size, 2*Size + 33<<10, 3 * Size, 3*Size + 1, 4 * Size, 4*Size + 512, 5*Size - 1, 7 * Size, 8 * Size, 8*Size + 1, 9 * Size, len(all)}
	for _, size := range sizes {
		p := all[:size]
		l := listOf(p)
		want := blake3Of(p)
		if int64(len(l)) != Count(int64(size)) || l.Digest() != want {
			t.Errorf("%d bytes: %s, want %s", size, l.Digest(), want)
		}
		if got, err := Parse(l.Encode(), int64(size), want); err != nil || got.Digest() != want {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
}

// One piece that changes is enough to know the digest.
func TestChangedPiece(t *testing.T) {
	t.Parallel()
	p := random(5*Size + 100)
	l := listOf(p)
	for i := range l {
		off := i * Size
		p[off] ^= 1
		l[i] = Of(int64(len(p)), int64(off), p[off:min(len(p), off+Size)])
		if l.Digest() != blake3Of(p) {
			t.Errorf("piece %d: another digest", i)
		}
	}
}

func TestParseErrors(t *testing.T) {
	t.Parallel()
	p := random(2*Size + 1)
	l := listOf(p)
	right := l.Encode()
	for _, c := range []struct {
		name   string
		data   []byte
		size   int64
		digest cksum.Digest256
	}{
		{"short", right[:len(right)-1], int64(len(p)), l.Digest()},
		{"long", append(bytes.Clone(right), 0), int64(len(p)), l.Digest()},
		{"another size", right, 3*Size + 1, l.Digest()},
		{"no size", nil, 0, cksum.Digest256{}},
		{"negative", nil, -Size, cksum.Digest256{}},
		{"another digest", right, int64(len(p)), cksum.Digest256{1}},
		{"a flipped bit", flipped(right, 70), int64(len(p)), l.Digest()},
	} {
		if _, err := Parse(c.data, c.size, c.digest); !errors.Is(err, ErrList) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func flipped(p []byte, at int) []byte {
	p = bytes.Clone(p)
	p[at] ^= 1
	return p
}

func FuzzParse(f *testing.F) {
	f.Add(listOf(random(Size+1)).Encode(), int64(Size+1))
	f.Fuzz(func(t *testing.T, data []byte, size int64) {
		if _, err := Parse(data, size, cksum.Digest256{}); err == nil {
			t.Error("a list with the zero digest")
		}
	})
}

func BenchmarkOf(b *testing.B) {
	p := random(Size)
	b.SetBytes(Size)
	for b.Loop() {
		Of(2*Size, 0, p)
	}
}
