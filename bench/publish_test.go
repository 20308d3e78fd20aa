package main

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"puavo-image-repository/testdata"
)

// The whole of it, over the test images: a mirror that is kept, and used again.
func TestPublish(t *testing.T) {
	for _, tool := range []string{"sshd", "ssh-keygen", "ssh", "rsync", "rclone", "versitygw"} {
		testdata.Tool(t, tool)
	}
	tmp, mirror := t.TempDir(), filepath.Join(t.TempDir(), "mirror")
	var out strings.Builder
	args := []string{"publish", "--corpus", "../testdata/images", "--rounds", "1", "--tmp", tmp, "--mirror", mirror}
	if err := run(t.Context(), args, &out, io.Discard); err != nil {
		t.Fatal(err)
	}
	figures := `( \| +-?\d+\.\d+){9} \|`
	find(t, out.String(),
		`(?m)^    go -C bench run . publish --corpus ../testdata/images --rounds 1$`,
		`(?m)^- OpenSSH_`, `(?m)^- rsync  version`, `(?m)^- rclone v`, `(?m)^- versitygw `,
		`(?m)^## sshd\n\n\d+ files of \d \d+ \d+ bytes, 1 rounds`,
		`\| +rsync -a`+figures+`\n \| +rclone sync`+figures+`\n \| +ours`+figures,
		`(?m)^## versitygw\n`, `\| times less \| resident MB \| sent MB \|\n[^\n]+\n \| +rclone sync`+figures+`\n \| +ours`+figures,
		`killed half-way \| killed at MB \| in all MB \| sent again MB \| +share \| rest s \|\n[^\n]+\n \| +rsync -a( \| +-?[\d.]+){3} \| +-?\d+\.\d % \| +\d+\.\d\d \|`,
	)
	if left, _ := os.ReadDir(tmp); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	if _, err := os.Stat(filepath.Join(mirror, "index.json")); err != nil {
		t.Error(err)
	}
}

func TestPublishErrors(t *testing.T) {
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	empty, tmp := t.TempDir(), t.TempDir()
	for _, c := range []struct {
		name string
		ctx  context.Context
		args []string
		want string
	}{
		{"no rounds", t.Context(), []string{"--rounds", "0"}, "1 round or more"},
		{"an argument", t.Context(), []string{"real"}, "flags alone"},
		{"no such flag", t.Context(), []string{"--fast"}, "not defined"},
		{"no place to work", t.Context(), []string{"--tmp", "no/such"}, "no/such"},
		{"no real corpus", t.Context(), []string{"--dir", empty, "--tmp", tmp}, "bench/corpus.sh"},
		{"no images", t.Context(), []string{"--corpus", empty, "--tmp", tmp}, "0 images"},
		{"cancelled", cancelled, []string{"--corpus", "../testdata/images", "--tmp", tmp}, "context canceled"},
	} {
		if err := run(c.ctx, append([]string{"publish"}, c.args...), io.Discard, io.Discard); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if left, _ := os.ReadDir(tmp); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}
