package delta

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"slices"
	"syscall"
	"testing"
)

// recall applies a delta by what the signature of its base and its target tell
// of the base.
func recall(ctx context.Context, t testing.TB, signature []byte, baseSize int, d, target []byte) ([]byte, error) {
	t.Helper()
	b, err := LoadSignature(t.Context(), signature)
	if err != nil {
		t.Fatal(err)
	}
	base, err := b.Recall(ctx, target, int64(baseSize), bytes.NewReader(d))
	b.Close()
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	err = Verify(t.Context(), &out, base, bytes.NewReader(d), int64(len(target)))
	return out.Bytes(), err
}

// encoded returns the delta of these commands.
func encoded(commands ...command) []byte {
	d := []byte("rs\x02\x36")
	for _, c := range commands {
		d = c.appendHeader(d)
	}
	return append(d, opEnd)
}

func TestRecall(t *testing.T) {
	type pair struct{ base, target []byte }
	a := random(1, 200*SignBlockLen)
	all := map[string]pair{
		"blocks moved":          {a, slices.Concat(a[50*SignBlockLen:], a[:50*SignBlockLen])},
		"shifted by blocks":     {a, slices.Concat(random(2, 3*SignBlockLen), a)},
		"last block of 1":       {a[:10*SignBlockLen+1], a[5*SignBlockLen : 10*SignBlockLen+1]},
		"last block, and whole": {a[:10*SignBlockLen+77], slices.Concat(a[:10*SignBlockLen+77], a[:10*SignBlockLen+77])},
		"cut within a block":    {slices.Concat(a, a[:1970], a), slices.Concat(random(2, 2000), a)},
	}
	for name, p := range pairs() {
		all[name] = pair{p.base, p.target}
	}
	partial := false
	for name, p := range all {
		signature := sign(t, Kept, p.base, 1<<20)
		d, stats := signDiff(t, signature, p.target)
		got, err := recall(t.Context(), t, signature, len(p.base), d, p.target)
		if err != nil || !bytes.Equal(got, p.target) {
			t.Errorf("%s: %v, or another target, of %+v", name, err, stats)
		}
		partial = partial || startsWithin(t, d)
	}
	if !partial {
		t.Error("no delta has a copy that begins within a block")
	}
}

// startsWithin reports whether a copy of a delta begins within a block.
func startsWithin(t *testing.T, d []byte) bool {
	cs, err := newCommands(bytes.NewReader(d), true)
	if err != nil {
		t.Fatal(err)
	}
	for {
		c, err := cs.next()
		if err == io.EOF {
			return false
		} else if err != nil {
			t.Fatal(err)
		}
		if c.offset%SignBlockLen != 0 {
			return true
		}
		if err := cs.skip(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRecallRefuses(t *testing.T) {
	const n = SignBlockLen
	base := random(1, 10*n+100)
	target := slices.Concat(base[3*n:5*n], base[9*n:])
	signature := sign(t, Kept, base, 1<<20)
	right := encoded(command{offset: 3 * n, length: 2 * n}, command{offset: 9 * n, length: n + 100})
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	form := func(magic Magic, length int) []byte { return sign(t, Signature{magic, n, length, 0}, base, 1<<20) }
	for _, c := range []struct {
		name         string
		ctx          context.Context
		signature, d []byte
		baseSize     int
		target       []byte
		want         error // nil for one that is no ErrFormat
	}{
		{"another block", t.Context(), signature, encoded(command{offset: 2 * n, length: 2 * n}, command{offset: 9 * n, length: n + 100}), len(base), target, ErrFormat},
		{"another place of a block", t.Context(), signature, encoded(command{offset: 3*n + 1, length: 2 * n}, command{offset: 9 * n, length: n + 100}), len(base), target, ErrFormat},
		{"last block longer", t.Context(), signature, encoded(command{offset: 3 * n, length: 2 * n}, command{offset: 9 * n, length: n + 101}), len(base) + 1, slices.Concat(target, []byte("x")), ErrFormat},
		{"before the target", t.Context(), signature, encoded(command{offset: 1, length: n}), len(base), base[1 : n+1], ErrFormat},
		{"beyond the target", t.Context(), signature, encoded(command{offset: 0, length: n - 1}), len(base), base[: n-1 : n-1], ErrFormat},
		{"ranges", t.Context(), signature, encoded(command{offset: 3 * n, length: n + 1}, command{offset: n, length: n - 1}), len(base), slices.Concat(base[3*n:4*n+1], base[n:2*n-1]), ErrFormat},
		{"beyond the base", t.Context(), signature, encoded(command{offset: 9 * n, length: n + 101}), len(base), target, ErrFormat},
		{"another target", t.Context(), signature, right, len(base), random(2, len(target)), ErrFormat},
		{"target shorter", t.Context(), signature, right, len(base), target[:len(target)-1], ErrFormat},
		{"target longer", t.Context(), signature, right, len(base), slices.Concat(target, []byte("x")), ErrFormat},
		{"another base", t.Context(), sign(t, Kept, random(2, len(base)), 1<<20), right, len(base), target, ErrFormat},
		{"another size", t.Context(), signature, encoded(command{offset: 11 * n, length: n}), 12 * n, base[:n], ErrFormat},
		{"strong sums of 31 bytes", t.Context(), form(RollsumBLAKE2, 31), right, len(base), target, nil},
		{"MD4", t.Context(), form(RollsumMD4, 16), right, len(base), target, nil},
		{"cancelled", cancelled, signature, right, len(base), target, context.Canceled},
	} {
		_, err := recall(c.ctx, t, c.signature, c.baseSize, c.d, c.target)
		if err == nil || c.want != nil && !errors.Is(err, c.want) || c.want == nil && errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
	if _, err := recall(t.Context(), t, signature, len(base), right, target); err != nil {
		t.Errorf("the right delta: %v", err)
	}
	twice := encoded(command{offset: 2, length: n - 2}, command{offset: 0, length: n})
	if _, err := recall(t.Context(), t, signature, len(base), twice, slices.Concat(base[2:n], base[:n])); err != nil {
		t.Errorf("a part of a block, and all of it: %v", err)
	}
	for cut := range right {
		if _, err := recall(t.Context(), t, signature, len(base), right[:cut], target); !errors.Is(err, ErrFormat) {
			t.Errorf("cut at %d: %v", cut, err)
		}
	}
}

// A delta that does not fit its target or base is refused before the base is read.
func TestRecallChecksTheDelta(t *testing.T) {
	const n = SignBlockLen
	base := random(1, 4*n)
	b, err := LoadSignature(t.Context(), sign(t, Kept, base, 1<<20))
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range []struct {
		name     string
		ctx      context.Context
		commands []command
		want     error
	}{
		{"right", t.Context(), []command{{offset: n, length: n}, {offset: 0, length: n}}, nil},
		{"a copy beyond the target", t.Context(), []command{{offset: n, length: n}, {offset: 0, length: n + 1}}, ErrFormat},
		{"a copy after the target is full", t.Context(), []command{{offset: n, length: 2 * n}, {offset: 0, length: 1}}, ErrFormat},
		{"a copy beyond the base", t.Context(), []command{{offset: 3 * n, length: n + 1}}, ErrFormat},
		{"cancelled", cancelled, []command{{offset: n, length: n}}, context.Canceled},
	} {
		_, err := b.Recall(c.ctx, base[:2*n], 4*n, bytes.NewReader(encoded(c.commands...)))
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

// A recalled base is read as any other, at its blocks that are known.
func TestRecallReadAt(t *testing.T) {
	base := random(1, 3*SignBlockLen+100)
	b, err := LoadSignature(t.Context(), sign(t, Kept, base, 1<<20))
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	const first = SignBlockLen // the block that is not known is before
	if _, err := b.Recall(t.Context(), nil, int64(len(base)), badReader{}); !errors.Is(err, errDisk) {
		t.Errorf("of a delta that cannot be read: %v", err)
	}
	d := encoded(command{offset: first, length: int64(len(base) - first)})
	r, err := b.Recall(t.Context(), base[first:], int64(len(base)), bytes.NewReader(d))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		off, length, n int
		want           error
	}{
		{first, len(base) - first, len(base) - first, nil},
		{first + 1, 10, 10, nil},
		{first + 1, SignBlockLen, SignBlockLen, nil},
		{first, len(base), len(base) - first, io.EOF},
		{len(base) - 1, 2, 1, io.EOF},
		{len(base), 1, 0, io.EOF},
		{first - 1, 2, 0, ErrFormat},
		{-SignBlockLen, 2, 0, ErrFormat},
	} {
		p := make([]byte, c.length)
		n, err := r.ReadAt(p, int64(c.off))
		if n != c.n || !errors.Is(err, c.want) || n > 0 && !bytes.Equal(p[:n], base[c.off:c.off+n]) {
			t.Errorf("%d bytes at %d: %d, %v, or others", c.length, c.off, n, err)
		}
	}
}

// FuzzRecall gives any bytes as a delta: what is made without the base is what is
// made with it.
func FuzzRecall(f *testing.F) {
	const n = 16
	a := random(1, 12*n+5)
	base := slices.Concat(a, a[:3*n])
	target := slices.Concat(a[5*n:], a[:7*n], random(2, 40), base[len(base)-8:])
	signature := sign(f, Signature{RollsumBLAKE2, n, 32, 0}, base, 1<<20)
	d, _ := signDiff(f, signature, target)
	f.Add(d)
	d, _ = diff(f, base, target)
	f.Add(d)
	f.Add(encoded(command{offset: 1, length: 16}, command{offset: 5 * n, length: int64(len(target) - 16)}))
	for _, c := range hostile {
		f.Add([]byte("rs\x02\x36" + c.delta[:min(len(c.delta), 300)]))
	}
	f.Fuzz(func(t *testing.T, d []byte) {
		got, err := recall(t.Context(), t, signature, len(base), d, target)
		if err != nil {
			if !errors.Is(err, ErrFormat) {
				t.Fatal(err)
			}
			return
		}
		var want bytes.Buffer
		err = Patch(t.Context(), &want, bytes.NewReader(base), bytes.NewReader(d), int64(len(target)))
		if err != nil || !bytes.Equal(got, want.Bytes()) {
			t.Fatalf("%v, or another target than of the base", err)
		}
	})
}

// mapped writes data to a file and returns the file, and its bytes in memory.
func mapped(t testing.TB, data []byte) (f *os.File, m []byte) {
	t.Helper()
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if _, err := f.Write(data); err != nil {
		t.Fatal(err)
	}
	m, err = syscall.Mmap(int(f.Fd()), 0, len(data), syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Munmap(m) })
	return f, m
}

// What is mapped and becomes shorter is an error, for Verify as for who reads a
// recalled base without it.
func TestVerifyMappedShrinks(t *testing.T) {
	base := random(1, 1<<20)
	signature := sign(t, Kept, base, 1<<20)
	d := encoded(command{offset: 0, length: 1 << 20})
	for _, c := range []string{"base", "target", "signature"} {
		data := map[string][]byte{"base": base, "target": base, "signature": signature}
		f, m := mapped(t, data[c])
		data[c] = m
		b, err := LoadSignature(t.Context(), data["signature"])
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		r, err := b.Recall(t.Context(), data["target"], 1<<20, bytes.NewReader(d))
		if err != nil {
			t.Fatal(err)
		}
		if c == "base" {
			r = bytes.NewReader(m)
		} else if n, err := r.ReadAt(make([]byte, 1<<20), 0); n != 1<<20 || err != nil {
			t.Errorf("%s: before: %d, %v", c, n, err)
		}
		if err := f.Truncate(1 << 13); err != nil {
			t.Fatal(err)
		}
		if err := Verify(t.Context(), io.Discard, r, bytes.NewReader(d), 1<<20); !errors.Is(err, ErrChanged) {
			t.Errorf("%s: Verify returns %v", c, err)
		}
		if c == "base" {
			continue
		}
		if _, err := r.ReadAt(make([]byte, 1<<20), 0); !errors.Is(err, ErrChanged) {
			t.Errorf("%s: ReadAt returns %v", c, err)
		}
	}
}

// The decoders stop soon after a context has ended, and where the target is full.
func TestDecodersStop(t *testing.T) {
	base := make([]byte, 3*patchBuffer)
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for decoder, patch := range decoders {
		ctx, cancel := context.WithCancel(t.Context())
		r := &cancels{Source: bytes.NewReader(base), cancel: cancel}
		d := encoded(command{offset: 0, length: 3 * patchBuffer})
		err := patch(ctx, io.Discard, r, bytes.NewReader(d), 3*patchBuffer)
		if !errors.Is(err, context.Canceled) || r.reads != 1 {
			t.Errorf("%s, cancelled: %v after %d reads", decoder, err, r.reads)
		}
		if err := patch(cancelled, io.Discard, r, bytes.NewReader(encoded()), 0); !errors.Is(err, context.Canceled) {
			t.Errorf("%s, cancelled before a delta without commands: %v", decoder, err)
		}
		var out bytes.Buffer
		err = patch(t.Context(), &out, bytes.NewReader(base), bytes.NewReader(d), patchBuffer)
		if !errors.Is(err, ErrFormat) || out.Len() > patchBuffer {
			t.Errorf("%s: %v after %d bytes of %d", decoder, err, out.Len(), patchBuffer)
		}
	}
}

// cancels cancels a context when it is read.
type cancels struct {
	Source
	cancel func()
	reads  int
}

func (c *cancels) ReadAt(p []byte, off int64) (int, error) {
	c.reads++
	c.cancel()
	return c.Source.ReadAt(p, off)
}

// scattered returns base with a change every 60 bytes in one 64 KiB of eight, so
// that 40 of them are copied.
func scattered(base []byte) []byte {
	target := slices.Clone(base)
	news := random(2, 20)
	for at := 0; at < len(target); at += 512 << 10 {
		for i := at; i < at+64<<10; i += 60 {
			copy(target[i:], news)
		}
	}
	return target
}

func BenchmarkVerify(b *testing.B) {
	base := random(1, 64<<20)
	target := scattered(base)
	d, _ := diff(b, base, target)
	f, m := mapped(b, base)
	for _, c := range []struct {
		name string
		base Source
		dst  io.Writer
	}{
		{"file", io.NewSectionReader(f, 0, int64(len(base))), io.Discard},
		{"mapped", bytes.NewReader(m), io.Discard},
		{"mapped and hashed", bytes.NewReader(m), sha256.New()},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.SetBytes(int64(len(target)))
			b.ReportAllocs()
			for b.Loop() {
				err := Verify(b.Context(), c.dst, c.base, bytes.NewReader(d), int64(len(target)))
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkRecall(b *testing.B) {
	base := random(1, 64<<20)
	size := int64(len(base))
	blocks, err := LoadSignature(b.Context(), sign(b, Kept, base, 1<<20))
	if err != nil {
		b.Fatal(err)
	}
	defer blocks.Close()
	var d bytes.Buffer
	if _, err := blocks.Diff(b.Context(), &d, base, nil); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(size)
	for b.Loop() {
		r, err := blocks.Recall(b.Context(), base, size, bytes.NewReader(d.Bytes()))
		if err != nil {
			b.Fatal(err)
		}
		if err := Verify(b.Context(), io.Discard, r, bytes.NewReader(d.Bytes()), size); err != nil {
			b.Fatal(err)
		}
	}
}
