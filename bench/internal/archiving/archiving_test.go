package archiving

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"puavo-image-repository/bench/internal/build"
	"puavo-image-repository/testdata"
)

// place returns options for the small test images, in the directory in which bench runs.
func place(t *testing.T) Options {
	t.Helper()
	t.Chdir("../..")
	o := Options{Tmp: t.TempDir(), Versions: 3, Size: 1 << 20, Log: t.Output(), Archiver: filepath.Join(t.TempDir(), "archiver")}
	if err := build.Command(t.Context(), "puavo-update-repository", o.Archiver); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, image := range testdata.Glob(t, "images/*amxa*.img")[:2] {
		data, err := os.ReadFile(image)
		to := filepath.Join(dir, filepath.Base(image))
		if err := errors.Join(err, os.WriteFile(to, data, 0o666)); err != nil {
			t.Fatal(err)
		}
		o.Images = append(o.Images, to)
	}
	return o
}

// The whole of it, over the test images.
func TestMeasure(t *testing.T) {
	testdata.Tool(t, "restic")
	testdata.Tool(t, "casync")
	o := place(t)
	var out strings.Builder
	if err := Measure(t.Context(), o, &out); err != nil {
		t.Fatal(err)
	}
	figures := `( \| +(-|\d+\.\d+)){9} \|`
	for _, want := range []string{
		`(?m)^- restic \d`, `(?m)^- (not installed: )?desync`, `(?m)^- casync \d`,
		`(?m)^## Stores\n\n2 versions of \d+ \d+ bytes in all\.$`,
		`\| +whole images \| +0\.6 \| 1\.000 \|`, `\| +ours, rdiff` + figures, `\| +ours, compact` + figures, `\| +restic` + figures, `\| +casync` + figures,
		`(?m)^## Chains\n\n3 generated versions of about 1 048 576 bytes each\.$`,
		`\| +ours, rdiff, version 1 \| +0 \| `, `\| +ours, rdiff, version 3 \| +2 \| `, `\| +ours, compact, version 3 \| +2 \| `,
	} {
		if !regexp.MustCompile(want).MatchString(out.String()) {
			t.Errorf("no %s in\n%s", want, &out)
		}
	}
	if left, _ := os.ReadDir(o.Tmp); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestMeasureErrors(t *testing.T) {
	o := place(t)
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range []struct {
		name   string
		ctx    context.Context
		change func(*Options)
		want   error
	}{
		{"cancelled", cancelled, func(*Options) {}, context.Canceled},
		{"no image", t.Context(), func(o *Options) { o.Images = []string{"none"} }, os.ErrNotExist},
		{"no archiver", t.Context(), func(o *Options) { o.Archiver = "/none" }, os.ErrNotExist},
		{"an archiver that does nothing", t.Context(), func(o *Options) { o.Archiver = "true" }, errEmpty},
	} {
		o := o
		c.change(&o)
		if err := Measure(c.ctx, o, new(strings.Builder)); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
		if left, _ := os.ReadDir(o.Tmp); len(left) > 0 {
			t.Errorf("%s: left: %v", c.name, left)
		}
	}
}

// A file with two names counts once, as it takes room once.
func TestSize(t *testing.T) {
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	err := errors.Join(os.WriteFile(a, make([]byte, 100), 0o666), os.Link(a, b), os.WriteFile(filepath.Join(dir, "c"), make([]byte, 10), 0o666))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := size(dir); got != 110 || err != nil {
		t.Errorf("%d, %v; want 110", got, err)
	}
}
