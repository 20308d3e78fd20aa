package plan

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"puavo-image-repository/meta"
)

const image1 = "puavo-os-amxa-buster-2021-04-13-192449-amd64.img"

func TestLoadConfig(t *testing.T) {
	dir := t.TempDir()
	write := func(file, text string) string {
		t.Helper()
		path := filepath.Join(dir, filepath.FromSlash(file))
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
		return path
	}
	a := write("os/config/images/a.json", `{"a": ["`+image1+`"]}`)
	b := write("os/config/images/b.json", `{"b": []}`)
	write("os/config/images/README", "not a series file")
	bad := write("bad.json", `{"c": ["../x"]}`)
	for _, c := range []struct {
		name  string
		load  func() (Config, error)
		want  int  // series
		wrong bool // whether the error is an ErrConfig
		says  string
	}{
		{"none", func() (Config, error) { return LoadConfig(t.Context(), nil) }, 0, false, ""},
		{"two", func() (Config, error) { return LoadConfig(t.Context(), []string{a, b}) }, 2, false, ""},
		{"one twice", func() (Config, error) { return LoadConfig(t.Context(), []string{a, a}) }, 0, true, `series "a" is in`},
		{"wrong", func() (Config, error) { return LoadConfig(t.Context(), []string{a, bad}) }, 0, true, bad + `: series "c": images[0]: "../x"`},
		{"missing", func() (Config, error) { return LoadConfig(t.Context(), []string{filepath.Join(dir, "none")}) }, 0, false, "no such file"},
		{"tree", func() (Config, error) { return LoadPuavoOS(t.Context(), filepath.Join(dir, "os")) }, 2, false, ""},
		{"no tree", func() (Config, error) { return LoadPuavoOS(t.Context(), dir) }, 0, true, "not a puavo-os source tree"},
		{"a directory", func() (Config, error) { return LoadConfig(t.Context(), []string{dir}) }, 0, false, "is a directory"},
		{"unending", func() (Config, error) { return LoadConfig(t.Context(), []string{"/dev/zero"}) }, 0, true, "it has more than"},
		{"missing tree", func() (Config, error) { return LoadPuavoOS(t.Context(), filepath.Join(dir, "none")) }, 0, false, "none/config/images: no such file"},
		{"a file for a tree", func() (Config, error) { return LoadPuavoOS(t.Context(), a) }, 0, false, "a.json/config/images: not a directory"},
	} {
		got, err := c.load()
		if len(got.Series) != c.want || (err != nil) != (c.says != "") {
			t.Errorf("%s: %+v, %v", c.name, got, err)
		}
		if err != nil && (errors.Is(err, ErrConfig) != c.wrong || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s: %v, want one that says %q", c.name, err, c.says)
		}
	}
	if _, err := LoadConfig(t.Context(), []string{filepath.Join(dir, "none")}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
}

// What extra_rdiffs says of images that are not in the series is ignored, and reported.
func TestIgnored(t *testing.T) {
	const image2, image3 = "puavo-os-amxa-buster-2021-04-13-193910-amd64.img", "puavo-os-amxa-buster-2022-01-17-120001-amd64.img"
	for _, c := range []struct {
		name, config string
		want         []string
	}{
		{"none", `{"a": ["` + image1 + `"]}`, nil},
		{"one of the series", `{"a": {"images": ["` + image1 + `"], "extra_rdiffs": {"` + image1 + `": ["` + image2 + `"]}}}`, nil},
		{"two that are not", `{"a": {"images": ["` + image1 + `"], "extra_rdiffs": {"` + image3 + `": [], "` + image2 + `": ["` + image1 + `"]}}}`,
			[]string{`series "a": extra_rdiffs names ` + image2 + ", " + image3 + ", not among its images"}},
		{"of another series", `{"a": ["` + image1 + `"], "b": {"images": [], "extra_rdiffs": {"` + image1 + `": ["` + image2 + `"]}}}`,
			[]string{`series "b": extra_rdiffs names ` + image1}},
	} {
		series, err := meta.ParseConfig([]byte(c.config))
		if err != nil {
			t.Fatal(err)
		}
		got := Config{Series: series}.Ignored()
		if len(got) != len(c.want) {
			t.Errorf("%s: %v, want %q", c.name, got, c.want)
			continue
		}
		for i, err := range got {
			if !strings.HasPrefix(err.Error(), c.want[i]) {
				t.Errorf("%s: %v, want %q", c.name, err, c.want[i])
			}
		}
	}
}
