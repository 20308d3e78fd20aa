package delta

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"testing"
	"testing/iotest"

	"puavo-image-repository/testdata"
)

// streamDiff returns the delta that DiffStream makes of what target reads.
func streamDiff(t testing.TB, signature []byte, target io.Reader, size int) ([]byte, Stats) {
	t.Helper()
	b, err := LoadSignature(t.Context(), signature)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	var d bytes.Buffer
	sum := 0
	stats, err := b.DiffStream(t.Context(), &d, target, func(n int) { sum += n })
	if err != nil {
		t.Fatal(err)
	}
	if sum != size || stats.Target() != int64(size) {
		t.Errorf("progress of %d bytes, %+v, for a target of %d", sum, stats, size)
	}
	return d.Bytes(), stats
}

// However a target is read, its delta is the one that is made with all of it in memory.
func TestDiffStream(t *testing.T) {
	ways := map[string]func(io.Reader) io.Reader{
		"whole": func(r io.Reader) io.Reader { return r }, "a byte at a time": iotest.OneByteReader,
		"in halves": iotest.HalfReader, "with its end": iotest.DataErrReader,
	}
	for name, p := range pairs() {
		for magic := range magics {
			for _, blockLen := range []int{128, 2048, 7, 60_000}[:testdata.Scale(4, 2)] {
				signature := sign(t, Signature{magic, blockLen, 12, 0}, p.base, 1<<20)
				want, wantStats := signDiff(t, signature, p.target)
				for way, read := range ways {
					got, stats := streamDiff(t, signature, read(bytes.NewReader(p.target)), len(p.target))
					if !bytes.Equal(got, want) || stats != wantStats {
						t.Errorf("%s, %08x, %d, %s: another delta, %+v, want %+v", name, uint32(magic), blockLen, way, stats, wantStats)
					}
				}
			}
			if testdata.Scale(1, 0) == 0 {
				break // any one of them
			}
		}
	}
}

// Blocks across the borders of pieces are found, and so is the short one at the end,
// wherever that lies. The number of cores does not matter.
func TestDiffStreamPieces(t *testing.T) {
	base := random(1, 6<<20+77)
	for _, blockLen := range []int{128, 2048, 9000} {
		piece := max(256<<10, 32*blockLen)
		signature := sign(t, Signature{RabinKarpBLAKE2, blockLen, 32, 0}, base, 1<<20)
		for _, size := range []int{piece - 1, piece, piece + 1, piece + 33<<10, 2*piece - 40, 2*piece + 40, 5*piece + 1001} {
			before := random(2, 1001)
			target := slices.Concat(before, base[len(base)-size+len(before):])
			want, _ := signDiff(t, signature, target)
			for _, cores := range []int{1, 3, 8} {
				func() {
					defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(cores))
					if got, stats := streamDiff(t, signature, bytes.NewReader(target), size); !bytes.Equal(got, want) {
						t.Errorf("blocks of %d, %d bytes, %d cores: another delta, %+v", blockLen, size, cores, stats)
					}
				}()
			}
		}
	}
}

// A long literal is cut, and costs little more.
func TestDiffStreamLiterals(t *testing.T) {
	base := random(1, 1<<20+77)
	target := slices.Concat(base, random(2, 7<<20), base)
	signature := sign(t, Kept, base, 1<<20)
	want, wantStats := signDiff(t, signature, target)
	got, stats := streamDiff(t, signature, bytes.NewReader(target), len(target))
	checkDelta(t, "literals", base, got, target)
	if more := int64(len(got) - len(want)); stats.Literals > wantStats.Literals+7 || more > 7*5 {
		t.Errorf("%d bytes more, %+v, want %+v", more, stats, wantStats)
	}
	stats.Literals = wantStats.Literals
	if stats != wantStats {
		t.Errorf("%+v, want %+v", stats, wantStats)
	}
	// The base's last block may begin before the last piece: it is not cut by a literal.
	const blockLen, piece = 9000, 32 * 9000
	short := random(3, 3*blockLen-1)
	target = slices.Concat(random(4, 4*piece+1-(blockLen-1)), short[2*blockLen:])
	_, stats = streamDiff(t, sign(t, Signature{RabinKarpBLAKE2, blockLen, 32, 0}, short, 1<<20), bytes.NewReader(target), len(target))
	if stats.CopyBytes != blockLen-1 || stats.Literals < 2 {
		t.Errorf("the last block: %+v", stats)
	}
}

// meter counts the bytes read less those written, which is what a stream without
// matches has in memory.
type meter struct {
	r          io.Reader
	held, most int
}

func (m *meter) Read(p []byte) (int, error) {
	n, err := m.r.Read(p)
	m.held += n
	m.most = max(m.most, m.held)
	return n, err
}

func (m *meter) Write(p []byte) (int, error) {
	m.held -= len(p)
	return len(p), nil
}

// Memory does not grow with the target.
func TestDiffStreamMemory(t *testing.T) {
	const cores = 8
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(cores))
	for _, c := range []struct{ blockLen, most int }{{2048, 2<<20 + cores*600<<10}, {1 << 20, 190 << 20}}[:testdata.Scale(2, 1)] {
		b, err := LoadSignature(t.Context(), sign(t, Signature{RabinKarpBLAKE2, c.blockLen, 32, 0}, random(1, 5*c.blockLen), 1<<20))
		if err != nil {
			t.Fatal(err)
		}
		target := random(2, 1<<20)
		reads := slices.Repeat([]io.Reader{nil}, (c.most+c.most/4)>>20)
		for i := range reads {
			reads[i] = bytes.NewReader(target)
		}
		m := &meter{r: io.MultiReader(reads...)}
		if _, err := b.DiffStream(t.Context(), m, m, nil); err != nil || m.most > c.most || m.most < c.blockLen {
			t.Errorf("blocks of %d: %v, %d bytes in memory, want at most %d", c.blockLen, err, m.most, c.most)
		}
		b.Close()
	}
}

func TestDiffStreamFails(t *testing.T) {
	p := pairs()["block inserted"]
	target := slices.Repeat(p.target, 20)
	b, err := LoadSignature(t.Context(), sign(t, Kept, p.base, 1<<20))
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range []struct {
		name   string
		ctx    context.Context
		dst    io.Writer
		target io.Reader
		want   error
	}{
		{"cancelled", cancelled, io.Discard, bytes.NewReader(target), context.Canceled},
		{"cancelled, and nothing to read", cancelled, io.Discard, bytes.NewReader(nil), context.Canceled},
		{"disk full", t.Context(), &full{1000}, bytes.NewReader(target), errDisk},
		{"disk full at once", t.Context(), &full{0}, bytes.NewReader(target), errDisk},
		{"target unreadable", t.Context(), io.Discard, io.MultiReader(bytes.NewReader(target), badReader{}), errDisk},
		{"target cut", t.Context(), io.Discard, io.MultiReader(bytes.NewReader(target[:100]), iotest.ErrReader(io.ErrUnexpectedEOF)), io.ErrUnexpectedEOF},
	} {
		if stats, err := b.DiffStream(c.ctx, c.dst, c.target, nil); !errors.Is(err, c.want) || stats != (Stats{}) {
			t.Errorf("%s: %+v, %v, want %v", c.name, stats, err, c.want)
		}
	}
	// Cancelled while it reads.
	ctx, cancel := context.WithCancel(t.Context())
	read := &cancelsReader{cancel, bytes.NewReader(slices.Repeat(target, 20))}
	if _, err := b.DiffStream(ctx, io.Discard, read, nil); !errors.Is(err, context.Canceled) || read.Len() == 0 {
		t.Errorf("%v, with %d bytes not read", err, read.Len())
	}
}

// cancelsReader cancels a context when it is read.
type cancelsReader struct {
	cancel func()
	*bytes.Reader
}

func (c *cancelsReader) Read(p []byte) (int, error) {
	c.cancel()
	return c.Reader.Read(p)
}

// FuzzDiffStream compares the deltas of streams with those of Diff.
func FuzzDiffStream(f *testing.F) {
	for _, p := range pairs() {
		f.Add(p.base[:min(len(p.base), 2000)], p.target[:min(len(p.target), 2000)], uint16(16), uint16(300))
	}
	f.Fuzz(func(t *testing.T, base, target []byte, blockLen, times uint16) {
		signature := sign(t, Signature{RabinKarpBLAKE2, int(blockLen) + 1, 32, 0}, base, 1+len(base))
		target = slices.Repeat(target, 1+int(times)%min(500, 1+320<<10/(1+len(target))))
		want, _ := signDiff(t, signature, target)
		if got, stats := streamDiff(t, signature, bytes.NewReader(target), len(target)); !bytes.Equal(got, want) && stats.LiteralBytes < longestPending {
			t.Errorf("another delta, %+v", stats)
		}
	})
}

func BenchmarkDiffStream(b *testing.B) {
	base := random(1, 64<<20)
	target := slices.Concat(base[:30<<20], random(2, 1<<20), base[31<<20:])
	for _, blockLen := range []int{128, 2048} {
		blocks, err := LoadSignature(b.Context(), sign(b, Signature{RabinKarpBLAKE2, blockLen, 32, 0}, base, 1<<20))
		if err != nil {
			b.Fatal(err)
		}
		for name, diff := range map[string]func() (Stats, error){
			"memory": func() (Stats, error) { return blocks.Diff(b.Context(), io.Discard, target, nil) },
			"stream": func() (Stats, error) {
				return blocks.DiffStream(b.Context(), io.Discard, bytes.NewReader(target), nil)
			},
		} {
			b.Run(fmt.Sprintf("%d/%s", blockLen, name), func(b *testing.B) {
				b.SetBytes(int64(len(target)))
				for b.Loop() {
					if _, err := diff(); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
		blocks.Close()
	}
}
