package imagerepo

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"puavo-image-repository/meta"
)

// The images that most tests here speak of, oldest first.
const (
	image1 = "puavo-os-amxa-buster-2021-04-13-192449-amd64.img"
	image2 = "puavo-os-amxa-buster-2021-04-13-193910-amd64.img"
	image3 = "puavo-os-amxa-buster-2022-01-17-120001-amd64.img"
	image4 = "puavo-os-amxa-buster-2022-01-20-173248-amd64.img"
	other  = "puavo-os-free-buster-2022-02-04-140532-amd64.img"
)

func name(s string) meta.Name {
	n, err := meta.ParseName(s)
	if err != nil {
		panic(err)
	}
	return n
}

func names(list ...string) []meta.Name {
	var all []meta.Name
	for _, s := range list {
		all = append(all, name(s))
	}
	return all
}

// files returns a directory of files with their names as content.
func files(list ...string) fstest.MapFS {
	dir := make(fstest.MapFS)
	for _, f := range list {
		dir[f] = &fstest.MapFile{Data: []byte(f)}
	}
	return dir
}

func TestScan(t *testing.T) {
	empty := files(image1, image2)
	empty[image2].Data = nil
	folder := files(image1)
	folder[image2] = &fstest.MapFile{Mode: fs.ModeDir | 0o755}
	for _, c := range []struct {
		name    string
		dir     fs.FS
		want    string // images
		skipped string // each reason says one of these
		err     error
	}{
		{"images", files(image2, image1, other), image1 + " " + image2 + " " + other, "", nil},
		{"others are not our concern", files(image1, "README", "mirror/"+image2, image1+".sha256"), image1, "", nil},
		{"odd names", files(image1, "ltsp.img", "x y-2021-04-13-192449-amd64.img"), image1, "ltsp.img x y", nil},
		{"a folder with an image's name", folder, image1, "no regular file", nil},
		{"no images", files("README"), "", "", ErrInput},
		{"only odd names", files("ltsp.img"), "", "ltsp.img", ErrInput},
		{"an empty image", empty, image1, "", nil},
		{"no directory", brokenFS{}, "", "", errBroken},
	} {
		found, err := Scan(c.dir)
		skipped := found.Skipped
		if reason := found.Unusable[name(image2)]; (reason != nil) != (c.name == "an empty image") || reason != nil && !errors.Is(reason, ErrInput) {
			t.Errorf("%s: unusable: %v", c.name, reason)
		}
		var got []string
		for _, im := range found.Images {
			got = append(got, im.Name.String())
			if im.Stamp.Size != int64(len(im.Name.String())) {
				t.Errorf("%s: %s has size %d", c.name, im.Name, im.Stamp.Size)
			}
		}
		if strings.Join(got, " ") != c.want || !errors.Is(err, c.err) {
			t.Errorf("%s: %v, %v", c.name, got, err)
		}
		for _, reason := range skipped {
			first := strings.Fields(strings.Trim(reason.Error(), `"`))[0]
			if !strings.Contains(c.skipped, strings.Trim(first, `"`)) && !strings.Contains(reason.Error(), c.skipped) {
				t.Errorf("%s: skipped %v", c.name, reason)
			}
		}
		if (len(skipped) > 0) != (c.skipped != "") {
			t.Errorf("%s: skipped %v, want %q", c.name, skipped, c.skipped)
		}
	}
}

var errBroken = errors.New("broken")

type brokenFS struct{}

func (brokenFS) Open(string) (fs.File, error) { return nil, errBroken }

func TestGroupSeries(t *testing.T) {
	found, err := Scan(files(image1, image2, image3, other, "other-os-2021-04-13-192449-amd64.img"))
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
		got := groupSeries(found, c.config)
		var err error
		for _, s := range got {
			err = errors.Join(err, checkSeries(s, func(n meta.Name, _ string) error {
				if !slices.ContainsFunc(found.Images, func(im Image) bool { return im.Name == n }) {
					return ErrConfig
				}
				return nil
			}))
		}
		if c.err != nil {
			got = nil
		}
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
