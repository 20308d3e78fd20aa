package maker

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo/archive/internal/catalog"
	"puavo-image-repository/imagerepo/atomicfile"
)

func digest(b []byte) cksum.Digest256 {
	h := cksum.NewBLAKE3()
	h.Write(b)
	return cksum.Digest256(h.Sum(nil))
}

// A delta is there, as large as it says, only if it makes the version and is worth having.
func TestMake(t *testing.T) {
	t.Parallel()
	base := make([]byte, 300<<10)
	noise := rand.NewChaCha8([32]byte{1})
	noise.Read(base)
	target := slices.Concat(base[:100<<10], []byte("something new"), base[120<<10:])
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for _, form := range []catalog.Form{catalog.Rdiff, catalog.Compact} {
		for _, c := range []struct {
			name   string
			ctx    context.Context
			digest cksum.Digest256
			most   int64
			worth  bool
			err    error
		}{
			{"right", t.Context(), digest(target), 10 << 10, true, nil},
			{"of another version", t.Context(), digest(base), 10 << 10, false, ErrUnlike},
			{"too large", t.Context(), digest(target), 20, false, nil},
			{"cancelled", cancelled, digest(target), 10 << 10, false, context.Canceled},
		} {
			dir, err := atomicfile.Open(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			defer dir.Close()
			var progress int64
			s, worth, err := Make(c.ctx, Job{
				Dir: dir, File: "file", Form: form, Parent: "parent", Base: base, Target: target, BLAKE3: c.digest, Most: c.most,
				Memory: 256 << 20, Progress: func(n int64) { progress += n },
			})
			if worth != c.worth || !errors.Is(err, c.err) {
				t.Errorf("%s, %s: %v, %v", form, c.name, worth, err)
			}
			data, readErr := os.ReadFile(dir.Name() + "/file")
			if (readErr == nil) != c.worth {
				t.Errorf("%s, %s: the file: %v", form, c.name, readErr)
			}
			if worth && (s.Form != form || s.Parent != "parent" || s.Size != int64(len(data)) || s.BLAKE3 != digest(data) || (form == catalog.Rdiff) != (s.Commands > 0)) {
				t.Errorf("%s, %s: %+v", form, c.name, s)
			}
			if worth && (progress < int64(len(target)) || progress > Work(int64(len(target)))) {
				t.Errorf("%s, %s: progress %d of %d", form, c.name, progress, Work(int64(len(target))))
			}
			if worth && bytes.Contains(data, base[:1000]) {
				t.Errorf("%s, %s: it has what the base has", form, c.name)
			}
		}
	}
}
