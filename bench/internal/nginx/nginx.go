// Package nginx serves a directory with the nginx that is installed, on a port of
// the loopback interface, and tells how many bytes were fetched.
//
// The server is one process, with a configuration, logs and temporary files of its
// own, and sends files as the README's does, by sendfile(2). Of the machine's
// configuration of nginx it reads nothing.
package nginx

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Command is what must be installed.
const Command = "nginx"

// patience is how long the server may take to begin, to log, and to end.
const patience = 10 * time.Second

// Server is a server that runs.
type Server struct {
	URL string // without a final slash

	prefix string // the directory of its own files
	cmd    *exec.Cmd
	stop   context.CancelFunc
	ended  chan struct{} // closed when it has ended
	marks  int           // requests of our own
	known  int64         // bytes of the log that are taken
}

// Start serves dir until Stop is called or ctx ends. The directory prefix must not
// be there yet; the server's own files are put into it, and left there. more are lines of
// its configuration, such as "limit_rate 100k;".
func Start(ctx context.Context, dir, prefix string, more ...string) (*Server, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	s := &Server{URL: fmt.Sprintf("http://127.0.0.1:%d", port), ended: make(chan struct{})}
	if s.prefix, err = filepath.Abs(prefix); err != nil {
		return nil, err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, err
	}
	if err := os.Mkdir(s.prefix, 0o777); err != nil {
		return nil, err
	}
	config := filepath.Join(s.prefix, "nginx.conf")
	if err := os.WriteFile(config, fmt.Appendf(nil, configuration, strings.Join(more, "\n    "), dir, port), 0o666); err != nil {
		return nil, err
	}
	ctx, s.stop = context.WithCancel(ctx)
	s.cmd = exec.CommandContext(ctx, Command, "-p", s.prefix, "-e", s.errorLog(), "-c", config)
	s.cmd.Cancel = func() error { return s.cmd.Process.Signal(syscall.SIGTERM) }
	s.cmd.WaitDelay = patience
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM} // should we be killed
	if err := s.cmd.Start(); err != nil {
		s.stop()
		return nil, err
	}
	go func() { // ends with the server
		defer close(s.ended)
		s.cmd.Wait()
	}()
	if _, err := s.Fetched(ctx); err != nil {
		s.Stop()
		return nil, err
	}
	return s, nil
}

// configuration is of lines more, a directory and a port. All paths but the directory's are
// below the prefix.
const configuration = `daemon off;
master_process off;
pid nginx.pid;
events {}
http {
    default_type application/octet-stream;
    log_format bench "$body_bytes_sent $request_uri";
    access_log access.log bench;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    sendfile on;
    tcp_nopush on;
    %s
    root "%s";
    server {
        listen 127.0.0.1:%d;
        location ~ ^/\.mark/ { return 204; }
    }
}
`

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

func (s *Server) errorLog() string { return filepath.Join(s.prefix, "error.log") }

// Fetched returns the bytes of all bodies that were sent since it was called
// before. Requests that go on meanwhile are not counted before they end.
func (s *Server) Fetched(ctx context.Context) (int64, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, errors.New("it does not answer"))
	defer cancel()
	s.marks++
	mark := fmt.Sprintf("/.mark/%d", s.marks)
	for ctx.Err() == nil {
		// One process serves all, one after the other: what has ended before this
		// request is in the log before it.
		if err := s.get(ctx, mark); err == nil {
			return s.take(mark)
		}
		select {
		case <-s.ended:
			return 0, s.failed(errors.New("it has ended"))
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
		}
	}
	return 0, s.failed(context.Cause(ctx))
}

// get makes a request of our own, on a connection of its own: when that ends, the
// request has been logged.
func (s *Server) get(ctx context.Context, path string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+path, nil)
	if err != nil {
		return err
	}
	req.Close = true
	transport := &http.Transport{Proxy: nil, DisableKeepAlives: true}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusNoContent {
		return fmt.Errorf("%s: another server answers: %s", s.URL, resp.Status)
	}
	return nil
}

// take reads the log on, to the line of a mark, and adds the bytes up.
func (s *Server) take(mark string) (sum int64, err error) {
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(time.Millisecond) {
		lines, complete, err := s.readLog(mark)
		if err != nil {
			return 0, err
		}
		if !complete {
			continue
		}
		s.known += int64(len(lines))
		for line := range strings.Lines(string(lines)) {
			var n int64
			if _, err := fmt.Sscan(line, &n); err != nil {
				return 0, fmt.Errorf("the log of nginx has the line %q", line)
			}
			sum += n
		}
		return sum, nil
	}
	return 0, s.failed(errors.New("it does not log its answers"))
}

// readLog returns the log since it was last read, and whether the mark's line is
// there and so all before it.
func (s *Server) readLog(mark string) (lines []byte, complete bool, err error) {
	f, err := os.Open(filepath.Join(s.prefix, "access.log"))
	if err != nil {
		return nil, false, err
	}
	defer f.Close()
	lines, err = io.ReadAll(io.NewSectionReader(f, s.known, 1<<30))
	return lines, bytes.Contains(lines, []byte(" "+mark+"\n")), err
}

// failed adds what the server says.
func (s *Server) failed(err error) error {
	said, _ := os.ReadFile(s.errorLog())
	return fmt.Errorf("nginx: %w: %s", err, bytes.TrimSpace(said))
}

// Stop ends the server and waits for it.
func (s *Server) Stop() {
	s.stop()
	<-s.ended
}
