// Package fetch reads the files of a mirror, which is a directory or a web site,
// over networks that break.
//
// # A web site
//
// A file is fetched by one GET if nothing goes wrong. When the connection breaks
// or stalls, the rest is fetched by another GET with Range and, where the server
// told an ETag or a date, If-Range (RFC 9110, section 14): so no byte is fetched
// twice. What answers to that:
//
//	206  with the rest of the same file: reading goes on
//	206  with another range: the file is asked for as a whole
//	200  a server without ranges: what is known already is read and left out
//	200  or 206 with another ETag, date or size, 416: ErrChanged
//	404  410  fs.ErrNotExist
//	429  5xx  asked again, after the time that Retry-After gives
//
// An answer that is compressed is refused: sizes and digests are those of the
// file as it lies there.
//
// A connection stalls when no byte, or hardly any, comes for some time. Attempts
// that bring hardly anything are limited; one that brings more begins their count
// anew, so a download of days over a bad line gets done.
//
// Redirects are followed, but not from https to http. Proxies are those of the
// environment: HTTPS_PROXY, HTTP_PROXY and NO_PROXY.
package fetch

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/hashicorp/go-retryablehttp"
	"golang.org/x/time/rate"
)

// Options say how a mirror is read. The zero Options are the usual ones.
type Options struct {
	CACertificate string // path of a PEM file of certificates to trust besides the system's
	Rate          int64  // bytes a second at most; 0 is no limit
	Patience      Patience
	Log           *slog.Logger // takes at level Info why something is asked for again; nil: nobody
}

// Patience is how long a web site is borne with. Zero fields are the usual ones.
type Patience struct {
	Attempts int           // that bring hardly anything, before it is given up; 8
	Wait     time.Duration // before the second attempt, ever longer before others; 1 s
	Longest  time.Duration // the longest such time, also if Retry-After wants more; 2 min
	Stall    time.Duration // within which some bytes must come; 30 s
}

func (p Patience) usual() Patience {
	if p.Attempts == 0 {
		p.Attempts = 8
	}
	if p.Wait == 0 {
		p.Wait = time.Second
	}
	if p.Longest == 0 {
		p.Longest = 2 * time.Minute
	}
	if p.Stall == 0 {
		p.Stall = 30 * time.Second
	}
	return p
}

// Mirror gives the files of a mirror. It can be used concurrently.
type Mirror struct {
	root *os.Root // of a directory

	url      string // of a web site, without a final slash
	shown    string // the same without a password, for messages
	http     *retryablehttp.Client
	limit    *rate.Limiter
	patience Patience
	log      *slog.Logger
}

// Open opens a mirror: a http or https URL, a file URL, or a directory.
func Open(where string, o Options) (*Mirror, error) {
	dir := where
	if strings.Contains(where, "://") {
		u, err := url.Parse(where)
		switch {
		case err != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
			return nil, errors.New("this is not the URL of a mirror; want such as https://images.example.org, and commas between several")
		case (u.Scheme == "http" || u.Scheme == "https") && u.Host != "":
			return openSite(u, o)
		case u.Scheme != "file" || u.Host != "" && u.Host != "localhost":
			return nil, fmt.Errorf("mirror %s: want a directory or a http, https or file URL", u.Redacted())
		}
		dir = u.Path
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("mirror: %w; want a directory, or a URL such as https://images.example.org", err)
	}
	return &Mirror{root: root, shown: root.Name(), limit: limiter(o.Rate)}, nil
}

// String returns where the mirror is, without a password.
func (m *Mirror) String() string { return m.shown }

// Close ends connections that are kept. No Body may be in use.
func (m *Mirror) Close() error {
	if m.root != nil {
		return m.root.Close()
	}
	m.http.HTTPClient.CloseIdleConnections()
	return nil
}

func openSite(u *url.URL, o Options) (*Mirror, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DisableCompression = true
	if o.CACertificate != "" {
		pool, err := certificates(o.CACertificate)
		if err != nil {
			return nil, err
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: pool}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	patience := o.Patience.usual()
	transport.ResponseHeaderTimeout = patience.Stall
	return &Mirror{
		url: strings.TrimRight(u.String(), "/"), shown: strings.TrimRight(u.Redacted(), "/"), limit: limiter(o.Rate), patience: patience, log: o.Log,
		http: &retryablehttp.Client{
			HTTPClient:   &http.Client{Transport: transport, CheckRedirect: checkRedirect},
			RetryMax:     patience.Attempts - 1,
			RetryWaitMin: patience.Wait,
			RetryWaitMax: patience.Wait * 2,
			CheckRetry:   checkRetry,
			Backoff: func(min, max time.Duration, attempt int, resp *http.Response) time.Duration {
				wait := retryablehttp.RateLimitLinearJitterBackoff(min, max, attempt, resp)
				if wait > patience.Longest {
					wait = patience.Longest
				}
				return wait
			},
			ErrorHandler: retryablehttp.PassthroughErrorHandler,
		},
	}, nil
}

// certificates returns those of the system and those of a file.
func certificates(file string) (*x509.CertPool, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(data) {
		return nil, fmt.Errorf("%s has no certificate in PEM form", file)
	}
	return pool, nil
}

// burst is how many bytes may come at once where the rate is limited.
const burst = 64 << 10

func limiter(bytes int64) *rate.Limiter {
	if bytes <= 0 {
		return rate.NewLimiter(rate.Inf, 0)
	}
	return rate.NewLimiter(rate.Limit(bytes), burst)
}

// checkRedirect lets no one lead from https to plain http.
func checkRedirect(req *http.Request, via []*http.Request) error {
	switch {
	case len(via) >= 10:
		return errors.New("stopped after 10 redirects") // in words that are not retried
	case req.URL.Scheme != "https" && via[0].URL.Scheme == "https":
		return fmt.Errorf("%w to %s", errRedirect, req.URL.Scheme)
	}
	return nil
}

var errRedirect = errors.New("a redirect from https")

// checkRetry tells whether a request that failed is made again.
func checkRetry(ctx context.Context, resp *http.Response, err error) (bool, error) {
	if errors.Is(err, errRedirect) {
		return false, err
	}
	return retryablehttp.DefaultRetryPolicy(ctx, resp, err)
}

// ErrTooLarge is wrapped by the error for a document of too many bytes.
var ErrTooLarge = errors.New("it is larger than it may be")

// Document returns a small file as a whole. One of more than most bytes is an
// ErrTooLarge, one that is not there an fs.ErrNotExist.
func (m *Mirror) Document(ctx context.Context, name string, most int64) ([]byte, error) {
	body, err := m.Open(ctx, name, Place{})
	if err != nil {
		return nil, err
	}
	defer body.Close()
	data, err := io.ReadAll(io.LimitReader(body, most+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if int64(len(data)) > most {
		return nil, fmt.Errorf("%s/%s has more than %d bytes: %w", m.shown, name, most, ErrTooLarge)
	}
	return data, nil
}
