package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"time"

	"puavo-image-repository/imagerepo/internal/throttle"
	"puavo-image-repository/meta/untrusted"
)

// download is a file of a web site. It makes one attempt after the other to get
// the rest of the file.
type download struct {
	ctx    context.Context
	mirror *Mirror
	name   string
	want   int64 // size of the whole file in bytes, 0 if it is not known
	size   int64 // what the server says, -1 as long as it does not
	pos    int64
	whole  bool // the server cannot send ranges
	fresh  bool // caches must ask the server

	validator string // of a file whose size is not known

	conn     *connection // nil between attempts
	attempts int         // in a row that failed and brought hardly anything
}

// openDownload asks for a file of a web site.
func openDownload(ctx context.Context, m *Mirror, name string, r Request) (io.ReadCloser, error) {
	d := &download{ctx: ctx, mirror: m, name: name, want: r.Size, size: -1, pos: r.Offset, fresh: r.Fresh}
	if err := d.connect(); err != nil {
		return nil, err
	}
	return d, nil
}

func (d *download) Close() error {
	d.disconnect()
	return nil
}

// Read reads on, by another connection if need be.
func (d *download) Read(p []byte) (int, error) {
	p = p[:min(len(p), throttle.Burst)]
	for {
		if err := d.ctx.Err(); err != nil {
			return 0, err
		}
		if err := d.connect(); err != nil {
			return 0, err
		}
		n, err := d.conn.read(p)
		d.pos += int64(n)
		if wait := d.mirror.take(d.ctx, n); wait != nil {
			return n, wait
		}
		if err == io.EOF && (d.size < 0 || d.pos == d.size) {
			return n, io.EOF
		}
		if err != nil {
			err = d.retry(d.broke(err))
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

// connect asks for the rest of the file until it gets an answer, unless there is a
// connection.
func (d *download) connect() error {
	for d.conn == nil {
		if err := d.request(); err != nil {
			if err = d.retry(err); err != nil {
				return err
			}
		}
	}
	return nil
}

func (d *download) disconnect() {
	if d.conn != nil {
		d.conn.close()
		d.conn = nil
	}
}

// transient is the error of an attempt after which another may succeed.
type transient struct {
	error
	wait time.Duration // before the next attempt
}

func (t transient) Unwrap() error { return t.error }

// retry waits until the next attempt is due. It returns the error that ends the
// download if there must be none.
func (d *download) retry(err error) error {
	t, ok := errors.AsType[transient](err)
	if d.ctx.Err() != nil {
		return d.ctx.Err()
	} else if !ok {
		return err
	}
	if d.attempts++; d.attempts >= d.mirror.patience.Attempts {
		return d.failed(fmt.Errorf("%w after %d attempts: %w", ErrGivenUp, d.attempts, t.error))
	}
	d.mirror.log.Info("fetching the rest", "file", d.name, "at", d.pos, "reason", untrusted.Error(t.error), "after", t.wait)
	select {
	case <-time.After(t.wait):
		return nil
	case <-d.ctx.Done():
		return d.ctx.Err()
	}
}

// broke ends a connection that broke, and returns the error of the attempt. The
// first attempt after one that brought something is made at once.
func (d *download) broke(err error) error {
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	if d.conn.received >= throttle.Burst {
		d.attempts = 0
	}
	d.disconnect()
	return transient{err, d.backoff(d.attempts)}
}

// backoff returns how long to wait after n attempts that failed: a random time,
// so that many clients do not come back at once, which grows with n.
func (d *download) backoff(n int) time.Duration {
	wait := d.mirror.patience.Wait * time.Duration(n)
	if wait <= 0 {
		return 0
	}
	return min(wait+rand.N(wait), d.mirror.patience.Longest)
}

// request asks once for the rest of the file.
func (d *download) request() error {
	ctx, cancel := context.WithCancelCause(d.ctx)
	req, err := d.newRequest(ctx)
	if err != nil {
		cancel(nil)
		return err
	}
	resp, err := d.mirror.http.Do(req) //nolint:bodyclose // connection.close does
	if err != nil {
		cancel(nil)
		return d.unanswered(shorten(err))
	}
	d.conn = newConnection(resp, cancel, d.mirror.patience.Stall)
	if err := d.accept(resp); err != nil {
		d.disconnect()
		return err
	}
	return nil
}

func (d *download) newRequest(ctx context.Context) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, d.mirror.url+"/"+d.name, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept-Encoding", "identity")
	req.Header.Set("User-Agent", "puavo-update-image")
	if d.fresh {
		req.Header.Set("Cache-Control", "no-cache")
	}
	if d.pos > 0 && !d.whole {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", d.pos))
		if d.validator != "" {
			req.Header.Set("If-Range", d.validator)
		}
	}
	return req, nil
}

// unanswered returns the error of a request that got no answer.
func (d *download) unanswered(err error) error {
	switch {
	case errors.Is(err, errInsecure):
		return d.failed(err)
	case isPermanent(err):
		return adviseCertificate(d.failed(fmt.Errorf("%w: %w: %w", ErrGivenUp, ErrNoAnswer, err)))
	}
	return transient{fmt.Errorf("%w: %w", ErrNoAnswer, err), d.backoff(d.attempts + 1)}
}

func (d *download) failed(err error) error { return d.mirror.failed(d.name, err) }
