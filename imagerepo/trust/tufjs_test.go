package trust

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// tufJS runs tuf-js, which has nothing in common with the implementation used here.
// Where it is not installed the test is skipped, but not where CI is set.
func tufJS(t *testing.T, args ...string) (stdout string, err error) {
	t.Helper()
	if err := exec.Command("node", "-e", "require('tuf-js')").Run(); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("tuf-js: %v", err)
		}
		t.Skipf("tuf-js is not installed: %v", err)
	}
	cmd := exec.Command("node", append([]string{filepath.Join("testdata", "refresh.js")}, args...)...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if cmd.Run() != nil {
		return "", &jsError{errs.String()}
	}
	return out.String(), nil
}

type jsError struct{ text string }

func (e *jsError) Error() string { return e.text }

// Another implementation accepts the repository, follows its changes of keys, and
// refuses it where it is attacked.
func TestTUFJS(t *testing.T) {
	flip := func(t *testing.T, pattern string) {
		names, err := filepath.Glob(pattern)
		if err != nil || len(names) == 0 {
			t.Fatalf("%s: %v", pattern, err)
		}
		for _, name := range names {
			data, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			data[len(data)/2] ^= 1
			if err := os.WriteFile(name, data, 0o666); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, c := range []struct {
		name   string
		change func(t *testing.T, p *place) // after tuf-js has been there
		says   string                       // "": it is accepted
	}{
		{"nothing new", func(*testing.T, *place) {}, ""},
		{"new documents", func(_ *testing.T, p *place) { p.publish("two", "a", "b.c"); p.sign() }, ""},
		{"another timestamp key", rotated(Timestamp), ""},
		{"another snapshot key", rotated(Snapshot), ""},
		{"another targets key", rotated(Targets), ""},
		{"another root key", rotated(Root), ""},
		{"a document was replaced", func(t *testing.T, p *place) { flip(t, filepath.Join(p.mirror, "tuf/targets/*.index.json")) }, "hash"},
		{"targets were replaced", func(t *testing.T, p *place) {
			p.publish("two", "a", "b.c")
			p.sign()
			flip(t, filepath.Join(p.mirror, "tuf/*.targets.json"))
		}, "targets"},
		{"the timestamp was replaced", func(t *testing.T, p *place) { flip(t, filepath.Join(p.mirror, "tuf/timestamp.json")) }, "Error"},
		{"all is as it was before", func(t *testing.T, p *place) {
			kept := filepath.Join(t.TempDir(), "tuf")
			if err := os.CopyFS(kept, os.DirFS(filepath.Join(p.mirror, "tuf"))); err != nil {
				t.Fatal(err)
			}
			p.publish("two", "a", "b.c")
			p.now = p.now.Add(time.Minute)
			p.sign()
			p.seen(t)
			os.RemoveAll(filepath.Join(p.mirror, "tuf"))
			if err := os.CopyFS(filepath.Join(p.mirror, "tuf"), os.DirFS(kept)); err != nil {
				t.Fatal(err)
			}
		}, "version"},
		{"signed by other keys", func(t *testing.T, p *place) {
			other := newPlace(t)
			os.RemoveAll(other.Dir)
			other.now = p.now
			if err := Init(other.Options); err != nil {
				t.Fatal(err)
			}
			other.sign()
			os.RemoveAll(filepath.Join(p.mirror, "tuf"))
			if err := os.CopyFS(filepath.Join(p.mirror, "tuf"), os.DirFS(filepath.Join(other.mirror, "tuf"))); err != nil {
				t.Fatal(err)
			}
		}, "sign"},
		{"it has expired", func(_ *testing.T, p *place) {
			p.publish("two", "a", "b.c")
			p.Lifetimes = map[string]time.Duration{Timestamp: time.Second}
			p.now = time.Now().Add(-time.Minute)
			if _, err := p.trySign(p.t.Context()); err != nil {
				p.t.Fatal(err)
			}
		}, "expired"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPlace(t)
			p.now = time.Now().Add(-time.Hour)
			p.sign()
			p.seen(t)
			p.now = time.Now()
			c.change(t, p)
			got, err := p.javaScript(t)
			if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v, want one that says %q", err, c.says)
			}
			if want := p.read("index.json") + p.read("meta/a.json"); err == nil && got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

// rotated gives a role another key, and signs.
func rotated(role string) func(t *testing.T, p *place) {
	return func(t *testing.T, p *place) {
		if _, err := p.keys().Rotate(role, ""); err != nil {
			t.Fatal(err)
		}
		p.sign()
	}
}

// seen has tuf-js see the mirror as it is now.
func (p *place) seen(t *testing.T) {
	t.Helper()
	if _, err := p.javaScript(t); err != nil {
		t.Fatal(err)
	}
}

// javaScript returns the documents of the mirror as tuf-js gets them.
func (p *place) javaScript(t *testing.T) (string, error) {
	t.Helper()
	dir := filepath.Join(filepath.Dir(p.mirror), "tuf-js")
	if err := os.Mkdir(dir, 0o777); err == nil {
		if err := os.WriteFile(filepath.Join(dir, "root.json"), []byte(p.readKeys("1.root.json")), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	server := httptest.NewServer(http.FileServer(http.Dir(p.mirror)))
	defer server.Close()
	return tufJS(t, server.URL+"/tuf", dir, "index.json", "meta/a.json")
}

func (p *place) read(name string) string {
	data, err := os.ReadFile(filepath.Join(p.mirror, name))
	if err != nil {
		p.t.Fatal(err)
	}
	return string(data)
}

func (p *place) readKeys(name string) string {
	data, err := os.ReadFile(filepath.Join(p.Dir, name))
	if err != nil {
		p.t.Fatal(err)
	}
	return string(data)
}
