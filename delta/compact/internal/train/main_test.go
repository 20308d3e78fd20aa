package main

import (
	"bytes"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
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
		if run([]string{path}, &two) == nil || count([]string{path}, &two) == nil {
			t.Errorf("%s: no error", name)
		}
	}
	var table bytes.Buffer
	if err := count([]string{image}, &table); err != nil || !regexp.MustCompile(`\n +image +(\d+) +(\d+) +\d+ +0\.\d{4} +0\.\d{3}\n$`).Match(table.Bytes()) {
		t.Errorf("%s, %v", &table, err)
	}
	if f := strings.Fields(table.String()); len(f) < 14 || f[len(f)-5] != f[len(f)-4] {
		t.Errorf("not all blocks come back: %s", &table)
	}
}
