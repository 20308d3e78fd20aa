package base

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"puavo-image-repository/cksum"
	"puavo-image-repository/delta"
	"puavo-image-repository/imagerepo/internal/meter"
)

// files are a base, its signature, and a target that differs from it in places.
type files struct {
	image, signature string
	size             int64 // of the image
	target           Target
}

func pair(t *testing.T, size int) files {
	t.Helper()
	random := rand.NewChaCha8([32]byte{1})
	content := make([]byte, size)
	random.Read(content)
	changed := bytes.Clone(content)
	random.Read(changed[size/3 : size/3+size/15])
	changed = append(changed[:2*size/3], changed[2*size/3+size/30:]...)
	dir := t.TempDir()
	write := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o666); err != nil {
			t.Fatal(err)
		}
		return path
	}
	var sig bytes.Buffer
	signer := delta.NewSigner(&sig, delta.Kept)
	if _, err := signer.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := signer.Close(); err != nil {
		t.Fatal(err)
	}
	digest := cksum.NewBLAKE3()
	digest.Write(changed)
	target := Target{Path: write("target", changed), Size: int64(len(changed)), BLAKE3: cksum.Digest256(digest.Sum(nil))}
	return files{write("base", content), write("base.sig", sig.Bytes()), int64(len(content)), target}
}

// bases returns the base, by its image and by its signature, neither opened yet.
func (f files) bases(t *testing.T, progress *meter.Meter) map[string]func() *Base {
	closing := func(b *Base) *Base { t.Cleanup(b.Close); return b }
	return map[string]func() *Base{
		"image":     func() *Base { return closing(Image(f.image, f.size, delta.Options{Memory: 1 << 20}, progress)) },
		"signature": func() *Base { return closing(Signature(f.signature, f.size, progress)) },
	}
}

// memory is a File in memory.
type memory struct{ bytes.Buffer }

func (m *memory) ReadAt(p []byte, off int64) (int, error) {
	return bytes.NewReader(m.Bytes()).ReadAt(p, off)
}

func anySize(int64) bool { return false }

// wrong is an encoder that changes what another one makes, as it passes.
type wrong struct {
	Encoder
	change func(io.Writer) io.Writer
}

func (e wrong) Diff(ctx context.Context, dst io.Writer, target []byte, progress func(n int)) (delta.Stats, error) {
	return e.Encoder.Diff(ctx, e.change(dst), target, progress)
}

// changing changes the byte at a place of what is written.
type changing struct {
	w  io.Writer
	at int
}

func (c *changing) Write(p []byte) (int, error) {
	if c.at >= 0 && c.at < len(p) {
		p = bytes.Clone(p)
		p[c.at]++
	}
	c.at -= len(p)
	return c.w.Write(p)
}

// broken is a file whose disk is full when it has room for no more bytes.
type broken struct {
	memory
	room int
}

var errDisk = errors.New("no space left")

func (b *broken) Write(p []byte) (int, error) {
	if b.room -= len(p); b.room < 0 {
		return 0, errDisk
	}
	return b.memory.Write(p)
}

// Lanes of targets of different sizes keep step in the base.
func TestLanesKeepStep(t *testing.T) {
	b := Image("", 1000, delta.Options{}, meter.New(0, nil))
	lanes := b.Sweep(2)
	for range 10 {
		lanes[0].advance(t.Context(), 300, Target{Size: 3000})
		lanes[1].advance(t.Context(), 50, Target{Size: 500})
	}
	for i, at := range lanes[0].pace.at {
		if at != 1000 {
			t.Errorf("lane %d: at %d of 1000 bytes", i, at)
		}
	}
}

// Where memory is scarce, a delta's digests are those of the writing or of the check, and
// its file is not read for them.
func TestSumsAsWritten(t *testing.T) {
	f := pair(t, 300_000)
	for name, open := range f.bases(t, meter.New(1<<30, nil)) {
		b := open()
		b.SumsAsWritten = true
		var d memory
		var also [2]bytes.Buffer
		target := f.target
		target.Also = []io.Writer{&also[0]}
		made, err := b.Sweep(1)[0].Make(t.Context(), target, &d, anySize)
		target.Also = []io.Writer{&also[1]}
		checked, checkErr := b.Sweep(1)[0].Check(t.Context(), target, bytes.NewReader(d.Bytes()), int64(d.Len()))
		if err := errors.Join(err, checkErr); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		want, _ := cksum.Read(t.Context(), bytes.NewReader(d.Bytes()))
		cancelled, cancel := context.WithCancel(t.Context())
		cancel()
		for what, v := range map[string]Verified{"made": made, "checked": checked} {
			if sums, err := v.Sums(t.Context(), nil, nil); err != nil || sums != want {
				t.Errorf("%s, %s: %+v, %v", name, what, sums, err)
			}
			if _, err := v.Sums(cancelled, nil, nil); !errors.Is(err, context.Canceled) {
				t.Errorf("%s, %s, cancelled: %v", name, what, err)
			}
		}
		for i := range also {
			if !bytes.Equal(also[i].Bytes(), d.Bytes()) {
				t.Errorf("%s: %d bytes are also written, want %d", name, also[i].Len(), d.Len())
			}
		}
	}
}

// A delta from an image, and one from its signature, makes its target; any other is
// wrong.
func TestBase(t *testing.T) {
	f := pair(t, 300_000)
	progress := meter.New(1<<30, nil)
	for name, open := range f.bases(t, progress) {
		var made memory
		before := progress.Done()
		v, err := open().Sweep(1)[0].Make(t.Context(), f.target, &made, anySize)
		if err != nil || v.Size != int64(made.Len()) || v.Size > f.target.Size/3 {
			t.Fatalf("%s: %+v for a delta of %d bytes, %v", name, v, made.Len(), err)
		}
		if work := progress.Done() - before; work != f.work(name) {
			t.Errorf("%s: %d units of work, want %d", name, work, f.work(name))
		}
		check := func(ctx context.Context, b *Base, d []byte) error {
			got, err := b.Sweep(1)[0].Check(ctx, f.target, bytes.NewReader(d), int64(len(d)))
			if err == nil && got != v {
				t.Errorf("%s: %+v is checked, %+v was made", name, got, v)
			}
			return err
		}
		b := open() // one that has not diffed
		if err := check(t.Context(), b, made.Bytes()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		sums, err := v.Sums(t.Context(), &made, readSums)
		if want, _ := cksum.Read(t.Context(), bytes.NewReader(made.Bytes())); err != nil || sums != want {
			t.Errorf("%s: %+v, %v; want %+v", name, sums, err, want)
		}
		flipped := bytes.Clone(made.Bytes())
		flipped[len(flipped)/2] ^= 1
		cancelled, cancel := context.WithCancel(t.Context())
		cancel()
		makes := func(ctx context.Context, file File) error {
			_, err := b.Sweep(1)[0].Make(ctx, f.target, file, anySize)
			return err
		}
		sumsOf := func(ctx context.Context, d []byte) error {
			_, err := v.Sums(ctx, bytes.NewReader(d), readSums)
			return err
		}
		for what, c := range map[string]struct{ err, want error }{
			"a delta that ends":                   {check(t.Context(), b, flipped[:len(flipped)-1]), ErrWrong},
			"another byte":                        {check(t.Context(), b, flipped), ErrWrong},
			"no delta":                            {check(t.Context(), b, []byte("text")), ErrWrong},
			"cancelled":                           {check(cancelled, b, made.Bytes()), context.Canceled},
			"a cancelled diff":                    {makes(cancelled, &memory{}), context.Canceled},
			"a full disk":                         {makes(t.Context(), &broken{room: made.Len() / 2}), errDisk},
			"a disk that is full at the end":      {makes(t.Context(), &broken{room: made.Len() - 1}), errDisk},
			"digests of another file":             {sumsOf(t.Context(), flipped), ErrWrong},
			"digests of a shorter file":           {sumsOf(t.Context(), made.Bytes()[:100]), ErrWrong},
			"digests of a file, cancelled":        {sumsOf(cancelled, made.Bytes()), context.Canceled},
			"digests of a file that has the same": {sumsOf(t.Context(), bytes.Clone(made.Bytes())), nil},
		} {
			if !errors.Is(c.err, c.want) || errors.Is(c.err, ErrWrong) != (c.want == ErrWrong) {
				t.Errorf("%s, %s: %v", name, what, c.err)
			}
		}
	}
}

// By a signature alone, the digest of the target is what it must have.
func TestSignatureNeedsTheDigest(t *testing.T) {
	f := pair(t, 300_000)
	f.target.BLAKE3[0] ^= 1
	_, err := f.bases(t, meter.New(0, nil))["signature"]().Sweep(1)[0].Make(t.Context(), f.target, &memory{}, anySize)
	if !errors.Is(err, ErrWrong) {
		t.Error(err)
	}
}

// Whatever an encoder writes that is wrong is caught while it writes, and what it meets
// then is not the error. What becomes too large is not verified to its end.
func TestWrongIsCaughtInLockstep(t *testing.T) {
	f := pair(t, 12_000_000)
	var left int64
	progress := meter.New(1<<40, func(done, total int64) { left = total - done })
	for name, open := range f.bases(t, progress) {
		for _, at := range []int{0, 3, 1000, 300_000, -1} {
			b := open()
			b.Encoder = func(right Encoder) Encoder {
				return wrong{right, func(w io.Writer) io.Writer { return &changing{w, at} }}
			}
			var d memory
			_, err := b.Sweep(1)[0].Make(t.Context(), f.target, &d, anySize)
			if (at >= 0) != errors.Is(err, ErrWrong) || errors.Is(err, context.Canceled) || at < 0 && err != nil {
				t.Errorf("%s, byte %d: %v", name, at, err)
			}
		}
		progress.Add(0)
		before := left
		v, err := open().Sweep(1)[0].Make(t.Context(), f.target, &memory{}, func(size int64) bool { return size > 100 })
		progress.Add(0)
		if !errors.Is(err, ErrTooLarge) || v.Size <= 100 || before-left != f.work(name) {
			t.Errorf("%s, too large: %+v, %v, %d units of work less, want %d", name, v, err, before-left, f.work(name))
		}
	}
	large := pair(t, 60_000_000)
	b := large.bases(t, progress)["image"]()
	b.Encoder = func(right Encoder) Encoder {
		return wrong{right, func(w io.Writer) io.Writer { return &changing{w, 3} }}
	}
	var d memory
	if _, err := b.Sweep(1)[0].Make(t.Context(), large.target, &d, anySize); !errors.Is(err, ErrWrong) || d.Len() == 0 || d.Len() > 3<<20 { // of 4 MB
		t.Errorf("%v, after %d bytes of the delta", err, d.Len())
	}
}

// A delta is cancelled in its middle.
func TestCancelledInTheMiddle(t *testing.T) {
	f := pair(t, 12_000_000)
	for name, open := range f.bases(t, meter.New(0, nil)) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		b := open()
		b.Encoder = func(right Encoder) Encoder {
			return wrong{right, func(w io.Writer) io.Writer {
				return writerFunc(func(p []byte) (int, error) { cancel(); return w.Write(p) })
			}}
		}
		if _, err := b.Sweep(1)[0].Make(ctx, f.target, &memory{}, anySize); !errors.Is(err, context.Canceled) || errors.Is(err, ErrWrong) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// Deltas that are made side by side are those that are made alone, whether the index
// was made while the base was read, or not, or only in part.
func TestSweep(t *testing.T) {
	f := pair(t, 12_000_000)
	progress := meter.New(0, nil)
	for name, open := range f.bases(t, progress) {
		var want memory
		if _, err := open().Sweep(1)[0].Make(t.Context(), f.target, &want, anySize); err != nil {
			t.Fatal(err)
		}
		for _, share := range []float64{0, 0.5, 1} {
			b := open()
			if b.isImage && share > 0 {
				image, err := os.Open(f.image)
				if err != nil {
					t.Fatal(err)
				}
				defer image.Close()
				r, err := b.Reader(t.Context(), iotest.HalfReader(io.LimitReader(image, int64(share*float64(f.size)))))
				if err != nil {
					t.Fatal(err)
				}
				if n, err := io.Copy(io.Discard, r); err != nil || n != int64(share*float64(f.size)) {
					t.Fatalf("%d bytes, %v", n, err)
				}
				if done := b.indexing.Index() != nil; done != (share == 1) {
					t.Errorf("%v of the base are read, and the index is complete: %v", share, done)
				}
				if share == 1 { // again, since that took it
					b.Close()
					image.Seek(0, io.SeekStart)
					r, _ := b.Reader(t.Context(), image)
					io.Copy(io.Discard, r)
				}
			}
			lanes := b.Sweep(4)
			lanes[3].Leave() // it has nothing to do
			var group sync.WaitGroup
			for i, l := range lanes[:3] {
				group.Go(func() {
					var got memory
					if _, err := l.Make(t.Context(), f.target, &got, anySize); err != nil || !bytes.Equal(got.Bytes(), want.Bytes()) {
						t.Errorf("%s, %v read, lane %d: another delta, %v", name, share, i, err)
					}
				})
			}
			group.Wait()
			b.Close()
			b.Close()
		}
	}
}

// What reads a base ends with its context, and with the file.
func TestReaderFails(t *testing.T) {
	f := pair(t, 3_000_000)
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	content, err := os.ReadFile(f.image)
	if err != nil {
		t.Fatal(err)
	}
	image := f.bases(t, meter.New(0, nil))["image"]
	short := image()
	if _, err := short.Reader(t.Context(), nil); err != nil { // it is mapped from here on
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		base *Base
		ctx  context.Context
		r    io.Reader
		cut  bool
		want error
	}{
		{"right", image(), t.Context(), bytes.NewReader(content), false, nil},
		{"longer than it was", image(), t.Context(), io.MultiReader(bytes.NewReader(content), strings.NewReader("x")), false, nil},
		{"cancelled", image(), cancelled, bytes.NewReader(content), false, context.Canceled},
		{"an error", image(), t.Context(), iotest.TimeoutReader(bytes.NewReader(content)), false, iotest.ErrTimeout},
		{"cut short", short, t.Context(), bytes.NewReader(content), true, delta.ErrChanged},
	} {
		r, err := c.base.Reader(c.ctx, c.r)
		if err != nil {
			t.Fatal(err)
		}
		if c.cut {
			if err := os.Truncate(f.image, 1<<13); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := io.Copy(io.Discard, r); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if _, err := Image(f.image+".gone", 1, delta.Options{}, nil).Reader(t.Context(), nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("of a missing image: %v", err)
	}
}

// What cannot be used is an error that says why, and not a wrong delta.
func TestUnusableBase(t *testing.T) {
	f := pair(t, 300_000)
	progress := meter.New(0, nil)
	missing := f.target
	missing.Path += ".gone"
	for name, c := range map[string]struct {
		base   *Base
		target Target
		want   error
	}{
		"a missing base":      {Image(f.image+".gone", f.size, delta.Options{}, progress), f.target, os.ErrNotExist},
		"a missing signature": {Signature(f.signature+".gone", f.size, progress), f.target, os.ErrNotExist},
		"a missing target":    {Image(f.image, f.size, delta.Options{}, progress), missing, os.ErrNotExist},
		"no signature":        {Signature(f.image, f.size, progress), f.target, ErrSignature},
	} {
		lanes := c.base.Sweep(2)
		if _, err := lanes[0].Make(t.Context(), c.target, &memory{}, anySize); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := lanes[1].Check(t.Context(), c.target, bytes.NewReader(nil), 0); !errors.Is(err, c.want) {
			t.Errorf("%s: an empty delta: %v", name, err)
		}
		c.base.Close()
	}
}

// work returns the units of work for a delta from a base of this kind.
func (f files) work(kind string) int64 {
	work := f.target.Size * (meter.Diff + meter.Verify)
	if kind == "image" {
		work += f.size * meter.Index
	}
	return work
}

func readSums(ctx context.Context, r io.Reader) (cksum.Sums, error) { return cksum.Read(ctx, r) }
