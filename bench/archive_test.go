package main

import (
	"context"
	"io"
	"os"
	"strings"
	"testing"

	"puavo-image-repository/testdata"
)

// The whole of it, over the test images.
func TestArchive(t *testing.T) {
	testdata.Tool(t, "restic")
	tmp, images := t.TempDir(), t.TempDir()
	if err := os.CopyFS(images, os.DirFS("../testdata/images")); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	args := []string{"archive", "--corpus", images, "--versions", "2", "--size", "1", "--tmp", tmp}
	if err := run(t.Context(), args, &out, io.Discard); err != nil {
		t.Fatal(err)
	}
	find(t, out.String(), `(?m)^# Archives\n\n    go -C bench run . archive --corpus .* --versions 2 --size 1$`,
		`(?m)^## Stores\n\n\d versions of `, `\| +restic \| `, `\| +ours, compact, version 2 \| +1 \| `)
	if left, _ := os.ReadDir(tmp); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestArchiveErrors(t *testing.T) {
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	empty, tmp := t.TempDir(), t.TempDir()
	for _, c := range []struct {
		name string
		ctx  context.Context
		args []string
		want string
	}{
		{"no versions", t.Context(), []string{"--versions", "0"}, "a version"},
		{"an argument", t.Context(), []string{"real"}, "flags alone"},
		{"no such flag", t.Context(), []string{"--fast"}, "not defined"},
		{"no place to work", t.Context(), []string{"--tmp", "no/such"}, "no/such"},
		{"no real corpus", t.Context(), []string{"--dir", empty, "--tmp", tmp}, "bench/corpus.sh"},
		{"no images", t.Context(), []string{"--corpus", empty, "--tmp", tmp}, "0 images"},
		{"cancelled", cancelled, []string{"--corpus", "../testdata/images", "--tmp", tmp}, "context canceled"},
	} {
		if err := run(c.ctx, append([]string{"archive"}, c.args...), io.Discard, io.Discard); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if left, _ := os.ReadDir(tmp); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}
