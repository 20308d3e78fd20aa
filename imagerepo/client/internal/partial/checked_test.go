package partial

import (
	"bytes"
	"context"
	"crypto/sha512"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"puavo-image-repository/cksum"
)

// However a reader cuts its bytes into pieces, they come to their end only if
// they are all and right, and never go beyond their size.
func TestCheckedReader(t *testing.T) {
	const right = "the bytes of a file"
	h := cksum.New()
	io.WriteString(h, right)
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	broken := errors.New("broken")
	for _, c := range []struct {
		name string
		ctx  context.Context
		r    func() io.Reader
		err  error
		says string
	}{
		{"right", t.Context(), func() io.Reader { return strings.NewReader(right) }, nil, ""},
		{"empty", t.Context(), func() io.Reader { return strings.NewReader("") }, ErrVerify, "0 bytes, want 19"},
		{"short", t.Context(), func() io.Reader { return strings.NewReader(right[1:]) }, ErrVerify, "18 bytes, want 19"},
		{"long", t.Context(), func() io.Reader { return strings.NewReader(right + "s") }, ErrVerify, "more than its 19"},
		{"other", t.Context(), func() io.Reader { return strings.NewReader(strings.ToUpper(right)) }, ErrVerify, "SHA-512"},
		{"broken", t.Context(), func() io.Reader { return io.MultiReader(strings.NewReader(right[:9]), iotest.ErrReader(broken)) }, broken, "file: "},
		{"broken at the end", t.Context(), func() io.Reader { return io.MultiReader(strings.NewReader(right), iotest.ErrReader(broken)) }, broken, "file: "},
		{"cancelled", cancelled, func() io.Reader { return strings.NewReader(right) }, context.Canceled, ""},
	} {
		for pieces, cut := range map[string]func(io.Reader) io.Reader{
			"whole":         func(r io.Reader) io.Reader { return r },
			"bytes":         iotest.OneByteReader,
			"halves":        iotest.HalfReader,
			"with the end":  iotest.DataErrReader,
			"bytes and end": func(r io.Reader) io.Reader { return iotest.DataErrReader(iotest.OneByteReader(r)) },
		} {
			got, err := io.ReadAll(&checkedReader{c.ctx, cut(c.r()), newChecked("file", h.Sums(), nil), 0})
			if !errors.Is(err, c.err) || err != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("%s, %s: %v, want %v that says %q", c.name, pieces, err, c.err, c.says)
			}
			if err == nil && string(got) != right || len(got) > len(right) {
				t.Errorf("%s, %s: read %q", c.name, pieces, got)
			}
		}
	}
}

// A digest goes on from the state of another, and what it was given may be changed.
func TestDigest(t *testing.T) {
	var text []byte
	for i := range 1000 {
		text = append(text, byte(i))
	}
	want := sha512.Sum512(text)
	for _, size := range []int{1, 7, 128, 999, 1000} {
		d := newDigest()
		piece := make([]byte, size)
		for rest := text; len(rest) > 0; {
			n := copy(piece, rest)
			d.Write(piece[:n])
			clear(piece)
			rest = rest[n:]
			state, err := d.state()
			next := newDigest()
			if err == nil {
				err = next.restore(state)
			}
			if err != nil {
				t.Fatal(err)
			}
			d = next
		}
		if got := d.wait().Sum(nil); !bytes.Equal(got, want[:]) {
			t.Errorf("in pieces of %d: %x, want %x", size, got, want)
		}
	}
	if newDigest().restore([]byte("no state")) == nil {
		t.Error("restored from what is no state")
	}
}
