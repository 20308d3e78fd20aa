package fetch

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// marks are what changes a terminal and is allowed in headers; rude has all the rest.
const (
	marks = "\u009b31m\u202e\xff"
	rude  = "\x1b[2J\x07\x7f" + marks
)

// serveText serves an answer, whatever it is, to one request a connection, and returns
// the URL.
// HERE in it stands for the URL.
func serveText(t *testing.T, answer string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	url := "http://" + l.Addr().String()
	answer = strings.ReplaceAll(answer, "HERE", url)
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer conn.Close()
				if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
					conn.Write([]byte(answer))
				}
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		all.Wait()
	})
	return url
}

// kept is a slog.Handler that keeps messages and values as they are.
type kept struct {
	mu    sync.Mutex
	texts []string
}

func (k *kept) Enabled(context.Context, slog.Level) bool { return true }
func (k *kept) WithAttrs([]slog.Attr) slog.Handler       { return k }
func (k *kept) WithGroup(string) slog.Handler            { return k }

func (k *kept) Handle(_ context.Context, r slog.Record) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.texts = append(k.texts, r.Message)
	r.Attrs(func(a slog.Attr) bool {
		k.texts = append(k.texts, a.Value.String())
		return true
	})
	return nil
}

// Whatever a server says is escaped and bounded, in errors and in all that is logged, and
// what went wrong is said after it.
func TestTexts(t *testing.T) {
	long := strings.Repeat("a", 900<<10)
	medium := strings.Repeat("b", 32<<10) // within the limit of headers
	ok := func(header string) string { return "HTTP/1.1 200 OK\r\n" + header + "\r\nContent-Length: 1\r\n\r\nx" }
	found := func(location string) string {
		return "HTTP/1.1 302 Found\r\nLocation: " + location + "\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
	}
	for _, c := range []struct{ name, answer, says string }{
		{"a status", "HTTP/1.1 418 " + rude + "\r\n\r\n", `418 \x1b[2J\a\x7f\u009b31m\u202e\xff`},
		{"a long status", "HTTP/1.1 418 " + medium + "\r\n\r\n", "418 bbb"},
		{"a longer status", "HTTP/1.1 418 " + long + "\r\n\r\n", "headers exceeded"},
		{"a busy server", "HTTP/1.1 503 " + rude + "\r\n\r\n", `503 \x1b[2J\a`},
		{"a busy server at length", "HTTP/1.1 503 " + medium + "\r\n\r\n", "503 bbb"},
		{"when to come back", "HTTP/1.1 503 busy\r\nRetry-After: " + marks + "\r\n\r\n", "503 busy"},
		{"a long time to come back", "HTTP/1.1 503 busy\r\nRetry-After: " + medium + "\r\n\r\n", "503 busy"},
		{"a header with control characters", ok("Content-Encoding: " + rude), `malformed MIME header line: "Content-Encoding: \x1b[2J\a`},
		{"an encoding", ok("Content-Encoding: " + marks), `encoded as \u009b31m\u202e\xff`},
		{"a long encoding", ok("Content-Encoding: " + medium), "encoded as bbb"},
		{"a range", strings.Replace(ok("Content-Range: "+marks), "200 OK", "206 Partial", 1), "a part of the file"},
		{"a long range", strings.Replace(ok("Content-Range: "+medium), "200 OK", "206 Partial", 1), "a part of the file"},
		{"a redirect", found("http://127.0.0.1:1/" + marks), "connection refused"},
		{"a redirect that is escaped", found("http://127.0.0.1:1/%1b%9b%0a"), "connection refused"},
		{"a redirect that is none", found(marks + "://x"), "failed to parse Location header"},
		{"a redirect to a long path", found("http://127.0.0.1:1/" + medium), "connection refused"},
		{"a redirect to a longer path", found("http://127.0.0.1:1/" + long), "headers exceeded"},
		{"a redirect to itself", found("HERE/" + medium), "stopped after 10 redirects"},
		{"a redirect to another scheme", found("data:" + marks), "bad redirect to data"},
		{"a redirect to a long scheme", found("b" + medium + "://x/"), "bad redirect to bbb"},
		{"a name that is not known", found("http://a%C2%9B%E2%80%AE.invalid/"), `lookup a\u009b\u202e.invalid: no such host`},
		{"a long name", found("http://" + medium + ".invalid/"), "lookup bbb"},
		{"no HTTP", rude + "\r\n\r\n", "malformed HTTP response"},
		{"no HTTP at length", medium + "\r\n\r\n", "malformed HTTP response"},
		{"a long header that is none", "HTTP/1.1 200 OK\r\n" + medium + "\r\n\r\n", "malformed MIME header"},
		{"a length", "HTTP/1.1 200 OK\r\nContent-Length: " + marks + "\r\n\r\n", "bad Content-Length"},
		{"a long length", "HTTP/1.1 200 OK\r\nContent-Length: " + medium + "\r\n\r\n", "bad Content-Length"},
		{"a transfer", ok("Transfer-Encoding: " + marks), "transfer encoding"},
		{"a chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + rude + "\r\n\r\n", "chunk"},
		{"a trailer", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + rude + "\r\n\r\n", "malformed MIME header"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var log kept
			m := open(t, serveText(t, c.answer), Options{
				Patience: Patience{Attempts: 2, Wait: time.Millisecond, Longest: 2 * time.Millisecond, Stall: 5 * time.Second},
				Log:      slog.New(&log),
			})
			transport := m.http.Transport.(*http.Transport)
			dial := transport.DialContext
			transport.Proxy = nil
			transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
				if host, _, _ := net.SplitHostPort(address); net.ParseIP(host) == nil {
					return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
				}
				return dial(ctx, network, address)
			}
			_, err := m.Document(t.Context(), "file", 10)
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%.2000q, want one that says %q", fmt.Sprint(err), c.says)
			}
			for _, text := range append(log.texts, fmt.Sprint(err)) {
				wantPlain(t, text)
			}
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if _, err := m.Document(ctx, "file", 10); !errors.Is(err, context.Canceled) {
				t.Errorf("cancelled: %v", err)
			}
		})
	}
}
