package assemble

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
func TestVerifyingReader(t *testing.T) {
	const right = "the bytes of a file"
	h := cksum.New()
	io.WriteString(h, right)
	all := h.Sums()
	predecessor := all // its meta has no BLAKE3
	predecessor.BLAKE3 = cksum.Digest256{}
	for says, want := range map[string]cksum.Sums{
		"BLAKE3":  all,
		"SHA-512": {Size: all.Size, SHA512: all.SHA512},
		"SHA-":    predecessor, // 256 or 512
	} {
		t.Run(says, func(t *testing.T) { testVerifyingReader(t, right, want, says) })
	}
}

func testVerifyingReader(t *testing.T, right string, want cksum.Sums, other string) {
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
		{"other", t.Context(), func() io.Reader { return strings.NewReader(strings.ToUpper(right)) }, ErrVerify, "file: its " + other},
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
			got, err := io.ReadAll(&verifyingReader{ctx: c.ctx, r: cut(c.r()), v: newVerifier("file", want, nil)})
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
		v := newVerifier("file", want, nil)
		v.skip(c.after)
		got, err := io.ReadAll(&verifyingReader{ctx: t.Context(), r: strings.NewReader(c.text), v: v})
		if !errors.Is(err, c.err) || err == nil && string(got) != c.text {
			t.Errorf("%q after %d of 10 bytes: %q, %v; want %v", c.text, c.after, got, err, c.err)
		}
	}
}

// Of several digests one decides, and without any nothing is right.
func TestOneDigest(t *testing.T) {
	h := cksum.New()
	io.WriteString(h, "the bytes of a file")
	all := h.Sums()
	with := func(change func(s *cksum.Sums)) cksum.Sums {
		s := all
		change(&s)
		return s
	}
	for _, c := range []struct {
		name string
		want cksum.Sums
		says string // "": right
	}{
		{"all", all, ""},
		{"another SHA-512 and SHA-256", with(func(s *cksum.Sums) { s.SHA512[0]++; s.SHA256[0]++ }), ""},
		{"another BLAKE3", with(func(s *cksum.Sums) { s.BLAKE3[0]++ }), "its BLAKE3 is"},
		{"another SHA-512, alone", with(func(s *cksum.Sums) { *s = cksum.Sums{Size: s.Size, SHA512: s.SHA512}; s.SHA512[0]++ }), "its SHA-512 is"},
		{"none", cksum.Sums{Size: all.Size, CRC: all.CRC}, "no digest of it is known"},
	} {
		v := newVerifier("file", c.want, nil)
		io.WriteString(v, "the bytes of a file")
		err := v.check()
		if v.passed != (c.says == "") || v.passed != (err == nil) || err != nil && (!errors.Is(err, ErrVerify) || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s: passed is %v, %v; want %q", c.name, v.passed, err, c.says)
		}
	}
}
