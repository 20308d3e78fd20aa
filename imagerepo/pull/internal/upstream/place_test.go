package upstream

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"puavo-image-repository/imagerepo"
	"puavo-image-repository/imagerepo/internal/fetch"
	"puavo-image-repository/imagerepo/internal/mirrortest"
	"puavo-image-repository/imagerepo/plan"
)

func TestMain(m *testing.M) {
	code := m.Run()
	mirrortest.RemoveKeys()
	os.Exit(code)
}

const (
	metaFile  = "meta/" + mirrortest.Series + ".json"
	otherMeta = "meta/puavo-os-free-buster-amd64.json"
)

// editions are the documents of a mirror, unsigned and signed, and signed later with other urls.
// Nobody changes them.
var editions struct {
	sync.Once
	unsigned, signed, later map[string]string
	root                    []byte
}

// documents returns one of editions.
func documents(t *testing.T, which string) map[string]string {
	t.Helper()
	editions.Do(func() {
		p := mirrortest.New(t, mirrortest.Image1, mirrortest.Image2, mirrortest.Other)
		torrents := func(o *imagerepo.Options) {
			o.Torrents = plan.Torrents{Of: plan.TorrentsOfAll, Seeds: []string{"https://images.example.org"}}
		}
		payload := func(name, _ string) bool { return path.Ext(name) == ".img" || path.Ext(name) == ".rdiff" }
		edition := func(changes ...func(*imagerepo.Options)) map[string]string {
			p.Build(append(changes, torrents)...)
			all := mirrortest.Tree(t, p.Mirror)
			maps.DeleteFunc(all, payload)
			return all
		}
		editions.unsigned = edition()
		p.Sign()
		editions.root, _ = os.ReadFile(p.Keys.RootFile())
		editions.signed = edition()
		editions.later = edition(func(o *imagerepo.Options) { o.URL = "https://other.example.org" })
	})
	return maps.Clone(map[string]map[string]string{"unsigned": editions.unsigned, "signed": editions.signed, "later": editions.later}[which])
}

// site is a mirror with these files. Answer, which may be nil, reports whether it has answered.
type site struct {
	*httptest.Server
	mu     sync.Mutex
	files  map[string]string
	asked  map[string]int
	answer func(w http.ResponseWriter, r *http.Request, name string) bool
}

func serve(t *testing.T, files map[string]string) *site {
	s := &site{files: files, asked: make(map[string]int)}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := strings.TrimPrefix(r.URL.Path, "/")
		s.mu.Lock()
		defer s.mu.Unlock()
		s.asked[name]++
		if s.answer != nil && s.answer(w, r, name) {
			return
		}
		if data, ok := s.files[name]; ok {
			w.Write([]byte(data))
		} else {
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	t.Cleanup(s.Close)
	return s
}

// options are those of tests: nothing is waited for.
func options(log *bytes.Buffer) Options {
	return Options{
		Fetch:  fetch.Options{Patience: fetch.Patience{Attempts: 2, Wait: time.Millisecond, Stall: 200 * time.Millisecond}},
		Pauses: []time.Duration{}, Log: slog.New(slog.NewTextHandler(log, nil)),
	}
}

// listed replaces a document, and what its list says of it.
func listed(files map[string]string, name, data string) {
	before := fmt.Sprintf("%x", sha256.Sum256([]byte(files[name])))
	list := path.Join(path.Dir(name), "SHA256SUMS")
	files[name] = data
	files[list] = strings.Replace(files[list], before, fmt.Sprintf("%x", sha256.Sum256([]byte(data))), 1)
}

// without returns a text without the lines that have a word.
func without(text, word string) string {
	lines := slices.DeleteFunc(strings.SplitAfter(text, "\n"), func(l string) bool { return strings.Contains(l, word) })
	return strings.Join(lines, "")
}

// later gives a mirror the signed documents of a later edition.
func later(s *site) {
	for name, data := range editions.later {
		if strings.HasPrefix(name, "tuf/") {
			s.files[name] = data
		}
	}
}

// checkEdition checks what was read of a mirror that is right.
func checkEdition(t *testing.T, e *Edition, s *site, signed, part, trusted bool) {
	t.Helper()
	if len(e.Series) != 2 || e.Series[0].Name != mirrortest.Series || len(e.Series[0].Images) != 2 || e.Mirror != s.URL || e.Source.String() != s.URL {
		t.Errorf("%+v", e)
	}
	if expires := !e.Expires.IsZero(); expires != (signed && (!part || trusted)) {
		t.Errorf("it expires at %v", e.Expires)
	}
	if part {
		if e.Documents != nil || e.Signed {
			t.Errorf("all documents were read: %q", slices.Sorted(maps.Keys(e.Documents)))
		}
		return
	}
	want := maps.Clone(s.files)
	delete(want, "notes.txt")
	got := make(map[string]string)
	for name, data := range e.Documents {
		got[name] = string(data)
	}
	if diff := mirrortest.Difference(got, want); diff != "" || e.Signed != signed {
		t.Errorf("it has %s; signed: %v", diff, e.Signed)
	}
}
