package partial

import (
	"context"
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
