package compact_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"puavo-image-repository/delta/compact"
	"puavo-image-repository/delta/compact/internal/wire"
	"puavo-image-repository/testdata"
)

// small returns a pair with a delta of all operations, which is small.
func small(t testing.TB) (base, target, file []byte) {
	t.Helper()
	text := words(1, 20_000)
	a, b := packed(text, 2048), packed(edited(text), 2048)
	return a.Bytes, b.Bytes, encode(t, a, b, 1)
}

// right fails the test if a delta that was changed makes another target than that of the
// head, or panics.
func right(t *testing.T, name string, base, target, file []byte) {
	t.Helper()
	got, err := decode(t, file, base, compact.DecodeOptions{Cores: 1, Trusted: true})
	if err == nil && !bytes.Equal(got, target) {
		t.Fatalf("%s: another target, and no error", name)
	}
	if err != nil && !bytes.HasPrefix(target, got) {
		t.Errorf("%s: what was written before an error is not the target", name)
	}
}

// Each byte of a file is changed.
func TestFlipped(t *testing.T) {
	t.Parallel()
	base, target, file := small(t)
	step := testdata.Scale(1, 17)
	for at := 0; at < len(file); at += step {
		for _, change := range []byte{1, 0x80, 0xff} {
			b := bytes.Clone(file)
			b[at] ^= change
			right(t, "a byte", base, target, b)
		}
	}
}

// A file is cut at each length.
func TestCut(t *testing.T) {
	t.Parallel()
	base, target, file := small(t)
	for n := 0; n < len(file); n += testdata.Scale(1, 17) {
		got, err := decode(t, file[:n], base, compact.DecodeOptions{Cores: 1, Trusted: true})
		if err == nil || !bytes.HasPrefix(target, got) {
			t.Fatalf("%d of %d bytes: %d bytes made, %v", n, len(file), len(got), err)
		}
		if want := compact.ErrFormat; n > len(compact.Magic) && !errors.Is(err, want) || !errors.Is(err, want) && !errors.Is(err, compact.ErrMagic) {
			t.Errorf("%d of %d bytes: %v", n, len(file), err)
		}
	}
}

// What the streams say is wrong, and the digest of the head is right.
func TestStreams(t *testing.T) {
	t.Parallel()
	base, target, file := small(t)
	for stream := tableOf; stream < wire.StreamCount; stream++ {
		length := len(*forge(t, file).sections[0].stream(stream))
		for at := 0; at < length; at += 1 + length/testdata.Scale(60, 10) {
			for _, change := range []byte{1, 2, 0x80, 0xff} {
				f := forge(t, file)
				(*f.sections[0].stream(stream))[at] ^= change
				right(t, "a byte of a stream", base, target, f.bytes(t))
			}
			f := forge(t, file)
			b := f.sections[0].stream(stream)
			*b = append((*b)[:at], (*b)[at+1:]...)
			right(t, "a byte less", base, target, f.bytes(t))
		}
	}
}

// A base that can't be read is an error of the base.
func TestBrokenBase(t *testing.T) {
	t.Parallel()
	base, target, file := small(t)
	failed := errors.New("failed")
	d, err := compact.Open(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	start, _ := d.Start(0)
	for _, trusted := range []bool{false, true} {
		var out bytes.Buffer
		err := d.Decode(t.Context(), bytes.NewReader(file[start:]), brokenAt{base, failed}, &out, compact.DecodeOptions{Trusted: trusted})
		if !errors.Is(err, failed) || errors.Is(err, compact.ErrFormat) || !bytes.HasPrefix(target, out.Bytes()) {
			t.Errorf("%v", err)
		}
	}
	err = d.Decode(t.Context(), iotest.ErrReader(failed), bytes.NewReader(base), new(bytes.Buffer), compact.DecodeOptions{})
	if !errors.Is(err, failed) || errors.Is(err, compact.ErrFormat) {
		t.Errorf("reading: %v", err)
	}
	err = d.Decode(t.Context(), bytes.NewReader(file[start:]), bytes.NewReader(base), failing{failed}, compact.DecodeOptions{})
	if !errors.Is(err, failed) || errors.Is(err, compact.ErrFormat) {
		t.Errorf("writing: %v", err)
	}
	if _, err := compact.Open(io.MultiReader(bytes.NewReader(file[:180]), iotest.ErrReader(failed))); !errors.Is(err, failed) {
		t.Errorf("opening: %v", err)
	}
}

type brokenAt struct {
	b   []byte
	err error
}

func (r brokenAt) ReadAt(p []byte, at int64) (int, error) {
	if at+int64(len(p)) > int64(len(r.b)/2) {
		return 0, r.err
	}
	return bytes.NewReader(r.b).ReadAt(p, at)
}

type failing struct{ err error }

func (w failing) Write([]byte) (int, error) { return 0, w.err }

// What does not start as a compact delta is none, and another version is named.
func TestOpenErrors(t *testing.T) {
	t.Parallel()
	_, _, file := small(t)
	set := func(at int, v uint32) []byte {
		b := bytes.Clone(file)
		binary.LittleEndian.PutUint32(b[at:], v)
		return b
	}
	for name, c := range map[string]struct {
		file []byte
		want string
	}{
		"nothing":        {nil, "not a compact delta"},
		"text":           {[]byte("something that is long enough"), "not a compact delta"},
		"version 2":      {set(8, 2), "version 2"},
		"a needed flag":  {set(12, 1), "use a newer program"},
		"another flag":   {set(12, 1<<16), "another digest"}, // it may be ignored, but is in the digest
		"large blocks":   {set(120, 1<<20+1), "blocks of 1048577 bytes"},
		"many extents":   {set(124, 1<<20+1), "1048577 extents"},
		"many groups":    {set(132, 1<<18+1), "262145 groups"},
		"large tables":   {set(136, 1<<31), "damaged"},
		"longer tables":  {set(136, 1<<24), "cut off"},
		"a large target": {set(56+4, 1<<30), "sizes of"},
	} {
		if _, err := compact.Open(bytes.NewReader(c.file)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}
