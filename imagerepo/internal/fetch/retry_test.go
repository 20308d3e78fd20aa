package fetch

import (
	"bytes"
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net/http"
	"strconv"
	"testing"
	"testing/synctest"
	"time"
)

// answers are the answers of a server, one a request.
type answers []func(req *http.Request) (*http.Response, error)

// RoundTrip gives the first answer that is left; the last is given for ever.
func (a *answers) RoundTrip(req *http.Request) (*http.Response, error) {
	next := (*a)[0]
	if len(*a) > 1 {
		*a = (*a)[1:]
	}
	return next(req)
}

// Before another attempt there is a pause, which grows, is never longer than it may
// be, and is left out after a connection that brought something.
//
//nolint:bodyclose // the download closes the bodies of these answers
func TestPauses(t *testing.T) {
	answer := func(code int, body func() io.Reader, header ...string) func(*http.Request) (*http.Response, error) {
		return func(req *http.Request) (*http.Response, error) {
			h := make(http.Header)
			for i := 0; i < len(header); i += 2 {
				h.Set(header[i], header[i+1])
			}
			return &http.Response{Status: http.StatusText(code), StatusCode: code, Header: h, Body: io.NopCloser(body()), ContentLength: -1, Request: req}, nil
		}
	}
	of := func(data []byte) func() io.Reader { return func() io.Reader { return bytes.NewReader(data) } }
	empty := func(code int, header ...string) func(*http.Request) (*http.Response, error) {
		return answer(code, of(nil), header...)
	}
	unreachable := func(*http.Request) (*http.Response, error) { return nil, errors.New("no route to host") }
	untrusted := func(*http.Request) (*http.Response, error) {
		return nil, &tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}
	}
	whole := answer(200, of(content))
	breaks := func(after int) func(*http.Request) (*http.Response, error) {
		return answer(200, func() io.Reader { return io.MultiReader(bytes.NewReader(content[:after]), broken{}) })
	}
	rest := func(from, end int) func(*http.Request) (*http.Response, error) { // breaks before the end of the file
		body := func() io.Reader {
			if end == len(content) {
				return bytes.NewReader(content[from:])
			}
			return io.MultiReader(bytes.NewReader(content[from:end]), broken{})
		}
		return answer(206, body, "Content-Range", "bytes "+strconv.Itoa(from)+"-"+strconv.Itoa(len(content)-1)+"/"+strconv.Itoa(len(content)))
	}
	for _, c := range []struct {
		name     string
		answers  answers
		min, max time.Duration // of all pauses
		err      error
		longest  time.Duration // of one pause; 0 for 20 s
	}{
		{"none", answers{whole}, 0, 0, nil, 0},
		{"busy", answers{empty(500), whole}, time.Second, 2 * time.Second, nil, 0},
		{"busy twice", answers{empty(500), empty(503), whole}, 3 * time.Second, 6 * time.Second, nil, 0},
		{"busy, then unreachable", answers{empty(429), unreachable, whole}, 3 * time.Second, 6 * time.Second, nil, 0},
		{"told when", answers{empty(503, "Retry-After", "7"), whole}, 7 * time.Second, 7 * time.Second, nil, 0},
		{"told at once", answers{empty(429, "Retry-After", "0"), whole}, 0, 0, nil, 0},
		{"told a year", answers{empty(503, "Retry-After", "31536000"), whole}, 20 * time.Second, 20 * time.Second, nil, 0},
		{"told too much for a clock", answers{empty(503, "Retry-After", "9223372036854775807"), whole}, 20 * time.Second, 20 * time.Second, nil, 0},
		{"told less than nothing", answers{empty(503, "Retry-After", "-1"), whole}, time.Second, 2 * time.Second, nil, 0},
		{"told a date", answers{empty(503, "Retry-After", "Sat, 01 Jan 2000 00:00:09 GMT"), whole}, 9 * time.Second, 9 * time.Second, nil, 0}, // the clock of the test begins there
		{"told a date that is past", answers{empty(503, "Retry-After", "Fri, 31 Dec 1999 00:00:00 GMT"), whole}, 0, 0, nil, 0},
		{"told garbage", answers{empty(503, "Retry-After", "soon"), whole}, time.Second, 2 * time.Second, nil, 0},
		{"told, but not busy", answers{empty(500, "Retry-After", "7"), whole}, time.Second, 2 * time.Second, nil, 0},
		{"breaks midway", answers{breaks(100_000), rest(100_000, len(content))}, 0, 0, nil, 0},
		{"breaks soon", answers{breaks(1000), rest(1000, len(content))}, 0, 0, nil, 0},
		{"breaks soon, then is busy", answers{breaks(1000), empty(500), rest(1000, len(content))}, 2 * time.Second, 4 * time.Second, nil, 0},
		{"breaks soon, twice", answers{breaks(1000), breaks(1000), rest(1000, len(content))}, time.Second, 2 * time.Second, nil, 0},
		{"busy for ever", answers{empty(500)}, 6 * time.Second, 12 * time.Second, ErrGivenUp, 0},
		{"unreachable for ever", answers{unreachable}, 6 * time.Second, 12 * time.Second, ErrNoAnswer, 0},
		{"busy or broken for ever", answers{empty(500), breaks(0), empty(500), breaks(0), whole}, 5 * time.Second, 10 * time.Second, ErrGivenUp, 0},
		{"not implemented", answers{empty(501), whole}, 0, 0, ErrGivenUp, 0},
		{"busy twice, and impatient", answers{empty(500), empty(500), whole}, 2 * time.Second, 2 * time.Second, nil, time.Second},
		{"hardly anything for ever", answers{breaks(1000), rest(1000, 2000), rest(2000, 3000), rest(3000, 4000), rest(4000, len(content))}, 3 * time.Second, 6 * time.Second, ErrGivenUp, 0},
		{"unknown certificate", answers{untrusted, whole}, 0, 0, ErrNoAnswer, 0},
		{"redirects for ever", answers{empty(302, "Location", "/again")}, 0, 0, ErrGivenUp, 0},
		{"redirect to another protocol", answers{empty(302, "Location", "ftp://example.org/file"), whole}, 0, 0, ErrGivenUp, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m, err := Open("http://images.example.org", Options{Patience: Patience{Attempts: 4, Wait: time.Second, Longest: cmp.Or(c.longest, 20*time.Second)}})
				if err != nil {
					t.Fatal(err)
				}
				m.http.Transport = &c.answers
				start := time.Now()
				data, err := get(t.Context(), m, Request{})
				if !errors.Is(err, c.err) || err == nil && !bytes.Equal(data, content) {
					t.Errorf("%d bytes, %v; want %v", len(data), err, c.err)
				}
				if took := time.Since(start); took < c.min || took > c.max {
					t.Errorf("the pauses are %v, want %v to %v", took, c.min, c.max)
				}
			})
		})
	}
}

// broken is a connection that is reset.
type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errors.New("connection reset") }
