package compacts_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"testing/iotest"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo/internal/compacts"
	"puavo-image-repository/imagerepo/internal/compacts/compacttest"
	"puavo-image-repository/testdata"
)

const (
	image1 = "puavo-os-amxa-buster-2021-04-13-192449-amd64.img"
	image2 = "puavo-os-amxa-buster-2021-04-13-193910-amd64.img"
)

func sumsOf(data []byte) cksum.Sums {
	h := cksum.New()
	h.Write(data)
	return h.Sums()
}

func TestApply(t *testing.T) {
	base, target := testdata.Read(t, "images/"+image1), testdata.Read(t, "images/"+image2)
	from1, info := compacttest.Make(t, base, target)
	full, _ := compacttest.Make(t, nil, target)
	ioErr := errors.New("the disk fails")
	version := bytes.Clone(from1)
	version[8]++
	damaged := bytes.Clone(from1)
	damaged[len(damaged)-9] ^= 1
	unknown := errors.New("any")
	for _, c := range []struct {
		name   string
		r      io.Reader
		base   []byte // nil for none
		target []byte
		w      io.Writer // nil for one that compares
		cancel bool
		err    error
	}{
		{name: "right", r: bytes.NewReader(from1), base: base, target: target},
		{name: "read in pieces", r: iotest.HalfReader(bytes.NewReader(from1)), base: base, target: target},
		{name: "without a base", r: bytes.NewReader(full), target: target},
		{name: "of another base", r: bytes.NewReader(from1), base: target, target: target, err: compacts.ErrOther},
		{name: "of a base, and none is needed", r: bytes.NewReader(full), base: base, target: target, err: compacts.ErrOther},
		{name: "of no base, and one is needed", r: bytes.NewReader(from1), target: target, err: compacts.ErrOther},
		{name: "of another target", r: bytes.NewReader(from1), base: base, target: base, err: compacts.ErrOther},
		{name: "empty", r: bytes.NewReader(nil), base: base, target: target, err: compacts.ErrWrong},
		{name: "another format", r: bytes.NewReader(target), base: base, target: target, err: compacts.ErrWrong},
		{name: "cut in its head", r: bytes.NewReader(from1[:150]), base: base, target: target, err: compacts.ErrWrong},
		{name: "cut", r: bytes.NewReader(from1[:len(from1)-1]), base: base, target: target, err: compacts.ErrWrong},
		{name: "damaged", r: bytes.NewReader(damaged), base: base, target: target, err: compacts.ErrWrong},
		{name: "more follows", r: io.MultiReader(bytes.NewReader(from1), bytes.NewReader([]byte("x"))), base: base, target: target, err: compacts.ErrWrong},
		{name: "a later version", r: bytes.NewReader(version), base: base, target: target, err: unknown},
		{name: "reading it fails", r: io.MultiReader(bytes.NewReader(from1[:200]), iotest.ErrReader(ioErr)), base: base, target: target, err: ioErr},
		{name: "its end cannot be read", r: io.MultiReader(bytes.NewReader(from1), iotest.ErrReader(ioErr)), base: base, target: target, err: ioErr},
		{name: "writing fails", r: bytes.NewReader(from1), base: base, target: target, w: failing{ioErr}, err: ioErr},
		{name: "cancelled", r: bytes.NewReader(from1), base: base, target: target, cancel: true, err: context.Canceled},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		if c.cancel {
			cancel()
		}
		images := compacts.Images{Target: sumsOf(c.target)}
		if c.base != nil {
			images.Base, images.From = sumsOf(c.base), bytes.NewReader(c.base)
		}
		var made bytes.Buffer
		w := c.w
		if w == nil {
			w = &made
		}
		got, err := compacts.Apply(ctx, c.r, images, w)
		cancel()
		switch {
		case c.err == unknown:
			if err == nil || errors.Is(err, compacts.ErrWrong) || errors.Is(err, compacts.ErrOther) {
				t.Errorf("%s: %v", c.name, err)
			}
		case !errors.Is(err, c.err):
			t.Errorf("%s: %v, want %v", c.name, err, c.err)
		case err != nil && errors.Is(err, compacts.ErrWrong) != (c.err == compacts.ErrWrong):
			t.Errorf("%s: %v is blamed on the delta", c.name, err)
		case err == nil && (!bytes.Equal(made.Bytes(), c.target) || got.Memory == 0 || got.Coded == 0 || c.base != nil && got.Unpacked != info.Unpacked):
			t.Errorf("%s: %d bytes, %+v", c.name, made.Len(), got)
		}
		if errors.Is(err, compacts.ErrOther) && made.Len() > 0 {
			t.Errorf("%s: it wrote %d bytes", c.name, made.Len())
		}
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }
