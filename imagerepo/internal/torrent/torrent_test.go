package torrent_test

import (
	"bytes"
	"crypto/sha1"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"puavo-image-repository/imagerepo/internal/torrent"
)

// random returns n bytes, the same each time.
func random(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{}).Read(b)
	return b
}

// made returns the file of this content.
func made(name string, content []byte) torrent.File {
	h := torrent.NewHash(torrent.PieceLength(int64(len(content))))
	h.Write(content)
	return h.File(name)
}

func TestPieceLength(t *testing.T) {
	const k, m, g, e = 1 << 10, 1 << 20, 1 << 30, 1 << 60
	for _, test := range []struct{ size, want int64 }{
		{0, 32 * k}, {1, 32 * k}, {384 * m, 32 * k}, {384*m + 1, 64 * k}, {3 * g, 256 * k}, {3*g + 1, 512 * k},
		{12 * g, m}, {12*g + 1, 2 * m}, {1536 * g, 128 * m}, {1536*g + 1, 256 * m}, {math.MaxInt64, e >> 10}, {-1, 32 * k},
	} {
		if got := torrent.PieceLength(test.size); got != test.want {
			t.Errorf("%d bytes: %d, want %d", test.size, got, test.want)
		}
	}
}

// Whatever the size, with all that may be in it, a torrent is small enough, and not far
// smaller: pieces are no longer than they must be.
func TestSize(t *testing.T) {
	t.Parallel()
	address := func(n int) string { return "http://" + strings.Repeat("a", n-len("http://")) }
	trackers := []string{address(4<<10 - 20), address(20)}
	for size := int64(1); size > 0 && size < math.MaxInt64/4*3; size = size*5/4 + 1 {
		length := torrent.PieceLength(size)
		n := (size-1)/length + 1
		if n <= 6<<10 && length > 32<<10 {
			t.Errorf("%d bytes have only %d pieces of %d bytes", size, n, length)
		}
		n += n / 100 // a delta can be larger than its image
		f := torrent.File{Name: strings.Repeat("n", 255), Size: (n-1)*length + 1, PieceLength: length, Pieces: make([]byte, n*sha1.Size)}
		data, err := torrent.Make(f, trackers, nil)
		if err != nil || len(data) >= torrent.MaxSize {
			t.Fatalf("%d bytes: a torrent of %d, %v", size, len(data), err)
		}
		if _, err := torrent.Parse(data); err != nil {
			t.Fatalf("%d bytes: %v", size, err)
		}
	}
	largest := torrent.File{Name: strings.Repeat("n", 255), Size: 12500 << 15, PieceLength: 1 << 15, Pieces: make([]byte, 12500*sha1.Size)}
	if data, err := torrent.Make(largest, trackers, nil); err != nil || len(data) >= torrent.MaxSize {
		t.Errorf("the largest: a torrent of %d, %v", len(data), err)
	}
}

// However it is written, the pieces are those of the content, and File may be called in
// between.
func TestHash(t *testing.T) {
	t.Parallel()
	content := random(3<<15 + 7)
	for _, size := range []int{0, 1, 1<<15 - 1, 1 << 15, 1<<15 + 1, 3 << 15, len(content)} {
		for _, step := range []int{7, 4099, 1 << 15, len(content)} {
			h := torrent.NewHash(1 << 15)
			for at := 0; at < size; at += step {
				if n, err := h.Write(content[at:min(at+step, size)]); n != min(step, size-at) || err != nil {
					t.Fatal(n, err)
				}
				if at%3 == 0 {
					h.File("x")
				}
			}
			want := torrent.File{Name: "x", Size: int64(size), PieceLength: 1 << 15}
			for at := 0; at < size; at += 1 << 15 {
				sum := sha1.Sum(content[at:min(at+1<<15, size)])
				want.Pieces = append(want.Pieces, sum[:]...)
			}
			if got := h.File("x"); fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("%d bytes by %d: got %v, want %v", size, step, got, want)
			}
		}
	}
}

// What File has returned is not changed by what is written later.
func TestHashGoesOn(t *testing.T) {
	h := torrent.NewHash(4)
	h.Write([]byte("12345678"))
	before := h.File("x")
	kept := bytes.Clone(before.Pieces)
	h.Write([]byte("9abc"))
	h.File("x")
	if !bytes.Equal(before.Pieces[:cap(before.Pieces)], kept) {
		t.Error("the pieces of a file changed")
	}
}
