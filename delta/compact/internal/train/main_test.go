package main

import (
	"bytes"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"puavo-image-repository/testdata"
)

// An image makes a Go file, always the same.
func TestRun(t *testing.T) {
	t.Parallel()
	root, image := t.TempDir(), filepath.Join(t.TempDir(), "image")
	for i := range 70 {
		text := strings.Repeat(strings.Repeat("many words ", i+1)+"and a line\n", 40)
		if err := os.WriteFile(filepath.Join(root, strings.Repeat("x", i+1)), []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	testdata.Run(t, "mksquashfs", root, image, "-comp", "lzo", "-b", "4K", "-quiet", "-no-progress")
	var one, two bytes.Buffer
	if err := run([]string{image}, &one); err != nil {
		t.Fatal(err)
	}
	if err := run([]string{image}, &two); err != nil || !bytes.Equal(one.Bytes(), two.Bytes()) {
		t.Errorf("the same image makes two files: %v", err)
	}
	if _, err := parser.ParseFile(token.NewFileSet(), "start.go", &one, 0); err != nil {
		t.Error(err)
	}
	for name, path := range map[string]string{"nothing": filepath.Join(root, "none"), "no image": filepath.Join(root, "x")} {
		if err := run([]string{path}, &two); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
