package servers

import (
	"context"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// step is how many bytes are counted at once, at most.
const step = 256 << 10

// Proxy passes connections to a server on, and counts the bytes that clients send. Linux
// moves them from one connection to the other without a copy.
//
//	publisher ──> Proxy ──> server
//	          <── (not  <──
//	            counted)
type Proxy struct {
	Port int // of 127.0.0.1

	address string // of the server
	close   context.CancelFunc
	group   sync.WaitGroup
	open    atomic.Int64 // connections
	sent    atomic.Int64

	mu      sync.Mutex // protects the following
	at      int64
	reached func()
}

// NewProxy starts a proxy, which ends with Close or with ctx.
func NewProxy(ctx context.Context, address string) (*Proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &Proxy{Port: l.Addr().(*net.TCPAddr).Port, address: address}
	ctx, p.close = context.WithCancel(ctx)
	context.AfterFunc(ctx, func() { l.Close() })
	p.group.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			p.open.Add(1)
			p.group.Go(func() {
				defer p.open.Add(-1)
				p.serve(ctx, conn.(*net.TCPConn))
			})
		}
	})
	return p, nil
}

// serve passes on what comes, until both sides have ended the connection.
func (p *Proxy) serve(ctx context.Context, conn *net.TCPConn) {
	defer conn.Close()
	other, err := (&net.Dialer{}).DialContext(ctx, "tcp", p.address)
	if err != nil {
		return
	}
	up := other.(*net.TCPConn)
	defer up.Close()
	defer context.AfterFunc(ctx, func() { conn.Close(); up.Close() })()
	var back sync.WaitGroup
	back.Go(func() {
		io.Copy(conn, up)
		conn.Close()
	})
	for {
		n, err := io.CopyN(up, conn, step)
		p.count(n)
		if err != nil {
			break
		}
	}
	up.CloseWrite()
	back.Wait()
}

// count counts bytes, and calls what waits for them.
func (p *Proxy) count(n int64) {
	sent := p.sent.Add(n)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.reached != nil && sent >= p.at {
		p.reached()
		p.reached = nil
	}
}

// Reset begins to count from 0. When clients have sent at bytes, reached is called, once,
// unless it is nil. Until it returns, no more is passed on to the server than one step of
// each connection.
func (p *Proxy) Reset(at int64, reached func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sent.Store(0)
	p.at, p.reached = at, reached
}

// Sent waits until all connections have ended, and returns how many bytes clients have
// sent since Reset.
func (p *Proxy) Sent(ctx context.Context) (int64, error) {
	for p.open.Load() > 0 {
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(5 * time.Millisecond):
		}
	}
	return p.sent.Load(), ctx.Err()
}

// Close ends the proxy with all connections.
func (p *Proxy) Close() {
	p.close()
	p.group.Wait()
}
