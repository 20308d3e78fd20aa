package serve

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"puavo-image-repository/testdata"
)

const image = "os-2021-01-01-000000-amd64.img"

// put writes files below a directory, by their paths.
func put(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o777), os.WriteFile(path, []byte(content), 0o666)); err != nil {
			t.Fatal(err)
		}
	}
}

// handlerOf serves a mirror with these files.
func handlerOf(t *testing.T, files map[string]string) (dir string, h *Handler) {
	t.Helper()
	dir = t.TempDir()
	put(t, dir, files)
	h, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return dir, h
}

// ask sends a request as its lines stand, whatever they are, and returns the answer.
func ask(t *testing.T, url, request string) (status int, h http.Header, body string) {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "%s\r\nHost: x\r\nConnection: close\r\n\r\n", request)
	method, _, _ := strings.Cut(request, " ")
	res, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: method})
	if err != nil {
		t.Fatalf("%s: %v", request, err)
	}
	defer res.Body.Close()
	all, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatalf("%s: %v", request, err)
	}
	return res.StatusCode, res.Header, string(all)
}

// Plain paths of regular files are served, and nothing else is.
func TestPaths(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "outside")
	put(t, filepath.Dir(outside), map[string]string{"outside": "secret", "dir/x.json": "secret"})
	dir, h := handlerOf(t, map[string]string{
		image: "image", "rdiffs/a.rdiff": "delta", "index.html": "page", "index.json": "{}", "meta/a+b.json": "meta",
		".repo/lock": "secret", "x/.hidden": "secret", `a\b`: "secret", "..x": "secret", "...": "secret", "a\x7fb": "secret",
	})
	for link, to := range map[string]string{
		"out": outside, "outdir": filepath.Dir(outside), "in": image, "private": ".repo", "up": "../..", "loop": "loop",
	} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o666); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(h)
	defer server.Close()
	for path, want := range map[string]string{
		"/": "page", "/index.html": "page", "/index.json": "{}", "/" + image: "image", "/rdiffs/a.rdiff": "delta", "/meta/a+b.json": "meta",
		"/meta/a%2Bb.json": "meta", "/index%2ejson": "{}", "/index.json?x=/../": "{}", "http://other/index.json": "{}",

		"/../" + filepath.Base(dir) + "/index.json": "", "/..": "", "/./index.json": "", "/meta/../index.json": "", "//index.json": "",
		"/meta//a+b.json": "", "/index.json/": "", "/meta": "", "/meta/": "", "/rdiffs/.": "", "/%2e%2e/x": "", "/%2e/index.json": "",
		"/%2Erepo/lock": "", "/.repo/lock": "", "/.repo": "", "/x/.hidden": "", "/..x": "", "/...": "", "/meta%2fa+b.json": "", "/%2F": "",
		`/a\b`: "", `/meta\a+b.json`: "", "/a%5cb": "", "/a%7Fb": "", "/index.json%00": "", "/%0a": "", "/\xff": "", "/%ff": "",
		"/out": "", "/outdir/outside": "", "/outdir/dir/x.json": "", "/in": "", "/private/lock": "", "/up": "", "/loop": "", "/pipe": "",
		"/missing": "", "/index.json/x": "", "/" + strings.Repeat("x", 300): "", "/" + strings.Repeat("x/", 2000): "",
	} {
		testdata.Promptly(t, path, func() {
			status, _, body := ask(t, server.URL, "GET "+path+" HTTP/1.1")
			if want != "" && (status != http.StatusOK || body != want) || want == "" && (status != http.StatusNotFound || body != "no such file\n") {
				t.Errorf("%s: %d, %q; want %q", path, status, body, want)
			}
		})
	}
}

// Each kind of file has its headers, and a range or a condition is obeyed.
func TestAnswers(t *testing.T) {
	_, h := handlerOf(t, map[string]string{
		image: "0123456789", "rdiffs/a.rdiff": "delta", "compact/a.cdelta": "delta", "torrents/a.torrent": "t", "index.html": "page",
		"index.json": "{}", "CKSUMS": "c", "SHA256SUMS": "s", "rdiffs/SHA256SUMS": "r", "other": "<p>", "empty.img": "",
	})
	server := httptest.NewServer(h)
	defer server.Close()
	tag := func(path string) string {
		_, h, _ := ask(t, server.URL, "HEAD "+path+" HTTP/1.1")
		return h.Get("ETag")
	}
	const (
		day, again = "public, max-age=86400", "no-cache"
		bytesType  = "application/octet-stream"
		textType   = "text/plain; charset=utf-8"
	)
	for _, c := range []struct {
		request         string
		status          int
		body            string
		kind, cached    string
		header, content string // one more
	}{
		{"GET /" + image, 200, "0123456789", bytesType, day, "Accept-Ranges", "bytes"},
		{"HEAD /" + image, 200, "", bytesType, day, "Content-Length", "10"},
		{"GET /rdiffs/a.rdiff", 200, "delta", bytesType, day, "X-Content-Type-Options", "nosniff"},
		{"GET /compact/a.cdelta", 200, "delta", bytesType, day, "", ""},
		{"GET /torrents/a.torrent", 200, "t", "application/x-bittorrent", day, "", ""},
		{"GET /", 200, "page", "text/html; charset=utf-8", again, "", ""},
		{"GET /index.json", 200, "{}", "application/json", again, "", ""},
		{"GET /CKSUMS", 200, "c", textType, again, "", ""},
		{"GET /SHA256SUMS", 200, "s", textType, again, "", ""},
		{"GET /rdiffs/SHA256SUMS", 200, "r", textType, again, "", ""},
		{"GET /other", 200, "<p>", bytesType, again, "", ""},
		{"GET /empty.img", 200, "", bytesType, day, "Content-Length", "0"},
		{"GET /missing.img", 404, "no such file\n", textType, again, "ETag", ""},
		{"POST /index.json", 405, "this mirror can only be read\n", textType, again, "Allow", "GET, HEAD"},
		{"PUT /new", 405, "this mirror can only be read\n", textType, again, "Allow", "GET, HEAD"},
		{"DELETE /" + image, 405, "this mirror can only be read\n", textType, again, "Allow", "GET, HEAD"},
		{"OPTIONS /index.json", 405, "this mirror can only be read\n", textType, again, "Allow", "GET, HEAD"},
		{"GET /" + image + "\r\nRange: bytes=3-5", 206, "345", bytesType, day, "Content-Range", "bytes 3-5/10"},
		{"GET /" + image + "\r\nRange: bytes=8-", 206, "89", bytesType, day, "Content-Range", "bytes 8-9/10"},
		{"GET /" + image + "\r\nRange: bytes=-2", 206, "89", bytesType, day, "Content-Range", "bytes 8-9/10"},
		{"GET /" + image + "\r\nRange: bytes=10-", 416, "invalid range: failed to overlap\n", textType, "", "Content-Range", "bytes */10"},
		{"GET /" + image + "\r\nRange: bytes=3-5\r\nIf-Range: " + tag("/"+image), 206, "345", bytesType, day, "", ""},
		{"GET /" + image + "\r\nRange: bytes=3-5\r\nIf-Range: \"x\"", 200, "0123456789", bytesType, day, "", ""},
		{"GET /index.json\r\nIf-None-Match: " + tag("/index.json"), 304, "", "", again, "ETag", tag("/index.json")},
		{"GET /index.json\r\nIf-None-Match: " + tag("/CKSUMS"), 200, "{}", "application/json", again, "", ""},
	} {
		line, more, _ := strings.Cut(c.request, "\r\n")
		request := line + " HTTP/1.1"
		if more != "" {
			request += "\r\n" + more
		}
		status, got, body := ask(t, server.URL, request)
		if status != c.status || body != c.body || got.Get("Content-Type") != c.kind || got.Get("Cache-Control") != c.cached ||
			c.header != "" && got.Get(c.header) != c.content {
			t.Errorf("%q: %d, %q, %v", c.request, status, body, got)
		}
	}
}

// The ETag changes with the content, and with nothing else that a client sees.
func TestETag(t *testing.T) {
	dir, h := handlerOf(t, map[string]string{image: "0123456789"})
	server := httptest.NewServer(h)
	defer server.Close()
	file := filepath.Join(dir, image)
	before, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]string)
	for _, c := range []struct {
		name   string
		change func() error
	}{
		{"as it was made", func() error { return nil }},
		{"another under its name, of its time and size", func() error {
			return errors.Join(os.WriteFile(file+".new", []byte("abcdefghij"), 0o666), os.Chtimes(file+".new", time.Time{}, before.ModTime()), os.Rename(file+".new", file))
		}},
		{"written in place, and its time set back", func() error {
			time.Sleep(20 * time.Millisecond) // the clock of file systems is that coarse
			return errors.Join(os.WriteFile(file, []byte("klmnopqrst"), 0o666), os.Chtimes(file, time.Time{}, before.ModTime()))
		}},
		{"of another size", func() error { return os.WriteFile(file, []byte("k"), 0o666) }},
	} {
		if err := c.change(); err != nil {
			t.Fatal(err)
		}
		var tags [2]string
		for i := range tags {
			_, h, _ := ask(t, server.URL, "GET /"+image+" HTTP/1.1")
			tags[i] = h.Get("ETag")
		}
		if other, twice := seen[tags[0]]; tags[0] != tags[1] || twice || !strings.HasPrefix(tags[0], `"`) {
			t.Errorf("%s: ETags %s, also %s", c.name, tags, other)
		}
		seen[tags[0]] = c.name
	}
}

// Whoever may not read a file learns that, and no path of the server's machine.
func TestRefused(t *testing.T) {
	for _, c := range []struct {
		err    error
		status int
	}{
		{os.ErrNotExist, 404}, {syscall.ENOTDIR, 404}, {syscall.ENAMETOOLONG, 404}, {syscall.ELOOP, 404}, {syscall.EACCES, 403}, {syscall.EIO, 500}, {syscall.EMFILE, 500},
	} {
		status, why := statusOf(&os.PathError{Op: "open", Path: "/srv/secret", Err: c.err})
		if status != c.status || strings.Contains(why, "secret") {
			t.Errorf("%v: %d, %s", c.err, status, why)
		}
	}
	if _, err := Open(filepath.Join(t.TempDir(), "missing")); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "check the path") {
		t.Error(err)
	}
}
