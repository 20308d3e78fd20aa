package catalog

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo/atomicfile"
)

const (
	v1 = "2024-01-01-120000"
	v2 = "2024-01-02-120000"
	v3 = "2024-01-03-120000"
	v4 = "2024-01-04-120000"
)

func version(v, parent string) Version {
	digest := cksum.Digest256{v[9], 1}
	version := Version{Version: v, Name: "os-" + v + "-amd64.img", Size: 100, BLAKE3: digest, SHA256: digest, Added: time.Unix(1e9, 0).UTC(), Stored: Stored{Form: Whole, Size: 100, BLAKE3: digest}}
	if parent != "" {
		version.Stored = Stored{Form: Rdiff, Size: 10, BLAKE3: cksum.Digest256{v[9], 2}, Commands: 7, Parent: parent}
	}
	return version
}

func sample() *Catalog {
	return &Catalog{
		Group: "os-amd64", Generation: 3, Versions: []Version{version(v1, v3), version(v3, v4), version(v4, "")},
		Trash: []Pruned{{Version: version(v2, v3), Pruned: time.Unix(2e9, 0).UTC(), Due: time.Unix(3e9, 0).UTC()}}, Obsolete: []string{v2 + ".rdiff"},
	}
}

func TestEncode(t *testing.T) {
	c := sample()
	c.Versions[0].Note, c.Versions[1].Protected = `"<Ä>" & more`, true
	data, err := c.Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := Parse("os-amd64", data)
	if err != nil || !reflect.DeepEqual(got, c) {
		t.Errorf("%+v, %v, want %+v", got, err, c)
	}
	for i := range data {
		data[i] ^= 1
		if _, err := Parse("os-amd64", data); err == nil {
			t.Errorf("byte %d is wrong, and no error", i)
		}
		data[i] ^= 1
	}
	if _, err := Parse("os-arm64", data); err == nil {
		t.Error("the catalog of another group, and no error")
	}
}

func TestCheck(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Catalog)
	}{
		{"no versions", func(c *Catalog) { c.Versions = nil }},
		{"no generation", func(c *Catalog) { c.Generation = 0 }},
		{"a bad group", func(c *Catalog) { c.Group = "../x" }},
		{"the newest is a delta", func(c *Catalog) { c.Versions = c.Versions[:2] }},
		{"out of order", func(c *Catalog) { c.Versions[0], c.Versions[2] = c.Versions[2], version(v1, "") }},
		{"a parent that is not the next", func(c *Catalog) { c.Versions[0].Stored.Parent = v4 }},
		{"twice", func(c *Catalog) { c.Trash[0].Version = version(v3, v4) }},
		{"a parent that is missing", func(c *Catalog) { c.Trash[0].Stored.Parent = "2024-01-09-120000" }},
		{"a parent that is older", func(c *Catalog) { c.Trash[0].Stored.Parent = v1 }},
		{"a version that is none", func(c *Catalog) { c.Versions[0].Version = "2024-13-01-120000" }},
		{"another name", func(c *Catalog) { c.Versions[0].Name = c.Versions[1].Name }},
		{"no name", func(c *Catalog) { c.Versions[0].Name = "x" }},
		{"an unknown form", func(c *Catalog) { c.Versions[0].Stored.Form = "zdelta" }},
		{"whole with a parent", func(c *Catalog) { c.Versions[0].Stored.Form = Whole }},
		{"whole of another size", func(c *Catalog) { c.Versions[2].Stored.Size++ }},
		{"a delta without a parent", func(c *Catalog) { c.Versions[1].Stored.Parent = "" }},
		{"no digest", func(c *Catalog) { c.Versions[1].BLAKE3 = cksum.Digest256{} }},
		{"too large", func(c *Catalog) { c.Versions[1].Size = maxSize + 1 }},
		{"a long note", func(c *Catalog) { c.Versions[1].Note = strings.Repeat("x", maxNote+1) }},
		{"a note of lines", func(c *Catalog) { c.Versions[1].Note = "a\nb" }},
		{"an obsolete file that is none of a group", func(c *Catalog) { c.Obsolete[0] = "../" + c.Obsolete[0] }},
	} {
		catalog := sample()
		if err := catalog.Check(); err != nil {
			t.Fatal(err)
		}
		c.change(catalog)
		if catalog.Check() == nil {
			t.Errorf("%s: no error", c.name)
		}
	}
}

func TestFiles(t *testing.T) {
	c := sample()
	want := map[string]bool{v1 + ".rdiff": true, v3 + ".rdiff": true, v4 + ".img": true, "trash/" + v2 + "--" + v3 + ".rdiff": true}
	if got := c.Files(); !reflect.DeepEqual(got, want) {
		t.Errorf("files %v, want %v", got, want)
	}
	for file := range want {
		if version, form, ok := ParseFile(file); !ok || !strings.Contains(file, version+"") || (form == Whole) != strings.HasSuffix(file, ".img") {
			t.Errorf("%s is %s, %s, %v", file, version, form, ok)
		}
	}
	for _, file := range []string{"", "x", v1, v1 + ".img.new", v1 + "--" + v2 + ".rdiff", "trash/" + v1 + "--x.rdiff", "2024-13-01-120000.img", "catalog.json"} {
		if version, form, ok := ParseFile(file); ok {
			t.Errorf("%s is %s, %s", file, version, form)
		}
	}
	steps, err := c.Path(v2)
	var path []string
	for _, s := range steps {
		path = append(path, s.File)
	}
	if got := fmt.Sprint(path, err); got != "["+v4+".img "+v3+".rdiff trash/"+v2+"--"+v3+".rdiff] <nil>" {
		t.Errorf("the path is %s", got)
	}
	if _, err := c.Path("2020-01-01-120000"); err == nil {
		t.Error("a version that is missing has a path")
	}
}

// The newest right copy counts.
func TestLoad(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(dir string) error
		want   string // generation, and what is wrong
		err    error
	}{
		{"both right", func(string) error { return nil }, "5 []", nil},
		{"no backup", func(dir string) error { return os.Remove(filepath.Join(dir, Backup)) }, "5 [catalog.json.bak]", nil},
		{"the first is damaged", func(dir string) error { return os.WriteFile(filepath.Join(dir, File), []byte("{}\n"), 0o666) }, "5 [catalog.json]", nil},
		{"the backup is older", func(dir string) error {
			data, err := sample().Encode()
			return errors.Join(err, os.WriteFile(filepath.Join(dir, Backup), data, 0o666))
		}, "5 [catalog.json.bak]", nil},
		{"the first is older", func(dir string) error {
			data, err := sample().Encode()
			return errors.Join(err, os.WriteFile(filepath.Join(dir, File), data, 0o666))
		}, "5 [catalog.json]", nil},
		{"none", func(dir string) error {
			return errors.Join(os.Remove(filepath.Join(dir, File)), os.Remove(filepath.Join(dir, Backup)))
		}, "", fs.ErrNotExist},
		{"one is damaged, one is missing", func(dir string) error {
			return errors.Join(os.WriteFile(filepath.Join(dir, File), nil, 0o666), os.Remove(filepath.Join(dir, Backup)))
		}, "", ErrDamaged},
	} {
		path := t.TempDir()
		dir, err := atomicfile.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer dir.Close()
		catalog := sample()
		if err := errors.Join(Save(dir, catalog), Save(dir, catalog), c.change(path)); err != nil {
			t.Fatal(err)
		}
		got, wrong, err := Load(dir, "os-amd64")
		if !errors.Is(err, c.err) || err == nil && fmt.Sprint(got.Generation, wrong) != c.want {
			t.Errorf("%s: %+v, %q, %v", c.name, got, wrong, err)
		}
	}
}

// What is parsed is written again as it was.
func FuzzParse(f *testing.F) {
	data, err := sample().Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(strings.TrimSuffix(string(data[:len(data)-checkLen]), "}"))
	f.Fuzz(func(t *testing.T, body string) {
		data := fmt.Appendf(nil, "%s%s%s%s", body, checkHead, checkOf("os-amd64", []byte(body)), checkTail)
		c, err := Parse("os-amd64", data)
		if err != nil {
			return
		}
		again, err := c.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if d, err := Parse("os-amd64", again); err != nil || !reflect.DeepEqual(c.Files(), d.Files()) {
			t.Fatalf("%+v, %v", d, err)
		}
	})
}
