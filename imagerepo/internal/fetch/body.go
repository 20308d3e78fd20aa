package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"syscall"
	"time"

	"github.com/hashicorp/go-retryablehttp"
)

// ErrChanged is wrapped by the error for a file that is not the one of which a
// part was read before: what was made of that part is to be dropped.
var ErrChanged = errors.New("the file was changed meanwhile")

// ErrGivenUp is wrapped by the error for a connection that broke too often, or that
// was not to be had, or for a server that was too busy again and again.
var ErrGivenUp = errors.New("given up")

// errStalled is why a connection that brings nothing is given up.
var errStalled = errors.New("hardly any data came for some time")

// slowest is how many bytes a second a connection must bring.
const slowest = 256

// Place is where in a file to go on.
type Place struct {
	Offset int64 `json:"offset"` // bytes
	// Version is what Body.Version told of the file when its beginning was read, ""
	// if nothing is known of that.
	Version string `json:"version"`
}

// Body is a file of a mirror that is read. It is not for concurrent use.
type Body struct {
	ctx     context.Context
	mirror  *Mirror
	name    string
	version string
	size    int64 // of the whole file, -1 where it is not known
	pos     int64
	file    *os.File // of a directory

	resp     *http.Response // nil between connections
	cancel   context.CancelCauseFunc
	silence  *time.Timer   // cancels a connection that brings nothing at all
	waited   time.Duration // for bytes, since it was last looked at how many came
	since    int64         // bytes that came in that time
	brought  int64         // bytes that came by this connection
	skip     int64         // bytes of it that are known already
	attempts int           // that brought hardly anything
	whole    bool          // do not ask for ranges
}

// Open opens a file of the mirror to read it from a place on. A file that is not
// there is an fs.ErrNotExist, and one that is not that of the place ErrChanged.
func (m *Mirror) Open(ctx context.Context, name string, at Place) (*Body, error) {
	b := &Body{ctx: ctx, mirror: m, name: name, version: at.Version, pos: at.Offset, size: -1}
	if at.Offset == 0 {
		b.version = ""
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	open := b.connect
	if m.root != nil {
		open = b.openFile
	}
	if err := open(); err != nil {
		return nil, err
	}
	return b, nil
}

// Version tells which content the file has, "" if nothing does.
func (b *Body) Version() string { return b.version }

// Size returns the size of the whole file in bytes, -1 if it is not known.
func (b *Body) Size() int64 { return b.size }

// Close ends the connection.
func (b *Body) Close() error {
	if b.file != nil {
		return b.file.Close()
	}
	b.drop()
	return nil
}

// Read reads on, by another connection if need be.
func (b *Body) Read(p []byte) (int, error) {
	p = p[:min(len(p), burst)]
	for {
		if err := b.ctx.Err(); err != nil {
			return 0, err
		}
		n, err := b.read(p)
		b.pos += int64(n)
		if n > 0 {
			if wait := b.mirror.limit.WaitN(b.ctx, min(n, b.mirror.limit.Burst())); wait != nil {
				return n, b.ctx.Err()
			}
		}
		if err == io.EOF && (b.size < 0 || b.pos == b.size) {
			return n, io.EOF
		}
		if err == io.EOF && b.file != nil {
			err = ErrChanged // it became shorter
		}
		if err != nil && b.file != nil {
			return n, b.failed(err)
		}
		if err != nil {
			err = b.again(err)
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

// read reads from the file, or the connection, which is made if there is none.
func (b *Body) read(p []byte) (int, error) {
	if b.file != nil {
		return b.file.Read(p)
	}
	if b.resp == nil {
		if err := b.connect(); err != nil {
			return 0, permanent{err}
		}
	}
	for {
		n, err := b.receive(p)
		if b.skip == 0 || err != nil {
			return n, err
		}
	}
}

// receive reads from the connection. What is known already comes first, and is
// left out.
func (b *Body) receive(p []byte) (int, error) {
	known := b.skip > 0
	if known {
		p = p[:min(int64(len(p)), b.skip)]
	}
	start := time.Now()
	b.silence.Reset(b.mirror.patience.Stall)
	n, err := b.resp.Body.Read(p)
	b.silence.Stop()
	b.waited += time.Since(start)
	if ctx := b.resp.Request.Context(); err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err == nil {
		err = b.crawls(n)
	}
	if known {
		b.skip -= int64(n)
		return 0, err
	}
	b.brought += int64(n)
	return n, err
}

// crawls is an error where hardly any bytes came in some time of waiting for them.
// What the caller does meanwhile does not count.
func (b *Body) crawls(n int) error {
	b.since += int64(n)
	if b.waited < b.mirror.patience.Stall {
		return nil
	}
	enough := float64(b.since) >= slowest*b.waited.Seconds()
	b.waited, b.since = 0, 0
	if !enough {
		return errStalled
	}
	return nil
}

// permanent is an error after which nothing is tried again.
type permanent struct{ error }

func (p permanent) Unwrap() error { return p.error }

// again prepares another connection after one that broke, and waits a while if it
// brought nothing. It returns the error if that is to be the end.
func (b *Body) again(err error) error {
	b.drop()
	if p, ok := err.(permanent); ok { //nolint:errorlint // nothing wraps one
		return p.error
	}
	if b.ctx.Err() != nil {
		return b.ctx.Err()
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	if b.brought >= burst {
		b.attempts = 0
	}
	if b.attempts++; b.attempts >= b.mirror.patience.Attempts {
		return b.failed(fmt.Errorf("%w after %d attempts: %w", ErrGivenUp, b.attempts, err))
	}
	b.mirror.log.Info("the connection broke, fetching the rest", "file", b.name, "at", b.pos, "reason", err)
	if b.attempts == 1 {
		return nil
	}
	wait := b.mirror.patience.Wait * time.Duration(b.attempts-1)
	wait = min(wait+rand.N(wait), b.mirror.patience.Longest)
	select {
	case <-time.After(wait):
		return nil
	case <-b.ctx.Done():
		return b.ctx.Err()
	}
}

// drop ends the connection.
func (b *Body) drop() {
	if b.resp != nil {
		b.silence.Stop()
		b.cancel(nil)
		b.resp.Body.Close()
		b.resp = nil
	}
}

func (b *Body) failed(err error) error {
	return fmt.Errorf("fetching %s/%s: %w", b.mirror.shown, b.name, err)
}

// connect asks for the file from where reading is.
func (b *Body) connect() error {
	ctx, cancel := context.WithCancelCause(b.ctx)
	req, err := retryablehttp.NewRequestWithContext(ctx, http.MethodGet, b.mirror.url+"/"+b.name, nil)
	if err != nil {
		cancel(nil)
		return err
	}
	req.Header.Set("Accept-Encoding", "identity")
	req.Header.Set("User-Agent", "puavo-update-image")
	if b.pos > 0 && !b.whole {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", b.pos))
		if b.version != "" {
			req.Header.Set("If-Range", b.version)
		}
	}
	resp, err := b.mirror.http.Do(req) //nolint:bodyclose // drop closes it
	if err != nil {
		cancel(nil)
		if b.ctx.Err() != nil {
			return b.ctx.Err()
		}
		return b.failed(givenUp(err))
	}
	b.resp, b.cancel = resp, cancel
	b.silence = time.AfterFunc(b.mirror.patience.Stall, func() { cancel(errStalled) })
	b.waited, b.since, b.brought = 0, 0, 0
	if err := b.accept(resp); err != nil {
		b.drop()
		return err
	}
	return nil
}

// openFile opens the file of a directory.
func (b *Body) openFile() error {
	f, err := b.mirror.root.OpenFile(b.name, os.O_RDONLY|syscall.O_NONBLOCK, 0) // does not wait at a pipe
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = b.failed(errors.New("it is no regular file"))
	}
	if err == nil {
		version := fmt.Sprintf("%d %d", info.Size(), info.ModTime().UnixNano())
		if b.pos > 0 && b.version != "" && b.version != version {
			err = b.failed(ErrChanged)
		}
		b.version, b.size = version, info.Size()
	}
	if err == nil {
		_, err = f.Seek(b.pos, io.SeekStart)
	}
	if err != nil {
		f.Close()
		return err
	}
	b.file = f
	return nil
}
