package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"golang.org/x/sys/unix"

	"puavo-image-repository/imagerepo/internal/store/s3/awskeys"
	"puavo-image-repository/meta/untrusted"
)

const (
	attempts  = 8        // at each request
	maxAnswer = 8 << 20  // bytes of an answer, unless it is a file
	maxPiece  = 32 << 10 // bytes that are sent at a time
)

// checkEndpoint returns an error for an endpoint that is malformed or unsafe.
func checkEndpoint(endpoint string) error {
	if endpoint == "" {
		return nil
	}
	const example = "give one such as https://s3.example.org"
	u, err := url.Parse(endpoint)
	switch {
	case err != nil || u.Host == "" || u.RawQuery != "" || u.Fragment != "":
		return errors.New("the endpoint of S3 is not the URL of a server; " + example)
	case u.User != nil:
		return errors.New("the endpoint of S3 has a user in it; put access keys into the environment or ~/.aws/credentials")
	case u.Scheme == "https" || u.Scheme == "http" && isLoopback(u.Hostname()):
		return nil
	case u.Scheme == "http":
		return fmt.Errorf("the endpoint %s is not https: others could change what is published on its way; %s", untrusted.Quote(endpoint), example)
	}
	return fmt.Errorf("the endpoint %s is not https; %s", untrusted.Quote(endpoint), example)
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// newClient returns a client, and what closes its idle connections.
func newClient(o Options, keys awskeys.Keys) (client *sdk.Client, idle func()) {
	t := newTransport(o)
	options := sdk.Options{
		Region:     o.Region,
		HTTPClient: &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: keys.ID, SecretAccessKey: keys.Secret, SessionToken: keys.Token, Source: "awskeys"}, nil
		}),
		Retryer:      newRetryer(o),
		UsePathStyle: o.Endpoint != "",
		// Not all servers know the newer checksums. Content-MD5 is sent instead.
		RequestChecksumCalculation: aws.RequestChecksumCalculationWhenRequired,
		ResponseChecksumValidation: aws.ResponseChecksumValidationWhenRequired,
	}
	if o.Endpoint != "" {
		options.BaseEndpoint = aws.String(strings.TrimSuffix(o.Endpoint, "/"))
	}
	return sdk.New(options), t.base.CloseIdleConnections
}

// newRetryer returns the rule by which requests are tried again. The number of attempts is the
// only limit. The library has another, for all requests together, by which a file would fail
// because others did.
func newRetryer(o Options) aws.Retryer {
	return retry.NewStandard(func(r *retry.StandardOptions) {
		r.MaxAttempts = attempts
		if o.tuning.backoff > 0 {
			r.MaxBackoff = o.tuning.backoff
		}
		r.RateLimiter = noLimit{}
	})
}

type noLimit struct{}

func (noLimit) GetToken(context.Context, uint) (func() error, error) {
	return func() error { return nil }, nil
}
func (noLimit) AddTokens(uint) error { return nil }

// transport sends requests at a pace, and bounds their answers.
type transport struct {
	base *http.Transport
	pace func(ctx context.Context, n int) error
}

func newTransport(o Options) *transport {
	stall := o.tuning.stall
	if stall == 0 {
		stall = 2 * time.Minute
	}
	dialer := &net.Dialer{Timeout: 30 * time.Second, Control: bufferLittle}
	return &transport{pace: o.Pace, base: &http.Transport{
		Proxy: http.ProxyFromEnvironment,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			c, err := dialer.DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			return &conn{c, stall}, nil
		},
		TLSHandshakeTimeout:   30 * time.Second,
		ExpectContinueTimeout: time.Second,
		IdleConnTimeout:       min(stall, 90*time.Second),
		MaxIdleConnsPerHost:   max(o.Jobs, 1) + 2,
		DisableCompression:    true,
	}}
}

func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil && t.pace != nil {
		r = r.Clone(r.Context())
		r.Body, r.GetBody = &paced{r.Body, r.Context(), t.pace}, nil
	}
	answer, err := t.base.RoundTrip(r)
	if err == nil && r.URL.Query().Get("x-id") != "GetObject" {
		answer.Body = &bounded{answer.Body, maxAnswer}
	}
	return answer, err
}

// paced is the body of a request.
type paced struct {
	io.ReadCloser
	ctx  context.Context
	pace func(ctx context.Context, n int) error
}

func (p *paced) Read(b []byte) (int, error) {
	n, err := p.ReadCloser.Read(b[:min(len(b), maxPiece)])
	if n > 0 {
		if err := p.pace(p.ctx, n); err != nil {
			return 0, err
		}
	}
	return n, err
}

// bounded is the body of an answer.
type bounded struct {
	io.ReadCloser
	left int64
}

func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, errTooLarge
	}
	return n, err
}

// bufferLittle makes the system hold little that it cannot send yet. On a slow link, megabytes
// would wait in its buffers for minutes, and it would look as if nothing was sent.
func bufferLittle(_, _ string, raw syscall.RawConn) error {
	err := raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, 128<<10) // it works without, too
	})
	return err
}

// conn is a connection that fails when nothing is sent or received for some time.
type conn struct {
	net.Conn
	stall time.Duration
}

func (c *conn) Read(p []byte) (int, error) {
	if err := c.SetReadDeadline(time.Now().Add(c.stall)); err != nil {
		return 0, err
	}
	return c.Conn.Read(p)
}

// Write also moves the deadline of the Read that waits for the answer.
func (c *conn) Write(p []byte) (int, error) {
	if err := c.SetDeadline(time.Now().Add(c.stall)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}
