package published

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/ledger"
	"puavo-image-repository/imagerepo/internal/page"
	"puavo-image-repository/imagerepo/internal/state"
	"puavo-image-repository/testdata"
)

// site is a mirror with a page.
type site struct {
	t    *testing.T
	path string
	dir  atomicfile.Dir
	docs *Documents
	log  bytes.Buffer
}

// newSite returns a mirror without a page.
func newSite(t *testing.T) *site {
	dir, _ := mirrorOf(t)
	s := &site{t: t, path: dir.Name(), dir: dir}
	if err := os.MkdirAll(s.at(".repo/state"), 0o777); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *site) at(name string) string { return filepath.Join(s.path, name) }

// open opens the mirror as a run does, with the series of that name besides.
func (s *site) open(p Page, series string) *ledger.Ledger {
	s.t.Helper()
	known, _, err := ledger.Load(state.New(s.dir, ".repo/state", ".repo/tmp"))
	if err != nil {
		s.t.Fatal(err)
	}
	p.Ledger, p.Log = known, slog.New(slog.NewTextHandler(&s.log, nil))
	s.docs = load(s.t, s.dir)
	s.docs.SetPage(p)
	s.docs.Publish(append(s.docs.All()[:2], threeImages(series)), nil, nil)
	return known
}

// publish publishes the mirror as a run does.
func (s *site) publish(p Page, series string) (changed bool) {
	s.t.Helper()
	s.open(p, series)
	changed, err := s.docs.Write(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	return changed
}

// page returns the page that is there, "" for none.
func (s *site) page() string {
	data, _ := os.ReadFile(s.at("index.html"))
	return string(data)
}

// listed reports whether SHA256SUMS names the page with its digest.
func (s *site) listed() bool {
	lists, err := os.ReadFile(s.at("SHA256SUMS"))
	if err != nil {
		s.t.Fatal(err)
	}
	return strings.Contains(string(lists), digestsOf([]byte(s.page())).SHA256.String()+"  index.html\n")
}

// The page that the tool wrote is written again and removed; that of somebody else stays,
// is reported once, and is not listed.
func TestPage(t *testing.T) {
	const theirs = "<p>welcome"
	put := func(s *site, text string) {
		if err := os.WriteFile(s.at("index.html"), []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	forget := func(s *site) {
		if err := os.RemoveAll(s.at(".repo/state/index.html.json")); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name   string
		before func(s *site)
		page   Page
		ours   bool   // there is a page of ours after that
		there  string // that of somebody
		warned int
	}{
		{"a first one", func(*site) {}, Page{}, true, "", 0},
		{"another one", func(s *site) { s.publish(Page{}, "c") }, Page{}, true, "", 0},
		{"without its record", func(s *site) { s.publish(Page{}, "c"); forget(s) }, Page{}, true, "", 0},
		{"without all records", func(s *site) {
			s.publish(Page{}, "c")
			os.RemoveAll(s.at(".repo/state"))
			os.Mkdir(s.at(".repo/state"), 0o777)
		}, Page{}, true, "", 0},
		{"it is gone", func(s *site) { s.publish(Page{}, "c"); os.Remove(s.at("index.html")) }, Page{}, true, "", 0},
		{"not wanted", func(s *site) { s.publish(Page{}, "c") }, Page{Omit: true}, false, "", 0},
		{"not wanted, and never made", func(*site) {}, Page{Omit: true}, false, "", 0},
		{"not wanted, and gone", func(s *site) { s.publish(Page{}, "c"); os.Remove(s.at("index.html")) }, Page{Omit: true}, false, "", 0},
		{"somebody's", func(s *site) { put(s, theirs) }, Page{}, false, theirs, 1},
		{"somebody's, seen before", func(s *site) { put(s, theirs); s.publish(Page{}, "c"); s.publish(Page{}, "d") }, Page{}, false, theirs, 1},
		{"somebody's, and not wanted", func(s *site) { put(s, theirs) }, Page{Omit: true}, false, theirs, 0},
		{"somebody's in the place of ours", func(s *site) { s.publish(Page{}, "c"); put(s, theirs) }, Page{}, false, theirs, 1},
		{"somebody's in the place of ours, and not wanted", func(s *site) { s.publish(Page{}, "c"); put(s, theirs) }, Page{Omit: true}, false, theirs, 0},
		{"somebody's was moved away", func(s *site) { put(s, theirs); s.publish(Page{}, "c"); os.Remove(s.at("index.html")) }, Page{}, true, "", 1},
		{"nobody asked", func(s *site) { s.publish(Page{}, "c") }, Page{}, true, "", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSite(t)
			c.before(s)
			s.publish(c.page, "e")
			got := s.page()
			if ours := strings.Contains(got, `href="meta/e.json"`); ours != c.ours || !c.ours && got != c.there || s.listed() != c.ours {
				t.Errorf("ours %t, listed %t, %q", ours, s.listed(), got)
			}
			if n := strings.Count(s.log.String(), "level=WARN"); n != c.warned {
				t.Errorf("%d warnings: %s", n, &s.log)
			}
			if _, err := os.Stat(s.at(".repo/state/index.html.json")); (err == nil) != (c.ours || c.warned > 0 || c.there != "" && strings.Contains(c.name, "place of ours")) {
				t.Errorf("record: %v", err)
			}
			if s.publish(c.page, "e") {
				t.Error("another run changed something")
			}
		})
	}
}

// What has the name of the page and is no regular file stays; nobody waits for a pipe.
func TestOddPage(t *testing.T) {
	for _, odd := range testdata.OddFiles(t) {
		t.Run(odd.Name, func(t *testing.T) {
			s := newSite(t)
			odd.Make(s.at("index.html"))
			before, err := os.Lstat(s.at("index.html"))
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range []Page{{}, {Omit: true}, {}} {
				testdata.Promptly(t, odd.Name, func() { s.publish(p, "c") })
			}
			after, err := os.Lstat(s.at("index.html"))
			if err != nil || !os.SameFile(before, after) || strings.Count(s.log.String(), "level=WARN") != 1 {
				t.Errorf("%v, %s", err, &s.log)
			}
		})
	}
}

// A damaged page is made again if it is suspect; one that is somebody's is not suspect.
func TestSuspectPage(t *testing.T) {
	s := newSite(t)
	s.publish(Page{}, "c")
	want := s.page()
	if err := os.WriteFile(s.at("index.html"), []byte("damaged"), 0o666); err != nil {
		t.Fatal(err)
	}
	s.open(Page{}, "c").Suspect("index.html")
	if changed, err := s.docs.Write(t.Context()); !changed || err != nil || s.page() != want || !s.listed() {
		t.Errorf("changed %t, %v, %q", changed, err, s.page())
	}
}

// The page describes the root that signs, or else the newest that the mirror has.
func TestRootOfPage(t *testing.T) {
	root := func(version int) []byte {
		return fmt.Appendf(nil, `{"signed":{"version":%d,"expires":"2027-01-02T00:00:00Z","roles":{"root":{"keyids":["k%[1]d"],"threshold":1}}}}`, version)
	}
	for _, c := range []struct {
		name  string
		files map[string][]byte
		given *page.Root
		want  string
	}{
		{"none", nil, nil, ""},
		{"the newest", map[string][]byte{"1.root.json": root(1), "2.root.json": root(2), "3.root.json": root(3)}, nil, "k3"},
		{"the newest of a whole row", map[string][]byte{"1.root.json": root(1), "9.root.json": root(9)}, nil, "k1"},
		{"the one that will sign", map[string][]byte{"1.root.json": root(1)}, &page.Root{Keys: []string{"new"}, Expires: time.Unix(0, 0)}, "new"},
		{"one that is malformed", map[string][]byte{"1.root.json": []byte("{")}, nil, ""},
	} {
		s := newSite(t)
		for name, data := range c.files {
			if err := errors.Join(os.MkdirAll(s.at("tuf"), 0o777), os.WriteFile(s.at("tuf/"+name), data, 0o666)); err != nil {
				t.Fatal(err)
			}
		}
		s.publish(Page{Root: c.given}, "c")
		_, got, _ := strings.Cut(s.page(), `<li><code class="digest">`)
		if got, _, _ = strings.Cut(got, "<"); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// The page is recorded, then written after the meta and before the index, and removed when
// no list names it any more. A run that ends at any of these changes leaves a page that
// the next one knows as its own.
func TestOrderOfPage(t *testing.T) {
	for _, c := range []struct {
		name  string
		page  Page
		order []string
	}{
		{"written", Page{}, []string{"meta/e.json", ".repo/state/index.html.json", "index.html", "index.json", "SHA256SUMS"}},
		{"removed", Page{Omit: true}, []string{"meta/e.json", "index.json", "SHA256SUMS", "index.html", ".repo/state/index.html.json"}},
	} {
		for ends := 0; ; ends += testdata.Scale(1, 3) { // before that change
			s := newSite(t)
			s.publish(Page{}, "c")
			s.publish(Page{}, "d") // so that its record knows one before
			n, stopped := 0, false
			var order []string
			stop := atomicfile.Observe(s.path, func(change atomicfile.Change) error {
				if name := change.To; change.Kind == atomicfile.Rename && slices.Contains(c.order, name) {
					order = append(order, name)
				} else if name := change.Name; change.Kind == atomicfile.Remove && slices.Contains(c.order, name) {
					order = append(order, name)
				}
				if n++; n > ends {
					stopped = true
					return context.Canceled
				}
				return nil
			})
			var err error
			if s.dir, err = atomicfile.Open(s.path); err != nil {
				t.Fatal(err)
			}
			s.open(c.page, "e")
			_, err = s.docs.Write(t.Context())
			stop()
			s.dir.Close()
			if stopped != (err != nil) {
				t.Fatalf("%s: before change %d: %v", c.name, ends, err)
			}
			if s.dir, err = atomicfile.Open(s.path); err != nil {
				t.Fatal(err)
			}
			s.publish(Page{}, "f")
			if !strings.Contains(s.page(), `href="meta/f.json"`) || !s.listed() || s.log.Len() > 0 {
				t.Errorf("%s: after a run that ended before change %d, listed %t, %s", c.name, ends, s.listed(), &s.log)
			}
			s.dir.Close()
			if !stopped {
				if !slices.Equal(order, c.order) {
					t.Errorf("%s: the order is %q, want %q", c.name, order, c.order)
				}
				break
			}
		}
	}
}
