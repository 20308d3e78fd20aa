package torrents

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/ledger"
	"puavo-image-repository/imagerepo/internal/meter"
	"puavo-image-repository/imagerepo/internal/mirror"
	"puavo-image-repository/imagerepo/internal/state"
	"puavo-image-repository/imagerepo/internal/torrent"
	"puavo-image-repository/imagerepo/plan"
)

const (
	image = "puavo-os-amxa-buster-2022-01-20-173248-amd64.img"
	delta = "puavo-os-amxa-buster-2021-04-13-193910--2022-01-20-173248-amd64.rdiff"
)

// content is that of both files.
var content = []byte(strings.Repeat("0123456789abcdef", 5000))

// place is a mirror with an image and a delta, which were digested without torrents.
type place struct {
	t         *testing.T
	log       strings.Builder
	listed    map[string]cksum.Digest256
	withdrawn []string // by each call
	*Maker
}

func newPlace(t *testing.T) *place {
	t.Helper()
	p := &place{t: t, listed: make(map[string]cksum.Digest256)}
	log := slog.New(slog.NewTextHandler(&p.log, &slog.HandlerOptions{Level: slog.LevelWarn}))
	m, err := mirror.Open(filepath.Join(t.TempDir(), "mirror"), true, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	known, _, err := ledger.Load(m.State)
	if err != nil {
		t.Fatal(err)
	}
	p.Maker = &Maker{
		Root: m.Root, Ledger: known, Torrents: plan.Torrents{Of: plan.TorrentsOfAll, Seeds: []string{"https://a"}}, Jobs: 2, Log: log,
		Progress: meter.New(0, nil),
		Listed:   func(name string) (cksum.Digest256, bool) { d, ok := p.listed[name]; return d, ok },
		Withdraw: func(ctx context.Context, names ...string) error {
			if len(names) > 0 {
				p.withdrawn = append(p.withdrawn, strings.Join(names, " "))
			}
			for _, name := range names {
				delete(p.listed, name)
			}
			return ctx.Err()
		},
	}
	for _, file := range []string{image, delta} {
		p.write(file, content)
		if err := known.Put(file, &state.Record{Sums: digest(content)}); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

func (p *place) path(name string) string { return filepath.Join(p.Root.Name(), mirror.PathOf(name)) }

func (p *place) write(name string, data []byte) {
	p.t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(p.path(name)), 0o777), os.WriteFile(p.path(name), data, 0o666)); err != nil {
		p.t.Fatal(err)
	}
}

// both are the torrents of both files, as a plan has them.
var both = []plan.Torrent{{File: delta, ImageSize: 1 << 30}, {File: image, ImageSize: int64(len(content))}}

// check checks the torrents of these files, and that there are no others.
func (p *place) check(what string, files ...string) {
	p.t.Helper()
	entries, _ := os.ReadDir(filepath.Join(p.Root.Name(), mirror.TorrentDir))
	if len(entries) != len(files) {
		p.t.Errorf("%s: there are %v", what, entries)
	}
	for _, file := range files {
		name := mirror.TorrentOf(file)
		data, _ := os.ReadFile(p.path(name))
		h := torrent.NewHash(map[string]int64{image: 32 << 10, delta: 128 << 10}[file])
		h.Write(content)
		want, err := torrent.Make(h.File(file), p.Torrents.Trackers, []string{p.Torrents.Seeds[0] + "/" + mirror.PathOf(file)})
		if err != nil || string(data) != string(want) {
			p.t.Errorf("%s: the torrent of %s is\n%q, want\n%q, %v", what, file, data, want, err)
		}
		if sha256, right := p.Right(file); !right || sha256 != digest(want).SHA256 {
			p.t.Errorf("%s: that of %s is not right", what, file)
		}
	}
}

// make makes all torrents, and returns how many bytes it read of their files.
func (p *place) make() int64 {
	p.t.Helper()
	before := p.Progress.Done()
	if err := p.Make(p.t.Context(), both); err != nil {
		p.t.Fatal(err)
	}
	for _, file := range []string{image, delta} {
		if sha256, ok := p.Right(file); ok {
			p.listed[mirror.TorrentOf(file)] = sha256
		}
	}
	return p.Progress.Done() - before
}

// Each file is read once for its torrent, then kept; other trackers and seeds need no
// reading, and are withdrawn together.
func TestMake(t *testing.T) {
	p := newPlace(t)
	size := int64(len(content))
	for _, c := range []struct {
		name      string
		change    func()
		read      int64
		withdrawn []string
	}{
		{"turned on", func() {}, 2 * size, nil},
		{"kept", func() {}, 0, nil},
		{"a tracker", func() { p.Torrents.Trackers = []string{"http://t"} }, 0, []string{mirror.TorrentOf(delta) + " " + mirror.TorrentOf(image)}},
		{"another seed", func() { p.Torrents.Seeds = []string{"https://b/c"} }, 0, []string{mirror.TorrentOf(delta) + " " + mirror.TorrentOf(image)}},
		{"one is gone", func() { os.Remove(p.path(mirror.TorrentOf(delta))) }, size, []string{mirror.TorrentOf(delta)}},
		{"one is damaged", func() { p.write(mirror.TorrentOf(image), []byte("d")) }, size, []string{mirror.TorrentOf(image)}},
		{"one is damaged, and another seed", func() {
			p.write(mirror.TorrentOf(image), []byte("d"))
			p.Torrents.Seeds = []string{"https://d"}
		}, size, []string{mirror.TorrentOf(delta) + " " + mirror.TorrentOf(image)}},
		{"one has rotted, and another seed", func() {
			p.rot(mirror.TorrentOf(image))
			p.Torrents.Seeds = []string{"https://e"}
		}, size, []string{mirror.TorrentOf(delta) + " " + mirror.TorrentOf(image)}},
		{"a record is lost", func() {
			p.Ledger.Delete(mirror.TorrentOf(image))
			p.Holds.Listed = map[string]bool{mirror.TorrentOf(image): true}
		}, size, []string{mirror.TorrentOf(image)}},
	} {
		c.change()
		p.withdrawn = nil
		if read := p.make(); read != c.read || !slices.Equal(p.withdrawn, c.withdrawn) {
			t.Errorf("%s: %d bytes were read, want %d; withdrawn are %q, want %q", c.name, read, c.read, p.withdrawn, c.withdrawn)
		}
		p.check(c.name, image, delta)
	}
	if p.log.Len() > 0 {
		t.Errorf("it warns: %s", &p.log)
	}
}

// rot changes a torrent, and leaves its stamp.
func (p *place) rot(name string) {
	p.t.Helper()
	data, _ := os.ReadFile(p.path(name))
	data[bytes.Index(data, []byte("6:pieces"))+20] ^= 1
	p.write(name, data)
	info, err := os.Stat(p.path(name))
	if err != nil {
		p.t.Fatal(err)
	}
	record := p.Ledger.Of(name)
	record.Stamp = state.StampOf(info)
	p.Ledger.Put(name, record)
}

// Of a pass that reads a file for its digests, its torrent comes without reading it again.
func TestPass(t *testing.T) {
	for _, c := range []struct {
		name string
		pass func(p *place)
		made bool
	}{
		{"a pass", func(p *place) { p.pass(content); p.End(image, digest(content)) }, true},
		{"a second one", func(p *place) { p.pass([]byte("x")); p.pass(content); p.End(image, digest(content)) }, true},
		{"one that did not end", func(p *place) { p.pass(content) }, false},
		{"of another content", func(p *place) { p.pass([]byte("x")); p.End(image, digest([]byte("x"))) }, false},
		{"none", func(*place) {}, false},
	} {
		p := newPlace(t)
		c.pass(p)
		for range 2 {
			if err := p.Put(t.Context(), image); err != nil {
				t.Fatal(err)
			}
		}
		if c.made {
			p.check(c.name, image)
		} else {
			p.check(c.name)
		}
		c.pass(p)
		if read, want := p.make(), int64(len(content)); c.made && read != want || !c.made && read != 2*want {
			t.Errorf("%s: %d bytes were read", c.name, read)
		}
		p.check(c.name, image, delta)
	}
}

// Of a file of which nothing is known there is no torrent.
func TestUnknown(t *testing.T) {
	p := newPlace(t)
	p.pass(content)
	if err := errors.Join(p.Ledger.Delete(image), p.Put(t.Context(), image)); err != nil {
		t.Fatal(err)
	}
	p.check("unknown")
}

func (p *place) pass(content []byte) {
	for _, w := range p.Begin(image, int64(len(content))) {
		w.Write(content)
	}
}

// A file that is not wanted has no pass and is not right.
func TestNotWanted(t *testing.T) {
	p := newPlace(t)
	p.make()
	p.Torrents.Of = plan.TorrentsOfDeltas
	if also := p.Begin(image, 1); also != nil {
		t.Error("an image has a pass")
	}
	if _, right := p.Right(image); right {
		t.Error("the torrent of an image is right")
	}
	if _, right := p.Right(delta); !right {
		t.Error("that of a delta is not")
	}
}

// A file that is not what was published, or is gone, gets no torrent and a warning; what
// fails on this machine is an error.
func TestOmits(t *testing.T) {
	foreign := []byte("somebody's")
	for _, c := range []struct {
		name   string
		change func(p *place)
		warns  string
		files  []string // that have torrents
	}{
		{"another content", func(p *place) { p.write(image, []byte("x")) }, "not what was published; run verify", []string{delta}},
		{"gone", func(p *place) { os.Remove(p.path(image)) }, "no such file", []string{delta}},
		{"somebody's torrent", func(p *place) { p.write(mirror.TorrentOf(image), foreign) }, "not put there by this tool", []string{delta}},
	} {
		p := newPlace(t)
		c.change(p)
		p.make()
		if !strings.Contains(p.log.String(), c.warns) || strings.Count(p.log.String(), "\n") != 1 {
			t.Errorf("%s: it warns %q, want %q", c.name, p.log.String(), c.warns)
		}
		if data, _ := os.ReadFile(p.path(mirror.TorrentOf(image))); data != nil {
			if string(data) != string(foreign) || p.Ledger.Has(mirror.TorrentOf(image)) {
				t.Errorf("%s: left is %q", c.name, data)
			}
			os.Remove(p.path(mirror.TorrentOf(image)))
		}
		p.check(c.name, c.files...)
	}
	p := newPlace(t)
	p.write(mirror.TorrentOf(image), foreign)
	p.Holds.All = true // it is taken over
	p.make()
	p.check("adopted", image, delta)
}

// A torrent that is about to be another's is removed, if it is the tool's own.
func TestDiscard(t *testing.T) {
	next := digest([]byte("next"))
	for _, c := range []struct {
		name   string
		change func(p *place)
		next   cksum.Sums
		left   []string
	}{
		{"another content", func(*place) {}, next, []string{delta}},
		{"an unknown content", func(*place) {}, cksum.Sums{}, []string{delta}},
		{"the same content", func(*place) {}, digest(content), []string{delta, image}},
		{"somebody's", func(p *place) { p.Ledger.Delete(mirror.TorrentOf(image)) }, next, []string{delta, image}},
		{"gone", func(p *place) { os.Remove(p.path(mirror.TorrentOf(image))) }, next, []string{delta}},
	} {
		p := newPlace(t)
		p.make()
		c.change(p)
		if err := p.Discard(image, c.next); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		entries, _ := os.ReadDir(filepath.Join(p.Root.Name(), mirror.TorrentDir))
		if len(entries) != len(c.left) {
			t.Errorf("%s: left are %v", c.name, entries)
		}
	}
}

// Whatever fails, or when it is cancelled, the error says so, and the next call makes what
// is left.
func TestFails(t *testing.T) {
	for n := 0; ; n++ {
		p := newPlace(t)
		p.Jobs = 1
		i := 0
		stop := atomicfile.Observe(p.Root.Name(), func(atomicfile.Change) error {
			if i++; i == n+1 {
				return io.ErrShortWrite
			}
			return nil
		})
		observed, err := atomicfile.Open(p.Root.Name())
		if err != nil {
			t.Fatal(err)
		}
		root := p.Root
		p.Root = observed
		err = p.Make(t.Context(), both)
		stop()
		observed.Close()
		p.Root = root
		if i <= n {
			if err != nil || n < 4 {
				t.Errorf("after %d changes: %v", n, err)
			}
			break
		}
		if !errors.Is(err, io.ErrShortWrite) {
			t.Errorf("change %d: %v", n, err)
		}
		p.make()
		p.check("after a fault", image, delta)
	}
	p := newPlace(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	p.pass(content)
	p.End(image, digest(content))
	if err := errors.Join(p.Put(ctx, image), p.Make(ctx, both)); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	p.check("cancelled")
}
