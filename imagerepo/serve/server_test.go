package serve

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"puavo-image-repository/testdata"
)

// started runs a server until the test ends or end is called, which returns how it ended.
func started(t *testing.T, h http.Handler, log *slog.Logger, grace time.Duration) (url string, end func() error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- run(ctx, l, h, log, grace) }()
	end = func() (err error) {
		cancel()
		testdata.Promptly(t, "the end of the server", func() { err = <-done })
		done <- err
		return err
	}
	t.Cleanup(func() { end() })
	return "http://" + l.Addr().String(), end
}

// get returns the answer to a GET, of which the body must be closed.
func get(t *testing.T, url string) *http.Response {
	t.Helper()
	res, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// A file that is replaced while it is sent arrives as it was; one that is cut short
// breaks off.
func TestReplacedWhileServed(t *testing.T) {
	const size = 64 << 20 // more than the sockets hold
	for _, c := range []struct {
		name   string
		change func(file string) error
		whole  bool
	}{
		{"nothing", func(string) error { return nil }, true},
		{"replaced", func(file string) error {
			return errors.Join(os.WriteFile(file+".new", []byte("new"), 0o666), os.Rename(file+".new", file))
		}, true},
		{"removed", os.Remove, true},
		{"cut short", func(file string) error { return os.Truncate(file, size/2) }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir, h := handlerOf(t, map[string]string{image: ""})
			file := filepath.Join(dir, image)
			if err := os.Truncate(file, size); err != nil {
				t.Fatal(err)
			}
			url, _ := started(t, h, nil, grace)
			res := get(t, url+"/"+image)
			defer res.Body.Close()
			if err := c.change(file); err != nil {
				t.Fatal(err)
			}
			n, err := io.Copy(io.Discard, res.Body)
			if (err == nil && n == size) != c.whole {
				t.Errorf("%d bytes, %v", n, err)
			}
		})
	}
}

// When it is told to end, a server ends, though clients hang; an answer that is on its way
// is completed.
func TestEnd(t *testing.T) {
	dir, h := handlerOf(t, map[string]string{image: "", "index.json": "{}"})
	if err := os.Truncate(filepath.Join(dir, image), 256<<20); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		hang func(t *testing.T, url string)
	}{
		{"nobody", func(*testing.T, string) {}},
		{"one keeps a connection", func(t *testing.T, url string) {
			res := get(t, url+"/index.json")
			io.Copy(io.Discard, res.Body)
			res.Body.Close()
		}},
		{"one does not read what it asked for", func(t *testing.T, url string) {
			res := get(t, url+"/"+image)
			t.Cleanup(func() { res.Body.Close() })
		}},
		{"one does not end its request", func(t *testing.T, url string) {
			conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { conn.Close() })
			fmt.Fprintf(conn, "GET /index.json HTTP/1.1\r\n")
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			url, end := started(t, h, nil, 50*time.Millisecond)
			c.hang(t, url)
			if err := end(); !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
			if res, err := http.Get(url); err == nil {
				res.Body.Close()
				t.Error("it still answers")
			}
		})
	}
	t.Run("an answer on its way", func(t *testing.T) {
		asked, answer := make(chan struct{}), make(chan struct{})
		url, end := started(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			close(asked)
			<-answer
			io.WriteString(w, "whole")
		}), nil, time.Minute)
		go func() {
			<-asked
			time.AfterFunc(10*time.Millisecond, func() { close(answer) })
			end()
		}()
		res := get(t, url)
		defer res.Body.Close()
		if body, err := io.ReadAll(res.Body); err != nil || string(body) != "whole" {
			t.Errorf("%q, %v", body, err)
		}
	})
}

// A server whose context has ended serves nothing, and one whose listener is closed says
// so.
func TestNotServed(t *testing.T) {
	_, h := handlerOf(t, nil)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range []struct {
		name   string
		ctx    context.Context
		closed bool
		want   error
	}{
		{"cancelled", ended, false, context.Canceled},
		{"closed", t.Context(), true, net.ErrClosed},
	} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		if c.closed {
			l.Close()
		}
		if err := Run(c.ctx, l, h, nil); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
		if l.Close() == nil {
			t.Errorf("%s: the listener is open", c.name)
		}
	}
}

// Each request is noted, with what was sent.
func TestNoted(t *testing.T) {
	_, h := handlerOf(t, map[string]string{image: "0123456789"})
	var text bytes.Buffer
	url, end := started(t, h, slog.New(slog.NewTextHandler(&text, nil)), time.Minute)
	for _, path := range []string{"/" + image, "/missing"} {
		get(t, url+path).Body.Close()
	}
	end()
	for _, want := range []string{"method=GET path=/" + image + " status=200 bytes=10 from=127.0.0.1:", "path=/missing status=404 bytes=13"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("no %q in\n%s", want, &text)
		}
	}
}

// deadlines is a ResponseWriter that notes each extension of its time.
type deadlines struct {
	http.ResponseWriter
	set []time.Time
}

func (d *deadlines) Header() http.Header         { return http.Header{} }
func (d *deadlines) WriteHeader(int)             {}
func (d *deadlines) Write(p []byte) (int, error) { return len(p), nil }

func (d *deadlines) SetWriteDeadline(at time.Time) error {
	d.set = append(d.set, at)
	return nil
}

// An answer gets more time with each chunk, and no more than that.
func TestPaced(t *testing.T) {
	d := new(deadlines)
	h := paced(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		n, err := io.CopyN(w, bytes.NewReader(make([]byte, 3*chunk+1)), 3*chunk)
		if n != 3*chunk || err != nil {
			t.Error(n, err)
		}
	}))
	start := time.Now()
	h.ServeHTTP(d, nil)
	if len(d.set) != 4 { // one for the header
		t.Errorf("%d extensions", len(d.set))
	}
	for _, at := range d.set {
		if at.Before(start.Add(chunkTime)) || at.After(time.Now().Add(chunkTime)) {
			t.Errorf("%v after the start", at.Sub(start))
		}
	}
}
