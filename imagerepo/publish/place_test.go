package publish

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo"
	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/client"
	"puavo-image-repository/imagerepo/internal/mirror"
	"puavo-image-repository/imagerepo/plan"
	"puavo-image-repository/imagerepo/trust"
	"puavo-image-repository/meta"
	"puavo-image-repository/testdata"
)

const (
	image1 = "puavo-os-amxa-buster-2021-04-13-192449-amd64.img"
	image2 = "puavo-os-amxa-buster-2021-04-13-193910-amd64.img"
	image3 = "puavo-os-amxa-buster-2022-01-17-120001-amd64.img"
	image4 = "puavo-os-amxa-buster-2022-01-20-173248-amd64.img"
	other  = "puavo-os-free-buster-2022-02-04-140532-amd64.img"
	series = "puavo-os-amxa-buster-amd64"
)

// place is where a mirror is built and published.
type place struct {
	t                    testing.TB
	dir                  string
	images, mirror, dest string
	keys                 *signer
}

// signer signs with keys that several places share, since it takes long to open them.
type signer struct {
	mu sync.Mutex
	*trust.Keys
}

func (s *signer) Sign(ctx context.Context, mirror atomicfile.Dir) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.Keys.Sign(ctx, mirror)
}

func (s *signer) SignAfter(ctx context.Context, mirror atomicfile.Dir, version int64) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.Keys.SignAfter(ctx, mirror, version)
}

func newPlace(t testing.TB, images ...string) *place {
	dir := t.TempDir()
	p := &place{t: t, dir: dir, images: filepath.Join(dir, "images"), mirror: filepath.Join(dir, "mirror"), dest: filepath.Join(dir, "dest")}
	p.must(os.Mkdir(p.images, 0o777))
	for _, name := range images {
		p.put(name, testdata.Read(t, "images/"+name))
	}
	return p
}

func (p *place) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

// put makes or replaces an image.
func (p *place) put(name string, data []byte) {
	p.t.Helper()
	file := filepath.Join(p.images, name)
	os.Remove(file)
	p.must(os.WriteFile(file, data, 0o666))
}

// replace replaces an image by another content of the same size.
func (p *place) replace(name string) {
	p.t.Helper()
	data, err := os.ReadFile(filepath.Join(p.images, name))
	p.must(err)
	data[len(data)-1] ^= 1
	p.put(name, data)
}

func (p *place) leave(names ...string) {
	for _, name := range names {
		p.must(os.Remove(filepath.Join(p.images, name)))
	}
}

const passphrase = "open sesame"

// firstKeys has the keys of all places that sign; removeKeys removes them.
var firstKeys = sync.OnceValue(func() *signer {
	dir, err := os.MkdirTemp("", "keys")
	if err == nil {
		removeKeys = func() { os.RemoveAll(dir) }
		err = trust.Init(keyOptions(dir))
	}
	s := &signer{}
	if err == nil {
		s.Keys, err = trust.Open(keyOptions(dir))
	}
	if err != nil {
		panic(err)
	}
	keysDir = dir
	return s
})

var (
	keysDir    string // of firstKeys
	removeKeys = func() {}
)

func keyOptions(dir string) trust.Options {
	return trust.Options{Dir: dir, Log: slog.New(slog.DiscardHandler), Passphrase: func(bool) ([]byte, error) { return []byte(passphrase), nil }}
}

// sign makes the place one whose mirror is signed.
func (p *place) sign() {
	p.t.Helper()
	p.keys = firstKeys()
	dir := filepath.Join(p.dir, "keys")
	p.must(os.CopyFS(dir, os.DirFS(keysDir)))
	p.must(filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			err = os.Chmod(name, 0o600)
		} else if err == nil {
			err = os.Chmod(name, 0o700)
		}
		return err
	}))
}

// openKeys has the place sign with keys of its own.
func (p *place) openKeys() {
	p.t.Helper()
	keys, err := trust.Open(keyOptions(filepath.Join(p.dir, "keys")))
	p.must(err)
	p.t.Cleanup(func() { keys.Close() })
	p.keys = &signer{Keys: keys}
}

func (p *place) root() string { return filepath.Join(p.dir, "keys", "1.root.json") }

// build builds the mirror.
func (p *place) build() {
	p.t.Helper()
	o := imagerepo.Options{
		ImageDir: p.images, MirrorDir: p.mirror, AllowRemoval: true, Jobs: 2, NoSync: true, Log: slog.New(slog.DiscardHandler),
		Policy:   plan.Policy{Targets: 3, Downgrades: true, MaxRatio: 100, Grace: 0},
		Torrents: plan.Torrents{Of: plan.TorrentsOfAll, Seeds: []string{"https://images.example.org"}},
	}
	if p.keys != nil {
		o.Sign = p.keys.Sign
	}
	_, _, err := imagerepo.Build(context.Background(), o)
	p.must(err)
}

func (p *place) options() Options {
	return Options{MirrorDir: p.mirror, Destination: p.dest, Jobs: 2, NoSync: true, Grace: time.Hour}
}

func (p *place) publish(o Options) (Plan, Summary) {
	p.t.Helper()
	pl, s, err := Run(p.t.Context(), o)
	p.must(err)
	return pl, s
}

// holds returns what is wrong at a destination: each digest that a document has must be that of
// the file, and each torrent has its file.
func holds(dir string) error {
	var errs []error
	for _, list := range mirror.Lists() {
		data, err := os.ReadFile(filepath.Join(dir, list))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		lines, err := mirror.ParseList(list, data)
		errs = append(errs, err)
		for _, l := range lines {
			errs = append(errs, is(dir, l.Path, l.SHA256, list))
		}
	}
	torrents, _ := filepath.Glob(filepath.Join(dir, "torrents", "*.torrent"))
	for _, t := range torrents {
		file, _ := mirror.FileOf(filepath.Base(t))
		if _, err := os.Stat(filepath.Join(dir, mirror.PathOf(file))); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", t, err))
		}
	}
	data, _ := os.ReadFile(filepath.Join(dir, "CKSUMS"))
	lines, err := cksum.ParseCKSUMS(bytes.NewReader(data))
	errs = append(errs, err)
	for _, l := range lines {
		file := l.Name
		if path.Ext(file) == ".rdiff" {
			file = meta.DeltaPath(file)
		}
		content, err := os.ReadFile(filepath.Join(dir, file))
		sums, _ := cksum.Read(context.Background(), bytes.NewReader(content))
		if err != nil || sums.CRC != l.CRC || sums.Size != l.Size {
			errs = append(errs, err, fmt.Errorf("%s is not what CKSUMS says", file))
		}
	}
	index, _ := os.ReadFile(filepath.Join(dir, "index.json"))
	if ix, err := meta.ParseIndex(index); err == nil {
		for _, e := range ix.Series {
			errs = append(errs, seriesHolds(dir, e.Meta))
		}
	}
	return errors.Join(errs...)
}

func seriesHolds(dir, doc string) error {
	data, err := os.ReadFile(filepath.Join(dir, doc))
	if err != nil {
		return fmt.Errorf("index.json: %w", err)
	}
	s, err := meta.ParseSeries(data)
	errs := []error{err}
	for _, im := range s.Images {
		errs = append(errs, is(dir, im.Name.String(), im.Sums.SHA256, doc))
		for _, d := range im.Diffs {
			errs = append(errs, is(dir, meta.DeltaPath(d.Filename), d.Sums.SHA256, doc))
		}
	}
	return errors.Join(errs...)
}

func is(dir, name string, want cksum.Digest256, list string) error {
	data, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return fmt.Errorf("%s names what is not there: %w", list, err)
	}
	if sha256.Sum256(data) != want {
		return fmt.Errorf("%s is not what %s says", name, list)
	}
	return nil
}

// update updates a client that has the first image from a destination, and returns the image
// that it then has as its newest.
func (p *place) update(mirror, root string) (string, error) {
	dir, err := os.MkdirTemp(p.dir, "client")
	p.must(err)
	defer os.RemoveAll(dir)
	p.must(os.WriteFile(filepath.Join(dir, image1), testdata.Read(p.t, "images/"+image1), 0o666))
	r, err := client.Update(p.t.Context(), client.Options{Mirrors: []string{mirror}, Dir: dir, Series: series, Trust: root})
	if err != nil {
		return "", err
	}
	return r.Image.String(), nil
}

// tree returns the files of a directory, but for the hidden ones.
func tree(t testing.TB, dir string) map[string]string {
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
