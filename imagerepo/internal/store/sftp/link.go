package sftp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	client "github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"
)

// link is a connection to the server.
//
//	Stage, Write, ...  ->  files  ->  ssh  ->  watched  ->  server
//
// Closing watched makes every call that waits return, with an error for which isLost is true.
type link struct {
	conn  *watched
	ssh   *ssh.Client
	files *client.Client
	gone  chan struct{} // closed when the session has ended
}

// watched is a connection that knows when the server was last heard.
type watched struct {
	net.Conn
	heard atomic.Int64 // Unix time in nanoseconds
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	if n > 0 {
		w.heard.Store(time.Now().UnixNano())
	}
	return n, err
}

// silence returns for how long nothing was heard.
func (w *watched) silence() time.Duration { return time.Since(time.Unix(0, w.heard.Load())) }

// dial connects, checks the key of the server, logs in and starts a session of SFTP.
func dial(ctx context.Context, o Options, clock clock) (*link, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, clock.connect, fmt.Errorf("%w: no answer within %v", errUnreachable, clock.connect))
	defer cancel()
	raw, err := new(net.Dialer).DialContext(ctx, "tcp", o.address())
	if err != nil {
		return nil, unreachable(ctx, err)
	}
	l := &link{conn: &watched{Conn: raw}, gone: make(chan struct{})}
	stop := context.AfterFunc(ctx, l.cut)
	defer stop()
	if err := l.logIn(o); err != nil {
		l.cut()
		return nil, unreachable(ctx, err)
	}
	if !stop() {
		return nil, context.Cause(ctx)
	}
	l.conn.heard.Store(time.Now().UnixNano())
	go l.wait()     // ends with the session
	go l.ask(clock) // ends with the session, or ends it
	return l, nil
}

// errUnreachable is wrapped by errors for which it makes sense to try again.
var errUnreachable = errors.New("the server cannot be reached")

// unreachable returns why ctx ended, if it did, and marks errors of the network.
func unreachable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if isLost(err) {
		return fmt.Errorf("%w: %w", errUnreachable, err)
	}
	return err
}

// isLost reports whether an error is one of the connection, not of what was asked for.
func isLost(err error) bool {
	_, network := errors.AsType[*net.OpError](err)
	_, name := errors.AsType[*net.DNSError](err)
	return network || name || slices.ContainsFunc(lost, func(e error) bool { return errors.Is(err, e) })
}

// lost are errors of a connection.
var lost = []error{
	errUnreachable, client.ErrSSHFxConnectionLost, client.ErrSSHFxNoConnection,
	io.EOF, io.ErrUnexpectedEOF, net.ErrClosed, syscall.ECONNRESET, syscall.EPIPE,
}

// logIn does what dial says, on an open connection.
func (l *link) logIn(o Options) error {
	config, done, err := login(o)
	if err != nil {
		return err
	}
	defer done()
	conn, channels, requests, err := ssh.NewClientConn(l.conn, o.address(), &config.ClientConfig)
	if err != nil {
		return config.explain(err)
	}
	l.ssh = ssh.NewClient(conn, channels, requests)
	l.files, err = client.NewClient(l.ssh, client.UseConcurrentWrites(true))
	if err != nil {
		return fmt.Errorf("the server does not offer SFTP: %w", err)
	}
	if _, ok := l.files.HasExtension(extRename); !ok {
		return fmt.Errorf("the server lacks %s, without which a file cannot be replaced as a whole; OpenSSH's sftp-server has it", extRename)
	}
	return nil
}

// The extensions, see the package documentation.
const (
	extRename  = "posix-rename@openssh.com"
	extLink    = "hardlink@openssh.com"
	extSync    = "fsync@openssh.com"
	extStatVFS = "statvfs@openssh.com"
)

func (l *link) has(extension string) bool {
	_, ok := l.files.HasExtension(extension)
	return ok
}

// wait notes the end of the session.
func (l *link) wait() {
	l.files.Wait()
	l.cut()
	close(l.gone)
}

// ask asks the server to answer, and ends the connection if it is silent for too long.
// Whatever it sends is an answer: on a slow link the question waits behind payload.
func (l *link) ask(clock clock) {
	ticker := time.NewTicker(clock.ask)
	defer ticker.Stop()
	var asked atomic.Bool
	for {
		select {
		case <-l.gone:
			return
		case <-ticker.C:
		}
		if l.conn.silence() > clock.silence {
			l.cut()
			return
		}
		if asked.CompareAndSwap(false, true) {
			go func() { // ends with the answer or the connection
				l.ssh.SendRequest("keepalive@openssh.com", true, nil)
				asked.Store(false)
			}()
		}
	}
}

// cut ends the connection at once.
func (l *link) cut() { l.conn.Close() }

// end ends the session and the connection.
func (l *link) end() error {
	// Ending the session waits for a server that does not read.
	timer := time.AfterFunc(time.Second, l.cut)
	defer timer.Stop()
	l.files.Close()
	err := l.ssh.Close()
	if isLost(err) {
		return nil
	}
	return err
}

// run calls do with the session. When ctx ends, the connection does, and the error of ctx
// is returned.
func (l *link) run(ctx context.Context, do func(*link) error) error {
	stop := context.AfterFunc(ctx, l.cut)
	defer stop()
	err := do(l)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// connected returns the connection, a new one if there is none.
func (s *Store) connected(ctx context.Context) (*link, error) {
	select {
	case s.dialing <- struct{}{}:
		defer func() { <-s.dialing }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	s.mu.Lock()
	l := s.current
	s.mu.Unlock()
	if l != nil && !l.isGone() {
		return l, nil
	}
	l, err := dial(ctx, s.o, s.clock)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.current = l
	s.mu.Unlock()
	return l, nil
}

func (l *link) isGone() bool {
	select {
	case <-l.gone:
		return true
	default:
		return false
	}
}

// attempts is how many may fail in a row without progress.
const attempts = 5

// do calls work with the connection, and again with a new one if that is lost. progress,
// unless it is nil, returns how far work has got.
func (s *Store) do(ctx context.Context, progress func() int64, work func(*link) error) error {
	var far int64
	wait := s.clock.retry
	for n := 1; ; n++ {
		err := s.once(ctx, work)
		if err == nil || !isLost(err) {
			return err
		}
		if progress != nil && progress() > far {
			far, n, wait = progress(), 0, s.clock.retry
		}
		if n == attempts {
			return fmt.Errorf("after %d attempts: %w; run it again: what has arrived stays there", attempts, err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
			wait *= 2
		}
	}
}

// once calls work with the connection. After an error for which isLost is true, the
// connection is closed.
func (s *Store) once(ctx context.Context, work func(*link) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	l, err := s.connected(ctx)
	if err != nil {
		return err
	}
	err = l.run(ctx, work)
	if ctx.Err() == nil && isLost(err) {
		l.cut()
		<-l.gone
	}
	return err
}

// isMissing reports whether the server says that a file does not exist.
func isMissing(err error) bool { return errors.Is(err, fs.ErrNotExist) }
