package differ

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"puavo-image-repository/cksum"
	"puavo-image-repository/delta"
	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/meta"
)

var (
	base   = meta.Name{Prefix: "a", Version: "2024-01-01-000000", Arch: "b"}
	target = meta.Name{Prefix: "a", Version: "2024-01-02-000000", Arch: "b"}
)

func random(seed byte, n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

func TestMake(t *testing.T) {
	old := random(1, 1<<20)
	changed := slices.Concat(old[1<<16:1<<19], random(2, 999), old[:1<<18])
	for _, c := range []struct {
		name           string
		target, claims []byte // what the meta describes
		cancel         bool
		worth          bool
		err            error
	}{
		{"a change", changed, changed, false, true, nil},
		{"nothing in common", random(3, 1<<18), random(3, 1<<18), false, false, nil},
		{"an image that is not what the meta says", changed, old, false, false, ErrImage},
		{"cancelled", changed, changed, true, false, context.Canceled},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			root, err := atomicfile.Open(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer root.Close()
			for name, data := range map[meta.Name][]byte{base: old, target: c.target} {
				if err := os.WriteFile(filepath.Join(dir, name.String()), data, 0o666); err != nil {
					t.Fatal(err)
				}
			}
			images := &Images{Dir: root, Sums: map[meta.Name]cksum.Sums{base: sumsOf(old), target: sumsOf(c.claims)}}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			b, err := images.Base(ctx, base)
			if err != nil {
				t.Fatal(err)
			}
			if c.cancel {
				cancel()
			}
			sums, worth, err := b.Make(ctx, target, "made")
			b.Close()
			if !errors.Is(err, c.err) || worth != c.worth {
				t.Fatalf("worth %v, %v", worth, err)
			}
			if err := images.Close(); err != nil {
				t.Error(err)
			}
			made, err := os.ReadFile(filepath.Join(dir, "made"))
			if c.worth != (err == nil) || c.worth && sums != sumsOf(made) {
				t.Fatalf("%v: it has %d bytes, want %d", err, len(made), sums.Size)
			}
			if !c.worth {
				return
			}
			var out bytes.Buffer
			if err := delta.Patch(t.Context(), &out, bytes.NewReader(old), bytes.NewReader(made), int64(len(c.target))); err != nil || !bytes.Equal(out.Bytes(), c.target) {
				t.Errorf("it makes another image: %v", err)
			}
		})
	}
}

func sumsOf(data []byte) cksum.Sums {
	h := cksum.New()
	h.Write(data)
	return h.Sums()
}
