// Package mirrortest is for tests that build a mirror, and publish or copy it. A Place has the
// directories for that, Holds looks at what clients would get, and Update is a client. It is
// imported by tests only, of packages that the builder does not import.
package mirrortest

import (
	"bytes"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"puavo-image-repository/imagerepo"
	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/client"
	"puavo-image-repository/imagerepo/plan"
	"puavo-image-repository/testdata"
)

// The images of the fixtures: four of Series, the oldest first, and one of another series.
const (
	Image1 = "puavo-os-amxa-buster-2021-04-13-192449-amd64.img"
	Image2 = "puavo-os-amxa-buster-2021-04-13-193910-amd64.img"
	Image3 = "puavo-os-amxa-buster-2022-01-17-120001-amd64.img"
	Image4 = "puavo-os-amxa-buster-2022-01-20-173248-amd64.img"
	Other  = "puavo-os-free-buster-2022-02-04-140532-amd64.img"
	Series = "puavo-os-amxa-buster-amd64"
)

// Place is where a mirror is built, and where its copy is. It is for one goroutine.
type Place struct {
	T      testing.TB
	Dir    string // has all others
	Images string // directory of the images
	Mirror string // directory that Build makes
	Dest   string // directory for a copy, which nothing makes
	Keys   *Keys  // sign what Build makes; nil for none

	Compact plan.Compact // the compact deltas that Build plans for
}

// New returns a place with these images of the fixtures. The test removes it.
func New(t testing.TB, images ...string) *Place {
	t.Helper()
	dir := t.TempDir()
	p := &Place{T: t, Dir: dir, Images: filepath.Join(dir, "images"), Mirror: filepath.Join(dir, "mirror"), Dest: filepath.Join(dir, "dest")}
	p.Must(os.Mkdir(p.Images, 0o777))
	for _, name := range images {
		p.PutFixture(name)
	}
	return p
}

// Must ends the test if there is an error.
func (p *Place) Must(err error) {
	p.T.Helper()
	if err != nil {
		p.T.Fatal(err)
	}
}

// Put makes or replaces an image.
func (p *Place) Put(name string, data []byte) {
	p.T.Helper()
	p.Write("images/"+name, string(data))
}

// PutFixture makes or replaces an image by that of the fixtures.
func (p *Place) PutFixture(name string) {
	p.T.Helper()
	p.Put(name, testdata.Read(p.T, "images/"+name))
}

// Replace replaces an image by one of the same size that differs in its last byte.
func (p *Place) Replace(name string) {
	p.T.Helper()
	data := p.Read("images/" + name)
	data[len(data)-1] ^= 1
	p.Put(name, data)
}

// Leave removes images.
func (p *Place) Leave(names ...string) {
	p.T.Helper()
	for _, name := range names {
		p.Must(os.Remove(filepath.Join(p.Images, name)))
	}
}

// Build makes or updates the mirror, and signs it where the place has keys. Changes are made
// to the options before.
func (p *Place) Build(changes ...func(*imagerepo.Options)) {
	p.T.Helper()
	o := imagerepo.Options{
		ImageDir: p.Images, MirrorDir: p.Mirror, AllowRemoval: true, Jobs: 2, NoSync: true, Log: slog.New(slog.DiscardHandler),
		Policy: plan.Policy{Targets: 3, Downgrades: true, MaxRatio: 100, Compact: p.Compact},
	}
	if p.Keys != nil {
		o.Sign = p.Keys.Sign
	}
	for _, change := range changes {
		change(&o)
	}
	_, _, err := imagerepo.Build(p.T.Context(), o)
	p.Must(err)
}

// Update has a client with the first image update from a mirror, and returns the image that it
// then has as its newest. root is the file of the root that it trusts, "" for none. It can be
// called concurrently.
func (p *Place) Update(mirror, root string) (string, error) {
	dir, err := os.MkdirTemp(p.Dir, "client")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	if err := os.WriteFile(filepath.Join(dir, Image1), testdata.Read(p.T, "images/"+Image1), 0o666); err != nil {
		return "", err
	}
	r, err := client.Update(p.T.Context(), client.Options{Mirrors: []string{mirror}, Dir: dir, Series: Series, Trust: root})
	if err != nil {
		kept, second := os.ReadFile(filepath.Join(dir, Image1))
		if second == nil && !bytes.Equal(kept, testdata.Read(p.T, "images/"+Image1)) {
			second = errors.New("the client has changed the image that it had")
		}
		return "", errors.Join(err, second)
	}
	return r.Image.String(), nil
}

// Read returns a file of the place, Write makes or replaces one: another file, not other
// bytes in a file that may have several names.
func (p *Place) Read(name string) []byte {
	p.T.Helper()
	data, err := os.ReadFile(filepath.Join(p.Dir, name))
	p.Must(err)
	return data
}

// Write is described at Read.
func (p *Place) Write(name, data string) {
	p.T.Helper()
	file := filepath.Join(p.Dir, name)
	p.Must(os.MkdirAll(filepath.Dir(file), 0o777))
	if err := os.Remove(file); !errors.Is(err, fs.ErrNotExist) {
		p.Must(err)
	}
	p.Must(os.WriteFile(file, []byte(data), 0o666))
}

// Has reports whether the copy has a file.
func (p *Place) Has(name string) bool {
	p.T.Helper()
	_, err := os.Lstat(filepath.Join(p.Dest, name))
	if !errors.Is(err, fs.ErrNotExist) {
		p.Must(err)
	}
	return err == nil
}

// CopyDest copies the copy, to a directory of this name, and returns its path.
func (p *Place) CopyDest(name string) string {
	p.T.Helper()
	dir := filepath.Join(p.Dir, name)
	p.Must(exec.Command("cp", "-a", p.Dest, dir).Run())
	return dir
}

// Tree returns the files of a directory by their paths, but for the hidden ones.
func Tree(t testing.TB, dir string) map[string]string {
	t.Helper()
	all := make(map[string]string)
	root, err := atomicfile.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	err = fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || name != "." && strings.HasPrefix(d.Name(), ".") {
			if d != nil && d.IsDir() {
				return fs.SkipDir
			}
			return err
		}
		if d.Type().IsRegular() {
			data, err := root.ReadFile(name, 1<<30)
			all[name] = string(data)
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// Difference says in which files two trees differ, "" if in none.
func Difference(got, want map[string]string) string {
	var all []string
	for name := range want {
		if _, ok := got[name]; !ok {
			all = append(all, "no "+name)
		} else if got[name] != want[name] {
			all = append(all, "another "+name)
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			all = append(all, name)
		}
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}
