package client_test

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/client"
	"puavo-image-repository/imagerepo/trust"
	"puavo-image-repository/meta"
	"puavo-image-repository/testdata"
)

// signed is a copy of a mirror that is signed.
type signed struct {
	t    testing.TB
	dir  string
	keys string
}

// signedKeys are a signed mirror and its keys. They stay open, since decrypting them
// takes long; to use them, hold the mutex.
type signedKeys struct {
	sync.Mutex
	dir, keys string
	open      *trust.Keys
}

// signedMirror is the mirror of all images, signed.
var signedMirror = sync.OnceValue(func() *signedKeys {
	buildMirrors()
	m := &signedKeys{dir: mirrorDir("signed"), keys: mirrorDir("signed keys")}
	if err := os.CopyFS(m.dir, os.DirFS(mirrorDir("all"))); err != nil {
		panic(err)
	}
	s := &signed{dir: m.dir, keys: m.keys}
	if err := trust.Init(s.options()); err != nil {
		panic(err)
	}
	m.open = must(trust.Open(s.options()))
	if err := signWith(context.Background(), m.open, m.dir); err != nil {
		panic(err)
	}
	return m
})

// newSigned returns a copy of the signed mirror, and of its keys.
func newSigned(t testing.TB) *signed {
	t.Helper()
	m := signedMirror()
	s := &signed{t, filepath.Join(t.TempDir(), "mirror"), filepath.Join(t.TempDir(), "keys")}
	for to, from := range map[string]string{s.dir: m.dir, s.keys: m.keys} {
		if err := os.CopyFS(to, os.DirFS(from)); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func (s *signed) options() trust.Options {
	return trust.Options{
		Dir:        s.keys,
		Passphrase: func(bool) ([]byte, error) { return []byte("a passphrase"), nil },
	}
}

// sign signs what the mirror says now, with the keys of all copies.
func (s *signed) sign() {
	s.t.Helper()
	m := signedMirror()
	m.Lock()
	defer m.Unlock()
	if err := signWith(s.t.Context(), m.open, s.dir); err != nil {
		s.t.Fatal(err)
	}
}

// signAs signs it with the keys of this copy, and with other options.
func (s *signed) signAs(o trust.Options) {
	s.t.Helper()
	keys := must(trust.Open(o))
	defer keys.Close()
	if err := signWith(s.t.Context(), keys, s.dir); err != nil {
		s.t.Fatal(err)
	}
}

func signWith(ctx context.Context, keys *trust.Keys, mirror string) error {
	dir := must(atomicfile.Open(mirror))
	defer dir.Close()
	dir.NoSync = true
	_, err := keys.Sign(ctx, dir)
	return err
}

func (s *signed) root() string { return filepath.Join(s.keys, "1.root.json") }

func (s *signed) path(name string) string { return filepath.Join(s.dir, filepath.FromSlash(name)) }

func (s *signed) write(name string, data []byte) {
	s.t.Helper()
	if err := os.WriteFile(s.path(name), data, 0o666); err != nil {
		s.t.Fatal(err)
	}
}

// edit changes the meta of the series, and signs it.
func (s *signed) edit(change func(*meta.Series)) {
	s.t.Helper()
	m := must(meta.ParseSeries(must(os.ReadFile(s.path(series)))))
	change(&m)
	s.write(series, must(m.Encode()))
	s.sign()
}

// tuf copies what is signed, and gives it back.
func (s *signed) tuf() (restore func()) {
	kept := filepath.Join(s.t.TempDir(), "tuf")
	if err := os.CopyFS(kept, os.DirFS(s.path("tuf"))); err != nil {
		s.t.Fatal(err)
	}
	return func() {
		os.RemoveAll(s.path("tuf"))
		if err := os.CopyFS(s.path("tuf"), os.DirFS(kept)); err != nil {
			s.t.Fatal(err)
		}
	}
}

// With a root, all commands work as without one, and nothing else of the mirror's
// documents is asked for than what is signed.
func TestTrusted(t *testing.T) {
	s := newSigned(t)
	guarded := startSite(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := os.Stat(s.path(r.URL.Path)); err != nil {
			w.WriteHeader(http.StatusForbidden) // as hosts do that do not tell what they have
			return
		}
		http.ServeFile(w, r, s.path(r.URL.Path))
	}))
	for _, mirror := range []string{s.dir, serve(t, s.dir), guarded} {
		p := newPlace(t, image3)
		o := p.options(mirror, "")
		o.Trust = s.root()
		before := p.everything()
		if plan, err := client.NewPlan(t.Context(), o); err != nil || len(plan.Candidates) == 0 {
			t.Errorf("plan: %+v, %v", plan, err)
		}
		if all, err := client.List(t.Context(), o); err != nil || len(all) != 5 {
			t.Errorf("list: %+v, %v", all, err)
		}
		if !maps.Equal(before, p.everything()) {
			t.Error("plan or list changed something")
		}
		for range 2 {
			if _, err := client.Update(t.Context(), o); err != nil {
				t.Fatal(err)
			}
		}
		want := map[string]string{image3: imageText(image3), image4: imageText(image4), ".trust": ""}
		p.want(want)
		if _, err := client.Verify(t.Context(), o); err != nil {
			t.Error(err)
		}
	}
}

// Another mirror that is ahead is a source, and does not make the first one an old state.
func TestOtherMirrorAhead(t *testing.T) {
	ahead := newSigned(t)
	behind := filepath.Join(t.TempDir(), "behind")
	if err := os.CopyFS(behind, os.DirFS(ahead.dir)); err != nil {
		t.Fatal(err)
	}
	os.RemoveAll(filepath.Join(behind, "rdiffs"))
	ahead.edit(func(s *meta.Series) { s.Images = s.Images[1:] })
	p := newPlace(t, image3)
	o := p.options(behind, "")
	o.Mirrors = append(o.Mirrors, ahead.dir)
	o.Trust = ahead.root()
	result, err := client.Update(t.Context(), o)
	if err != nil || result.Image != name(image4) || isFull(result.Route) || result.Route.Steps[0].Mirror != ahead.dir {
		t.Fatalf("%+v, %v", result, err)
	}
	o.Mirrors = o.Mirrors[:1]
	if result, err := client.Update(t.Context(), o); err != nil || !result.UpToDate {
		t.Errorf("%+v, %v", result, err)
	}
}

func serve(t *testing.T, dir string) string {
	s := new(site)
	return startSite(t, s.handler(dir, nil))
}

// bomb is a delta of 6 MB that says to copy the base a million times.
func bomb() []byte {
	return append([]byte{0x72, 0x73, 0x02, 0x36}, bytes.Repeat([]byte{0x47, 0, 0, 4, 0, 0}, 1<<20)...)
}

// Each attack of a mirror or a wire is refused with an error that names it, and the
// images are as they were.
func TestUntrusted(t *testing.T) {
	for _, c := range []struct {
		name   string
		have   []string
		image  string
		attack func(t *testing.T, s *signed, p *place) http.Handler // nil: the directory is served
		is     error
		says   string
	}{
		{"not signed at all", []string{image3}, "", func(_ *testing.T, s *signed, _ *place) http.Handler {
			os.RemoveAll(s.path("tuf"))
			return nil
		}, nil, "tuf/timestamp.json"},
		{"signed by another", []string{image3}, "", func(t *testing.T, s *signed, _ *place) http.Handler {
			os.RemoveAll(s.path("tuf"))
			if err := os.CopyFS(s.path("tuf"), os.DirFS(testdata.Path("before/mirror/tuf"))); err != nil {
				t.Fatal(err)
			}
			return nil
		}, client.ErrUntrusted, "arbitrary install"},
		{"an image that was replaced", nil, image4, func(_ *testing.T, s *signed, _ *place) http.Handler {
			s.write(image4, flip(imageData(image4)))
			return nil
		}, client.ErrVerify, "its BLAKE3"},
		{"another image under its name", nil, image4, func(_ *testing.T, s *signed, _ *place) http.Handler {
			s.write(image4, imageData(image3))
			return nil
		}, client.ErrVerify, "bytes, want"},
		{"a document that was replaced", []string{image3}, "", func(_ *testing.T, s *signed, _ *place) http.Handler {
			for _, f := range must(filepath.Glob(s.path("tuf/targets/meta/*.json"))) {
				os.WriteFile(f, flip(must(os.ReadFile(f))), 0o666)
			}
			return nil
		}, client.ErrUntrusted, "mix-and-match"},
		{"all that it said before", []string{image3}, "", func(_ *testing.T, s *signed, p *place) http.Handler {
			restore := s.tuf()
			s.edit(func(m *meta.Series) { m.Newest().Diffs = nil })
			o := p.options(s.dir, image3)
			o.Trust = s.root()
			if _, err := client.Update(t.Context(), o); err != nil {
				t.Fatal(err)
			}
			restore()
			return nil
		}, client.ErrUntrusted, "rollback"},
		{"fast-forward", []string{image3}, "", func(_ *testing.T, s *signed, _ *place) http.Handler {
			data := must(os.ReadFile(s.path("tuf/timestamp.json")))
			s.write("tuf/timestamp.json", regexp.MustCompile(`"version": *\d+`).ReplaceAll(data, []byte(`"version":9007199254740991`)))
			return nil
		}, client.ErrUntrusted, "fast-forward"},
		{"key compromise: one key of two that are needed", []string{image3}, "", func(t *testing.T, s *signed, _ *place) http.Handler {
			s.edit(func(m *meta.Series) { becomesAnother(m.Newest()) }) // by the one key that there is until then
			keys := must(trust.Open(s.options()))
			defer keys.Close()
			must(keys.Add(trust.Targets, 2))
			s.write("tuf/2.root.json", must(os.ReadFile(filepath.Join(s.keys, "2.root.json"))))
			return nil
		}, client.ErrUntrusted, "a stolen key"},
		{"what has expired", []string{image3}, "", func(t *testing.T, s *signed, _ *place) http.Handler {
			os.RemoveAll(s.path("tuf"))
			o := s.options()
			o.Now = func() time.Time { return time.Now().AddDate(0, 0, -31) }
			o.IgnoreClock = true
			s.signAs(o)
			return nil
		}, client.ErrUntrusted, "freeze"},
		{"an image older than the one in use", []string{image4}, image1, func(*testing.T, *signed, *place) http.Handler { return nil }, client.ErrUntrusted, "downgrade attack"},
		{"an image older than the default", []string{image2, image3}, image1, func(_ *testing.T, _ *signed, p *place) http.Handler {
			os.Link(filepath.Join(p.dir, image2), filepath.Join(p.dir, defaultLink))
			return nil
		}, client.ErrUntrusted, "downgrade attack"},
		{"endless data", []string{image3}, "", func(_ *testing.T, s *signed, _ *place) http.Handler {
			return replacing(s.dir, "tuf/timestamp.json", endless)
		}, client.ErrUntrusted, "endless data"},
		{"endless data of a document", []string{image3}, "", func(_ *testing.T, s *signed, _ *place) http.Handler {
			return replacing(s.dir, "tuf/targets/", endless)
		}, client.ErrUntrusted, "endless data"},
		{"slow retrieval", []string{image3}, "", func(_ *testing.T, s *signed, _ *place) http.Handler {
			return replacing(s.dir, "tuf/timestamp.json", trickle)
		}, nil, "hardly any data arrived"},
		{"a delta bomb", []string{image3}, "", func(_ *testing.T, s *signed, _ *place) http.Handler {
			b := bomb()
			s.edit(func(m *meta.Series) {
				d := &m.Newest().Diffs[0]
				for i := range m.Newest().Diffs {
					if m.Newest().Diffs[i].Base == name(image3) {
						d = &m.Newest().Diffs[i]
					}
				}
				d.Sums = sumsOf(b)
				d.Sums.Size = int64(len(b))
				s.write(meta.DeltaPath(d.Filename), b)
				becomesAnother(m.Newest()) // nor does the full image do
			})
			return nil
		}, client.ErrVerify, "its BLAKE3"},
		{"a path that leads out", []string{image3}, "", func(_ *testing.T, s *signed, _ *place) http.Handler {
			data := must(os.ReadFile(s.path(series)))
			s.write(series, bytes.ReplaceAll(data, []byte(`"filename":"`+image4), []byte(`"filename":"../`+image4)))
			s.sign()
			return nil
		}, meta.ErrFormat, "not an image's name"},
		{"a link out of the mirror", []string{image3}, "", func(t *testing.T, s *signed, _ *place) http.Handler {
			s.write("tuf/outside", nil)
			os.Remove(s.path("tuf/timestamp.json"))
			os.Symlink("/etc/passwd", s.path("tuf/timestamp.json"))
			return nil
		}, nil, "escapes"},
		{"a link out of the images directory, for what is remembered", []string{image3}, "", func(t *testing.T, _ *signed, p *place) http.Handler {
			os.Symlink(t.TempDir(), filepath.Join(p.dir, ".trust"))
			return nil
		}, nil, "escapes"},
		{"a root that is none", []string{image3}, "", func(_ *testing.T, s *signed, _ *place) http.Handler {
			os.WriteFile(s.root(), []byte("{}"), 0o666)
			return nil
		}, nil, "root"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSigned(t)
			p := newPlace(t, c.have...)
			mirror := s.dir
			if h := c.attack(t, s, p); h != nil {
				mirror = startSite(t, h)
			}
			want := p.files()
			o := p.options(mirror, c.image)
			o.Trust, o.DefaultLink = s.root(), ""
			if _, ok := want[defaultLink]; ok {
				o.DefaultLink = defaultLink
			}
			o.Patience.Stall, o.Patience.Attempts = 200*time.Millisecond, 1
			_, err := client.Update(t.Context(), o)
			if err == nil || c.is != nil && !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v, want %v that says %q", err, c.is, c.says)
			}
			delete(want, ".trust")
			got := p.files()
			delete(got, ".trust")
			if !maps.Equal(got, want) {
				t.Errorf("the images are not what they were")
			}
		})
	}
}

// An older image is made where that is allowed.
func TestAllowDowngrade(t *testing.T) {
	s := newSigned(t)
	p := newPlace(t, image4)
	o := p.options(s.dir, image3)
	o.Trust, o.AllowDowngrade = s.root(), true
	if result, err := client.Update(t.Context(), o); err != nil || !result.Made {
		t.Errorf("%+v, %v", result, err)
	}
}

func sumsOf(data []byte) cksum.Sums {
	h := cksum.New()
	h.Write(data)
	return h.Sums()
}

// replacing serves a directory, but for the files whose path has a prefix.
func replacing(dir, prefix string, f fault) http.Handler {
	return new(site).handler(dir, func(path string) fault {
		if strings.HasPrefix(path, prefix) {
			return f
		}
		return nil
	})
}

// trickle sends a byte now and then.
func trickle(w http.ResponseWriter, data []byte) {
	for i := range data {
		if _, err := w.Write(data[i : i+1]); err != nil {
			return
		}
		w.(http.Flusher).Flush()
		time.Sleep(20 * time.Millisecond)
	}
}
