package client_test

import (
	"bytes"
	"context"
	"flag"
	"io/fs"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"puavo-image-repository/imagerepo"
	"puavo-image-repository/imagerepo/client"
	"puavo-image-repository/imagerepo/plan"
	"puavo-image-repository/meta"
	"puavo-image-repository/testdata"
)

const (
	image1 = "puavo-os-amxa-buster-2021-04-13-192449-amd64.img"
	image2 = "puavo-os-amxa-buster-2021-04-13-193910-amd64.img"
	image3 = "puavo-os-amxa-buster-2022-01-17-120001-amd64.img"
	image4 = "puavo-os-amxa-buster-2022-01-20-173248-amd64.img"
	other  = "puavo-os-free-buster-2022-02-04-140532-amd64.img"
	big1   = "puavo-os-big-buster-2022-03-01-000000-amd64.img"
	big2   = "puavo-os-big-buster-2022-03-02-000000-amd64.img"
	huge1  = "puavo-os-huge-buster-2022-03-01-000000-amd64.img"
	huge2  = "puavo-os-huge-buster-2022-03-02-000000-amd64.img"

	lockFile = ".image_updates_lock"
	// speedFile has how fast files came and compact deltas were applied.
	speedFile = ".image_updates_speed"
	disable   = "DISABLE_IMAGE_UPDATES"
	series    = "meta/puavo-os-amxa-buster-amd64.json"
	fromFull  = "the full image"
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func name(s string) meta.Name { return must(meta.ParseName(s)) }

func deltaFile(base, target string) string {
	return meta.DeltaPath(meta.DeltaName(name(base), name(target)))
}

// images has the images that were made, by name: each is made once.
var images sync.Map

type image struct {
	data []byte // not to be changed
	text string
}

func imageOf(name string) image {
	im, ok := images.Load(name)
	if !ok {
		data := slices.Clip(makeImage(name))
		im, _ = images.LoadOrStore(name, image{data, string(data)})
	}
	return im.(image)
}

// imageData returns an image as it must be. The caller does not change it.
func imageData(name string) []byte { return imageOf(name).data }

// imageText returns it as a string.
func imageText(name string) string { return imageOf(name).text }

// makeImage returns an image of testdata/images, or one of the
// big ones, which are larger than all buffers, or of the huge ones, with a delta
// that is as well larger than what is made between two entries of a journal.
func makeImage(image string) []byte {
	switch image {
	case big1:
		return random(3<<20 + 1)
	case big2:
		data := random(3<<20 + 1)
		copy(data[1<<20:], "an update")
		return data
	case huge1:
		return random(4 << 20)
	case huge2:
		data := random(20 << 20)
		return slices.Concat(data[15<<20:], data[:1<<20], data[4<<20:15<<20])
	case words1:
		return wordsOf(1 << 20)
	case words2:
		return append(wordsOf(12 << 20)[1<<20:], wordsOf(1<<20)...)
	case chain1, chain2, chain3:
		return chainData(image)
	default:
		return must(os.ReadFile(testdata.Path("images/" + image)))
	}
}

// random returns the first n of always the same bytes.
func random(n int) []byte {
	data := make([]byte, n)
	rand.NewChaCha8([32]byte{}).Read(data)
	return data
}

// mirrors is where the mirrors are, one a folder. No test changes them.
var mirrors string

func mirrorDir(name string) string { return filepath.Join(mirrors, name) }

func TestMain(m *testing.M) {
	if words := os.Getenv(childEnv); words != "" {
		os.Exit(runChild(words))
	}
	remove := testdata.InMemory()
	mirrors = must(os.MkdirTemp("", "the mirrors")) // with a space, which URLs must escape
	if at := flag.Lookup("test.parallel"); at.Value.String() == at.DefValue {
		at.Value.Set("4") // tests that run in parallel wait most of the time
	}
	code := m.Run()
	os.RemoveAll(mirrors)
	remove()
	os.Exit(code)
}

var buildMirrors = sync.OnceFunc(func() {
	build := func(mirror string, config plan.Config, images ...string) {
		source := mirrorDir(mirror + " source")
		for _, im := range images {
			os.MkdirAll(source, 0o777)
			os.WriteFile(filepath.Join(source, im), imageData(im), 0o666)
		}
		_, _, err := imagerepo.Build(context.Background(), imagerepo.Options{
			ImageDir: source, MirrorDir: mirrorDir(mirror), Config: config,
			Policy: plan.Policy{Targets: 3, Downgrades: true, MaxRatio: 0.95},
			Jobs:   2, NoSync: true, Log: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			panic(err)
		}
	}
	build("all", plan.Config{}, image1, image2, image3, image4, other)
	build("early", plan.Config{}, image1, image2)
	build("late", plan.Config{}, image3, image4)
	build("big", plan.Config{}, big1, big2)
	build("huge", plan.Config{}, huge1, huge2)
	build("chain", plan.Config{}, chain1, chain2, chain3)
	onlyNeighbours(mirrorDir("chain"))
	addCompact(mirrorDir("all"), "compact all", true, [2]string{"", image4}, [2]string{image1, image4}, [2]string{image2, image4}, [2]string{image3, image4}, [2]string{image1, image2})
	build("words", plan.Config{}, words1, words2)
	addCompact(mirrorDir("words"), "compact words", true, [2]string{words1, words2})
	addCompact(mirrorDir("huge"), "compact huge", false, [2]string{huge1, huge2})
	addCompact(mirrorDir("chain"), "compact chain", false, [2]string{chain1, chain2}, [2]string{chain2, chain3})
	build("named", plan.Config{Series: []meta.SeriesConfig{
		{Name: "a-first", Images: []meta.Name{name(image1)}},
		{Name: "release", Images: []meta.Name{name(image2), name(image4)}, Extra: map[meta.Name][]meta.Name{name(image4): {name(other)}}},
	}}, image1, image2, image4, other)
	predecessor()
})

// predecessor makes of a mirror one as the predecessor made them.
func predecessor() {
	dir := mirrorDir("predecessor")
	if err := os.CopyFS(dir, os.DirFS(mirrorDir("all"))); err != nil {
		panic(err)
	}
	for _, f := range []string{"index.json", "SHA256SUMS", ".repo"} {
		os.RemoveAll(filepath.Join(dir, f))
	}
	doc := filepath.Join(dir, filepath.FromSlash(series))
	data := must(os.ReadFile(doc))
	old := regexp.MustCompile(`,"blake3":"[0-9a-f]{64}"`).ReplaceAll(data, nil)
	if len(old) == len(data) || os.WriteFile(doc, old, 0o666) != nil {
		panic("the predecessor's mirror could not be made")
	}
}

// site is a web site that serves a mirror, some files of it wrongly.
type site struct {
	*httptest.Server
	mu       sync.Mutex
	requests []string // paths
}

// A fault answers a request for a file that has this data.
type fault func(w http.ResponseWriter, data []byte)

// newSite serves a mirror. Where bad returns a fault for a path, that answers.
func newSite(t testing.TB, mirror string, bad func(path string) fault) *site {
	return newSiteWith(t, mirror, bad, func(h http.Handler) http.Handler { return h })
}

// newSiteWith serves it by another handler around the usual one.
func newSiteWith(t testing.TB, mirror string, bad func(path string) fault, around func(http.Handler) http.Handler) *site {
	buildMirrors()
	s := new(site)
	s.Server = httptest.NewServer(around(s.handler(mirrorDir(mirror), bad)))
	t.Cleanup(s.Close)
	return s
}

// startSite serves what a handler has.
func startSite(t testing.TB, h http.Handler) string {
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

func (s *site) handler(dir string, bad func(path string) fault) http.Handler {
	files := http.FileServer(http.Dir(dir))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path := strings.TrimPrefix(r.URL.Path, "/")
		s.mu.Lock()
		s.requests = append(s.requests, path)
		s.mu.Unlock()
		if bad != nil {
			if f := bad(path); f != nil {
				data, _ := os.ReadFile(filepath.Join(dir, path))
				f(w, data)
				return
			}
		}
		files.ServeHTTP(w, r)
	})
}

// asked returns the paths that were asked for.
func (s *site) asked() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

// access are the ways to a mirror, all of which must do the same.
var access = map[string]func(t testing.TB, mirror string) string{
	"directory": func(_ testing.TB, mirror string) string { buildMirrors(); return mirrorDir(mirror) },
	"file URL": func(_ testing.TB, mirror string) string {
		buildMirrors()
		return (&url.URL{Scheme: "file", Path: mirrorDir(mirror)}).String()
	},
	"http": func(t testing.TB, mirror string) string { return newSite(t, mirror, nil).URL + "/" },
}

// place is an images directory.
type place struct {
	t      testing.TB
	dir    string
	prefer string // Options.Prefer
	log    bytes.Buffer
}

func newPlace(t testing.TB, images ...string) *place {
	return newPlaceIn(t, t.TempDir(), images...)
}

func newPlaceIn(t testing.TB, dir string, images ...string) *place {
	p := &place{t: t, dir: dir}
	for _, im := range images {
		p.write(im, imageData(im))
	}
	return p
}

func (p *place) write(file string, data []byte) {
	p.t.Helper()
	if err := os.WriteFile(filepath.Join(p.dir, file), data, 0o666); err != nil {
		p.t.Fatal(err)
	}
}

// files returns what is in the directory, but for the lock and what is known.
func (p *place) files() map[string]string {
	p.t.Helper()
	entries, err := os.ReadDir(p.dir)
	if err != nil {
		p.t.Fatal(err)
	}
	files := make(map[string]string)
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(p.dir, e.Name()))
		if err != nil && !e.IsDir() && e.Type() != fs.ModeSymlink {
			p.t.Fatal(err)
		}
		files[e.Name()] = unsafe.String(unsafe.SliceData(data), len(data)) // a copy takes long
	}
	delete(files, lockFile)
	delete(files, ".image_updates_known")
	delete(files, speedFile)
	return files
}

// want checks that the directory holds these files.
func (p *place) want(files map[string]string) {
	p.t.Helper()
	got := p.files()
	if maps.Equal(got, files) {
		return
	}
	p.t.Errorf("in the images directory are %q, want %q", slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(files)))
	for f, data := range files {
		if now, ok := got[f]; ok && now != data {
			p.t.Errorf("%s has %d other bytes, want %d", f, len(now), len(data))
		}
	}
}

// wantImages checks that it holds these files and at most, besides, what another
// run can go on with.
func (p *place) wantImages(files map[string]string) {
	p.t.Helper()
	for f := range p.files() {
		if strings.HasSuffix(f, ".img.tmp") || strings.HasSuffix(f, ".img.tmp.journal") {
			files[f] = p.files()[f]
		}
	}
	p.want(files)
}

// update brings the directory up to date.
func (p *place) update(mirror, image string) (client.Result, error) {
	return client.Update(p.t.Context(), p.options(mirror, image))
}

func (p *place) options(mirror, image string) client.Options {
	return client.Options{
		Mirrors: []string{mirror}, Dir: p.dir, Image: image, Prefer: p.prefer,
		Patience: client.Patience{Attempts: 3, Wait: time.Millisecond, Stall: 5 * time.Second},
		Log:      slog.New(slog.NewTextHandler(&p.log, &slog.HandlerOptions{Level: slog.LevelWarn})),
	}
}

func from(base string) string { return "the delta from " + base }

func isFull(r client.Route) bool { return r.Steps[0].Diff == nil }
