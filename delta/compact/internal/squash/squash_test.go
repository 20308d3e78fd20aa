package squash

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"puavo-image-repository/delta/compact/internal/lzo"
	"puavo-image-repository/testdata"
)

// The blocks of files and fragments, put together, are the files in the image.
func TestPacked(t *testing.T) {
	t.Parallel()
	root, image := t.TempDir(), filepath.Join(t.TempDir(), "image")
	large := []byte(strings.Repeat("a large file of many lines\n", 20_000))
	noise := make([]byte, 1<<17) // is stored as it is
	rand.NewChaCha8([32]byte{}).Read(noise)
	for name, content := range map[string][]byte{"noise": noise, "large": large, "small": large[:5000], "empty": nil, "d/e/f": large[:700]} {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, content, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("large", filepath.Join(root, "link")); err != nil {
		t.Fatal(err)
	}
	testdata.Run(t, "mksquashfs", root, image, "-comp", "lzo", "-quiet", "-no-progress")
	b, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	blocks, err := Packed(b)
	if err != nil {
		t.Fatal(err)
	}
	var all []byte
	for _, block := range blocks {
		_, content, err := lzo.Parse(block, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, content...)
	}
	if len(blocks) != 6 || len(all) != len(large)+5700 || !bytes.HasPrefix(all, large) {
		t.Errorf("%d blocks make %d bytes", len(blocks), len(all))
	}
	for name, image := range map[string][]byte{"cut": b[:200], "empty": nil, "another": bytes.Repeat([]byte("x"), 96)} {
		if _, err := Packed(image); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
