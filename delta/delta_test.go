package delta

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"puavo-image-repository/testdata"
)

var errDisk = errors.New("no space left")

// random returns n bytes that are the same in every run.
func random(seed uint64, n int) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// pairs are bases and targets, with the most bytes their delta may have.
func pairs() map[string]struct {
	base, target []byte
	most         int
} {
	type pair = struct {
		base, target []byte
		most         int
	}
	a, b := random(1, 200_000), random(2, 50_000)
	cat := func(parts ...[]byte) []byte { return slices.Concat(parts...) }
	zeros := make([]byte, 100_000)
	return map[string]pair{
		"empty to empty":      {nil, nil, 5},
		"empty base":          {nil, b, len(b) + 20},
		"empty target":        {a, nil, 5},
		"one byte":            {[]byte{1}, []byte{2}, 7},
		"shorter than a seed": {a[:32-1], a[:32-1], 32 + 6},
		"a seed":              {a[:32], a[:32], 8},
		"identical":           {a, a, 16},
		"unrelated":           {a, b, len(b) + 20},
		"byte inserted":       {a, cat(a[:99_999], []byte("x"), a[99_999:]), 32},
		"byte deleted":        {a, cat(a[:99_999], a[100_000:]), 32},
		"byte changed":        {a, cat(a[:99_999], []byte{^a[99_999]}, a[100_000:]), 32},
		"block inserted":      {a, cat(a[:70_000], b, a[70_000:]), len(b) + 40},
		"blocks swapped":      {a, cat(a[120_000:], a[:120_000]), 40},
		"block moved":         {a, cat(a[20_000:150_000], a[:20_000], a[150_000:]), 60},
		"end appended":        {a, cat(a, b), len(b) + 32},
		"beginning appended":  {a, cat(b, a), len(b) + 32},
		"base much larger":    {a, a[77_777:88_888], 40},
		"target repeats base": {b, cat(b, b, b, b), 60},
		"zeros":               {zeros, zeros[:50_000], 16},
		"zeros cut":           {cat(a, zeros, b), cat(a, zeros[:70_000], b), 40},
	}
}

func diff(t testing.TB, base, target []byte) ([]byte, Stats) {
	t.Helper()
	x, err := NewIndex(t.Context(), base, Options{Memory: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	var d bytes.Buffer
	stats, err := x.Diff(t.Context(), &d, target, nil)
	if err != nil {
		t.Fatal(err)
	}
	return d.Bytes(), stats
}

// The two decoders, which must agree on everything.
var decoders = map[string]func(context.Context, io.Writer, Source, io.Reader, int64) error{
	"Patch":  Patch,
	"Verify": Verify,
}

func TestDiff(t *testing.T) {
	for name, p := range pairs() {
		t.Run(name, func(t *testing.T) {
			d, stats := diff(t, p.base, p.target)
			if len(d) > p.most {
				t.Errorf("delta of %d bytes, want at most %d", len(d), p.most)
			}
			inspected, err := Inspect(t.Context(), bytes.NewReader(d))
			if err != nil || inspected != stats {
				t.Errorf("Inspect says %+v, %v; Diff said %+v", inspected, err, stats)
			}
			for decoder, patch := range decoders {
				var out bytes.Buffer
				err := patch(t.Context(), &out, bytes.NewReader(p.base), bytes.NewReader(d), int64(len(p.target)))
				if err != nil || !bytes.Equal(out.Bytes(), p.target) {
					t.Errorf("%s: %v, %d bytes of %d", decoder, err, out.Len(), len(p.target))
				}
			}
		})
	}
}

func TestParseEffort(t *testing.T) {
	for _, s := range []string{"fast", "default", "best"} {
		if e, err := ParseEffort(s); err != nil || string(e) != s {
			t.Errorf("%s: %q, %v", s, e, err)
		}
	}
	for _, s := range []string{"", "Best", "better"} {
		if e, err := ParseEffort(s); err == nil {
			t.Errorf("%q is taken for %q", s, e)
		}
	}
}

func TestDiffIsDeterministic(t *testing.T) {
	p := pairs()["block moved"]
	first, _ := diff(t, p.base, p.target)
	second, _ := diff(t, p.base, p.target)
	if !bytes.Equal(first, second) {
		t.Error("two deltas of one pair differ")
	}
}

func TestDiffProgress(t *testing.T) {
	for name, p := range pairs() {
		x, err := NewIndex(t.Context(), p.base, Options{Memory: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		defer x.Close()
		sum := 0
		if _, err := x.Diff(t.Context(), io.Discard, p.target, func(n int) {
			if n < 0 {
				t.Errorf("%s: progress of %d", name, n)
			}
			sum += n
		}); err != nil {
			t.Fatal(err)
		}
		if sum != len(p.target) {
			t.Errorf("%s: progress of %d bytes in all, want %d", name, sum, len(p.target))
		}
	}
}

func TestDiffFails(t *testing.T) {
	p := pairs()["block inserted"]
	x, err := NewIndex(t.Context(), p.base, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	d, _ := diff(t, p.base, p.target)
	for room := range d {
		if room > 100 && room%977 != 0 {
			continue
		}
		if _, err := x.Diff(t.Context(), &full{room: room}, p.target, nil); !errors.Is(err, errDisk) {
			t.Fatalf("with room for %d bytes of %d: %v", room, len(d), err)
		}
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := x.Diff(cancelled, io.Discard, p.target, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: Diff returns %v", err)
	}
	if _, err := NewIndex(cancelled, p.base, Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: NewIndex returns %v", err)
	}
}

// full is a disk with room for so many bytes.
type full struct{ room int }

func (f *full) Write(p []byte) (int, error) {
	n := min(len(p), f.room)
	f.room -= n
	if n < len(p) {
		return n, errDisk
	}
	return n, nil
}

// With less memory the sampling is coarser and the delta larger, but never by
// much more than one sampling distance a change.
func TestLittleMemory(t *testing.T) {
	base := random(3, 4<<20)
	target := slices.Clone(base)
	for i := 50_000; i < len(target); i += 100_000 {
		target[i]++
	}
	x, err := NewIndex(t.Context(), base, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	var d bytes.Buffer
	if _, err := x.Diff(t.Context(), &d, target, nil); err != nil {
		t.Fatal(err)
	}
	if most := 42 * (16 + 8*1024); d.Len() > most {
		t.Errorf("delta of %d bytes, want at most %d", d.Len(), most)
	}
}

// TestMalformed gives both decoders deltas that are no deltas, or not for this
// base of 10 bytes and target of 5.
func TestMalformed(t *testing.T) {
	const magic = "rs\x02\x36"
	for name, d := range map[string]string{
		"empty":                     "",
		"magic cut":                 magic[:3],
		"magic of a signature":      "rs\x01\x37" + "\x05hello\x00",
		"no end":                    magic + "\x05hello",
		"nothing but magic":         magic,
		"reserved opcode":           magic + "\x55\x00",
		"last reserved opcode":      magic + "\xff\x00",
		"literal cut":               magic + "\x05hel",
		"literal without length":    magic + "\x42\x01",
		"literal of length 0":       magic + "\x41\x00\x05hello\x00",
		"literal of 2^63":           magic + "\x44\x80\x00\x00\x00\x00\x00\x00\x00hello\x00",
		"copy cut in its offset":    magic + "\x4d\x00",
		"copy cut in its length":    magic + "\x45\x00",
		"copy of length 0":          magic + "\x45\x00\x00\x05hello\x00",
		"copy of 2^64-1":            magic + "\x48\x00\xff\xff\xff\xff\xff\xff\xff\xff\x00",
		"copy from 2^64-1":          magic + "\x51\xff\xff\xff\xff\xff\xff\xff\xff\x01\x04hell\x00",
		"copy beyond the base":      magic + "\x45\x06\x05\x00",
		"copy from beyond the base": magic + "\x45\x0b\x05\x00",
		"target too short":          magic + "\x04hell\x00",
		"target too long":           magic + "\x06hello!\x00",
		"target far too long":       magic + "\x45\x00\x0a\x45\x00\x0a\x00",
		"data after the end":        magic + "\x05hello\x00x",
	} {
		for decoder, patch := range decoders {
			err := patch(t.Context(), io.Discard, strings.NewReader("0123456789"), strings.NewReader(d), 5)
			if !errors.Is(err, ErrFormat) {
				t.Errorf("%s of %q: %v, want ErrFormat", decoder, name, err)
			}
		}
	}
}

func TestPatchFails(t *testing.T) {
	p := pairs()["block inserted"]
	d, _ := diff(t, p.base, p.target)
	base, size := bytes.NewReader(p.base), int64(len(p.base))
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for decoder, patch := range decoders {
		for room := 0; room < len(p.target); room += 10_007 {
			err := patch(t.Context(), &full{room}, base, bytes.NewReader(d), int64(len(p.target)))
			if !errors.Is(err, errDisk) {
				t.Fatalf("%s with room for %d bytes: %v", decoder, room, err)
			}
		}
		for _, c := range []struct {
			name  string
			ctx   context.Context
			base  io.ReaderAt
			delta io.Reader
			want  error
		}{
			{"cancelled", cancelled, base, bytes.NewReader(d), context.Canceled},
			{"base unreadable", t.Context(), badReader{}, bytes.NewReader(d), errDisk},
			{"delta unreadable", t.Context(), base, io.MultiReader(bytes.NewReader(d[:1000]), badReader{}), errDisk},
			{"delta unreadable at once", t.Context(), base, badReader{}, errDisk},
			{"delta unreadable at its end", t.Context(), base, io.MultiReader(bytes.NewReader(d), badReader{}), errDisk},
		} {
			err := patch(c.ctx, io.Discard, io.NewSectionReader(c.base, 0, size), c.delta, int64(len(p.target)))
			if !errors.Is(err, c.want) {
				t.Errorf("%s, %s: %v, want %v", decoder, c.name, err, c.want)
			}
		}
		err := patch(t.Context(), io.Discard, io.NewSectionReader(bytes.NewReader(p.base[:1000]), 0, size), bytes.NewReader(d), int64(len(p.target)))
		if err == nil || errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), "at byte 1000") {
			t.Errorf("%s of a base cut short: %v", decoder, err)
		}
	}
}

type badReader struct{}

func (badReader) Read([]byte) (int, error)          { return 0, errDisk }
func (badReader) ReadAt([]byte, int64) (int, error) { return 0, errDisk }

func TestInspect(t *testing.T) {
	const magic = "rs\x02\x36"
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range []struct {
		name  string
		ctx   context.Context
		delta io.Reader
		want  Stats
		err   error
	}{
		{"both", t.Context(), strings.NewReader(magic + "\x02ab\x45\x07\x05\x00"), Stats{1, 1, 5, 2, 12}, nil},
		{"the furthest copy first", t.Context(), strings.NewReader(magic + "\x45\x07\x05\x45\x00\x03\x00"), Stats{2, 0, 8, 0, 12}, nil},
		{"sum over 2^63", t.Context(), strings.NewReader(magic + strings.Repeat("\x48\x00\x7f\xff\xff\xff\xff\xff\xff\xff", 2) + "\x00"), Stats{}, ErrFormat},
		{"literal cut", t.Context(), strings.NewReader(magic + "\x43\x00\x10\x00\x00ab"), Stats{}, ErrFormat},
		{"cancelled", cancelled, strings.NewReader(magic + "\x00"), Stats{}, context.Canceled},
		{"unreadable", t.Context(), badReader{}, Stats{}, errDisk},
	} {
		got, err := Inspect(c.ctx, c.delta)
		if !errors.Is(err, c.err) || err == nil && got != c.want {
			t.Errorf("%s: %+v, %v; want %+v, %v", c.name, got, err, c.want, c.err)
		}
	}
}

// A base or target that becomes shorter while it is mapped is an error, from
// whichever goroutine meets it.
func TestMappedFileShrinks(t *testing.T) {
	data := random(1, 20<<20)
	for _, c := range []string{"base", "target"} {
		path := write(t, t.TempDir(), c, data)
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		mapped, err := syscall.Mmap(int(f.Fd()), 0, len(data), syscall.PROT_READ, syscall.MAP_SHARED)
		if err != nil {
			t.Fatal(err)
		}
		defer syscall.Munmap(mapped)
		base, target := mapped, data
		if c == "target" {
			base, target = data, mapped
		}
		x, err := NewIndex(t.Context(), base, Options{Memory: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		defer x.Close()
		if err := os.Truncate(path, 1<<20); err != nil {
			t.Fatal(err)
		}
		if _, err := x.Diff(t.Context(), io.Discard, target, nil); !errors.Is(err, ErrChanged) {
			t.Errorf("%s: Diff returns %v", c, err)
		}
		if _, err := NewIndex(t.Context(), mapped, Options{}); !errors.Is(err, ErrChanged) {
			t.Errorf("%s: NewIndex returns %v", c, err)
		}
	}
}

// Offsets and lengths over 4 GiB, which take 8 bytes, for us and for rdiff.
func TestFarCopies(t *testing.T) {
	const far = 5 << 30
	path := filepath.Join(t.TempDir(), "sparse")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte("far away"), far); err != nil {
		t.Fatal(err)
	}
	d := binary.BigEndian.AppendUint32(nil, deltaMagic)
	for _, c := range []command{{offset: far, length: 8}, {offset: far + 4, length: 4}} {
		d = c.appendHeader(d)
	}
	d = append(d, opEnd)
	for decoder, patch := range decoders {
		var out bytes.Buffer
		if err := patch(t.Context(), &out, io.NewSectionReader(f, 0, far+8), bytes.NewReader(d), 12); err != nil || out.String() != "far awayaway" {
			t.Errorf("%s: %q, %v", decoder, &out, err)
		}
	}
	if got := testdata.Run(t, "rdiff", "patch", path, write(t, t.TempDir(), "delta", d), "-"); string(got) != "far awayaway" {
		t.Errorf("rdiff: %q", got)
	}
}

// The same delta comes of any number of cores.
func TestDiffOnAnyCores(t *testing.T) {
	base := random(1, 24<<20)
	target := slices.Concat(base[9_000_000:], random(2, 1<<20), base[:9_000_000])
	for i := 0; i < len(target); i += 10_007 {
		target[i]++
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	want, _ := diff(t, base, target)
	for _, cores := range []int{2, 3, 8} {
		runtime.GOMAXPROCS(cores)
		if got, _ := diff(t, base, target); !bytes.Equal(got, want) {
			t.Errorf("%d cores make another delta", cores)
		}
	}
	for _, cores := range []int{1, 5} {
		x, err := NewIndex(t.Context(), base, Options{Memory: 1 << 20, Cores: cores})
		if err != nil {
			t.Fatal(err)
		}
		defer x.Close()
		var got bytes.Buffer
		if _, err := x.Diff(t.Context(), &got, target, nil); err != nil || !bytes.Equal(got.Bytes(), want) || x.cores != cores {
			t.Errorf("%d cores by the options make another delta, on %d, %v", cores, x.cores, err)
		}
	}
}

// An index that is made in steps is the one that is made at once.
func TestIndexing(t *testing.T) {
	base := random(1, 5<<20)
	target := slices.Concat(base[3<<20:], random(2, 1000), base[:3<<20])
	for i := 0; i < len(target); i += 5003 {
		target[i]++
	}
	want, _ := diff(t, base, target)
	begin := func(base []byte) *Indexing {
		x, err := Begin(base, Options{Memory: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(x.Close)
		return x
	}
	for _, step := range []int{777_777, 1 << 20, 8 << 20} {
		x := begin(base)
		for end := 0; end < len(base); {
			if x.Index() != nil {
				t.Errorf("an index of %d bytes of %d is handed over", end, len(base))
			}
			end = min(end+step, len(base))
			if err := errors.Join(x.Add(t.Context(), end), x.Add(t.Context(), end/2)); err != nil {
				t.Fatal(err)
			}
		}
		index := x.Index()
		if index == nil || x.Index() != nil {
			t.Fatal("the index is handed over never, or twice")
		}
		x.Close() // which leaves it to whom it was handed over
		var got bytes.Buffer
		if _, err := index.Diff(t.Context(), &got, target, nil); err != nil || !bytes.Equal(got.Bytes(), want) {
			t.Errorf("steps of %d: another delta, %v", step, err)
		}
		index.Close()
	}
	if index := begin(nil).Index(); index == nil {
		t.Error("no index of nothing")
	} else {
		index.Close()
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	f, m := mapped(t, base)
	if err := f.Truncate(1 << 13); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		ctx  context.Context
		base []byte
		want error
	}{{"cancelled", cancelled, base, context.Canceled}, {"a file that became shorter", t.Context(), m, ErrChanged}} {
		x := begin(c.base)
		if err := x.Add(c.ctx, len(base)); !errors.Is(err, c.want) || x.Index() != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// Stock rdiff applies our deltas.
func TestRdiffPatch(t *testing.T) {
	testdata.Tool(t, "rdiff")
	dir := t.TempDir()
	for name, p := range pairs() {
		d, _ := diff(t, p.base, p.target)
		got := testdata.Run(t, "rdiff", "patch", write(t, dir, "base", p.base), write(t, dir, "delta", d), "-")
		if !bytes.Equal(got, p.target) {
			t.Errorf("%s: rdiff patch gives %d other bytes, want %d", name, len(got), len(p.target))
		}
	}
}

// Our decoders apply stock rdiff's deltas.
func TestRdiffDelta(t *testing.T) {
	testdata.Tool(t, "rdiff")
	dir := t.TempDir()
	for name, p := range pairs() {
		sig, d := filepath.Join(dir, "sig"), filepath.Join(dir, "delta")
		testdata.Run(t, "rdiff", "-f", "-b", "128", "signature", write(t, dir, "base", p.base), sig)
		testdata.Run(t, "rdiff", "-f", "delta", sig, write(t, dir, "target", p.target), d)
		made, err := os.ReadFile(d)
		if err != nil {
			t.Fatal(err)
		}
		for decoder, patch := range decoders {
			var out bytes.Buffer
			err := patch(t.Context(), &out, bytes.NewReader(p.base), bytes.NewReader(made), int64(len(p.target)))
			if err != nil || !bytes.Equal(out.Bytes(), p.target) {
				t.Errorf("%s, %s: %v", name, decoder, err)
			}
		}
	}
}

func write(t *testing.T, dir, name string, b []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, b, 0o666); err != nil {
		t.Fatal(err)
	}
	return path
}

func BenchmarkIndex(b *testing.B) {
	base := random(1, 64<<20)
	b.SetBytes(int64(len(base)))
	for b.Loop() {
		x, err := NewIndex(b.Context(), base, Options{Memory: 64 << 20})
		if err != nil {
			b.Fatal(err)
		}
		x.Close()
	}
}

func BenchmarkDiff(b *testing.B) {
	base := random(1, 64<<20)
	x, err := NewIndex(b.Context(), base, Options{Memory: 64 << 20})
	if err != nil {
		b.Fatal(err)
	}
	defer x.Close()
	for name, target := range map[string][]byte{"unrelated": random(2, 64<<20), "identical": base} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(target)))
			for b.Loop() {
				if _, err := x.Diff(b.Context(), io.Discard, target, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
