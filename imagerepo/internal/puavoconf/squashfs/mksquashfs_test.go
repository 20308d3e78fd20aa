package squashfs

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"puavo-image-repository/testdata"
)

// mksquashfs returns an image of the directory at root.
func mksquashfs(t *testing.T, root string, args ...string) []byte {
	t.Helper()
	image := filepath.Join(t.TempDir(), "a.img")
	args = append([]string{root, image, "-noappend", "-no-progress", "-quiet"}, args...)
	testdata.Run(t, "mksquashfs", args...)
	b, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// plant makes files, by path, below root.
func plant(t *testing.T, root string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// letters returns n bytes that compress to about a half.
func letters(n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = 'a' + byte(rand.IntN(16))
	}
	return string(b)
}

// TestMksquashfs reads images of each compression, with files of many sizes and a
// directory that spans metadata blocks, in which there is an index.
func TestMksquashfs(t *testing.T) {
	root, want := t.TempDir(), make(map[string]string)
	for i, n := range []int{0, 1, 4095, 4096, 4097, 8191, 8192, 131072, 131073, 1<<20 + 1} {
		want[fmt.Sprintf("sizes/letters%02d", i)] = letters(n)
		want[fmt.Sprintf("sizes/zeros%02d", i)] = strings.Repeat("\x00", n)
		want[fmt.Sprintf("sizes/noise%02d", i)] = string(noise(n / 8))
	}
	for i := range 2000 {
		want[fmt.Sprintf("many/%s %d", strings.Repeat("long name ", 1+i%24), i)] = fmt.Sprint(i)
	}
	want["many/directories/"+strings.Repeat("x/", 200)+"y"] = "deep"
	want["many/"+strings.Repeat("ö", 127)] = "long"
	plant(t, root, want)
	blocks := []string{"-b 4K", "-b 1M", "-b 128K -no-fragments"}
	all := append([]string{
		"-b 128K", "-b 1M -always-use-fragments", "-b 4K -noI", "-b 128K -noD -noF", "-b 1M -noI -noD -noF",
		"-b 64K -no-sparse -no-duplicates -no-exports -nopad",
	}, blocks...)
	for method, options := range map[string][]string{"gzip": all, "lzo": all, "xz": blocks, "lz4": all, "zstd": blocks} {
		for _, args := range options[:testdata.Scale(len(options), 2)] {
			t.Run(method+" "+args, func(t *testing.T) {
				readsAs(t, mksquashfs(t, root, append(strings.Fields(args), "-comp", method)...), want)
			})
		}
	}
}

func readsAs(t *testing.T, image []byte, want map[string]string) {
	t.Helper()
	r, err := open(image)
	if err != nil {
		t.Fatal(err)
	}
	got, err := collect(r)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, got, want)
}

// TestOptions reads what else mksquashfs makes of options.
func TestOptions(t *testing.T) {
	root, want := t.TempDir(), map[string]string{"a": letters(300_000), "b/c": letters(500_000), "b/d": letters(50)}
	plant(t, root, want)
	for _, args := range []string{
		"-comp gzip -Xcompression-level 1 -Xwindow-size 8",
		"-comp lzo -Xalgorithm lzo1x_1",
		"-comp xz -b 1M -Xdict-size 8K",
		"-comp zstd -Xcompression-level 22 -b 1M",
		"-comp lz4 -Xhc",
		"-comp lz4 -noI -noD -noF",
	} {
		t.Run(args, func(t *testing.T) { readsAs(t, mksquashfs(t, root, strings.Fields(args)...), want) })
	}
}
