// Package fetch reads the files of a mirror, which is a directory or a web site,
// over networks that break.
//
// # A web site
//
// A file is fetched by one GET if nothing goes wrong. When the connection breaks
// or stalls, the rest is fetched by another GET with Range (RFC 9110, section 14): so
// no byte is fetched twice. What answers to that:
//
//	206  with the rest of the same file: reading continues
//	206  with another range: the file is asked for as a whole
//	200  a server without ranges: what was read before is skipped
//	200  or 206 of another file, 416: ErrChanged
//	404  410  fs.ErrNotExist
//	429  5xx  another attempt, after the time that Retry-After gives; not for 501
//
// Who knows the size of a file knows its digest too, and compares it in the end. Such
// a file is the same as long as its size is: the servers behind one name often give it
// different ETags and dates. If one of them has another size, the others are asked
// once more, past all caches. A file whose size is not known is the same as long as
// its ETag, or else its date, is; If-Range asks for that.
//
// An answer that is compressed is refused: sizes and digests are those of the
// file as it is stored.
//
// A connection stalls when no byte, or hardly any, comes for some time.
//
// One loop makes all attempts: the first request, those after no answer or one that
// says "busy", and those after a connection that broke. Attempts in a row that bring
// hardly anything are limited, and the time between them grows. One that brings more
// sets their count to zero, so a download that takes days over a bad line completes.
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
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/throttle"
	"puavo-image-repository/meta/untrusted"
)

// Options say how a mirror is read. The zero Options are the usual ones.
type Options struct {
	// Authorities returns the certificates to trust; nil, or a nil pool: the system's. It
	// is called for a web site only.
	Authorities func() (*x509.CertPool, error)
	Rate        int64           // bytes a second at most; 0 is no limit
	Limit       *throttle.Limit // shared with other mirrors, in place of Rate; nil: Rate counts
	Patience    Patience
	Counted     func(n int)  // is called with the bytes that have come each time, concurrently for several files; may be nil
	PayloadOnly bool         // the site must answer itself: no redirects to others, no password
	Log         *slog.Logger // takes at level Info why something is fetched again; nil discards
}

// Patience says when a web site is given up. Zero fields are the usual ones.
type Patience struct {
	Attempts int           // in a row that bring hardly anything; 8
	Wait     time.Duration // before the second attempt, and longer before each other; 1 s
	Longest  time.Duration // between two attempts, also if Retry-After asks for more; 2 min
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
	root    *os.Root // of a directory
	counted func(n int)

	url      string // of a web site, without a final slash
	shown    string // the same without a password, for messages
	http     *http.Client
	limit    *throttle.Limit
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
			return nil, errors.New("not the URL of a mirror; want one such as https://images.example.org, or several with commas between them")
		case (u.Scheme == "http" || u.Scheme == "https") && u.Host != "":
			return openSite(u, o)
		case u.Scheme != "file" || u.Host != "" && u.Host != "localhost":
			return nil, fmt.Errorf("mirror %s: want a directory or a http, https or file URL", withoutUser(where))
		}
		dir = u.Path
	}
	root, err := atomicfile.OpenRoot(dir)
	if err != nil {
		if failed, ok := errors.AsType[*fs.PathError](err); ok {
			failed.Path = withoutUser(failed.Path)
		}
		return nil, fmt.Errorf("mirror: %w; want a directory, or a URL such as https://images.example.org", err)
	}
	return &Mirror{root: root, counted: o.Counted, shown: root.Name(), limit: o.limit()}, nil
}

func (o Options) limit() *throttle.Limit {
	if o.Limit != nil {
		return o.Limit
	}
	return throttle.New(o.Rate)
}

// withoutUser returns a place, such as a URL without its scheme, without what may be a
// user and a password.
func withoutUser(where string) string {
	if at := strings.LastIndex(where, "@"); at >= 0 {
		return "…" + where[at:]
	}
	return where
}

// String returns where the mirror is, without a password.
func (m *Mirror) String() string { return m.shown }

// Remote reports whether the mirror is a web site, which caches may stand before.
func (m *Mirror) Remote() bool { return m.root == nil }

// Close ends idle connections. All files must be closed.
func (m *Mirror) Close() error {
	if m.root != nil {
		return m.root.Close()
	}
	m.http.CloseIdleConnections()
	return nil
}

func openSite(u *url.URL, o Options) (*Mirror, error) {
	if o.PayloadOnly && u.User != nil {
		return nil, fmt.Errorf("%s: a payload mirror gets no password; leave it out", u.Redacted())
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DisableCompression = true
	if o.Authorities != nil {
		pool, err := o.Authorities()
		if err != nil {
			return nil, err
		}
		if pool != nil {
			transport.TLSClientConfig = &tls.Config{RootCAs: pool}
		}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	patience := o.Patience.usual()
	transport.ResponseHeaderTimeout = patience.Stall
	transport.MaxResponseHeaderBytes = maxHeader
	return &Mirror{
		url: strings.TrimRight(u.String(), "/"), shown: strings.TrimRight(u.Redacted(), "/"), limit: o.limit(), patience: patience, log: o.Log, counted: o.Counted,
		http: &http.Client{Transport: transport, CheckRedirect: redirects(o.PayloadOnly)},
	}, nil
}

// maxHeader is the largest header of an answer, in bytes.
const maxHeader = 64 << 10

// maxCertificates is the largest file of certificates, in bytes.
const maxCertificates = 16 << 20

// Authorities returns the certificates of the system and those of a PEM file, which may
// be a pipe. Without a file it returns nil.
func Authorities(ctx context.Context, file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	data, err := untrusted.ReadFile(ctx, file, maxCertificates)
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

// take counts n bytes that came, and waits until they are within the rate.
func (m *Mirror) take(ctx context.Context, n int) error {
	if m.counted != nil {
		m.counted(n)
	}
	return m.limit.Wait(ctx, n)
}

var (
	errInsecure = errors.New("a redirect from https")
	errRedirect = errors.New("bad redirect")
)

// redirects returns the check of redirects. A payload mirror may only redirect to
// its own files.
func redirects(payloadOnly bool) func(*http.Request, []*http.Request) error {
	if !payloadOnly {
		return checkRedirect
	}
	return func(req *http.Request, via []*http.Request) error {
		if req.URL.Host != via[0].URL.Host {
			return fmt.Errorf("%w to another host, %s", errRedirect, untrusted.Show(req.URL.Host))
		}
		return checkRedirect(req, via)
	}
}

// checkRedirect lets no one lead from https to plain http.
func checkRedirect(req *http.Request, via []*http.Request) error {
	switch scheme := req.URL.Scheme; {
	case len(via) >= 10:
		return fmt.Errorf("%w: stopped after 10 redirects", errRedirect)
	case scheme != "https" && via[0].URL.Scheme == "https":
		return fmt.Errorf("%w to %s", errInsecure, scheme)
	case scheme != "https" && scheme != "http":
		return fmt.Errorf("%w to %s", errRedirect, scheme)
	}
	return nil
}

// shorten cuts the URL in an error of a request, to which a server may have led, so
// that the reason after it is shown.
func shorten(err error) error {
	const most = 256
	if u, ok := errors.AsType[*url.Error](err); ok && len(u.URL) > most {
		u.URL = u.URL[:most] + "…"
	}
	return err
}

// isPermanent reports whether a request that got no answer would get none again.
func isPermanent(err error) bool {
	_, certificate := errors.AsType[*tls.CertificateVerificationError](err)
	return certificate || errors.Is(err, errRedirect)
}

// adviseCertificate says what helps if a certificate is not accepted.
func adviseCertificate(err error) error {
	var helps string
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		helps = "if the certificate is your own, give its authority with --ca-certificate FILE"
	} else if wrong, ok := errors.AsType[x509.HostnameError](err); ok {
		helps = "use a name that is in the certificate, or get a certificate for " + untrusted.Quote(wrong.Host)
	} else if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok && invalid.Reason == x509.Expired {
		helps = "set the clock of this computer, or renew the certificate"
	} else {
		return err
	}
	return fmt.Errorf("%w; %s", err, helps)
}

var (
	// ErrChanged is wrapped by the error for a file that is not the one that was asked
	// for, or of which a part was read before.
	ErrChanged = errors.New("it is another file")
	// ErrGivenUp is wrapped by the error for a server that did not answer, was too busy,
	// or broke the connection, in all attempts.
	ErrGivenUp = errors.New("given up")
	// ErrNoAnswer is wrapped besides if the last attempt got no answer at all.
	ErrNoAnswer = errors.New("no answer")
	// ErrTooLarge is wrapped by the error for a document of too many bytes.
	ErrTooLarge = untrusted.ErrTooLarge
)

// Absent is wrapped by the error for a file that a web site does not have, or does not
// give, and is an fs.ErrNotExist. It is the status code of the answer.
type Absent int

func (Absent) Error() string { return fs.ErrNotExist.Error() }

// Unwrap returns fs.ErrNotExist.
func (Absent) Unwrap() error { return fs.ErrNotExist }

// Request says what of a file is wanted. The zero Request is for the whole file.
type Request struct {
	Offset int64 // bytes at the beginning that are not wanted
	Size   int64 // of the whole file in bytes, 0 if it is not known; one of another size is an ErrChanged
	Fresh  bool  // what a cache has must first be compared with the file of the server
}

// Open opens a file of the mirror. The caller closes it; when ctx ends, so does
// reading. The errors, those of reading too, name the mirror and the file; they wrap
// fs.ErrNotExist if the file does not exist, and ErrChanged if it is another one. The
// result is not for concurrent use.
func (m *Mirror) Open(ctx context.Context, name string, r Request) (io.ReadCloser, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if m.root != nil {
		return openLocal(ctx, m, name, r)
	}
	return openDownload(ctx, m, name, r)
}

func (m *Mirror) failed(name string, err error) error {
	return fmt.Errorf("fetching %s/%s: %w", m.shown, name, untrusted.Error(err))
}

// Document returns a small file as a whole, and as it is now: caches are asked to
// compare theirs. One of more than most bytes is an ErrTooLarge, one that does not
// exist an fs.ErrNotExist.
func (m *Mirror) Document(ctx context.Context, name string, most int64) ([]byte, error) {
	body, err := m.Open(ctx, name, Request{Fresh: true})
	if err != nil {
		return nil, err
	}
	defer body.Close()
	data, err := untrusted.ReadAll(body, most)
	if errors.Is(err, ErrTooLarge) {
		return nil, m.failed(name, err)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return data, nil
}
