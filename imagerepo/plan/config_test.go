package plan

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
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
