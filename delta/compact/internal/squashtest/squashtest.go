// Package squashtest makes blocks of squashfs images, for tests.
package squashtest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"puavo-image-repository/delta/compact/internal/squash"
	"puavo-image-repository/testdata"
)

// Sample returns the compressed blocks of an image that mksquashfs makes of what Go installs:
// programs and texts. In short tests, and where races are looked for, they are few.
func Sample(t testing.TB) [][]byte {
	t.Helper()
	root := strings.TrimSpace(string(testdata.Run(t, "go", "env", "GOROOT")))
	image := filepath.Join(t.TempDir(), "image")
	trees := []string{"src/net", "src/runtime", "bin/gofmt"}
	trees = trees[:testdata.Scale(len(trees), 1)]
	args := []string{image, "-comp", "lzo", "-noappend", "-quiet", "-no-progress"}
	for i := range trees {
		trees[i] = filepath.Join(root, trees[i])
	}
	testdata.Run(t, "mksquashfs", append(trees, args...)...)
	b, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	blocks, err := squash.Packed(b)
	if err != nil {
		t.Fatal(err)
	}
	return blocks
}
