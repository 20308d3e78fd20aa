package main

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"puavo-image-repository/imagerepo/atomicfile"
)

// Each action writes its output under a temporary name, and flushes it before it gets
// its own: no reader, and no power cut, finds a part of it.
func TestOrder(t *testing.T) {
	t.Chdir(t.TempDir())
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	old, new := random(100_000), random(100_000)
	copy(new[50_000:], "changed")
	writeFile(t, "old", old)
	writeFile(t, "new", new)
	for _, args := range []string{"signature old out.sig", "delta out.sig new out.delta", "patch old out.delta out.new", "diff old new out.diff", "--force patch old out.diff out.new"} {
		words := strings.Fields(args)
		out := words[len(words)-1]
		before, _ := os.ReadFile(out)
		var kinds []string
		stop := atomicfile.Observe(dir, func(c atomicfile.Change) error {
			if n := len(kinds); n == 0 || kinds[n-1] != string(c.Kind) {
				kinds = append(kinds, string(c.Kind))
			}
			if now, _ := os.ReadFile(out); c.Kind != atomicfile.FlushDir && !bytes.Equal(now, before) {
				t.Errorf("%s: before %s, the output has %d bytes", args, c, len(now))
			}
			return nil
		})
		code := run(t.Context(), words, nil, io.Discard, io.Discard)
		stop()
		if want := "create, write, flush, rename, flush dir"; code != 0 || strings.Join(kinds, ", ") != want {
			t.Errorf("%s: exit code %d, changes %v, want %s", args, code, kinds, want)
		}
	}
	if made, err := os.ReadFile(filepath.Join(dir, "out.new")); err != nil || !bytes.Equal(made, new) {
		t.Errorf("made is something else, %v", err)
	}
}
