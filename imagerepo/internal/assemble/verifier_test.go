package assemble

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
func TestVerifyingReader(t *testing.T) {
	const right = "the bytes of a file"
	h := cksum.New()
	io.WriteString(h, right)
	all := h.Sums()
	installed := all // by a repository that has no BLAKE3
	installed.BLAKE3 = cksum.Digest256{}
	for kind, c := range map[string]func() *verifier{
		"SHA-512":   func() *verifier { return newVerifier("file", all, nil) },
		"BLAKE3":    func() *verifier { return newFastVerifier("file", all) },
		"no BLAKE3": func() *verifier { return newFastVerifier("file", installed) },
	} {
		t.Run(kind, func(t *testing.T) { testVerifyingReader(t, right, c) })
	}
}

func testVerifyingReader(t *testing.T, right string, newVerifier func() *verifier) {
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
		{"other", t.Context(), func() io.Reader { return strings.NewReader(strings.ToUpper(right)) }, ErrVerify, "another"},
		{"broken", t.Context(), func() io.Reader { return io.MultiReader(strings.NewReader(right[:9]), iotest.ErrReader(broken)) }, broken, "broken"},
		{"broken at the end", t.Context(), func() io.Reader { return io.MultiReader(strings.NewReader(right), iotest.ErrReader(broken)) }, broken, "broken"},
		{"cancelled", cancelled, func() io.Reader { return strings.NewReader(right) }, context.Canceled, ""},
	} {
		for pieces, cut := range map[string]func(io.Reader) io.Reader{
			"whole":         func(r io.Reader) io.Reader { return r },
			"bytes":         iotest.OneByteReader,
			"halves":        iotest.HalfReader,
			"with the end":  iotest.DataErrReader,
			"bytes and end": func(r io.Reader) io.Reader { return iotest.DataErrReader(iotest.OneByteReader(r)) },
		} {
			got, err := io.ReadAll(&verifyingReader{ctx: c.ctx, r: cut(c.r()), v: newVerifier()})
			if !errors.Is(err, c.err) || err != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("%s, %s: %v, want %v that says %q", c.name, pieces, err, c.err, c.says)
			}
			if err == broken {
				t.Errorf("%s, %s: the error is taken for that of the file", c.name, pieces)
			}
			if err == nil && string(got) != right || len(got) > len(right) {
				t.Errorf("%s, %s: read %q", c.name, pieces, got)
			}
		}
	}
}

// Of what goes on after a beginning that was not seen, the size alone is compared.
func TestSkip(t *testing.T) {
	want := cksum.Sums{Size: 10, BLAKE3: cksum.Digest256{1}, SHA512: cksum.Digest512{2}}
	for _, c := range []struct {
		after int64
		text  string
		err   error
	}{
		{4, "6 more", nil},
		{10, "", nil},
		{5, "6 more", ErrVerify},
		{3, "6 more", ErrVerify},
		{11, "", ErrVerify},
	} {
		for _, v := range []*verifier{newVerifier("file", want, nil), newFastVerifier("file", want)} {
			v.skip(c.after)
			got, err := io.ReadAll(&verifyingReader{ctx: t.Context(), r: strings.NewReader(c.text), v: v})
			if !errors.Is(err, c.err) || err == nil && string(got) != c.text {
				t.Errorf("%q after %d of 10 bytes: %q, %v; want %v", c.text, c.after, got, err, c.err)
			}
		}
	}
}

// What a digest was given may be changed meanwhile.
func TestBackgroundSHA512(t *testing.T) {
	var text []byte
	for i := range 1000 {
		text = append(text, byte(i))
	}
	want := sha512.Sum512(text)
	for _, size := range []int{1, 7, 128, 999, 1000} {
		d := newBackgroundSHA512()
		piece := make([]byte, size)
		for rest := text; len(rest) > 0; {
			n := copy(piece, rest)
			d.Write(piece[:n])
			clear(piece)
			rest = rest[n:]
		}
		for range 2 {
			if got := d.Sum(nil); !bytes.Equal(got, want[:]) {
				t.Errorf("in pieces of %d: %x, want %x", size, got, want)
			}
		}
	}
}
