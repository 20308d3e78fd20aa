package base

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"puavo-image-repository/cksum"
	"puavo-image-repository/delta"
	"puavo-image-repository/imagerepo/internal/meter"
)

// pair writes a base, its signature, and a target that differs from it in places.
func pair(t *testing.T) (image, signature string, size int64, target Target) {
	t.Helper()
	random := rand.NewChaCha8([32]byte{1})
	content := make([]byte, 300_000)
	random.Read(content)
	changed := bytes.Clone(content)
	random.Read(changed[100_000:120_000])
	changed = append(changed[:200_000], changed[210_000:]...)
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
	target = Target{Path: write("target", changed), Size: int64(len(changed)), BLAKE3: cksum.Digest256(digest.Sum(nil))}
	return write("base", content), write("base.sig", sig.Bytes()), int64(len(content)), target
}

// A delta from an image, and one from its signature, makes its target; any other is
// wrong, and so is a target with another digest.
func TestBase(t *testing.T) {
	image, signature, size, target := pair(t)
	progress := meter.New(1<<30, nil)
	options := delta.Options{Memory: 1 << 20}
	for name, open := range map[string]func() *Base{
		"image":     func() *Base { return Image(image, size, options, progress) },
		"signature": func() *Base { return Signature(signature, size, progress) },
	} {
		b := open()
		defer b.Close()
		var made, seen bytes.Buffer
		if err := b.Diff(t.Context(), target, &made); err != nil || int64(made.Len()) > target.Size/3 {
			t.Fatalf("%s: a delta of %d bytes, %v", name, made.Len(), err)
		}
		verify := func(b *Base, t Target, d []byte, seen io.Writer, ctx context.Context) error {
			return b.Verify(ctx, t, bytes.NewReader(d), int64(len(d)), seen)
		}
		if err := verify(b, target, made.Bytes(), &seen, t.Context()); err != nil || !bytes.Equal(seen.Bytes(), made.Bytes()) {
			t.Errorf("%s: %d bytes seen, %v", name, seen.Len(), err)
		}
		fresh := open() // one that has not diffed
		defer fresh.Close()
		if err := verify(fresh, target, made.Bytes(), io.Discard, t.Context()); err != nil {
			t.Errorf("%s, not diffed: %v", name, err)
		}
		other := target
		other.BLAKE3[0] ^= 1
		cancelled, cancel := context.WithCancel(t.Context())
		cancel()
		for what, c := range map[string]struct {
			err  error
			want error
		}{
			"another digest":    {verify(b, other, made.Bytes(), io.Discard, t.Context()), ErrWrong},
			"a delta that ends": {verify(b, target, made.Bytes()[:made.Len()-1], io.Discard, t.Context()), ErrWrong},
			"no delta":          {verify(b, target, []byte("text"), io.Discard, t.Context()), ErrWrong},
			"cancelled":         {verify(b, target, made.Bytes(), io.Discard, cancelled), context.Canceled},
			"a cancelled diff":  {b.Diff(cancelled, target, io.Discard), context.Canceled},
		} {
			if !errors.Is(c.err, c.want) {
				t.Errorf("%s, %s: %v", name, what, c.err)
			}
		}
	}
}

// What cannot be used is an error that says why, and not a wrong delta.
func TestUnusableBase(t *testing.T) {
	image, signature, size, target := pair(t)
	progress := meter.New(0, nil)
	missing := target
	missing.Path += ".gone"
	for name, c := range map[string]struct {
		base   *Base
		target Target
		want   error
	}{
		"a missing base":      {Image(image+".gone", size, delta.Options{}, progress), target, os.ErrNotExist},
		"a missing signature": {Signature(signature+".gone", size, progress), target, os.ErrNotExist},
		"a missing target":    {Image(image, size, delta.Options{}, progress), missing, os.ErrNotExist},
		"no signature":        {Signature(image, size, progress), target, ErrSignature},
	} {
		if err := c.base.Diff(t.Context(), c.target, io.Discard); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if err := c.base.Verify(t.Context(), c.target, bytes.NewReader(nil), 0, io.Discard); err == nil {
			t.Errorf("%s: an empty delta verifies", name)
		}
		c.base.Close()
	}
}
