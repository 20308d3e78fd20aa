package main

import (
	"context"
	"io"
	"os"
	"strings"
	"testing"

	"puavo-image-repository/testdata"
)

// The whole of it: two worker processes, over small images.
func TestFarm(t *testing.T) {
	testdata.Tool(t, "taskset")
	tmp := t.TempDir()
	var out strings.Builder
	if err := run(t.Context(), []string{"farm", "--generated", "1", "--rounds", "1", "--size", "0.1", "--tmp", tmp}, &out, io.Discard); err != nil {
		t.Fatal(err)
	}
	find(t, out.String(),
		`(?m)^    go -C bench run \. farm --generated 1 --rounds 1 --size 0\.1 `,
		`\| +compact, generated, 1 MB \| +12 \| +1 \| +\d+\.\d \| +\d+\.\d \| +\d+\.\d \| +[+-]\d+\.\d % \| +1\.00 \|`,
		`\| +compact, generated, 1 MB \| +12 \| +2 \| +\d+\.\d \| +\d+\.\d \| +\d+\.\d \| +[+-]\d+\.\d % \| +\d+\.\d\d \|`,
		`\| +rdiff, generated, 8 MB \| +12 \| +2 \| +\d+\.\d \| +\d+\.\d \| +\d+\.\d \| +[+-]\d+\.\d % \| +\d+\.\d\d \|`,
		`(?m)^## Costs$`, `(?m)^## compact, 50 series$`, `\| +256 \|`,
	)
	if left, _ := os.ReadDir(tmp); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestFarmErrors(t *testing.T) {
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range []struct {
		name string
		ctx  context.Context
		args []string
		want string
	}{
		{"an argument", t.Context(), []string{"now"}, "flags alone"},
		{"one image", t.Context(), []string{"--images", "1"}, "2 images"},
		{"no rounds", t.Context(), []string{"--rounds", "0"}, "1 round"},
		{"nothing to measure", t.Context(), []string{"--measure"}, "see --dir"},
		{"no place to work", t.Context(), []string{"--tmp", "no/such"}, "no/such"},
		{"cancelled", cancelled, []string{"--simulate", "--tmp", t.TempDir()}, "context canceled"},
		{"no real images", t.Context(), []string{"--simulate", "--measure", "--dir", t.TempDir(), "--tmp", t.TempDir()}, "want the three"},
	} {
		if err := run(c.ctx, append([]string{"farm"}, c.args...), io.Discard, io.Discard); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}
