package published

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/mirror"
	"puavo-image-repository/meta"
	"puavo-image-repository/testdata"
)

const (
	image1 = "os-2021-01-01-000000-amd64.img"
	image2 = "os-2022-02-02-000000-amd64.img"
	image3 = "os-2023-03-03-000000-amd64.img"
)

func name(file string) meta.Name {
	n, err := meta.ParseName(file)
	if err != nil {
		panic(err)
	}
	return n
}

func sumsOf(text string) cksum.Sums {
	h := cksum.New()
	h.Write([]byte(text))
	return h.Sums()
}

// image returns an image with deltas from these bases.
func image(file string, bases ...string) meta.Image {
	im := meta.Image{Name: name(file), File: meta.File{URLs: []string{file}, Sums: sumsOf(file)}}
	for _, b := range bases {
		d := meta.DeltaName(name(b), name(file))
		im.Diffs = append(im.Diffs, meta.Diff{File: meta.File{URLs: []string{d}, Sums: sumsOf(d)}, Filename: d, Base: name(b)})
	}
	return im
}

func delta(base, target string) string { return meta.DeltaName(name(base), name(target)) }

// compact returns a compact delta, without a base if that is "".
func compact(base, target string) meta.Compact {
	c := meta.Compact{Memory: 100, Coded: 10, Unpacked: 1}
	if base != "" {
		c.Base = name(base)
	}
	c.Filename = meta.CompactName(c.Base, name(target))
	c.File = meta.File{URLs: []string{"compact/" + c.Filename}, Sums: sumsOf(c.Filename)}
	return c
}

// threeImages is a series of three images, each with deltas from the others, and the newest
// with compact deltas.
func threeImages(name string) meta.Series {
	newest := image(image3, image1, image2)
	newest.Compact = []meta.Compact{compact("", image3), compact(image1, image3)}
	return meta.Series{Name: name, Images: []meta.Image{image(image1, image2, image3), image(image2, image1, image3), newest}}
}

// twoImages is a series of two of these images.
func twoImages(name string) meta.Series {
	newest := image(image2, image1)
	newest.Compact = []meta.Compact{compact("", image2)}
	return meta.Series{Name: name, Images: []meta.Image{image(image1), newest}}
}

// torrents are those of an image and a delta, which both series have.
var torrents = map[string]cksum.Digest256{image2: {2}, delta(image1, image2): {12}}

// mirrorOf returns a mirror with the documents of two series.
func mirrorOf(t *testing.T) (atomicfile.Dir, *Documents) {
	t.Helper()
	path := t.TempDir()
	for _, dir := range []string{"meta", "rdiffs", "compact", "torrents", ".repo/tmp"} {
		if err := os.MkdirAll(filepath.Join(path, dir), 0o777); err != nil {
			t.Fatal(err)
		}
	}
	dir, err := atomicfile.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dir.Close() })
	d := load(t, dir)
	d.Publish([]meta.Series{threeImages("a"), twoImages("b")}, nil, torrents)
	if changed, err := d.Write(t.Context()); err != nil || !changed {
		t.Fatal(changed, err)
	}
	return dir, d
}

func load(t *testing.T, dir atomicfile.Dir) *Documents {
	t.Helper()
	d, err := Load(dir, func(string) bool { return false })
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// words returns all that the documents of a mirror name, as they are on the disk.
func words(t *testing.T, dir atomicfile.Dir) string {
	t.Helper()
	all := ""
	for _, doc := range []string{"meta/a.json", "meta/b.json", "index.json", "CKSUMS", "SHA256SUMS", "meta/SHA256SUMS", "rdiffs/SHA256SUMS", "compact/SHA256SUMS", "torrents/SHA256SUMS"} {
		data, _ := dir.ReadFile(doc, meta.MaxDocument)
		all += string(data)
	}
	return all
}

// What is withdrawn is withdrawn from all documents, with an image all deltas from it
// and to it; and nothing else is.
func TestWithdraw(t *testing.T) {
	for _, c := range []struct {
		name  string
		files []string
		gone  []string
	}{
		{"nothing", nil, nil},
		{"what nothing names", []string{"os-2029-01-01-000000-amd64.img", "x"}, nil},
		{"an image of both", []string{image1}, []string{image1, delta(image1, image2), delta(image1, image3), delta(image2, image1), delta(image3, image1), compact(image1, image3).Filename}},
		{"an image of one", []string{image3}, []string{image3, delta(image1, image3), delta(image2, image3), delta(image3, image1), delta(image3, image2), compact(image1, image3).Filename, compact("", image3).Filename}},
		{"a compact delta", []string{compact(image1, image3).Filename}, []string{compact(image1, image3).Filename}},
		{"one without a base", []string{compact("", image3).Filename}, []string{compact("", image3).Filename}},
		{"a delta", []string{delta(image1, image2)}, []string{delta(image1, image2)}},
		{"a torrent", []string{image2 + ".torrent"}, []string{image2 + ".torrent"}},
		{"several", []string{delta(image1, image2), image3}, []string{image3, delta(image1, image2), delta(image1, image3), delta(image2, image3), delta(image3, image1), delta(image3, image2), compact(image1, image3).Filename, compact("", image3).Filename}},
	} {
		dir, d := mirrorOf(t)
		before, textBefore := d.Names(), words(t, dir)
		if found := d.Withdraw(c.files...); found != (c.gone != nil) {
			t.Errorf("%s: found %v", c.name, found)
		}
		if changed, err := d.Write(t.Context()); err != nil || changed != (c.gone != nil) {
			t.Errorf("%s: changed %v, %v", c.name, changed, err)
		}
		text := words(t, dir)
		want := maps.Clone(before)
		for _, f := range c.gone {
			delete(want, f)
			delete(want, f+".torrent")
			if strings.Contains(text, `"filename":"`+f) || strings.Contains(text, " "+f+"\n") || strings.Contains(text, " "+f+".torrent\n") || strings.Contains(text, "/"+f+"\n") {
				t.Errorf("%s: %s is named", c.name, f)
			}
			if strings.HasSuffix(f, ".cdelta") && !strings.Contains(textBefore, "compact/"+f) {
				t.Errorf("%s: %s was not named", c.name, f)
			}
			if _, ok := d.Sums(f); ok {
				t.Errorf("%s: sums of %s", c.name, f)
			}
		}
		if again := load(t, dir).Names(); !maps.Equal(again, want) || !maps.Equal(d.Names(), want) {
			t.Errorf("%s: named are %v and %v, want %v", c.name, d.Names(), again, want)
		}
		checkSums(t, c.name, dir)
	}
}

// checkSums checks that the SHA256SUMS have the digests of the documents, each of its own
// folder.
func checkSums(t *testing.T, when string, dir atomicfile.Dir) {
	t.Helper()
	var docs []string
	for _, list := range mirror.Lists() {
		data, err := dir.ReadFile(list, meta.MaxDocument)
		if err != nil {
			t.Errorf("%s: %v", when, err)
			continue
		}
		lines, err := cksum.ParseSHA256SUMS(bytes.NewReader(data))
		if err != nil {
			t.Errorf("%s: %s: %v", when, list, err)
		}
		for _, l := range lines {
			file := path.Join(path.Dir(list), l.Path)
			if strings.Contains(l.Path, "/") {
				t.Errorf("%s: %s names %s", when, list, l.Path)
			}
			if ext := path.Ext(file); ext == ".rdiff" || ext == ".cdelta" || ext == ".img" || ext == ".torrent" {
				continue
			}
			docs = append(docs, file)
			if data, err := dir.ReadFile(file, meta.MaxDocument); err != nil || sumsOf(string(data)).SHA256 != l.SHA256 {
				t.Errorf("%s: %s has another digest of %s, %v", when, list, file, err)
			}
		}
	}
	if want := []string{"meta/a.json", "meta/b.json", "CKSUMS", "index.json"}; !slices.Equal(docs, want) {
		t.Errorf("%s: documents %q", when, docs)
	}
}

// A series that is kept stays byte for byte, whatever bytes these are, unless
// something of it was withdrawn.
func TestKept(t *testing.T) {
	dir, _ := mirrorOf(t)
	a, _ := dir.ReadFile("meta/a.json", meta.MaxDocument)
	a = append(a, "  \n"...)
	os.WriteFile(filepath.Join(dir.Name(), "meta/a.json"), a, 0o666)
	d := load(t, dir)
	d.Publish([]meta.Series{{Name: "b", Images: []meta.Image{image(image2)}}}, []string{"a", "none"}, nil)
	if _, err := d.Write(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, _ := dir.ReadFile("meta/a.json", meta.MaxDocument); !bytes.Equal(got, a) {
		t.Errorf("%s\nwant\n%s", got, a)
	}
	checkSums(t, "kept", dir)
	var names []string
	for _, s := range d.All() {
		names = append(names, s.Name)
	}
	for name := range torrents { // of the series that is kept
		if _, ok := d.Listed(name + ".torrent"); !ok {
			t.Errorf("the torrent of %s is not listed", name)
		}
	}
	if s, ok := d.Series("a"); !slices.Equal(names, []string{"a", "b"}) || !ok || len(s.Images) != 3 {
		t.Errorf("series %v, %v", names, s)
	}
	if _, ok := d.Series("none"); ok {
		t.Error("a series that is not there")
	}
	d.Withdraw(image1)
	if _, err := d.Write(t.Context()); err != nil || strings.Contains(words(t, dir), image1) {
		t.Errorf("%v, withdrawn from\n%s", err, words(t, dir))
	}
}

// Documents that cannot be parsed name nothing, and those that are nobody's do not
// count.
func TestLoad(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(path string) error
		own    string
		series string // that count
		lines  bool   // CKSUMS names something
	}{
		{"all", func(string) error { return nil }, "", "a b", true},
		{"a foreign one", func(p string) error { return os.WriteFile(p+"/meta/c.json", []byte(`{"c":{"images":[]}}`), 0o666) }, "", "a b", true},
		{"an own one that is not named yet", func(p string) error { return os.WriteFile(p+"/meta/c.json", []byte(`{"c":{"images":[]}}`), 0o666) }, "c.json", "a b c", true},
		{"one of another name", func(p string) error { return os.WriteFile(p+"/meta/a.json", []byte(`{"c":{"images":[]}}`), 0o666) }, "", "b", true},
		{"a damaged one", func(p string) error { return os.WriteFile(p+"/meta/a.json", []byte(`{`), 0o666) }, "", "b", true},
		{"no index, as of the predecessor", func(p string) error {
			return errors.Join(os.Remove(p+"/index.json"), os.Remove(p+"/SHA256SUMS"), os.Remove(p+"/meta/SHA256SUMS"), os.WriteFile(p+"/meta/c.json", []byte(`{"c":{"images":[]}}`), 0o666))
		}, "", "a b c", true},
		{"damaged lists", func(p string) error {
			return errors.Join(os.WriteFile(p+"/CKSUMS", []byte("x"), 0o666), os.WriteFile(p+"/SHA256SUMS", []byte("x"), 0o666), os.WriteFile(p+"/meta/SHA256SUMS", []byte("x"), 0o666))
		}, "", "a b", false},
		{"no regular files", func(p string) error {
			return errors.Join(os.Remove(p+"/CKSUMS"), os.Mkdir(p+"/CKSUMS", 0o777), os.Remove(p+"/index.json"), syscall.Mkfifo(p+"/index.json", 0o666),
				os.Remove(p+"/meta/a.json"), syscall.Mkfifo(p+"/meta/a.json", 0o666))
		}, "", "b", true}, // by SHA256SUMS
		{"nothing", func(p string) error { return os.RemoveAll(p + "/meta") }, "", "", true},
	} {
		dir, _ := mirrorOf(t)
		if err := c.change(dir.Name()); err != nil {
			t.Fatal(err)
		}
		d, err := Load(dir, func(name string) bool { return name == c.own })
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		var names []string
		for _, s := range d.All() {
			names = append(names, s.Name)
		}
		if got := strings.Join(names, " "); got != c.series || d.lines[image1].cksum == nil && d.lines[image1].sha256 == nil && c.lines {
			t.Errorf("%s: series %q, want %q; lines %v", c.name, got, c.series, d.lines)
		}
	}
}

// Whatever fails on the way, or when it is cancelled, Write says so, and writes the
// rest when it is called again.
func TestWriteFails(t *testing.T) {
	for n, i := 0, 1; i > n; n += testdata.Scale(1, 2) {
		dir, d := mirrorOf(t)
		i = 0
		stop := atomicfile.Observe(dir.Name(), func(atomicfile.Change) error {
			if i++; i == n+1 {
				return syscall.ENOSPC
			}
			return nil
		})
		observed, err := atomicfile.Open(dir.Name())
		if err != nil {
			t.Fatal(err)
		}
		d.dir = observed
		d.Withdraw(image1)
		if _, err := d.Write(t.Context()); !errors.Is(err, syscall.ENOSPC) && i > n {
			t.Errorf("change %d fails: %v", n, err)
		}
		stop()
		if _, err := d.Write(t.Context()); err != nil || strings.Contains(words(t, dir), image1) {
			t.Errorf("after change %d: %v", n, err)
		}
		checkSums(t, "after a fault", dir)
		observed.Close()
	}
	dir, d := mirrorOf(t)
	before := words(t, dir)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	d.Withdraw(image1)
	if _, err := d.Write(ctx); !errors.Is(err, context.Canceled) || words(t, dir) != before {
		t.Errorf("cancelled: %v", err)
	}
}
