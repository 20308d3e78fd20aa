package cksum

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/iotest"
	"testing/synctest"
)

// TestBorders compares streams that end around the borders of the buffers, and
// come in pieces of all sizes, with digests that are taken in one call each.
func TestBorders(t *testing.T) {
	for _, size := range []int{
		short - 1, short, short + 1,
		bufferSize - 1, bufferSize, bufferSize + 1,
		2*bufferSize - 1, 2 * bufferSize, 2*bufferSize + 1,
		3*bufferSize + 12345,
	} {
		data := random(size)
		want := oneShot(data)
		for _, largest := range []int{1 << 10, short + 1, bufferSize + 1, size} {
			t.Run(fmt.Sprintf("%d in pieces up to %d", size, largest), func(t *testing.T) {
				h := New()
				writePieces(h, data, largest)
				wantSums(t, "Write", h, want)
			})
		}
		got, err := Read(t.Context(), iotest.HalfReader(bytes.NewReader(data)))
		if got != want || err != nil {
			t.Errorf("Read of %d bytes: got %+v, %v, want %+v", size, got, err, want)
		}
	}
}

// TestSumsAnywhere asks for the digests between writes, while some are still
// being taken, of a buffer that is empty, filled in part, or full.
func TestSumsAnywhere(t *testing.T) {
	data, h, at := random(6*bufferSize), New(), 0
	for _, size := range []int{100, bufferSize - 100, 1, bufferSize, 0, short, 2 * bufferSize, 7} {
		writePieces(h, data[at:at+size], 1<<17)
		at += size
		want := oneShot(data[:at])
		for range 2 {
			wantSums(t, fmt.Sprintf("after %d bytes", at), h, want)
		}
	}
}

// TestConcurrent is for the race detector: Hashes share nothing.
func TestConcurrent(t *testing.T) {
	data := random(3*bufferSize + 1)
	want := oneShot(data)
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			h := New()
			writePieces(h, data, 1<<17)
			wantSums(t, "concurrent", h, want)
		})
	}
	group.Wait()
}

// TestAbandoned fails if a goroutine is left that waits for anything.
func TestAbandoned(t *testing.T) {
	data := random(3*bufferSize + 1)
	t.Run("Write", func(t *testing.T) {
		synctest.Test(t, func(*testing.T) { New().Write(data) })
	})
	t.Run("Read", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			broken := errors.New("broken")
			_, err := Read(t.Context(), io.MultiReader(bytes.NewReader(data), iotest.ErrReader(broken)))
			if !errors.Is(err, broken) {
				t.Errorf("got error %v, want %v", err, broken)
			}
		})
	})
}

// TestBuffers has a short stream do without buffers, and a long one with two.
func TestBuffers(t *testing.T) {
	h := New()
	for _, tt := range []struct{ write, want int }{
		{short, 0}, {1, 1}, {bufferSize, 2}, {3 * bufferSize, 2},
	} {
		h.Write(random(tt.write))
		if got := (cap(h.filling) + cap(h.full)) / bufferSize; got != tt.want {
			t.Errorf("after %d bytes: %d buffers, want %d", h.size, got, tt.want)
		}
	}
}

// TestReadThenWrite has what is written, however short, follow what was read.
func TestReadThenWrite(t *testing.T) {
	h := New()
	if err := h.readOnce(bytes.NewReader([]byte("1234"))); err != nil {
		t.Fatal(err)
	}
	h.Write([]byte("56789"))
	wantSums(t, "read, then written", h, oneShot([]byte("123456789")))
}

// writePieces writes data in pieces of random sizes up to the largest. Each is
// overwritten as soon as it is written, which the owner of a slice may do.
func writePieces(h *Hash, data []byte, largest int) {
	for len(data) > 0 {
		p := bytes.Clone(data[:min(len(data), 1+rand.IntN(largest))])
		h.Write(p)
		clear(p)
		data = data[len(p):]
	}
}

func wantSums(t *testing.T, what string, h *Hash, want Sums) {
	t.Helper()
	if got := h.Sums(); got != want {
		t.Errorf("%s: got %+v, want %+v", what, got, want)
	}
}

// oneShot returns the Sums of p without a Hash.
func oneShot(p []byte) Sums {
	size, b := int64(len(p)), NewBLAKE3()
	b.Write(p)
	s := Sums{Size: size, CRC: referenceCRC(p, size), SHA256: sha256.Sum256(p), SHA512: sha512.Sum512(p)}
	b.Sum(s.BLAKE3[:0])
	return s
}

// TestAlso writes what is digested to others too, all of it by the time that Sums returns,
// and leaves the digests as they are.
func TestAlso(t *testing.T) {
	var g Group
	for _, size := range []int{0, 1, short, short + 1, 3*bufferSize + 12345} {
		data := random(size)
		want := oneShot(data)
		for name, read := range map[string]func(io.Reader, ...io.Writer) (Sums, error){
			"Hash": func(r io.Reader, also ...io.Writer) (Sums, error) {
				h := New()
				for _, w := range also {
					h.Also(w)
				}
				_, err := io.Copy(h, r)
				return h.Sums(), err
			},
			"Read":       func(r io.Reader, also ...io.Writer) (Sums, error) { return Read(t.Context(), r, also...) },
			"Group.Read": func(r io.Reader, also ...io.Writer) (Sums, error) { return g.Read(t.Context(), r, also...) },
			"Group.read": func(r io.Reader, also ...io.Writer) (Sums, error) { return g.read(t.Context(), r, also...) },
		} {
			var one, other bytes.Buffer
			got, err := read(iotest.HalfReader(bytes.NewReader(data)), &one, &other)
			if err != nil || got != want {
				t.Errorf("%s of %d bytes: %+v, %v; want %+v", name, size, got, err, want)
			}
			if !bytes.Equal(one.Bytes(), data) || !bytes.Equal(other.Bytes(), data) {
				t.Errorf("%s of %d bytes: others got %d and %d", name, size, one.Len(), other.Len())
			}
		}
	}
}
