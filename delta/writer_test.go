package delta

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"puavo-image-repository/testdata"
)

// Whatever commands are written, Patch and rdiff make their target, and Inspect counts them.
func TestWriter(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	base := make([]byte, 1<<20)
	for i := range base {
		base[i] = byte(r.Uint32())
	}
	for round := range 40 {
		var out bytes.Buffer
		var want []byte
		w := NewWriter(&out)
		for range r.IntN(50) {
			n := 1 + r.IntN(1<<r.IntN(18))
			from := r.IntN(len(base) - n)
			err := errors.New("none")
			switch r.IntN(3) {
			case 0:
				err = w.Literal(base[from : from+n])
				want = append(want, base[from:from+n]...)
			case 1:
				err = w.Copy(int64(from), int64(n))
				want = append(want, base[from:from+n]...)
			case 2: // in two, which become one command
				err = errors.Join(w.Copy(int64(from), int64(n)), w.Copy(int64(from+n), 1))
				want = append(want, base[from:from+n+1]...)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		stats, err := w.Close()
		if err != nil {
			t.Fatal(err)
		}
		got, err := Inspect(t.Context(), bytes.NewReader(out.Bytes()))
		if err != nil || got != stats || stats.Target() != int64(len(want)) {
			t.Fatalf("round %d: %+v, %v, want %+v of %d bytes", round, got, err, stats, len(want))
		}
		var made bytes.Buffer
		if err := Patch(t.Context(), &made, bytes.NewReader(base), &out, int64(len(want))); err != nil || !bytes.Equal(made.Bytes(), want) {
			t.Fatalf("round %d: another target, %v", round, err)
		}
	}
}

// librsync applies what is written.
func TestWriterRdiff(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	base, file, out := filepath.Join(dir, "base"), filepath.Join(dir, "delta"), filepath.Join(dir, "out")
	var b bytes.Buffer
	w := NewWriter(&b)
	if err := errors.Join(w.Copy(2, 3), w.Literal([]byte("xy")), w.Copy(0, 10)); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.WriteFile(base, []byte("0123456789"), 0o666), os.WriteFile(file, b.Bytes(), 0o666)); err != nil {
		t.Fatal(err)
	}
	testdata.Run(t, "rdiff", "patch", base, file, out)
	if got, err := os.ReadFile(out); err != nil || string(got) != "234xy0123456789" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestWriterErrors(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ offset, length int64 }{{-1, 1}, {0, 0}, {0, -1}, {1<<63 - 1, 1}} {
		w := NewWriter(&bytes.Buffer{})
		if err := w.Copy(c.offset, c.length); !errors.Is(err, errCommand) {
			t.Errorf("copy %d %d: %v", c.offset, c.length, err)
		}
		if _, err := w.Close(); !errors.Is(err, errCommand) {
			t.Errorf("copy %d %d, then Close: %v", c.offset, c.length, err)
		}
	}
	full := errors.New("full")
	w := NewWriter(failing{full})
	w.Copy(0, 1)
	if _, err := w.Close(); !errors.Is(err, full) {
		t.Errorf("a full disk: %v", err)
	}
}

// failing cannot be written to.
type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }
