package serve

import (
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// The limits of a client's time, so that none holds a connection for nothing. A download
// may take as long as it likes, while it gets on.
const (
	headerTime = 10 * time.Second // to send a request
	idleTime   = 2 * time.Minute  // between requests
	chunk      = 1 << 20          // bytes that are sent at once
	chunkTime  = 2 * time.Minute  // for each of them
	maxHeader  = 16 << 10         // bytes of a request, besides its first line

	grace = 2 * time.Second // for answers that are being sent when the server ends
)

// Run serves a handler at a listener, which it closes, until ctx ends. Answers that are
// being sent then get two seconds, and are cut off; clients go on with the rest later. It
// returns the error of ctx, or the one that ended the server before. The log, which may be
// nil, gets each request at level Info, and at level Warn what net/http complains of.
func Run(ctx context.Context, l net.Listener, h http.Handler, log *slog.Logger) error {
	return run(ctx, l, h, log, grace)
}

func run(ctx context.Context, l net.Listener, h http.Handler, log *slog.Logger, grace time.Duration) error {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	s := &http.Server{
		Handler:           noted(paced(h), log),
		ReadHeaderTimeout: headerTime,

		DisableGeneralOptionsHandler: true,
		IdleTimeout:                  idleTime,
		MaxHeaderBytes:               maxHeader,
		ErrorLog:                     slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	ended := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		patience, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
		defer cancel()
		err := s.Shutdown(patience)
		if errors.Is(err, context.DeadlineExceeded) {
			err = s.Close()
		}
		ended <- err
	})
	err := s.Serve(l)
	if !stop() { // ctx has ended, and that ends the server
		err = <-ended
	} else {
		err = cmp.Or(err, s.Close())
	}
	return cmp.Or(ctx.Err(), err)
}

// noted notes each request.
func noted(h http.Handler, log *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := &note{ResponseWriter: w, status: http.StatusOK}
		defer func() { // also when the connection breaks
			log.Info("request", "method", r.Method, "path", r.URL.Path, "status", n.status, "bytes", n.bytes, "from", r.RemoteAddr)
		}()
		h.ServeHTTP(n, r)
	})
}

// note notes what is answered.
type note struct {
	http.ResponseWriter
	status int
	bytes  int64
}

func (n *note) Unwrap() http.ResponseWriter { return n.ResponseWriter }

func (n *note) WriteHeader(status int) {
	n.status = status
	n.ResponseWriter.WriteHeader(status)
}

func (n *note) Write(p []byte) (int, error) {
	written, err := n.ResponseWriter.Write(p)
	n.bytes += int64(written)
	return written, err
}

func (n *note) ReadFrom(r io.Reader) (int64, error) {
	written, err := io.Copy(n.ResponseWriter, r)
	n.bytes += written
	return written, err
}

// paced gives each answer time as long as it gets on.
func paced(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p := &pace{w, http.NewResponseController(w)}
		p.extend()
		h.ServeHTTP(p, r)
	})
}

// pace sends in chunks, each of which has its time.
type pace struct {
	http.ResponseWriter
	control *http.ResponseController
}

func (p *pace) Unwrap() http.ResponseWriter { return p.ResponseWriter }

// extend begins the time of a chunk.
func (p *pace) extend() {
	_ = p.control.SetWriteDeadline(time.Now().Add(chunkTime)) // where it is not supported, there is no limit
}

// ReadFrom sends what r has. A file is handed on in a form that the kernel can send by
// itself.
func (p *pace) ReadFrom(r io.Reader) (sent int64, err error) {
	limited, ok := r.(*io.LimitedReader)
	if !ok {
		limited = &io.LimitedReader{R: r, N: 1<<63 - 1}
	}
	for limited.N > 0 {
		p.extend()
		n, err := io.Copy(p.ResponseWriter, &io.LimitedReader{R: limited.R, N: min(limited.N, chunk)})
		sent += n
		limited.N -= n
		if err != nil || n == 0 {
			return sent, err
		}
	}
	return sent, nil
}
