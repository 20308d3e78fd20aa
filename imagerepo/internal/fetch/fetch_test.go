package fetch

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"puavo-image-repository/imagerepo/internal/throttle"
)

// content is what is fetched: random bytes.
var content = func() []byte {
	b := make([]byte, 1<<20)
	rand.NewChaCha8([32]byte{}).Read(b)
	return b
}()

var changed = time.Date(2024, 1, 20, 12, 0, 0, 0, time.UTC)

// hasty is the patience of tests.
var hasty = Patience{Attempts: 4, Wait: time.Millisecond, Longest: 20 * time.Millisecond, Stall: 3 * time.Second}

// server is a web site with one file, "file", which a fault can spoil.
type server struct {
	*httptest.Server
	mu       sync.Mutex
	requests []string // their ranges
	sent     int64    // bytes
	fault    func(n int, w http.ResponseWriter, r *http.Request) (done bool)
}

func newServer(t *testing.T, fault func(n int, w http.ResponseWriter, r *http.Request) bool) *server {
	s := &server{fault: fault}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.requests = append(s.requests, r.Header.Get("Range"))
	n := len(s.requests)
	s.mu.Unlock()
	if r.URL.Path != "/file" {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("ETag", `"one"`)
	counted := &countedWriter{w, s}
	if s.fault == nil || !s.fault(n, counted, r) {
		http.ServeContent(counted, r, "", changed, bytes.NewReader(content))
	}
}

type countedWriter struct {
	http.ResponseWriter
	s *server
}

func (c *countedWriter) Write(p []byte) (int, error) {
	n, err := c.ResponseWriter.Write(p)
	c.s.mu.Lock()
	c.s.sent += int64(n)
	c.s.mu.Unlock()
	return n, err
}

// cut serves the file but ends the connection after so many bytes of the answer.
func cut(w http.ResponseWriter, r *http.Request, bytesLeft int) bool {
	http.ServeContent(&cutWriter{w, bytesLeft}, r, "", changed, bytes.NewReader(content))
	panic(http.ErrAbortHandler)
}

type cutWriter struct {
	http.ResponseWriter
	left int
}

func (c *cutWriter) Write(p []byte) (int, error) {
	if len(p) > c.left {
		n, _ := c.ResponseWriter.Write(p[:c.left])
		c.ResponseWriter.(*countedWriter).ResponseWriter.(http.Flusher).Flush()
		c.left = 0
		return n, io.ErrShortWrite
	}
	c.left -= len(p)
	return c.ResponseWriter.Write(p)
}

func open(t *testing.T, where string, o Options) *Mirror {
	t.Helper()
	m, err := Open(where, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

// fromFile returns Options.Authorities that reads a file.
func fromFile(t *testing.T, ca string) func() (*x509.CertPool, error) {
	return func() (*x509.CertPool, error) { return Authorities(t.Context(), ca) }
}

// get fetches the file from a place on.
func get(ctx context.Context, m *Mirror, r Request) ([]byte, error) {
	b, err := m.Open(ctx, "file", r)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	return io.ReadAll(b)
}

// What goes wrong with a file, and what comes of it: the right bytes or an error.
func TestFaults(t *testing.T) {
	first := func(fault func(w http.ResponseWriter, r *http.Request) bool) func(int, http.ResponseWriter, *http.Request) bool {
		return func(n int, w http.ResponseWriter, r *http.Request) bool { return n == 1 && fault(w, r) }
	}
	status := func(code int, header ...string) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, _ *http.Request) bool {
			for i := 0; i < len(header); i += 2 {
				w.Header().Set(header[i], header[i+1])
			}
			w.WriteHeader(code)
			return true
		}
	}
	always := func(fault func(w http.ResponseWriter, r *http.Request) bool) func(int, http.ResponseWriter, *http.Request) bool {
		return func(_ int, w http.ResponseWriter, r *http.Request) bool { return fault(w, r) }
	}
	// broken lets the first connection break and second answer in some way.
	broken := func(second func(w http.ResponseWriter, r *http.Request) bool) func(int, http.ResponseWriter, *http.Request) bool {
		return func(n int, w http.ResponseWriter, r *http.Request) bool {
			switch n {
			case 1:
				return cut(w, r, 300_000)
			case 2:
				return second(w, r)
			}
			return false
		}
	}
	stall := func(w http.ResponseWriter, r *http.Request) bool {
		w.Header().Set("Content-Length", fmt.Sprint(len(content)))
		w.Write(content[:100_000])
		w.(*countedWriter).ResponseWriter.(http.Flusher).Flush()
		<-r.Context().Done()
		return true
	}
	const known = 1 << 20
	// tags gives each answer another ETag and date, as many servers behind one name do.
	tags := func(then func(n int, w http.ResponseWriter, r *http.Request) bool) func(int, http.ResponseWriter, *http.Request) bool {
		return func(n int, w http.ResponseWriter, r *http.Request) bool {
			w.Header().Set("ETag", fmt.Sprintf(`"%d"`, n))
			w.Header().Set("Last-Modified", changed.Add(time.Duration(n)*time.Hour).Format(http.TimeFormat))
			return then(n, w, r)
		}
	}
	// old answers with an old file of another size, unless caches may not answer.
	old := func(w http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("Cache-Control") == "no-cache" {
			return false
		}
		http.ServeContent(w, r, "", changed, bytes.NewReader(content[:900_000]))
		return true
	}
	for _, c := range []struct {
		name     string
		fault    func(int, http.ResponseWriter, *http.Request) bool
		want     error  // nil: the right bytes come
		says     string // of the error
		requests int
		twice    bool  // bytes may be sent twice
		size     int64 // that is asked for
	}{
		{"no fault", nil, nil, "", 1, false, 0},
		{"503 once", first(status(503)), nil, "", 2, false, 0},
		{"503 with Retry-After", first(status(503, "Retry-After", "0")), nil, "", 2, false, 0},
		{"429 with a Retry-After of a year", first(status(429, "Retry-After", "31536000")), nil, "", 2, false, 0},
		{"503 for ever", always(status(503)), io.EOF, "503", 4, false, 0},
		{"404", always(status(404)), fs.ErrNotExist, "file", 1, false, 0},
		{"410", always(status(410)), fs.ErrNotExist, "file", 1, false, 0},
		{"403", always(status(403)), io.EOF, "403", 1, false, 0},
		{"gzip", always(status(200, "Content-Encoding", "gzip")), io.EOF, "encoded as gzip", 1, false, 0},
		{"cut once", broken(func(http.ResponseWriter, *http.Request) bool { return false }), nil, "", 2, false, 0},
		{"cut often", func(n int, w http.ResponseWriter, r *http.Request) bool { return n < 10 && cut(w, r, 100_000) }, nil, "", 10, false, 0},
		{"cut before anything", func(n int, w http.ResponseWriter, r *http.Request) bool { return n < 4 && cut(w, r, 0) }, nil, "", 4, false, 0},
		{"cut for ever", always(func(w http.ResponseWriter, r *http.Request) bool { return cut(w, r, 0) }), io.ErrUnexpectedEOF, "given up after 4 attempts", 4, false, 0},
		{"a server without ranges cuts for ever", always(func(w http.ResponseWriter, r *http.Request) bool {
			r.Header.Del("Range")
			return cut(w, r, 500_000)
		}), io.ErrUnexpectedEOF, "given up after 4 attempts", 4, true, 0},
		{"cut and 404", broken(status(404)), fs.ErrNotExist, "", 2, false, 0},
		{"cut and 416", broken(status(416)), ErrChanged, "", 2, false, 0},
		{"cut and 503", broken(status(503)), nil, "", 3, false, 0},
		{"cut and the whole file", broken(func(w http.ResponseWriter, r *http.Request) bool {
			r.Header.Del("Range")
			return false
		}), nil, "", 2, true, 0},
		{"cut and the whole file, cut", broken(func(w http.ResponseWriter, r *http.Request) bool {
			r.Header.Del("Range")
			return cut(w, r, 200_000)
		}), nil, "", 3, true, 0},
		{"cut and another file", broken(func(w http.ResponseWriter, r *http.Request) bool {
			w.Header().Set("ETag", `"two"`)
			return false // If-Range makes it the whole of the other
		}), ErrChanged, "", 2, true, 0},
		{"cut and another file without an ETag", broken(func(w http.ResponseWriter, r *http.Request) bool {
			w.Header().Del("ETag")
			r.Header.Del("If-Range")
			http.ServeContent(w, r, "", changed.Add(time.Hour), bytes.NewReader(content))
			return true
		}), ErrChanged, "", 2, true, 0},
		{"cut and another size", broken(func(w http.ResponseWriter, r *http.Request) bool {
			http.ServeContent(w, r, "", changed, bytes.NewReader(content[:900_000]))
			return true
		}), ErrChanged, "", 2, true, 0},
		{"cut and another range", broken(func(w http.ResponseWriter, r *http.Request) bool {
			r.Header.Set("Range", "bytes=5-")
			return false
		}), nil, "", 3, true, 0},
		{"cut and a shorter range", broken(func(w http.ResponseWriter, r *http.Request) bool {
			r.Header.Set("Range", r.Header.Get("Range")+"400000")
			return false
		}), nil, "", 3, true, 0},
		{"cut and a senseless range", broken(func(w http.ResponseWriter, r *http.Request) bool {
			w.Header().Set("Content-Range", "bytes 300000-x/y")
			w.WriteHeader(http.StatusPartialContent)
			return true
		}), nil, "", 3, true, 0},
		{"stalls", func(n int, w http.ResponseWriter, r *http.Request) bool { return n == 1 && stall(w, r) }, nil, "", 2, false, 0},
		{"no answer", func(n int, w http.ResponseWriter, r *http.Request) bool {
			if n == 1 {
				panic(http.ErrAbortHandler)
			}
			return false
		}, nil, "", 2, false, 0},

		{"known size, no fault", nil, nil, "", 1, false, known},
		{"known size, cut often, other ETags and dates", tags(func(n int, w http.ResponseWriter, r *http.Request) bool { return n < 10 && cut(w, r, 100_000) }), nil, "", 10, false, known},
		{"known size, cut, and the whole file with another ETag", broken(func(w http.ResponseWriter, r *http.Request) bool {
			w.Header().Set("ETag", `"two"`)
			r.Header.Del("Range")
			return false
		}), nil, "", 2, true, known},
		{"known size, a cache has an old file", always(old), nil, "", 2, true, known},
		{"known size, cut, and a cache has an old file", broken(old), nil, "", 3, true, known},
		{"known size, cut, and a cache has less than that", broken(func(w http.ResponseWriter, r *http.Request) bool {
			if r.Header.Get("Cache-Control") != "" {
				return false
			}
			w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
			return true
		}), nil, "", 3, false, known},
		{"known size, the file is another", nil, ErrChanged, "it has 1048576 bytes, want 1048577", 2, true, known + 1},
		{"known size, cut, and the file is another", broken(func(w http.ResponseWriter, r *http.Request) bool {
			http.ServeContent(w, r, "", changed, bytes.NewReader(content[:900_000]))
			return true
		}), nil, "", 3, true, known},
		{"known size, cut, and 416 for ever", func(n int, w http.ResponseWriter, r *http.Request) bool {
			if n == 1 {
				return cut(w, r, 300_000)
			}
			return status(416)(w, r)
		}, ErrChanged, "ends before byte 300000", 3, false, known},
		{"known size, cut, and 416 for ever that says the size", func(n int, w http.ResponseWriter, r *http.Request) bool {
			if n == 1 {
				return cut(w, r, 300_000)
			}
			return status(416, "Content-Range", "bytes */1000")(w, r)
		}, ErrChanged, "it has 1000 bytes, want 1048576", 3, false, known},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t, c.fault)
			data, err := get(t.Context(), open(t, s.URL, Options{Patience: hasty}), Request{Size: c.size})
			if c.want == nil && (err != nil || !bytes.Equal(data, content)) {
				t.Errorf("%d bytes, %v", len(data), err)
			}
			if c.want != nil && (err == nil || c.want != io.EOF && !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says)) {
				t.Errorf("%v, want %v", err, c.want)
			}
			if !bytes.HasPrefix(content, data) {
				t.Error("wrong bytes came")
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			if len(s.requests) != c.requests {
				t.Errorf("requests for the ranges %q, want %d", s.requests, c.requests)
			}
			if s.sent > int64(len(content))+throttle.Burst && !c.twice && c.want == nil {
				t.Errorf("%d bytes were sent for %d", s.sent, len(content))
			}
		})
	}
}

// Reading begins at an offset, as after another process has ended there.
func TestOffset(t *testing.T) {
	s := newServer(t, nil)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), content, 0o666); err != nil {
		t.Fatal(err)
	}
	size := int64(len(content))
	for _, where := range []string{s.URL + "/", dir, "file://" + dir} {
		m := open(t, where, Options{Patience: hasty})
		for _, r := range []Request{{}, {Size: size}, {Offset: 777_777}, {Offset: 777_777, Size: size}, {Offset: size - 1, Size: size}} {
			if data, err := get(t.Context(), m, r); err != nil || !bytes.Equal(data, content[r.Offset:]) {
				t.Errorf("%s, %+v: %d bytes, %v", where, r, len(data), err)
			}
		}
		for _, r := range []Request{{Size: size - 1}, {Size: size + 1}, {Offset: 777_777, Size: size + 1}} {
			if data, err := get(t.Context(), m, r); !errors.Is(err, ErrChanged) || !strings.Contains(err.Error(), fmt.Sprint("has ", size, " bytes, want ", r.Size)) {
				t.Errorf("%s, %+v: %d bytes, %v", where, r, len(data), err)
			}
		}
	}
}

func TestCancelled(t *testing.T) {
	s := newServer(t, func(_ int, w http.ResponseWriter, r *http.Request) bool {
		w.Write(content[:1000])
		w.(*countedWriter).ResponseWriter.(http.Flusher).Flush()
		<-r.Context().Done()
		return true
	})
	ctx, cancel := context.WithCancel(t.Context())
	m := open(t, s.URL, Options{}) // the usual patience would wait for long
	b, err := m.Open(ctx, "file", Request{})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	time.AfterFunc(50*time.Millisecond, cancel)
	if data, err := io.ReadAll(b); err != context.Canceled || len(data) > 1000 {
		t.Errorf("%d bytes, %v", len(data), err)
	}
	if _, err := m.Open(ctx, "file", Request{}); err != context.Canceled {
		t.Errorf("opened after the end: %v", err)
	}
}

func TestDirectory(t *testing.T) {
	dir := t.TempDir()
	os.WriteFile(filepath.Join(dir, "file"), content, 0o666)
	os.Mkdir(filepath.Join(dir, "sub"), 0o777)
	m := open(t, dir, Options{})
	for name, want := range map[string]error{"none": fs.ErrNotExist, "sub": nil, "../x": nil} {
		if _, err := m.Open(t.Context(), name, Request{}); err == nil || want != nil && !errors.Is(err, want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	b, err := m.Open(t.Context(), "file", Request{})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	os.Truncate(filepath.Join(dir, "file"), 1000)
	if _, err := io.ReadAll(b); !errors.Is(err, ErrChanged) {
		t.Errorf("a file that becomes shorter: %v", err)
	}
}

func TestDocument(t *testing.T) {
	s := newServer(t, nil)
	m := open(t, s.URL, Options{Patience: hasty})
	for most, want := range map[int64]bool{1 << 20: true, 1<<20 - 1: false, 0: false} {
		data, err := m.Document(t.Context(), "file", most)
		if (err == nil) != want || want && !bytes.Equal(data, content) {
			t.Errorf("at most %d: %d bytes, %v", most, len(data), err)
		}
	}
	past := newServer(t, func(_ int, w http.ResponseWriter, r *http.Request) bool {
		io.WriteString(w, r.Header.Get("Cache-Control"))
		return true
	})
	if data, err := open(t, past.URL, Options{}).Document(t.Context(), "file", 100); err != nil || string(data) != "no-cache" {
		t.Errorf("caches were asked %q, %v", data, err)
	}
	if _, err := m.Document(t.Context(), "none", 1); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("none: %v", err)
	}
}

// The first burst comes at once, the rest as the rate allows: by a clock that
// only the limit makes go on.
func TestRate(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), content, 0o666); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		m := open(t, dir, Options{Rate: 4 << 20})
		start := time.Now()
		if data, err := get(t.Context(), m, Request{}); err != nil || !bytes.Equal(data, content) {
			t.Errorf("%d bytes, %v", len(data), err)
		}
		want := time.Duration(len(content)-throttle.Burst) * time.Second / (4 << 20)
		if took := time.Since(start).Round(time.Millisecond); took != want.Round(time.Millisecond) {
			t.Errorf("1 MiB at 4 MiB a second took %v, want %v", took, want)
		}
	})
}

func TestRedirects(t *testing.T) {
	plain := newServer(t, nil)
	secure := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/down/file":
			http.Redirect(w, r, plain.URL+"/file", http.StatusFound)
		case "/loop/file":
			http.Redirect(w, r, "/loop/file", http.StatusFound)
		case "/ok/file":
			w.Write(content)
		default:
			http.Redirect(w, r, "/ok/"+strings.TrimLeft(r.URL.Path, "/"), http.StatusFound)
		}
	}))
	t.Cleanup(secure.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	writeCertificate(t, ca, secure)
	for where, says := range map[string]string{
		secure.URL:            "",
		secure.URL + "/down":  "redirect from https",
		secure.URL + "/loop":  "10 redirects",
		plain.URL:             "",
		"https://127.0.0.1:1": "refused",
	} {
		m := open(t, where, Options{Authorities: fromFile(t, ca), Patience: Patience{Attempts: 2, Wait: time.Millisecond}})
		data, err := get(t.Context(), m, Request{})
		if (err == nil) != (says == "") || err != nil && !strings.Contains(err.Error(), says) || err == nil && !bytes.Equal(data, content) {
			t.Errorf("%s: %d bytes, %v", where, len(data), err)
		}
	}
	if _, err := get(t.Context(), open(t, secure.URL, Options{Patience: hasty}), Request{}); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("an unknown certificate: %v", err)
	}
}

// A host for payload alone answers itself.
func TestPayloadOnly(t *testing.T) {
	elsewhere := newServer(t, nil)
	s := newServer(t, nil)
	s.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/moved/file":
			http.Redirect(w, r, "/file", http.StatusFound)
		case "/other/file":
			http.Redirect(w, r, elsewhere.URL+"/file", http.StatusFound)
		default:
			s.ServeHTTP(w, r)
		}
	})
	for path, says := range map[string]string{"": "", "/moved": "", "/other": "redirect to another host, 127.0.0.1:"} {
		m := open(t, s.URL+path, Options{PayloadOnly: true, Patience: hasty})
		data, err := get(t.Context(), m, Request{})
		if (err == nil) != (says == "") || err == nil && !bytes.Equal(data, content) {
			t.Errorf("%s: %d bytes, %v", path, len(data), err)
		}
		if err != nil && (!strings.Contains(err.Error(), says) || !errors.Is(err, ErrNoAnswer)) {
			t.Errorf("%s: %v, want %q", path, err, says)
		}
	}
	if len(elsewhere.requests) > 0 {
		t.Errorf("the other host was asked %d times", len(elsewhere.requests))
	}
	with := strings.Replace(s.URL, "://", "://user:secret@", 1)
	if _, err := Open(with, Options{PayloadOnly: true}); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("with a password: %v", err)
	}
}

func TestOpenFails(t *testing.T) {
	bad := filepath.Join(t.TempDir(), "bad.pem")
	os.WriteFile(bad, []byte("no certificate"), 0o666)
	for where, ca := range map[string]string{
		"nowhere": "", "ftp://x/y": "", "https://": "", "https://x/?q": "", "https://x/#f": "", "file://host/dir": "", "http://%zz": "",
		"https://x": bad, "https://y": bad + "none",
	} {
		if m, err := Open(where, Options{Authorities: fromFile(t, ca)}); err == nil {
			m.Close()
			t.Errorf("%s was opened", where)
		}
	}
}

// A URL without its scheme, or with a wrong one, is taken for a directory: the error
// shows no password of it.
func TestOpenHidesPassword(t *testing.T) {
	for where, says := range map[string]string{
		"user:secret@host/path":      "mirror: open …@host/path: no such file or directory; want a directory, or a URL such as https://",
		"user:se@cret/secret@host":   "mirror: open …@host: no such file or directory; want a directory, or a URL such as https://",
		"https:/user:secret@host":    "mirror: open …@host: no such file or directory; want a directory, or a URL such as https://",
		"ftp://user:secret@host":     "mirror …@host: want a directory or a http, https or file URL",
		"user:secret://secret@host":  "mirror …@host: want a directory or a http, https or file URL",
		"host/path":                  "mirror: open host/path: no such file or directory; want a directory, or a URL such as https://",
		"https://user:secret@host:x": "not the URL of a mirror",
	} {
		_, err := Open(where, Options{})
		if err == nil || !strings.HasPrefix(err.Error(), says) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v, want %q", where, err, says)
		}
	}
	dir := filepath.Join(t.TempDir(), "user@host")
	if err := os.Mkdir(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if m := open(t, dir, Options{}); m.String() != dir {
		t.Errorf("a directory with an @: %s", m)
	}
}

func TestContentRange(t *testing.T) {
	for s, want := range map[string][2]int64{
		"bytes 0-9/10": {0, 10}, "bytes 5-9/10": {5, 10}, "bytes 5-9/*": {5, -1},
		"bytes 5-8/10": {-1}, "bytes 9-8/9": {-1}, "bytes -9/10": {-1}, "bytes */10": {-1}, "bytes 5-9": {-1}, "5-9/10": {-1}, "": {-1}, "bytes -1-9/10": {-1}, "bytes a-9/10": {-1}, "bytes 5-9/x": {-1},
	} {
		start, size, ok := contentRange(s)
		if ok != (want[0] >= 0) || ok && [2]int64{start, size} != want {
			t.Errorf("%q: %d of %d, %v", s, start, size, ok)
		}
	}
}

func FuzzContentRange(f *testing.F) {
	f.Add("bytes 0-9/10")
	f.Add("bytes 5-9/*")
	f.Fuzz(func(t *testing.T, s string) {
		if start, size, ok := contentRange(s); ok && (start < 0 || size >= 0 && start >= size) {
			t.Errorf("%q: from %d of %d", s, start, size)
		}
	})
}

// writeCertificate writes the certificate of a test's server as PEM.
func writeCertificate(t *testing.T, file string, s *httptest.Server) {
	t.Helper()
	data := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	if err := os.WriteFile(file, data, 0o666); err != nil {
		t.Fatal(err)
	}
}
