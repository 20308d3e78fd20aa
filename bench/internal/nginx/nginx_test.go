package nginx

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"puavo-image-repository/testdata"
)

// site makes a directory with a file and serves it.
func site(t *testing.T, ctx context.Context, size int) *Server {
	t.Helper()
	testdata.Tool(t, Command)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), make([]byte, size), 0o666); err != nil {
		t.Fatal(err)
	}
	s, err := Start(ctx, dir, filepath.Join(t.TempDir(), "nginx"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return s
}

// get fetches a file, or ranges of it.
func get(t *testing.T, s *Server, path, ranges string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if ranges != "" {
		req.Header.Set("Range", ranges)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Fatal(err)
	}
}

// What is fetched is known, once, and to the byte.
func TestFetched(t *testing.T) {
	const size = 5<<20 + 17
	s := site(t, t.Context(), size)
	for _, c := range []struct {
		name string
		do   func()
		want int64
	}{
		{"nothing", func() {}, 0},
		{"a file", func() { get(t, s, "/file", "") }, size},
		{"nothing again", func() {}, 0},
		{"a range", func() { get(t, s, "/file", "bytes=100-") }, size - 100},
		{"two", func() { get(t, s, "/file", "bytes=0-9"); get(t, s, "/file", "bytes=0-99") }, 110},
	} {
		c.do()
		if got, err := s.Fetched(t.Context()); err != nil || got != c.want {
			t.Errorf("%s: %d bytes, want %d; %v", c.name, got, c.want, err)
		}
	}
}

func TestStop(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	for _, c := range []struct {
		name string
		end  func(s *Server)
		want string
	}{
		{"stopped", (*Server).Stop, "it has ended"},
		{"cancelled", func(s *Server) { cancel(); <-s.ended }, "it has ended"},
	} {
		s := site(t, ctx, 1)
		c.end(s)
		if _, err := s.Fetched(t.Context()); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
		s.Stop() // twice does no harm
	}
}

func TestStartErrors(t *testing.T) {
	testdata.Tool(t, Command)
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	there := t.TempDir()
	for _, c := range []struct {
		name   string
		ctx    context.Context
		dir    string
		prefix string
		want   string
	}{
		{"cancelled", cancelled, there, filepath.Join(t.TempDir(), "nginx"), "context canceled"},
		{"a prefix that is there", t.Context(), there, there, "file exists"},
		{"a directory that its configuration cannot name", t.Context(), `a"b`, filepath.Join(t.TempDir(), "nginx"), "nginx.conf"},
	} {
		if s, err := Start(c.ctx, c.dir, c.prefix); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, %v", c.name, s, err)
		}
	}
}

// A cancelled question is not answered.
func TestFetchedCancelled(t *testing.T) {
	s := site(t, t.Context(), 1)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Fetched(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
