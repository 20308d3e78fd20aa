package servers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"
)

// proxied starts a proxy for the time of the test.
func proxied(t *testing.T, address string) *Proxy {
	t.Helper()
	p, err := NewProxy(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// echo is a server that answers with what it has received, when that has ended.
func echo(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() { // ends with the listener
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() { // ends with the client
				defer conn.Close()
				got, _ := io.ReadAll(conn)
				conn.Write(got)
			}()
		}
	}()
	return l.Addr().String()
}

// dial connects to a proxy.
func dial(t *testing.T, p *Proxy) *net.TCPConn {
	t.Helper()
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", p.Port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn.(*net.TCPConn)
}

// All goes through in both directions, and what clients send is counted to the byte.
func TestProxy(t *testing.T) {
	t.Parallel()
	p := proxied(t, echo(t))
	for _, c := range []struct {
		name    string
		sizes   []int // a connection each
		at      int64
		reached int
	}{
		{"nothing", []int{0}, 1, 0},
		{"a byte", []int{1}, 1, 1},
		{"many", []int{3*step + 17}, step, 1},
		{"several connections", []int{step, step, 10}, 2*step + 10, 1},
		{"too few", []int{step, 9}, step + 10, 0},
	} {
		reached, all := 0, 0
		p.Reset(c.at, func() { reached++ })
		for _, size := range c.sizes {
			all += size
			conn := dial(t, p)
			sent := bytes.Repeat([]byte("x"), size)
			if _, err := conn.Write(sent); err != nil {
				t.Fatal(err)
			}
			conn.CloseWrite()
			if got, err := io.ReadAll(conn); err != nil || !bytes.Equal(got, sent) {
				t.Errorf("%s: %d bytes came back, %v", c.name, len(got), err)
			}
			conn.Close()
		}
		if sent, err := p.Sent(t.Context()); err != nil || sent != int64(all) || reached != c.reached {
			t.Errorf("%s: %d bytes of %d, reached %d times, %v", c.name, sent, all, reached, err)
		}
	}
}

// Until reached returns, the server gets no more than a step.
func TestProxyHolds(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	p := proxied(t, l.Addr().String())
	conn := dial(t, p)
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	held := make(chan struct{})
	p.Reset(1, func() { <-held })
	go conn.Write(make([]byte, 4*step)) // ends with the connection
	if _, err := io.CopyN(io.Discard, server, step); err != nil {
		t.Fatal(err)
	}
	server.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if n, err := server.Read(make([]byte, 1)); n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%d bytes more, %v", n, err)
	}
	close(held)
	server.SetReadDeadline(time.Time{})
	if _, err := io.CopyN(io.Discard, server, 3*step); err != nil {
		t.Error(err)
	}
}

func TestProxyEnds(t *testing.T) {
	t.Parallel()
	refused, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refused.Close()
	for _, c := range []struct {
		name    string
		address string
		end     func(p *Proxy, cancel func())
	}{
		{"no server", refused.Addr().String(), func(*Proxy, func()) {}},
		{"closed", echo(t), func(p *Proxy, _ func()) { p.Close() }},
		{"cancelled", echo(t), func(_ *Proxy, cancel func()) { cancel() }},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		p, err := NewProxy(ctx, c.address)
		if err != nil {
			t.Fatal(err)
		}
		conn := dial(t, p)
		conn.Write([]byte("a")) // and it stays open
		c.end(p, cancel)
		if _, err := io.ReadAll(conn); err != nil && !strings.Contains(err.Error(), "reset") {
			t.Errorf("%s: %v", c.name, err)
		}
		p.Close()
		cancel()
	}
}

// Sent waits for connections, but not when it is cancelled.
func TestSentCancelled(t *testing.T) {
	t.Parallel()
	p := proxied(t, echo(t))
	conn := dial(t, p)
	conn.Write([]byte("a"))
	for p.open.Load() == 0 {
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.Sent(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}
