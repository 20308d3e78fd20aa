package transfer

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo/farm/internal/secret"
	"puavo-image-repository/imagerepo/internal/work"
	"puavo-image-repository/meta/untrusted"
)

// Client is a worker's end. It can be used concurrently.
type Client struct {
	http  *http.Client
	token secret.Token
}

// stall is how long nothing may arrive or leave. It is a variable since tests do not wait so
// long.
var stall = time.Minute

// NewClient returns a client, which accepts the builder's certificate alone.
func NewClient(token secret.Token) *Client {
	t := &http.Transport{
		TLSClientConfig: token.Client(), TLSHandshakeTimeout: 10 * time.Second, ResponseHeaderTimeout: time.Minute,
		MaxIdleConnsPerHost: 8, IdleConnTimeout: 90 * time.Second, DisableCompression: true,
	}
	if t.TLSClientConfig != nil {
		t.TLSClientConfig.NextProtos = []string{"http/1.1"}
	}
	t.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{} // a connection for each image
	return &Client{http: &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}, token: token}
}

// Close frees the connections that are idle.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// ErrGone is wrapped by the errors for what the builder does not want any more.
var ErrGone = errors.New("the builder does not want it any more")

func (c *Client) do(ctx context.Context, method, at string, body io.Reader, header map[string]string) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, method, at, body)
	if err != nil {
		return nil, err
	}
	for k, v := range header {
		r.Header.Set(k, v)
	}
	c.token.Authorize(r)
	res, err := c.http.Do(r)
	if err != nil {
		return nil, err
	}
	switch res.StatusCode {
	case http.StatusOK, http.StatusPartialContent, http.StatusNoContent, http.StatusConflict:
		return res, nil
	}
	text, _ := untrusted.ReadAll(io.LimitReader(res.Body, 200), 200)
	res.Body.Close()
	err = fmt.Errorf("the builder answers %s: %s", res.Status, untrusted.Show(string(bytes.TrimSpace(text))))
	if s := res.StatusCode; s == http.StatusNotFound || s == http.StatusForbidden || s == http.StatusRequestEntityTooLarge {
		err = fmt.Errorf("%w: %w", ErrGone, err)
	}
	return nil, err
}

// Image returns an image from a place on. The caller closes it.
func (c *Client) Image(ctx context.Context, base string, f work.File, at int64) (io.ReadCloser, error) {
	return c.get(ctx, base+"/image/"+f.BLAKE3.String(), at)
}

// Fetch writes a delta to be verified to an empty file. If it arrives as another one, that is an
// error.
func (c *Client) Fetch(ctx context.Context, base string, f work.File, to io.Writer) error {
	digest, have := cksum.NewBLAKE3(), int64(0)
	err := Retry(ctx, func() (moved bool, err error) {
		r, err := c.get(ctx, base+"/delta/"+f.BLAKE3.String(), have)
		if err != nil {
			return false, err
		}
		defer r.Close()
		n, err := io.Copy(io.MultiWriter(to, digest), io.LimitReader(r, f.Size-have))
		have += n
		if err == nil && have < f.Size {
			err = io.ErrUnexpectedEOF
		}
		return n > 0, err
	})
	if err == nil && cksum.Digest256(digest.Sum(nil)) != f.BLAKE3 {
		err = errors.New("the delta has arrived as another one")
	}
	return err
}

func (c *Client) get(ctx context.Context, url string, at int64) (io.ReadCloser, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	header := map[string]string{}
	if at > 0 {
		header["Range"] = fmt.Sprintf("bytes=%d-", at)
	}
	res, err := c.do(ctx, http.MethodGet, url, nil, header)
	if err != nil {
		cancel(nil)
		return nil, err
	}
	if at > 0 && (res.StatusCode != http.StatusPartialContent || !beginsAt(res.Header.Get("Content-Range"), at)) {
		cancel(nil)
		res.Body.Close()
		return nil, fmt.Errorf("the builder sends another part than from %d on", at)
	}
	return watch(ctx, res.Body, cancel), nil
}

func beginsAt(contentRange string, at int64) bool {
	var first int64
	n, err := fmt.Sscanf(contentRange, "bytes %d-", &first)
	return n == 1 && err == nil && first == at
}

// errStalled is why a transfer is given up.
var errStalled = errors.New("nothing moves")

// watched is a reader that gives up when nothing is read for a while.
type watched struct {
	io.ReadCloser
	ctx    context.Context
	timer  *time.Timer
	cancel context.CancelCauseFunc
}

func watch(ctx context.Context, r io.ReadCloser, cancel context.CancelCauseFunc) *watched {
	return &watched{r, ctx, time.AfterFunc(stall, func() { cancel(errStalled) }), cancel}
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.ReadCloser.Read(p)
	w.timer.Reset(stall)
	if err != nil && errors.Is(context.Cause(w.ctx), errStalled) {
		err = errStalled
	}
	return n, err
}

func (w *watched) Close() error {
	w.timer.Stop()
	w.cancel(nil)
	return w.ReadCloser.Close()
}

// Send sends the result of a job, or what the builder lacks of it. What moved is known when the
// builder says so in the next try.
func (c *Client) Send(ctx context.Context, base string, id work.ID, worker string, r io.ReaderAt, size int64) error {
	at := base + "/result/" + id.String() + "/" + url.PathEscape(worker)
	arrived := int64(0) // as far as the builder has said
	return Retry(ctx, func() (moved bool, err error) {
		res, err := c.do(ctx, http.MethodHead, at, nil, nil)
		if err != nil {
			return false, err
		}
		res.Body.Close()
		from, err := strconv.ParseInt(res.Header.Get(offsetHeader), 10, 64)
		if err != nil || from < 0 || from > size {
			return false, fmt.Errorf("the builder has another result of the job: %w", ErrGone)
		}
		moved, arrived = from > arrived, from
		if from == size {
			return moved, nil
		}
		inner, cancel := context.WithCancelCause(ctx)
		body := watch(inner, io.NopCloser(io.NewSectionReader(r, from, size-from)), cancel)
		defer body.Close() // and not when all is sent, as the answer is still to come
		res, err = c.do(inner, http.MethodPatch, at, struct{ io.Reader }{body}, map[string]string{offsetHeader: strconv.FormatInt(from, 10)})
		if err != nil {
			return moved, err
		}
		res.Body.Close()
		now, err := strconv.ParseInt(res.Header.Get(offsetHeader), 10, 64)
		if err != nil || now < size {
			return now > from, errStalled
		}
		return true, nil
	})
}

// Report says something of a job.
func (c *Client) Report(ctx context.Context, base string, report []byte) error {
	return Retry(ctx, func() (bool, error) {
		inner, cancel := context.WithTimeout(ctx, stall)
		defer cancel()
		res, err := c.do(inner, http.MethodPost, base+"/report", bytes.NewReader(report), nil)
		if err != nil {
			return false, err
		}
		return true, res.Body.Close()
	})
}

const tries = 8

// pause is the first of those between tries. It is a variable since tests do not wait so long.
var pause = 250 * time.Millisecond

// Retry calls do until it succeeds: up to 8 times without anything moved, with longer and longer
// pauses. What is gone is not tried again.
func Retry(ctx context.Context, do func() (moved bool, err error)) error {
	wait := pause
	for left := tries; ; left-- {
		moved, err := do()
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err == nil || errors.Is(err, ErrGone) || left == 1:
			return err
		case moved:
			left, wait = tries+1, pause
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
		wait = min(2*wait, 10*time.Second)
	}
}
