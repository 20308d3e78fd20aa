package main

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"puavo-image-repository/bench/internal/generate"
	"puavo-image-repository/bench/internal/measure"
	"puavo-image-repository/bench/internal/memory"
)

// needGroup skips the test where no control group can be made.
func needGroup(t *testing.T) {
	t.Helper()
	g, err := memory.NewGroup("bench-need-group", 1<<30)
	if err != nil {
		t.Skip(err)
	}
	g.Remove()
}

// Each image is read once where memory suffices. The last limit is too small for any
// process.
func TestReads(t *testing.T) {
	needGroup(t)
	images, tmp := filepath.Join(t.TempDir(), "images"), t.TempDir()
	if err := (generate.Images{Series: 1, Versions: 2, Size: 8 << 20}).Write(t.Context(), images); err != nil {
		t.Fatal(err)
	}
	paths, _, err := imagesOf(images)
	if err != nil {
		t.Fatal(err)
	}
	if err := memory.Drop(paths); err != nil {
		t.Skip("no disk file system:", err)
	}
	var out strings.Builder
	if err := run(t.Context(), []string{"reads", "--corpus", images, "--tmp", tmp, "--limit", "400m,1k", "--memory", "150m"}, &out, io.Discard); err != nil {
		t.Fatal(err)
	}
	find(t, out.String(),
		`(?m)^    go -C bench run . reads --corpus \S+ --limit 400m,1k --memory 150m$`,
		`2 images of \d+ \d+ \d+ bytes, 2 deltas wanted`,
		`\| limit MiB \| +passes \| read MB \| time s \| CPU s \| memory MB \| group MB \| deltas \| delta MB \|`,
		`\| +400 \| +(1\.[0-2]\d|0\.9\d) \| +1[5-9]\.\d \| +\d+\.\d\d \| +\d+\.\d\d \| +(-|[\d.]+) \| +(-|[\d.]+) \| +2 \| +\d\.\d\d \|`,
		`\| +0 \| +failed \|`, `(?m)^Failed, 0 MiB: `,
	)
	if left, _ := os.ReadDir(tmp); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestReadsErrors(t *testing.T) {
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range []struct {
		name string
		ctx  context.Context
		args []string
		root bool // the error needs root
		want string
	}{
		{"an argument", t.Context(), []string{"real"}, false, "flags alone"},
		{"no size", t.Context(), []string{"--corpus", "large", "--largest", "0"}, false, "1 or more"},
		{"no limit", t.Context(), []string{"--limit", ""}, false, "empty size"},
		{"a bad limit", t.Context(), []string{"--limit", "900m,many"}, false, `"many" is no size`},
		{"no images", t.Context(), []string{"--corpus", t.TempDir()}, true, "0 images"},
		{"cancelled before there are images", cancelled, []string{"--corpus", "large", "--tmp", t.TempDir()}, true, "context canceled"},
		{"cancelled", cancelled, []string{"--corpus", "../testdata/images", "--tmp", t.TempDir()}, true, "context canceled"},
	} {
		want := c.want
		if c.root && os.Geteuid() != 0 {
			want = "sudo"
		}
		if err := run(c.ctx, append([]string{"reads"}, c.args...), io.Discard, io.Discard); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestParseSize(t *testing.T) {
	for text, want := range map[string]int64{
		"1k": 1 << 10, "900m": 900 << 20, "1.5g": 3 << 29, "4G": 4 << 30,
		"": 0, "m": 0, "900": 0, "-1g": 0, "0g": 0, "1t": 0, "1e99g": 0, "NaNg": 0, "many": 0,
	} {
		if got, err := parseSize(text); got != want || (err != nil) != (want == 0) {
			t.Errorf("%q: %d, %v, want %d", text, got, err, want)
		}
	}
}

func TestWriteReads(t *testing.T) {
	var out strings.Builder
	rows := []bounded{
		{limit: 900 << 20, err: errors.New("signal:\nkilled")},
		{limit: 3 << 29, peak: 7e6, deltas: map[string]int64{"a": 2e6, "b": 3e6}, Figures: measure.Figures{FromDisk: 30e6, Seconds: 4, CPU: 5, Anonymous: 6e6}},
	}
	if err := writeReads(&out, 12e6, rows); err != nil {
		t.Fatal(err)
	}
	find(t, out.String(), `\| +900 \| +failed \|`, `(?m)^Failed, 900 MiB: signal: killed$`,
		`\| +1536 \| +2\.50 \| +30\.0 \| +4\.00 \| +5\.00 \| +6\.0 \| +7\.0 \| +2 \| +5\.00 \|`)
}
