package source

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"puavo-image-repository/cksum"
	"puavo-image-repository/delta"
	"puavo-image-repository/imagerepo/client/internal/imagedir"
	"puavo-image-repository/imagerepo/client/internal/route"
	"puavo-image-repository/imagerepo/internal/assemble"
	"puavo-image-repository/imagerepo/internal/fetch"
	"puavo-image-repository/meta"
)

// version returns the name of an image by its number.
func version(n int) meta.Name {
	return meta.Name{Prefix: "os", Version: fmt.Sprintf("2021-04-01-%06d", n), Arch: "x"}
}

// digest returns a digest that stands for a content.
func digest(content int) (d cksum.Digest512) {
	d[0], d[1], d[2] = byte(content), byte(content>>8), 1
	return d
}

// An image of a test, with deltas from others by their numbers.
type image struct {
	n, content int
	from       []int
}

const imageSize, deltaSize = 64 << 20, 1 << 20

// seriesOf returns a series of images. The content of a delta is that of its target,
// and which base it has.
func seriesOf(images ...image) *meta.Series {
	s := new(meta.Series)
	for _, im := range images {
		m := meta.Image{Name: version(im.n), File: meta.File{Sums: cksum.Sums{Size: imageSize, SHA512: digest(im.content)}}}
		for _, b := range im.from {
			sums := cksum.Sums{Size: deltaSize, SHA512: digest(1000 + 100*im.content + b)}
			m.Diffs = append(m.Diffs, meta.Diff{File: meta.File{Sums: sums}, Base: version(b), Filename: meta.DeltaName(version(b), m.Name)})
		}
		s.Images = append(s.Images, m)
	}
	return s
}

// open opens a mirror that nobody asks.
func open(t *testing.T, where string) *fetch.Mirror {
	t.Helper()
	m, err := fetch.Open(where, fetch.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

// tell says which files a route takes and from where: "1>2@a" for a delta, "2@a" for a
// full image.
func tell(r route.Route) string {
	var words []string
	for _, s := range r.Steps {
		word := strings.TrimLeft(s.Image.Name.Version[11:], "0")
		if s.Diff != nil {
			word = strings.TrimLeft(s.Diff.Base.Version[11:], "0") + ">" + word
		}
		words = append(words, word+"@"+strings.TrimPrefix(s.Mirror, "https://"))
	}
	return strings.Join(words, " ")
}

func TestChoice(t *testing.T) {
	wanted := seriesOf(image{1, 1, nil}, image{2, 2, []int{1}}, image{3, 3, []int{2}})
	a, b := open(t, "https://a"), open(t, "https://b")
	have := func(n int) []imagedir.Image { return []imagedir.Image{{Name: version(n), Size: imageSize}} }
	all := Index(wanted)
	refuses := func(n, base int, mirror string, err error) func(*Failures) {
		return func(f *Failures) {
			s := route.Step{Image: &wanted.Images[n-1], Mirror: mirror}
			if base > 0 {
				s.Diff = &s.Image.Diffs[0]
			}
			f.Add(s, err)
		}
	}
	delta23 := wanted.Images[2].Diffs[0]
	for _, c := range []struct {
		name    string
		sources Sources
		bases   []imagedir.Image
		fails   []func(*Failures)
		want    string // "" for none
	}{
		{"the first that has it", Sources{{Mirror: a, Images: all}, {Mirror: b, Images: all}}, have(2), nil, "2>3@a"},
		{"two in a row", Sources{{Mirror: a, Images: all}}, have(1), nil, "1>2@a 2>3@a"},
		{"each from another", Sources{{Mirror: a, Images: Index(seriesOf(image{2, 2, []int{1}}))}, {Mirror: b, Images: Index(seriesOf(image{3, 3, []int{2}}))}}, have(1), nil, "1>2@a 2>3@b"},
		{"no base", Sources{{Mirror: a, Images: all}}, nil, nil, "3@a"},
		{"a base of another size", Sources{{Mirror: a, Images: all}}, []imagedir.Image{{Name: version(2), Size: 1}}, nil, "3@a"},
		{"a base that is not listed", Sources{{Mirror: a, Images: Index(seriesOf(image{3, 3, []int{9}}))}}, have(9), nil, "9>3@a"},
		{"another target of the same name", Sources{{Mirror: a, Images: Index(seriesOf(image{3, 33, []int{2}}))}, {Mirror: b, Images: all}}, have(2), nil, "2>3@b"},
		{"another base of the same name", Sources{{Mirror: a, Images: Index(seriesOf(image{2, 22, nil}, image{3, 3, []int{2}}))}, {Mirror: b, Images: all}}, have(2), nil, "2>3@b"},
		{"a stored delta", Sources{{Mirror: b, Images: all}, {Mirror: a, Images: all, Stored: map[string]int64{meta.DeltaPath(delta23.Filename): deltaSize}}}, have(2), nil, "2>3@a"},
		{"a stored delta of another size", Sources{{Mirror: a, Images: all, Stored: map[string]int64{meta.DeltaPath(delta23.Filename): 1}}, {Mirror: b, Images: all}}, have(2), nil, "2>3@b"},
		{"stored deltas alone", Sources{{Mirror: a, Images: all, Stored: map[string]int64{}}}, have(2), nil, ""},

		{"not there", Sources{{Mirror: a, Images: all}, {Mirror: b, Images: all}}, have(2), []func(*Failures){refuses(3, 2, "https://a", fs.ErrNotExist)}, "2>3@b"},
		{"not there, and no other", Sources{{Mirror: a, Images: all}}, have(2), []func(*Failures){refuses(3, 2, "https://a", fs.ErrNotExist)}, "3@a"},
		{"no answer", Sources{{Mirror: a, Images: all}}, have(2), []func(*Failures){refuses(3, 2, "https://a", fetch.ErrNoAnswer)}, "3@a"},
		{"no answer twice", Sources{{Mirror: a, Images: all}, {Mirror: b, Images: all}}, have(2), []func(*Failures){refuses(3, 2, "https://a", fetch.ErrNoAnswer), refuses(2, 1, "https://a", fetch.ErrNoAnswer), refuses(3, 2, "https://b", fs.ErrNotExist)}, "3@b"},
		{"cut off", Sources{{Mirror: a, Images: all}}, have(2), []func(*Failures){refuses(3, 2, "https://a", assemble.ErrIncomplete)}, ""},
		{"too slow", Sources{{Mirror: a, Images: all}, {Mirror: b, Images: all}}, have(2), []func(*Failures){refuses(3, 2, "https://a", ErrTooSlow)}, "2>3@b"},
		{"wrong", Sources{{Mirror: a, Images: all}, {Mirror: b, Images: all}}, have(2), []func(*Failures){refuses(3, 2, "https://a", assemble.ErrVerify)}, "2>3@b"},
		{"malformed", Sources{{Mirror: a, Images: all}, {Mirror: b, Images: all}}, have(2), []func(*Failures){refuses(3, 2, "https://a", delta.ErrFormat)}, "2>3@b"},
		{"unfit, whoever has it", Sources{{Mirror: a, Images: all}, {Mirror: b, Images: all}}, have(2), []func(*Failures){refuses(3, 2, "https://a", fmt.Errorf("%w: %w", assemble.ErrUnfit, assemble.ErrVerify))}, "3@a"},
		{"all", Sources{{Mirror: a, Images: all}}, have(2), []func(*Failures){refuses(3, 2, "https://a", errors.New("x")), refuses(3, 0, "https://a", errors.New("x"))}, ""},
	} {
		f := NewFailures(nil)
		for _, fail := range c.fails {
			fail(f)
		}
		r, ok := Choice{Wanted: &Wanted{wanted, &wanted.Images[2], all}, Sources: c.sources, Bases: c.bases, Failures: f, Downgrades: true, Steps: route.MaxSteps}.Route()
		if got := tell(r); ok != (c.want != "") || got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// Steps to older images are taken only if they are allowed.
func TestDowngrades(t *testing.T) {
	wanted := seriesOf(image{1, 1, []int{2}}, image{2, 2, nil})
	a := open(t, "https://a")
	for downgrades, want := range map[bool]string{true: "2>1@a", false: "1@a"} {
		r, _ := Choice{
			Wanted: &Wanted{wanted, &wanted.Images[0], Index(wanted)}, Sources: Sources{{Mirror: a, Images: Index(wanted)}},
			Bases: []imagedir.Image{{Name: version(2), Size: imageSize}}, Failures: NewFailures(nil), Downgrades: downgrades, Steps: 9,
		}.Route()
		if got := tell(r); got != want {
			t.Errorf("allowed %v: %q, want %q", downgrades, got, want)
		}
	}
}

// What earlier runs have found wrong stays so, in that mirror alone; the rest of what
// failed is forgiven.
func TestFailures(t *testing.T) {
	s := route.Step{Image: &seriesOf(image{1, 1, nil}).Images[0], Mirror: "https://a"}
	other := s
	other.Mirror = "https://b"
	f := NewFailures(nil)
	f.Add(s, assemble.ErrVerify)
	if len(f.Wrong) != 1 || f.Wrong[0] != (assemble.Wrong{Mirror: "https://a", Source: digest(1)}) || f.exclude(other, digest(1)) {
		t.Errorf("wrong are %v", f.Wrong)
	}
	f = NewFailures(nil)
	f.Add(s, ErrTooSlow)
	if !f.exclude(s, digest(1)) || f.exclude(other, digest(1)) {
		t.Error("a slow mirror, and no other, is excluded")
	}
	if e := f.Except("https://b"); !e.exclude(s, digest(1)) || !e.exclude(other, digest(1)) || f.exclude(other, digest(1)) {
		t.Error("except b")
	}
	if !f.ForgiveSlow() || f.exclude(s, digest(1)) || f.ForgiveSlow() {
		t.Error("a slow mirror is not forgiven once")
	}
	if e := f.WithoutFile(s); !e.exclude(s, digest(1)) || e.exclude(other, digest(1)) || f.exclude(s, digest(1)) {
		t.Error("without a file")
	}
	with := s
	with.Diff = new(meta.Diff)
	for range maxDeltas {
		f.Add(s, fs.ErrNotExist)
	}
	if !f.exclude(with, digest(7)) || f.exclude(other, digest(1)) {
		t.Error("after many failures only full images are left")
	}
}

// Regular files in rdiffs/ are stored deltas.
func TestStored(t *testing.T) {
	dir := t.TempDir()
	d, err := imagedir.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if got := Stored(d.Files); len(got) > 0 {
		t.Errorf("without a directory: %v", got)
	}
	os.MkdirAll(filepath.Join(dir, "rdiffs", "sub"), 0o777)
	os.WriteFile(filepath.Join(dir, "rdiffs", "a.rdiff"), []byte("abc"), 0o666)
	os.Symlink("a.rdiff", filepath.Join(dir, "rdiffs", "b.rdiff"))
	if got := Stored(d.Files); len(got) != 1 || got["rdiffs/a.rdiff"] != 3 {
		t.Errorf("%v", got)
	}
}

// A choice among 250,000 deltas, each of which two mirrors have, is a matter of
// milliseconds.
func BenchmarkChoice(b *testing.B) {
	const images = 500
	var all []image
	for i := range images {
		im := image{n: i, content: i}
		for j := range images {
			if i != j {
				im.from = append(im.from, j)
			}
		}
		all = append(all, im)
	}
	s := seriesOf(all...)
	var sources Sources
	for _, where := range []string{"https://a", "https://b"} {
		m, err := fetch.Open(where, fetch.Options{})
		if err != nil {
			b.Fatal(err)
		}
		defer m.Close()
		sources = append(sources, Source{Mirror: m, Images: Index(s)})
	}
	c := Choice{
		Wanted: &Wanted{s, &s.Images[images-1], Index(s)}, Sources: sources, Bases: []imagedir.Image{{Name: version(0), Size: imageSize}},
		Failures: NewFailures(nil), Downgrades: true, Steps: route.MaxSteps,
	}
	for b.Loop() {
		if _, ok := c.Route(); !ok {
			b.Fatal("no route")
		}
	}
}
