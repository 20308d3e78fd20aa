package assemble

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"puavo-image-repository/cksum"
	"puavo-image-repository/delta"
	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/fetch"
	"puavo-image-repository/meta"
)

const (
	baseFile = "a-2022-01-17-120001-b.img"
	source   = "file" // in the mirror
)

var image = meta.Name{Prefix: "a", Version: "2022-01-20-173248", Arch: "b"}

// random returns n bytes that are the same in every run.
func random(seed byte, n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

func sumsOf(data []byte) cksum.Sums {
	h := cksum.New()
	h.Write(data)
	return h.Sums()
}

// flipped returns data with a bit flipped at a place.
func flipped(data []byte, at int) []byte {
	data = slices.Clone(data)
	data[at] ^= 1
	return data
}

// deltaOf returns the delta that makes target from base.
func deltaOf(t *testing.T, base, target []byte) []byte {
	t.Helper()
	x, err := delta.NewIndex(t.Context(), base, delta.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	var d bytes.Buffer
	if _, err := x.Diff(t.Context(), &d, target, nil); err != nil {
		t.Fatal(err)
	}
	return d.Bytes()
}

// place is an images directory.
type place struct {
	t    *testing.T
	path string
	dir  atomicfile.Dir
}

// newPlace makes an images directory, with a base if that is not nil.
func newPlace(t *testing.T, base []byte) *place {
	t.Helper()
	p := &place{t: t, path: t.TempDir()}
	if base != nil {
		p.write(baseFile, base)
	}
	var err error
	if p.dir, err = atomicfile.Open(p.path); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.dir.Close() })
	return p
}

func (p *place) write(file string, data []byte) {
	p.t.Helper()
	if err := os.WriteFile(filepath.Join(p.path, file), data, 0o666); err != nil {
		p.t.Fatal(err)
	}
}

// make makes the image, which is to be as wanted, of a file of a mirror that is to
// be as told. hasBase says that the file is a delta. The job can be changed.
func (p *place) make(ctx context.Context, mirror string, told, wanted []byte, hasBase bool, change ...func(*Job)) error {
	p.t.Helper()
	m, err := fetch.Open(mirror, fetch.Options{Patience: fetch.Patience{Attempts: 1}})
	if err != nil {
		p.t.Fatal(err)
	}
	defer m.Close()
	j := Job{
		Dir: p.dir, Image: image, Sums: sumsOf(wanted),
		Mirror: m, Source: source, SourceSums: sumsOf(told),
	}
	if hasBase {
		j.Base = baseFile
	}
	for _, c := range change {
		c(&j)
	}
	return Make(ctx, j)
}

// journal returns the journal of the image, and writes it if it is changed.
func (p *place) journal(change func(j *journal)) journal {
	p.t.Helper()
	j, ok := readJournal(p.dir, image)
	if !ok {
		p.t.Fatal("there is no journal")
	}
	if change != nil {
		change(&j)
		data, err := json.Marshal(j)
		if err != nil {
			p.t.Fatal(err)
		}
		p.write(JournalName(image), data)
	}
	return j
}

// made returns what is there of the image, nil for nothing.
func (p *place) made() []byte {
	data, err := os.ReadFile(filepath.Join(p.path, PartialName(image)))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		p.t.Fatal(err)
	}
	return data
}

// wantNothing checks that nothing is left of the image.
func (p *place) wantNothing(what string) {
	p.t.Helper()
	left, err := filepath.Glob(filepath.Join(p.path, image.String()+"*"))
	if err != nil || len(left) > 0 {
		p.t.Errorf("%s: %q are left, %v", what, left, err)
	}
}

// A site serves one file.
type site struct {
	file atomic.Pointer[[]byte] // nil: it is not there
	tag  atomic.Int64           // its version
	cut  atomic.Int64           // after so many bytes an answer breaks; -1: at once, 0: not
	sent atomic.Int64           // bytes
}

func newSite(t *testing.T, file []byte) (s *site, url string) {
	s = new(site)
	if file != nil {
		s.serve(file)
	}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	return s, server.URL
}

func (s *site) serve(file []byte) { s.file.Store(&file) }

func (s *site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	file := s.file.Load()
	if file == nil {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("ETag", fmt.Sprintf(`"%d"`, s.tag.Load()))
	if cut := s.cut.Load(); cut != 0 {
		w = &breaks{w, max(cut, 0)}
	}
	http.ServeContent(&counts{w, s}, r, "", time.Time{}, bytes.NewReader(*file))
}

// breaks breaks an answer.
type breaks struct {
	http.ResponseWriter
	left int64 // bytes before that
}

func (b *breaks) Write(p []byte) (int, error) {
	n, err := b.ResponseWriter.Write(p[:min(int64(len(p)), b.left)])
	if b.left -= int64(n); b.left == 0 {
		b.ResponseWriter.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
	return n, err
}

// counts counts what a site sends, before anybody gets it.
type counts struct {
	http.ResponseWriter
	s *site
}

func (c *counts) Write(p []byte) (int, error) {
	c.s.sent.Add(int64(len(p)))
	return c.ResponseWriter.Write(p)
}

// mirrors are the kinds of mirrors, with a file that is nil where it is missing.
var mirrors = map[string]func(t *testing.T, file []byte) string{
	"directory": func(t *testing.T, file []byte) string {
		dir := t.TempDir()
		if file != nil {
			if err := os.WriteFile(filepath.Join(dir, source), file, 0o666); err != nil {
				t.Fatal(err)
			}
		}
		return dir
	},
	"site": func(t *testing.T, file []byte) string { _, url := newSite(t, file); return url },
}

// An image is made if base, file and result are what was told of them. Else there is
// an error, and nothing is left.
func TestMake(t *testing.T) {
	base, target := random(1, 300_000), slices.Concat(random(1, 200_000), random(2, 100_000))
	d := deltaOf(t, base, target)
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range []struct {
		name          string
		ctx           context.Context
		base          []byte // nil: the full image is fetched
		served, told  []byte
		wanted        []byte
		want, another error // one of them
		says          string
	}{
		{"delta", t.Context(), base, d, d, target, nil, nil, ""},
		{"delta to another image", t.Context(), base, d, d, flipped(target, 299_999), ErrVerify, nil, "its BLAKE3 is"},
		{"delta to a longer image", t.Context(), base, d, d, append(slices.Clone(target), 0), delta.ErrFormat, nil, "1 bytes too few"},
		{"delta to a shorter image", t.Context(), base, d, d, target[:299_999], delta.ErrFormat, nil, "more bytes than"},
		{"delta from another base", t.Context(), flipped(base, 1000), d, d, target, ErrVerify, nil, "its BLAKE3 is"},
		{"delta from a shorter base", t.Context(), base[:199_999], d, d, target, delta.ErrFormat, nil, ""},
		{"delta with a literal flipped", t.Context(), base, flipped(d, len(d)-1000), d, target, ErrVerify, nil, "its BLAKE3 is"},
		{"delta with a command flipped", t.Context(), base, flipped(d, 4), d, target, ErrVerify, delta.ErrFormat, ""},
		{"delta longer", t.Context(), base, append(slices.Clone(d), 0), d, target, fetch.ErrChanged, nil, "bytes, want"},
		{"delta shorter", t.Context(), base, d[:len(d)-1], d, target, fetch.ErrChanged, nil, "bytes, want"},
		{"delta missing", t.Context(), base, nil, d, target, fs.ErrNotExist, nil, ""},
		{"delta, cancelled", cancelled, base, d, d, target, context.Canceled, nil, ""},
		{"full", t.Context(), nil, target, target, target, nil, nil, ""},
		{"full, first byte flipped", t.Context(), nil, flipped(target, 0), target, target, ErrVerify, nil, "its BLAKE3 is"},
		{"full, last byte flipped", t.Context(), nil, flipped(target, 299_999), target, target, ErrVerify, nil, "its BLAKE3 is"},
		{"full, longer", t.Context(), nil, append(slices.Clone(target), 0), target, target, fetch.ErrChanged, nil, "bytes, want"},
		{"full, shorter", t.Context(), nil, target[:299_999], target, target, fetch.ErrChanged, nil, "bytes, want"},
		{"full, missing", t.Context(), nil, nil, target, target, fs.ErrNotExist, nil, ""},
		{"full, cancelled", cancelled, nil, target, target, target, context.Canceled, nil, ""},
	} {
		for kind, mirror := range mirrors {
			t.Run(c.name+", "+kind, func(t *testing.T) {
				p := newPlace(t, c.base)
				err := p.make(c.ctx, mirror(t, c.served), c.told, c.wanted, c.base != nil)
				if !errors.Is(err, c.want) && (c.another == nil || !errors.Is(err, c.another)) || !strings.Contains(fmt.Sprint(err), c.says) {
					t.Errorf("%v, want %v that says %q", err, c.want, c.says)
				}
				if err != nil {
					p.wantNothing("after an error")
				} else if !bytes.Equal(p.made(), c.wanted) {
					t.Errorf("%d other bytes are made, want %d", len(p.made()), len(c.wanted))
				}
			})
		}
	}
}

// How much of a file is sent to a call that may go on.
const (
	rest = "the rest"
	all  = "all"
	both = "the rest, and then all"
)

func sentOf(sent, size int64) string {
	switch {
	case sent < size:
		return rest
	case sent == size:
		return all
	}
	return both
}

// A call goes on from where an earlier one was cut off, if what that has made is
// there. It is made anew where it proves wrong, and where the result is wrong all
// the same, nothing is left. It stays where nothing came that could prove it wrong.
func TestMakeResumes(t *testing.T) {
	const mi = 1 << 20
	base, target := random(1, mi), slices.Concat(random(2, 3*mi), random(1, mi))
	d := deltaOf(t, base, target)
	longer := append(slices.Clone(target), 0)
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	edit := func(change func(j *journal)) func(*place, *site) {
		return func(p *place, _ *site) { p.journal(change) }
	}
	flipMade := func(p *place, _ *site) { p.write(PartialName(image), flipped(p.made(), 10)) }
	serve := func(file []byte) func(*place, *site) { return func(_ *place, s *site) { s.serve(file) } }
	for _, c := range []struct {
		name      string
		ctx       context.Context
		base      []byte
		file      []byte // as it is told, and as the first call gets it
		wanted    []byte
		meanwhile func(p *place, s *site)
		want      error
		sent      string
		stays     bool // after an error, what was made
	}{
		{"delta", t.Context(), base, d, target, nil, nil, rest, false},
		{"delta to another image", t.Context(), base, d, flipped(target, 10), nil, ErrVerify, both, false},
		{"delta to a longer image", t.Context(), base, d, longer, nil, delta.ErrFormat, both, false},
		{"delta, what was made is flipped", t.Context(), base, d, target, flipMade, nil, both, false},
		{"delta, the base is flipped", t.Context(), base, d, target, func(p *place, _ *site) { p.write(baseFile, flipped(base, 10)) }, ErrVerify, both, false},
		{"delta, its end is flipped", t.Context(), base, d, target, serve(flipped(d, len(d)-10)), ErrVerify, both, false},
		{"delta, it has another ETag now", t.Context(), base, d, target, func(_ *place, s *site) { s.tag.Add(1) }, nil, rest, false},
		{"delta, cancelled", cancelled, base, d, target, nil, context.Canceled, rest, true},
		{"full", t.Context(), nil, target, target, nil, nil, rest, false},
		{"full, what came is flipped", t.Context(), nil, target, target, flipMade, nil, both, false},
		{"full, its end is flipped", t.Context(), nil, target, target, serve(flipped(target, len(target)-1)), ErrVerify, both, false},
		{"full, longer", t.Context(), nil, target, target, serve(longer), fetch.ErrChanged, rest, true},
		{"full, cancelled", cancelled, nil, target, target, nil, context.Canceled, rest, true},

		{"journal of another file", t.Context(), base, d, target, edit(func(j *journal) { j.Source[0]++ }), nil, all, false},
		{"journal of another image", t.Context(), base, d, target, edit(func(j *journal) { j.Target[0]++ }), nil, all, false},
		{"journal of an earlier version", t.Context(), base, d, target, func(p *place, _ *site) {
			j := p.journal(nil)
			p.write(JournalName(image), fmt.Appendf(nil, `{"source":"%s","target":"%s","mirror":"https://other","version":"\"other\"","position":{"Delta":%d,"Target":%d,"Literal":%d},"failed":["%s"]}`,
				j.Source, j.Target, j.Position.Delta, j.Position.Target, j.Position.Literal, sumsOf(d).SHA512))
		}, nil, rest, false},
		{"journal without a beginning", t.Context(), base, d, target, edit(func(j *journal) { j.Position.Delta = 0 }), nil, all, false},
		{"journal before the image", t.Context(), base, d, target, edit(func(j *journal) { j.Position.Target = -1 }), nil, all, false},
		{"journal before a literal", t.Context(), base, d, target, edit(func(j *journal) { j.Position.Literal = -1 }), nil, all, false},
		{"no journal", t.Context(), base, d, target, func(p *place, _ *site) { p.dir.Remove(JournalName(image)) }, nil, all, false},
		{"no JSON", t.Context(), base, d, target, func(p *place, _ *site) { p.write(JournalName(image), []byte("{")) }, nil, all, false},
		{"nothing is there", t.Context(), base, d, target, func(p *place, _ *site) { p.dir.Remove(PartialName(image)) }, nil, all, false},
		{"less is there", t.Context(), base, d, target, func(p *place, _ *site) { p.write(PartialName(image), p.made()[:1000]) }, nil, all, false},
		{"more is there", t.Context(), base, d, target, func(p *place, _ *site) { p.write(PartialName(image), append(p.made(), 1, 2, 3)) }, nil, rest, false},
		{"a symbolic link is there", t.Context(), base, d, target, func(p *place, _ *site) {
			p.write("elsewhere", p.made())
			p.dir.Remove(PartialName(image))
			os.Symlink("elsewhere", filepath.Join(p.dir.Name(), PartialName(image)))
		}, nil, all, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPlace(t, c.base)
			s, url := newSite(t, c.file)
			s.cut.Store(5 * mi / 2)
			if err := p.make(t.Context(), url, c.file, c.wanted, c.base != nil); !errors.Is(err, ErrIncomplete) || p.journal(nil).Position.Target < 2*mi {
				t.Fatalf("cut off: %v, %+v", err, p.journal(nil))
			}
			if c.meanwhile != nil {
				c.meanwhile(p, s)
			}
			s.cut.Store(0)
			s.sent.Store(0)
			err := p.make(c.ctx, url, c.file, c.wanted, c.base != nil)
			if !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
			if sent := sentOf(s.sent.Load(), int64(len(c.file))); sent != c.sent {
				t.Errorf("%s was sent, %d bytes; want %s", sent, s.sent.Load(), c.sent)
			}
			switch n := len(p.made()); {
			case err == nil && !bytes.Equal(p.made(), c.wanted):
				t.Error("another image is made")
			case c.stays && (n < mi || !bytes.HasPrefix(c.wanted, p.made())):
				t.Errorf("%d bytes are left of what was made", n)
			case err != nil && !c.stays:
				p.wantNothing("after an error")
			}
		})
	}
}

// One that ends with the last byte is cancelled all the same.
func TestMakeCancelledInTheEnd(t *testing.T) {
	base, target := random(1, 1000), random(1, 999)
	for name, base := range map[string][]byte{"delta": base, "full": nil} {
		file := target
		if base != nil {
			file = deltaOf(t, base, target)
		}
		p := newPlace(t, base)
		ctx, cancel := context.WithCancel(t.Context())
		err := p.make(ctx, mirrors["directory"](t, file), file, target, base != nil, func(j *Job) {
			j.Progress = func(done, total int64) {
				if done == total {
					cancel()
				}
			}
		})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A file of which three calls in a row bring nothing is given up, and not told as
// one to go on with.
func TestIdle(t *testing.T) {
	const some, nothing = 3 << 19, -1 // when the answer breaks
	target := random(1, 8<<20)
	p := newPlace(t, nil)
	s, url := newSite(t, target)
	for i, c := range []struct {
		comes int64
		cut   bool
	}{
		{nothing, false}, // before there is anything to go on with
		{some, true}, {nothing, true}, {nothing, true},
		{some, true}, {nothing, true}, {nothing, true}, {nothing, false},
	} {
		s.cut.Store(c.comes)
		err := p.make(t.Context(), url, target, target, false)
		if !errors.Is(err, fetch.ErrGivenUp) || errors.Is(err, ErrIncomplete) != c.cut {
			t.Errorf("call %d: %v", i, err)
		}
		if i == 0 {
			p.wantNothing("before there is anything to go on with")
		}
	}
}

// What an image lacks, and what is wrong, is known until it is complete.
func TestLook(t *testing.T) {
	target := random(1, 4<<20)
	sums := sumsOf(target)
	one, two := Wrong{"https://a", cksum.Digest512{1}}, Wrong{"", cksum.Digest512{2}}
	p := newPlace(t, nil)
	s, url := newSite(t, target)
	left := func() int64 { return Look(p.dir, image).Left(sums.SHA512, sums) }
	if n := left(); n != 4<<20 || Look(p.dir, image).Wrong != nil {
		t.Errorf("before: %d bytes are left, %v are wrong", n, Look(p.dir, image).Wrong)
	}
	s.cut.Store(3 << 19)
	for _, wrong := range [][]Wrong{{one}, {one, two}} {
		if err := p.make(t.Context(), url, target, target, false, func(j *Job) { j.Wrong = wrong }); !errors.Is(err, ErrIncomplete) {
			t.Fatal(err)
		}
		if got := Look(p.dir, image).Wrong; !slices.Equal(got, wrong) {
			t.Errorf("%v are wrong, want %v", got, wrong)
		}
	}
	at := p.journal(nil).Position.Delta
	if n := left(); n != 4<<20-at || at < 2<<20 {
		t.Errorf("%d bytes are left after %d", n, at)
	}
	another := sumsOf(target[1:])
	if n := Look(p.dir, image).Left(sums.SHA512, another); n != 4<<20-1 {
		t.Errorf("%d bytes are left of another file", n)
	}
	if n := Look(p.dir, image).Left(another.SHA512, sums); n != 4<<20 {
		t.Errorf("%d bytes are left of another image", n)
	}
	for position, want := range map[delta.Position]int64{
		{Delta: 5 << 20, Target: 1 << 20}: 0, {Delta: -1, Target: 1 << 20}: 4 << 20, {Delta: 1 << 20, Target: 5 << 20}: 4 << 20,
	} {
		p.journal(func(j *journal) { j.Position = position })
		if n := left(); n != want {
			t.Errorf("%d bytes are left at %+v, want %d", n, position, want)
		}
	}
}

// Where one source stops another continues, if it can: the full image from what a
// delta has made, and the delta from where it was.
func TestAnotherSource(t *testing.T) {
	base, target := random(1, 1000), random(2, 8<<20)
	d := deltaOf(t, base, target)
	full := sumsOf(target)
	cutAt := func(s *site, n int64) { s.cut.Store(n); s.sent.Store(0) }
	p := newPlace(t, base)
	deltas, deltaURL := newSite(t, d)
	images, imageURL := newSite(t, target)
	steps := []struct {
		name     string
		site     *site
		comes    int64 // until the answer breaks, 0 for all
		made     int64 // at least
		most     int64 // that is sent
		byDelta  bool
		complete bool
	}{
		{"the delta", deltas, 3 << 20, 2 << 20, 4 << 20, true, false},
		{"the full image continues", images, 3 << 20, 4 << 20, 4 << 20, false, false},
		{"the delta continues", deltas, 2 << 20, 3 << 20, 3 << 20, true, false},
		{"the full image completes", images, 0, 8 << 20, 5 << 20, false, true},
	}
	for _, c := range steps {
		cutAt(c.site, c.comes)
		url, told := deltaURL, d
		if !c.byDelta {
			url, told = imageURL, target
		}
		left := Look(p.dir, image).Left(full.SHA512, sumsOf(told))
		err := p.make(t.Context(), url, told, target, c.byDelta)
		if c.complete != (err == nil) || !c.complete && !errors.Is(err, ErrIncomplete) {
			t.Fatalf("%s: %v", c.name, err)
		}
		if !c.complete && p.journal(nil).Position.Target < c.made {
			t.Errorf("%s: %+v", c.name, p.journal(nil))
		}
		if sent := c.site.sent.Load(); sent > c.most || c.complete && sent != left {
			t.Errorf("%s: %d bytes were sent, %d were left", c.name, sent, left)
		}
	}
	if !bytes.Equal(p.made(), target) {
		t.Error("another image is made")
	}
}

// What one source has made wrongly does not spoil what another continues: all starts
// over once.
func TestAnotherSourceAfterAWrongOne(t *testing.T) {
	base, target := random(1, 1000), random(2, 8<<20)
	d := deltaOf(t, base, target)
	p := newPlace(t, base)
	deltas, deltaURL := newSite(t, flipped(d, 1<<20))
	images, imageURL := newSite(t, target)
	deltas.cut.Store(3 << 20)
	if err := p.make(t.Context(), deltaURL, d, target, true); !errors.Is(err, ErrIncomplete) {
		t.Fatal(err)
	}
	if err := p.make(t.Context(), imageURL, target, target, false); err != nil || !bytes.Equal(p.made(), target) {
		t.Errorf("%d bytes are made, %v", len(p.made()), err)
	}
	if sent := images.sent.Load(); sent <= 8<<20 || sent >= 16<<20 {
		t.Errorf("%d bytes were sent", sent)
	}
}

// A cache that holds an old file is asked once more, for the server's. A mirror
// without caches is not, nor for a delta that is right but makes another image.
func TestFresh(t *testing.T) {
	base, target := random(1, 300_000), random(2, 300_000)
	d := deltaOf(t, base, target)
	for _, c := range []struct {
		name     string
		old, now []byte
		wanted   []byte
		requests int
		want     error
	}{
		{"the server has the delta", flipped(d, 1000), d, target, 2, nil},
		{"the server has no delta", flipped(d, 1000), d[:1000], target, 2, fetch.ErrChanged},
		{"the server has a wrong one too", flipped(d, 1000), flipped(d, 1000), target, 2, ErrVerify},
		{"the delta makes another image", d, d, flipped(target, 1), 1, ErrUnfit},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPlace(t, base)
			requests := 0
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				requests++
				file := c.old
				if r.Header.Get("Cache-Control") == "no-cache" {
					file = c.now
				}
				w.Write(file)
			}))
			t.Cleanup(server.Close)
			err := p.make(t.Context(), server.URL, d, c.wanted, true)
			if !errors.Is(err, c.want) || c.want == nil && err != nil || requests != c.requests {
				t.Errorf("%d requests, %v; want %d, %v", requests, err, c.requests, c.want)
			}
		})
	}
}

// A directory is no cache: a wrong file there is read once.
func TestFreshDirectory(t *testing.T) {
	base, target := random(1, 300_000), random(2, 300_000)
	d := deltaOf(t, base, target)
	var log bytes.Buffer
	p := newPlace(t, base)
	err := p.make(t.Context(), mirrors["directory"](t, flipped(d, 1000)), d, target, true, func(j *Job) {
		j.Log = slog.New(slog.NewTextHandler(&log, nil))
	})
	if !errors.Is(err, ErrVerify) || log.Len() > 0 {
		t.Errorf("%v; log %q", err, &log)
	}
}

// Left gets what is left to fetch, and can suspend the work.
func TestLeft(t *testing.T) {
	target := random(1, 8<<20)
	p := newPlace(t, nil)
	enough := errors.New("enough")
	var seen []int64
	job := func(j *Job) {
		j.Left = func(bytes int64) error {
			if seen = append(seen, bytes); bytes < 3<<20 {
				return enough
			}
			return nil
		}
	}
	mirror := mirrors["directory"](t, target)
	if err := p.make(t.Context(), mirror, target, target, false, job); !errors.Is(err, enough) || errors.Is(err, ErrIncomplete) {
		t.Fatal(err)
	}
	if !slices.IsSortedFunc(seen, func(a, b int64) int { return int(b - a) }) || seen[0] >= 8<<20 {
		t.Errorf("left are %d", seen)
	}
	if n := Look(p.dir, image).Left(sumsOf(target).SHA512, sumsOf(target)); n > 4<<20 {
		t.Errorf("%d bytes are left", n)
	}
	if err := p.make(t.Context(), mirror, target, target, false); err != nil || !bytes.Equal(p.made(), target) {
		t.Errorf("%d bytes are made, %v", len(p.made()), err)
	}
}
