package filler

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/fetch"
	"puavo-image-repository/imagerepo/internal/store"
	"puavo-image-repository/imagerepo/internal/store/directory"
	"puavo-image-repository/meta"
)

// The files of upstream: an image, the delta from it to another, and that.
const (
	base   = "puavo-os-amxa-buster-2021-04-13-192449-amd64.img"
	target = "puavo-os-amxa-buster-2021-04-13-193910-amd64.img"
	delta  = "rdiffs/puavo-os-amxa-buster-2021-04-13-192449--2021-04-13-193910-amd64.rdiff"
	// A torrent is among the documents; the file x of the copy has it.
	torrent = "torrents/" + base + ".torrent"
)

// files are their contents. The delta copies 150 bytes of the base, and has 3 of its own.
var files = map[string]string{
	base:   strings.Repeat("base", 50),
	target: strings.Repeat("base", 50)[:150] + "new",
	delta:  "rs\x026\x45\x00\x96\x03new\x00",

	torrent: "d4:infoe",
}

// site is a mirror that answers as its fields say.
type site struct {
	*httptest.Server
	mu     sync.Mutex
	answer func(w http.ResponseWriter, r *http.Request, name string) // nil: with files
	asked  []string
}

func newSite(t *testing.T) *site {
	s := &site{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := strings.TrimPrefix(r.URL.Path, "/")
		s.mu.Lock()
		s.asked = append(s.asked, name)
		answer := s.answer
		s.mu.Unlock()
		if answer != nil {
			answer(w, r, name)
			return
		}
		serve(w, r, name)
	}))
	t.Cleanup(s.Close)
	return s
}

func serve(w http.ResponseWriter, r *http.Request, name string) {
	http.ServeContent(w, r, "", time.Time{}, strings.NewReader(files[name]))
}

func gone(w http.ResponseWriter, _ *http.Request, _ string) { w.WriteHeader(http.StatusNotFound) }

// only has one file answered otherwise.
func only(file string, answer func(http.ResponseWriter, *http.Request, string)) func(http.ResponseWriter, *http.Request, string) {
	return func(w http.ResponseWriter, r *http.Request, name string) {
		if name == file {
			answer(w, r, name)
		} else {
			serve(w, r, name)
		}
	}
}

// place is a copy that lacks all files, and its upstream: two mirrors. The target can be made
// of the base and the delta.
type place struct {
	*Filler
	t             *testing.T
	first, second *site
	cancel        func() // ends the context of the test
	log           bytes.Buffer
	mu            sync.Mutex
	got           []File
	sent, found   atomic.Int64 // bytes, by Done
	// change, which may be nil, is called before each change of the copy.
	change func(atomicfile.Change) error
}

func newPlace(t *testing.T) *place {
	t.Helper()
	p := &place{t: t, first: newSite(t), second: newSite(t), cancel: func() {}}
	dir := t.TempDir()
	t.Cleanup(atomicfile.Observe(dir, func(c atomicfile.Change) error {
		if p.change == nil {
			return nil
		}
		return p.change(c)
	}))
	open := func(where string) *fetch.Mirror {
		m, err := fetch.Open(where, fetch.Options{Patience: fetch.Patience{Attempts: 2, Wait: time.Millisecond, Stall: 200 * time.Millisecond}})
		p.must(err)
		t.Cleanup(func() { m.Close() })
		return m
	}
	disk, err := directory.Open(dir, true)
	p.must(err)
	t.Cleanup(func() { disk.Close() })
	root, err := atomicfile.Open(dir)
	p.must(err)
	t.Cleanup(func() { root.Close() })
	root.NoSync = true
	mirrors := []*fetch.Mirror{open(p.first.URL), open(p.second.URL)}
	p.Filler = &Filler{
		Store: disk, Dir: root, Local: open(dir), Log: slog.New(slog.NewTextHandler(&p.log, nil)), Got: p.note,
		Payload: make(map[string]Payload), Missing: make(map[string]bool), Ways: make(map[string]Way), Made: make(map[string]string),
	}
	for _, name := range []string{base, target, delta} {
		image, _ := meta.ParseName(cmp.Or(map[string]string{delta: target}[name], name))
		p.Payload[name] = Payload{Sums: sumsOf(t, name), Image: image, Mirrors: mirrors}
		p.Missing[name] = true
	}
	from, _ := meta.ParseName(base)
	p.Ways[target] = Way{Base: from, Diff: meta.Diff{Filename: filepath.Base(delta), Base: from, File: meta.File{Sums: sumsOf(t, delta)}}}
	return p
}

func sumsOf(t *testing.T, name string) cksum.Sums {
	t.Helper()
	sums, err := cksum.Read(t.Context(), strings.NewReader(files[name]))
	if err != nil {
		t.Fatal(err)
	}
	return sums
}

func (p *place) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

func (p *place) note(f File) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.got = append(p.got, f)
}

// put makes a file of the copy.
func (p *place) put(name, data string) {
	p.t.Helper()
	file := filepath.Join(p.Dir.Name(), name)
	p.must(os.MkdirAll(filepath.Dir(file), 0o777))
	p.must(os.WriteFile(file, []byte(data), 0o666))
}

// has makes the copy one that has a file.
func (p *place) has(names ...string) {
	p.t.Helper()
	for _, name := range names {
		delete(p.Missing, name)
		p.put(name, files[name])
	}
}

// of returns what Stage is asked for.
func (p *place) of(name string) store.Content {
	c := store.Content{Name: name, Size: int64(len(files[name])), SHA256: sumsOf(p.t, name).SHA256}
	c.Open = func() (*os.File, error) { return p.Dir.Open("x") }
	c.Done = func(n int64, sent bool) {
		if n <= 0 {
			p.t.Errorf("%d bytes of %s are reported", n, name)
		}
		if sent {
			p.sent.Add(n)
		} else {
			p.found.Add(n)
		}
	}
	return c
}

// asked returns which files were asked of the mirrors, sorted.
func (p *place) asked() (first, second []string) {
	for _, s := range []*site{p.first, p.second} {
		s.mu.Lock()
		defer s.mu.Unlock()
	}
	return slices.Sorted(slices.Values(p.first.asked)), slices.Sorted(slices.Values(p.second.asked))
}

// releases checks that payload that is staged was reported, and gets its name and its content.
func (p *place) releases(ctx context.Context, name string) {
	p.t.Helper()
	p.must(p.Release(ctx, p.of(name)))
	data, err := os.ReadFile(filepath.Join(p.Dir.Name(), name))
	p.must(err)
	if string(data) != files[name] {
		p.t.Errorf("%s is another file", name)
	}
	if _, err := p.Dir.Lstat(Folder(p.of(name))); !errors.Is(err, fs.ErrNotExist) {
		p.t.Errorf("the folder in which %s was made: %v", name, err)
	}
}

// partial returns what is not whole.
func (p *place) partial() (names []string) {
	p.t.Helper()
	err := fs.WalkDir(p.Dir.FS(), Partial, func(name string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			names = append(names, filepath.Base(name))
		}
		return nil
	})
	p.must(err)
	return names
}
