package sftp

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"puavo-image-repository/testdata"
)

// proxy is between a store and the server.
type proxy struct {
	server *testdata.SSHD
	port   int
	speed  atomic.Int64 // to the server, in bytes a second; 0 is as fast as it can
	stall  atomic.Bool  // nothing is let through
	// after is how many more answers of the server are let through: then the connection
	// ends. Negative is all.
	after atomic.Int64
	sent  atomic.Int64 // bytes to the server

	mu    sync.Mutex // protects conns
	conns []net.Conn
}

// newProxy starts one, for the time of the test.
func newProxy(t *testing.T, server *testdata.SSHD) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ok(t, err)
	p := &proxy{server: server, port: l.Addr().(*net.TCPAddr).Port}
	p.after.Store(-1)
	server.Know(p.port)
	var group sync.WaitGroup
	group.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			group.Go(func() { p.serve(conn) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		p.cut()
		group.Wait()
	})
	return p
}

// cut ends all connections.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		c.Close()
	}
	p.conns = nil
}

func (p *proxy) serve(client net.Conn) {
	server, err := net.Dial("tcp", p.server.Address())
	if err != nil {
		client.Close()
		return
	}
	p.mu.Lock()
	p.conns = append(p.conns, client, server)
	p.mu.Unlock()
	var group sync.WaitGroup
	group.Go(func() { p.copy(server, client, p.toServer); client.Close(); server.Close() })
	group.Go(func() { p.copy(client, server, p.toClient); client.Close(); server.Close() })
	group.Wait()
}

// copy lets through what may pass.
func (p *proxy) copy(to io.Writer, from io.Reader, pass func(n int) error) {
	buf := make([]byte, 16<<10)
	for {
		n, err := from.Read(buf)
		if err == nil {
			err = pass(n)
		}
		for p.stall.Load() { // until the test ends the connection
			if _, err := to.Write(nil); err != nil {
				return
			}
			time.Sleep(time.Millisecond)
		}
		if err == nil {
			_, err = to.Write(buf[:n])
		}
		if err != nil {
			return
		}
	}
}

func (p *proxy) toServer(n int) error {
	p.sent.Add(int64(n))
	if speed := p.speed.Load(); speed > 0 {
		time.Sleep(time.Duration(n) * time.Second / time.Duration(speed))
	}
	return nil
}

var errEnded = errors.New("ended by the test")

func (p *proxy) toClient(int) error {
	if p.after.Load() < 0 {
		return nil
	}
	if p.after.Add(-1) < 0 {
		p.after.Store(-1) // the next connection lasts
		return errEnded
	}
	return nil
}
