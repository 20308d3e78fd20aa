package pull

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"puavo-image-repository/imagerepo/internal/mirrortest"
	"puavo-image-repository/testdata"
)

// upstreamServer serves a mirror. Of payload, fault spoils the first answers.
type upstreamServer struct {
	*httptest.Server
	mu      sync.Mutex
	faults  int
	fault   fault
	matches func(file string) bool
	sent    map[string]int64 // bytes of each file
}

// fault answers a request for a file otherwise than it should.
type fault func(w http.ResponseWriter, r *http.Request, data []byte)

func serveMirror(t testing.TB, dir string) *upstreamServer {
	s := &upstreamServer{sent: make(map[string]int64), matches: func(file string) bool { return path.Ext(file) == ".img" || path.Ext(file) == ".rdiff" }}
	files := http.FileServer(http.Dir(dir))
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := strings.TrimPrefix(r.URL.Path, "/")
		s.mu.Lock()
		spoil := s.fault != nil && s.faults > 0 && s.matches(name)
		if spoil {
			s.faults--
		}
		s.mu.Unlock()
		count := &counter{ResponseWriter: w}
		defer func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			if count.status < 300 {
				s.sent[cmp.Or(name, "index.html")] += count.n
			}
		}()
		data, err := os.ReadFile(filepath.Join(dir, name))
		if spoil && err == nil {
			s.fault(count, r, data)
			return
		}
		files.ServeHTTP(count, r)
	}))
	t.Cleanup(s.Close)
	return s
}

// counter counts the bytes of an answer.
type counter struct {
	http.ResponseWriter
	n      int64
	status int
}

func (c *counter) WriteHeader(status int) {
	c.status = status
	c.ResponseWriter.WriteHeader(status)
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.ResponseWriter.Write(p)
	c.n += int64(n)
	return n, err
}

func (c *counter) Unwrap() http.ResponseWriter { return c.ResponseWriter }

// total returns how many bytes were sent, and starts again.
func (s *upstreamServer) total() (n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sent := range s.sent {
		n += sent
	}
	clear(s.sent)
	return n
}

// quickly is Patience for servers that misbehave.
var quickly = Patience{Attempts: 3, Wait: time.Millisecond, Longest: 10 * time.Millisecond, Stall: 200 * time.Millisecond}

// broken ends a connection.
func broken(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w.(*counter).ResponseWriter).Hijack()
	if err == nil {
		conn.Close()
	}
}

// cut sends a part, and breaks the connection.
func cut(w http.ResponseWriter, r *http.Request, data []byte) {
	if r.Header.Get("Range") != "" {
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
		return
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(data)))
	w.Write(data[:len(data)/2])
	http.NewResponseController(w).Flush()
	broken(w)
}

// stall sends a part, and nothing more.
func stall(w http.ResponseWriter, r *http.Request, data []byte) {
	w.Header().Set("Content-Length", strconv.Itoa(len(data)))
	w.Write(data[:len(data)/2])
	http.NewResponseController(w).Flush()
	<-r.Context().Done()
}

func status(code int) fault {
	return func(w http.ResponseWriter, _ *http.Request, _ []byte) {
		w.Header().Set("Retry-After", "0")
		w.WriteHeader(code)
	}
}

// other sends a file of the same size, with another content.
func otherContent(w http.ResponseWriter, _ *http.Request, data []byte) {
	data = bytes.Clone(data)
	data[len(data)/2] ^= 1
	w.Write(data)
}

// Whatever a server does to payload, the copy is whole in the end, or the run says why and
// clients see nothing of it.
func TestMisbehaving(t *testing.T) {
	const ever = 1 << 20
	cases := []struct {
		name  string
		times int
		fault fault
		says  string // "": the run succeeds
	}{
		{"cut once", 1, cut, ""},
		{"cut each time", ever, cut, ""},
		{"cut before the body", 2, func(w http.ResponseWriter, _ *http.Request, _ []byte) { broken(w) }, ""},
		{"no answer, ever", ever, func(w http.ResponseWriter, _ *http.Request, _ []byte) { broken(w) }, "given up after 3 attempts"},
		{"stalled", 1, stall, ""},
		{"busy", 2, status(503), ""},
		{"busy for ever", ever, status(503), "given up after 3 attempts"},
		{"too many requests", 2, status(429), ""},
		{"gone", ever, status(404), "file does not exist"},
		{"forbidden", ever, status(403), "403 Forbidden"},
		{"another content, once", 1, otherContent, ""},
		{"another content", ever, otherContent, "verification failed"},
		{"longer", ever, func(w http.ResponseWriter, _ *http.Request, data []byte) { w.Write(append(data, 'x')) }, "more than its"},
		{"shorter", ever, func(w http.ResponseWriter, _ *http.Request, data []byte) { w.Write(data[1:]) }, "want"},
		{"nothing", ever, func(http.ResponseWriter, *http.Request, []byte) {}, "want"},
		{"compressed unasked", ever, func(w http.ResponseWriter, _ *http.Request, data []byte) {
			w.Header().Set("Content-Encoding", "gzip")
			w.Write(data)
		}, "encoded as gzip"},
		{"a page in place of the file", ever, func(w http.ResponseWriter, r *http.Request, _ []byte) { fmt.Fprint(w, "<html>log in</html>") }, "want"},
		{"a redirect in circles", ever, func(w http.ResponseWriter, r *http.Request, _ []byte) {
			http.Redirect(w, r, r.URL.Path, http.StatusFound)
		}, "10 redirects"},
		{"without ranges", 1, func(w http.ResponseWriter, r *http.Request, data []byte) { w.Write(data) }, ""},
	}
	for _, c := range cases[:testdata.Scale(len(cases), 3)] {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t, image1, image2, image3)
			p.Build()
			s := serveMirror(t, p.Mirror)
			o := p.options()
			o.Sources, o.Patience = []string{s.URL}, quickly
			p.Leave(image3)
			p.Build()
			p.pull(o)
			p.PutFixture(image3)
			p.Build()
			before := mirrortest.Tree(t, p.Dest)
			s.mu.Lock()
			s.faults, s.fault = c.times, c.fault
			s.mu.Unlock()
			o.NoRebuild = true
			_, _, err := Run(t.Context(), o)
			if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
				t.Fatalf("%v, want %q", err, c.says)
			}
			p.Must(mirrortest.Holds(p.Dest))
			if err != nil {
				after := mirrortest.Tree(t, p.Dest)
				for name := range after {
					if _, ok := before[name]; !ok && name != image3 && !strings.HasPrefix(name, "rdiffs/") {
						t.Errorf("it wrote %s", name)
					}
				}
				s.mu.Lock()
				s.fault = nil
				s.mu.Unlock()
				p.pull(o)
			}
			if diff := mirrortest.Difference(mirrortest.Tree(t, p.Dest), mirrortest.Tree(t, p.Mirror)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// Mirrors of one repository are tried in their order, for documents and for each file.
func TestMirrors(t *testing.T) {
	t.Parallel()
	p := newPlace(t, image1, image2)
	p.Build()
	first, second := serveMirror(t, p.Mirror), serveMirror(t, p.Mirror)
	first.faults, first.fault = 1<<20, status(404)
	o := p.options()
	o.Patience = quickly
	o.Sources = []string{"http://127.0.0.1:1," + first.URL + "," + second.URL}
	p.pull(o)
	if first.total() == 0 || second.total() == 0 {
		t.Error("one of them was not asked")
	}
	if diff := mirrortest.Difference(mirrortest.Tree(t, p.Dest), mirrortest.Tree(t, p.Mirror)); diff != "" {
		t.Error(diff)
	}
}

// What changed is fetched, and no more: nothing but documents for a run without news, and no
// image where a delta leads to it.
func TestBytes(t *testing.T) {
	t.Parallel()
	p := newPlace(t, image1, image2, image3)
	p.Build()
	s := serveMirror(t, p.Mirror)
	o := p.options()
	o.Sources = []string{s.URL}
	_, sum := p.pull(o)
	if got := s.total(); got != sum.Fetched {
		t.Errorf("the server has sent %d bytes, and %d are reported", got, sum.Fetched)
	}
	p.pull(o)
	s.mu.Lock()
	for name, n := range s.sent {
		if isImage(name) || strings.HasPrefix(name, "rdiffs/puavo") {
			t.Errorf("%d bytes of %s in a run without news", n, name)
		}
	}
	s.mu.Unlock()
	s.total()
	p.PutFixture(image4)
	p.Build()
	p.pull(o)
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, n := range s.sent {
		if isImage(name) {
			t.Errorf("%d bytes of %s, to which a delta leads", n, name)
		} else if info, err := os.Stat(filepath.Join(p.Mirror, name)); err == nil && n > info.Size() {
			t.Errorf("%d bytes of %s, which has %d", n, name, info.Size())
		}
	}
}

// A run that is broken off is continued: no byte is fetched twice.
func TestResume(t *testing.T) {
	t.Parallel()
	p := newPlace(t, image1)
	big := make([]byte, 24<<20)
	for i := range big {
		big[i] = byte(i * i >> 7)
	}
	p.Put(image2, big)
	p.Build()
	s := serveMirror(t, p.Mirror)
	o := p.options()
	o.Sources, o.NoRebuild, o.Jobs, o.Policy.Deltas = []string{s.URL}, true, 1, 0
	ctx, cancel := context.WithCancel(t.Context())
	o.Progress = func(done, _ int64) {
		if done > 12<<20 {
			cancel()
		}
	}
	if _, _, err := Run(ctx, o); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	p.Must(mirrortest.Holds(p.Dest))
	o.Progress = nil
	if _, sum := p.pull(o); sum.Fetched > 16<<20 {
		t.Errorf("%d bytes by the run that continues", sum.Fetched)
	}
	if string(p.Read("dest/"+image2)) != string(big) {
		t.Error("the image is another")
	}
}

// Upstream is published again while a run fetches: it starts over, and nothing is mixed.
func TestRepublished(t *testing.T) {
	for _, signed := range []bool{false, true}[:testdata.Scale(2, 1)] {
		t.Run(fmt.Sprint("signed ", signed), func(t *testing.T) {
			t.Parallel()
			p := newPlace(t, image1, image2, image3)
			o := p.options()
			if signed {
				p.Sign()
				o.Trust = []string{p.Keys.RootFile()}
			}
			p.Build()
			s := serveMirror(t, p.Mirror)
			o.Sources, o.Patience, o.NoRebuild, o.Jobs = []string{s.URL}, quickly, true, 1
			o.pauses = []time.Duration{time.Millisecond, 100 * time.Millisecond}
			once := sync.OnceFunc(func() {
				p.Leave(image2)
				p.PutFixture(image4)
				p.Replace(image3)
				p.Build()
			})
			o.Stage = func(stage, file string) {
				if stage == "payload_send" && file == image2 {
					once()
				}
			}
			p.pull(o)
			if diff := mirrortest.Difference(shared(mirrortest.Tree(t, p.Dest), mirrortest.Tree(t, p.Mirror))); diff != "" {
				t.Error(diff)
			}
		})
	}
}
