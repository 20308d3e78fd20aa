package client_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// oneBuffer is how many bytes may come twice, in one run, for each connection that
// broke.
const oneBuffer = 64 << 10

// proxy stands between a client and nginx, as a bad network does. It counts the
// bytes of payload that it hands to the client.
type proxy struct {
	*httptest.Server
	t     testing.TB
	nginx *nginx
	spoil spoil

	mu     sync.Mutex
	busy   int              // exchanges that go on
	idle   sync.Cond        // where there are none
	asked  map[string]int   // requests, by path
	bytes  map[string]int64 // by path
	breaks map[string]int   // connections that the proxy broke, by path
}

// A spoil answers for a file of payload, in its own way.
type spoil func(x *exchange)

// exchange is a request for a file of payload, and what nginx answers to it.
type exchange struct {
	*proxy
	w      http.ResponseWriter
	r      *http.Request
	path   string
	n      int // requests for this file so far, with this one
	answer *http.Response
}

func newProxy(t testing.TB, n *nginx, spoil spoil) *proxy {
	p := &proxy{t: t, nginx: n, spoil: spoil, asked: make(map[string]int), bytes: make(map[string]int64), breaks: make(map[string]int)}
	p.idle.L = &p.mu
	p.Server = httptest.NewServer(p)
	t.Cleanup(p.Close)
	return p
}

func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := &exchange{proxy: p, w: w, r: r, path: strings.TrimPrefix(r.URL.Path, "/")}
	p.mu.Lock()
	p.busy++
	p.asked[x.path]++
	x.n = p.asked[x.path]
	p.mu.Unlock()
	defer x.end()
	x.ask(r.Header.Get("Range"))
	if p.spoil == nil || !isPayload(x.path) {
		x.pass()
		return
	}
	p.spoil(x)
}

func (x *exchange) end() {
	x.answer.Body.Close()
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.busy--; x.busy == 0 {
		x.idle.Broadcast()
	}
}

// straight is a way to nginx that changes nothing.
var straight = &http.Transport{DisableCompression: true}

// ask asks nginx, for a range if it is not "".
func (x *exchange) ask(ranges string) {
	if x.answer != nil {
		x.answer.Body.Close()
	}
	req := must(http.NewRequestWithContext(x.r.Context(), http.MethodGet, x.nginx.url+x.r.URL.EscapedPath(), nil))
	req.Header = x.r.Header.Clone()
	if req.Header.Del("Range"); ranges != "" {
		req.Header.Set("Range", ranges)
	}
	var err error
	if x.answer, err = straight.RoundTrip(req); err != nil { //nolint:bodyclose // the handler closes it, or the next ask
		x.answer = &http.Response{Body: http.NoBody}
		panic(http.ErrAbortHandler) // the client is gone, or nginx
	}
}

// pass hands the answer of nginx on.
func (x *exchange) pass() {
	x.head()
	io.Copy(x, x.answer.Body)
}

func (x *exchange) head() {
	maps.Copy(x.w.Header(), x.answer.Header)
	x.w.WriteHeader(x.answer.StatusCode)
}

// Write hands bytes to the client.
func (x *exchange) Write(b []byte) (int, error) {
	n, err := x.w.Write(b)
	x.count(n)
	return n, err
}

func (x *exchange) count(n int) {
	x.mu.Lock()
	x.bytes[x.path] += int64(n)
	x.mu.Unlock()
}

// broken counts a connection that the proxy breaks now.
func (x *exchange) broken() {
	x.mu.Lock()
	x.breaks[x.path]++
	x.mu.Unlock()
}

// cut ends the connection, after what was written.
func (x *exchange) cut() {
	x.broken()
	x.w.(http.Flusher).Flush()
	panic(http.ErrAbortHandler)
}

// hijack takes the connection.
func (x *exchange) hijack() *net.TCPConn {
	conn, _, err := x.w.(http.Hijacker).Hijack()
	if err != nil {
		panic(err)
	}
	return conn.(*net.TCPConn)
}

// reset ends the connection with a TCP reset. What was flushed arrives before it.
func (x *exchange) reset() {
	x.broken()
	conn := x.hijack()
	defer conn.Close()
	raw := must(conn.SyscallConn())
	for unsent := 1; unsent > 0; time.Sleep(time.Millisecond) {
		raw.Control(func(fd uintptr) {
			var err error
			if unsent, err = unix.IoctlGetInt(int(fd), unix.TIOCOUTQ); err != nil {
				unsent = 0
			}
		})
	}
	conn.SetLinger(0)
}

// handed returns how many bytes of a file were handed to clients, and how many
// connections were broken meanwhile. All exchanges must be over, or about to be.
func (p *proxy) handed(file string) (bytes, breaks int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.busy > 0 {
		p.idle.Wait()
	}
	return p.bytes[file], int64(p.breaks[file])
}

// requests returns how often a file was asked for.
func (p *proxy) requests(file string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.asked[file]
}

// wantOnce checks that no more of a file came twice than so many bytes for each
// connection that was broken.
func (p *proxy) wantOnce(file string, slack int64) {
	p.t.Helper()
	bytes, breaks := p.handed(file)
	if twice := bytes - fileSize(p.t, p.nginx.dir, file); twice > breaks*slack {
		p.t.Errorf("%d bytes of %s came twice, want %d at most for each of %d broken connections", twice, file, slack, breaks)
	}
}

// first spoils the first answer for each file, then the second, and so on.
func first(spoils ...spoil) spoil {
	return func(x *exchange) {
		if x.n > len(spoils) {
			x.pass()
			return
		}
		spoils[x.n-1](x)
	}
}

// cutAfter ends the connection after so many bytes of the body, if it has so many.
func cutAfter(n int64) spoil {
	return func(x *exchange) {
		x.head()
		if done, _ := io.CopyN(x, x.answer.Body, n); done == n {
			x.cut()
		}
	}
}

func resetAfter(n int64) spoil {
	return func(x *exchange) {
		x.head()
		io.CopyN(x, x.answer.Body, n)
		x.w.(http.Flusher).Flush()
		x.reset()
	}
}

// stallAfter sends nothing more after so many bytes, until the client is gone.
func stallAfter(n int64) spoil {
	return func(x *exchange) {
		x.head()
		io.CopyN(x, x.answer.Body, n)
		x.broken()
		x.w.(http.Flusher).Flush()
		<-x.r.Context().Done()
	}
}

// drip sends a byte now and then after so many bytes, until the client is gone.
func drip(n int64) spoil {
	return func(x *exchange) {
		x.head()
		io.CopyN(x, x.answer.Body, n)
		x.broken()
		for x.r.Context().Err() == nil {
			io.CopyN(x, x.answer.Body, 1)
			x.w.(http.Flusher).Flush()
			time.Sleep(20 * time.Millisecond)
		}
	}
}

// plainHead is the beginning of the answer, as it goes over the wire.
func (x *exchange) plainHead() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "HTTP/1.1 %s\r\n", x.answer.Status)
	x.answer.Header.Write(&b)
	b.WriteString("\r\n")
	return b.Bytes()
}

// cutInHead ends the connection amid the header.
func cutInHead(x *exchange) {
	x.broken()
	conn, head := x.hijack(), x.plainHead()
	conn.Write(head[:len(head)/2])
	conn.Close()
}

// slowHead sends the header byte by byte.
func slowHead(x *exchange) {
	conn := x.hijack()
	defer conn.Close()
	for _, b := range x.plainHead() {
		conn.Write([]byte{b})
		time.Sleep(time.Millisecond)
	}
	out := bufio.NewWriter(conn)
	n, _ := io.Copy(out, x.answer.Body)
	out.Flush()
	x.count(int(n))
}

// header passes the answer with other fields; one with the value "" is left out.
func header(fields ...string) spoil {
	return func(x *exchange) {
		for i := 0; i < len(fields); i += 2 {
			if x.answer.Header.Del(fields[i]); fields[i+1] != "" {
				x.answer.Header.Set(fields[i], fields[i+1])
			}
		}
		x.pass()
	}
}

// refuse answers with an error.
func refuse(code int, fields ...string) spoil {
	return func(x *exchange) {
		for i := 0; i < len(fields); i += 2 {
			x.w.Header().Set(fields[i], fields[i+1])
		}
		http.Error(x.w, "not now", code)
	}
}
