package imagerepo

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"puavo-image-repository/meta"
)

func TestGroupSeries(t *testing.T) {
	images, _, err := Scan(files(image1, image2, image3, other, "other-os-2021-04-13-192449-amd64.img"))
	if err != nil {
		t.Fatal(err)
	}
	series := func(s ...meta.SeriesConfig) []meta.SeriesConfig { return s }
	for _, c := range []struct {
		name   string
		config Config
		want   string // name: number of images, …
		err    error
	}{
		{"scanned", Config{}, "other-os-amd64:1 puavo-os-amxa-buster-amd64:3 puavo-os-free-buster-amd64:1", nil},
		{"named", Config{Series: series(meta.SeriesConfig{Name: "b", Images: names(image1)}, meta.SeriesConfig{Name: "a", Images: names(image1, other)})}, "a:2 b:1", nil},
		{"named but empty", Config{Series: series(meta.SeriesConfig{Name: "a"})}, "a:0", nil},
		{"empty ones ignored", Config{ScanRest: true, Series: series(meta.SeriesConfig{Name: "a"}, meta.SeriesConfig{Name: "b", Images: names(image1)})}, "b:1", nil},
		{"only empty ones", Config{ScanRest: true, Series: series(meta.SeriesConfig{Name: "a"})}, "other-os-amd64:1 puavo-os-amxa-buster-amd64:3 puavo-os-free-buster-amd64:1", nil},
		{"a missing image", Config{Series: series(meta.SeriesConfig{Name: "a", Images: names(image4)})}, "", ErrConfig},
		{"a missing base", Config{Series: series(meta.SeriesConfig{Name: "a", Images: names(image1), Extra: map[meta.Name][]meta.Name{name(image1): names(image4)}})}, "", ErrConfig},
		{"a base for an image of no concern", Config{Series: series(meta.SeriesConfig{Name: "a", Images: names(image1), Extra: map[meta.Name][]meta.Name{name(image4): names(image4)}})}, "a:1", nil},
		{"one version twice", Config{Series: series(meta.SeriesConfig{Name: "a", Images: names("other-os-2021-04-13-192449-amd64.img", image1)})}, "", ErrInput},
	} {
		got, err := groupSeries(images, c.config)
		var text []string
		for _, s := range got {
			text = append(text, s.Name+":"+string(rune('0'+len(s.Images))))
			if !slices.IsSortedFunc(s.Images, meta.Name.Compare) {
				t.Errorf("%s: images %v", c.name, s.Images)
			}
		}
		if strings.Join(text, " ") != c.want || !errors.Is(err, c.err) {
			t.Errorf("%s: %v, %v", c.name, text, err)
		}
	}
}

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
		name string
		load func() (Config, error)
		want int // series
		says string
	}{
		{"none", func() (Config, error) { return LoadConfig(nil) }, 0, ""},
		{"two", func() (Config, error) { return LoadConfig([]string{a, b}) }, 2, ""},
		{"one twice", func() (Config, error) { return LoadConfig([]string{a, a}) }, 0, `series "a" is in`},
		{"wrong", func() (Config, error) { return LoadConfig([]string{a, bad}) }, 0, bad + `: series "c": images[0]: "../x"`},
		{"missing", func() (Config, error) { return LoadConfig([]string{filepath.Join(dir, "none")}) }, 0, "no such file"},
		{"tree", func() (Config, error) { return LoadPuavoOS(filepath.Join(dir, "os")) }, 2, ""},
		{"no tree", func() (Config, error) { return LoadPuavoOS(dir) }, 0, "no puavo-os source tree"},
	} {
		got, err := c.load()
		if len(got.Series) != c.want || (err != nil) != (c.says != "") {
			t.Errorf("%s: %+v, %v", c.name, got, err)
		}
		if err != nil && (!errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s: %v, want one that says %q", c.name, err, c.says)
		}
	}
	if _, err := LoadConfig([]string{filepath.Join(dir, "none")}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
}
