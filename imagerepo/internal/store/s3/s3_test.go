package s3

import (
	"bytes"
	"context"
	"crypto/sha256"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo/internal/store"
	"puavo-image-repository/imagerepo/internal/store/s3/awskeys"
	"puavo-image-repository/testdata"
)

const (
	image = "puavo-os-amxa-buster-2022-01-20-173248-amd64.img"
	mib   = 1 << 20
)

var testKeys = awskeys.Keys{ID: testdata.S3Key, Secret: testdata.S3Secret, From: "the test"}

// bucketOf returns the options for a new bucket of a server, with small parts and short
// pauses.
func bucketOf(s *testdata.S3) Options {
	s.Bucket("bucket")
	return Options{
		Bucket: "bucket", Prefix: "some/prefix", Endpoint: s.URL, Region: "us-east-1", Jobs: 2, PartSize: leastPart,
		tuning: tuning{backoff: 100 * time.Millisecond, stall: 20 * time.Second},
	}
}

// opened returns the store of a bucket, with the keys of the test.
func opened(t *testing.T, o Options) *Store {
	t.Helper()
	s := newStore(o, testKeys)
	t.Cleanup(func() { s.Close() })
	if err := s.look(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

// newBucket returns the store of a bucket on a server of its own.
func newBucket(t *testing.T) *Store {
	t.Helper()
	return opened(t, bucketOf(testdata.NewS3(t)))
}

// payload returns payload of size random bytes, and the bytes.
func payload(t *testing.T, name string, size int, seed byte) (store.Content, []byte) {
	t.Helper()
	data := make([]byte, size)
	rand.NewChaCha8([32]byte{seed}).Read(data)
	file := filepath.Join(t.TempDir(), "payload")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return store.Content{
		Name: name, Size: int64(size), SHA256: cksum.Digest256(sha256.Sum256(data)),
		Open: func() (*os.File, error) { return os.Open(file) },
	}, data
}

// counted counts what Done is called with.
type counted struct {
	mu          sync.Mutex
	sent, there int64
}

func (c *counted) of(content store.Content) store.Content {
	content.Done = func(n int64, sent bool) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if sent {
			c.sent += n
		} else {
			c.there += n
		}
	}
	return content
}

// proxy returns the URL of a proxy in front of a server. change may change a request, or
// answer it and return true.
func proxy(t *testing.T, server string, change func(http.ResponseWriter, *http.Request) bool) string {
	t.Helper()
	u, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	forward := &httputil.ReverseProxy{
		Rewrite:  func(r *httputil.ProxyRequest) { r.Out.URL.Scheme, r.Out.URL.Host = u.Scheme, u.Host }, // the Host is signed
		ErrorLog: nil,
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) {
			w.WriteHeader(http.StatusBadGateway)
		},
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !change(w, r) {
			forward.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// parts counts the requests through a proxy that send parts.
type parts struct {
	mu      sync.Mutex
	numbers []string
}

func (p *parts) count(_ http.ResponseWriter, r *http.Request) bool {
	if number := r.URL.Query().Get("partNumber"); number != "" && r.Method == http.MethodPut {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.numbers = append(p.numbers, number)
	}
	return false
}

func content(t *testing.T, s *Store, name string) []byte {
	t.Helper()
	r, err := s.Open(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var b bytes.Buffer
	if _, err := b.ReadFrom(r); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// publish stages and releases payload.
func publish(ctx context.Context, s *Store, c store.Content) error {
	if err := s.Stage(ctx, c); err != nil {
		return err
	}
	return s.Release(ctx, c)
}

// Open says what is wrong with the options, the keys, or the bucket, without secrets.
func TestOpen(t *testing.T) {
	server := testdata.NewS3(t)
	server.Bucket("bucket")
	elsewhere := proxy(t, server.URL, func(w http.ResponseWriter, r *http.Request) bool {
		w.Header().Set("X-Amz-Bucket-Region", "eu-north-1")
		w.Header().Set("Location", "http://127.0.0.1:1/")
		w.WriteHeader(http.StatusMovedPermanently)
		return true
	})
	echo := proxy(t, server.URL, func(w http.ResponseWriter, r *http.Request) bool {
		w.WriteHeader(http.StatusForbidden)
		w.Write([]byte("<Error><Code>InvalidToken</Code><Message>\u202e" + r.Header.Get("X-Amz-Security-Token") + "</Message></Error>"))
		return true
	})
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	keys := map[string]string{"AWS_ACCESS_KEY_ID": testdata.S3Key, "AWS_SECRET_ACCESS_KEY": testdata.S3Secret}
	for _, c := range []struct {
		name    string
		options Options
		env     map[string]string // over keys
		ctx     context.Context
		err     string // "" is none
	}{
		{name: "the bucket", options: Options{Bucket: "bucket", Endpoint: server.URL}},
		{name: "a prefix", options: Options{Bucket: "bucket", Prefix: "a/b", Endpoint: server.URL + "/", Region: "us-east-1"}},
		{name: "no keys", options: Options{Bucket: "bucket", Endpoint: server.URL}, env: map[string]string{"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""},
			err: ".aws/credentials [default]"},
		{name: "wrong secret", options: Options{Bucket: "bucket", Endpoint: server.URL}, env: map[string]string{"AWS_SECRET_ACCESS_KEY": "another+secret"},
			err: "check the access keys of the environment"},
		{name: "wrong key", options: Options{Bucket: "bucket", Endpoint: server.URL}, env: map[string]string{"AWS_ACCESS_KEY_ID": "AKIAOTHER"},
			err: "check the access keys of the environment"},
		{name: "no bucket", options: Options{Bucket: "missing", Endpoint: server.URL}, err: "create the bucket"},
		{name: "wrong region", options: Options{Bucket: "bucket", Endpoint: server.URL, Region: "eu-west-1"}, err: "the region eu-west-1 is not that of the bucket"},
		{name: "region by a redirect", options: Options{Bucket: "bucket", Endpoint: elsewhere}, err: "the region us-east-1 is not that of the bucket: give ?region=eu-north-1"},
		{name: "the server returns the token", options: Options{Bucket: "bucket", Endpoint: echo}, env: map[string]string{"AWS_SESSION_TOKEN": "token-secret"}, err: "***"},
		{name: "no server", options: Options{Bucket: "bucket", Endpoint: "http://127.0.0.1:1"}, err: "(8 times); check the network and the endpoint"},
		{name: "no region", options: Options{Bucket: "bucket"}, err: "add ?region=REGION"},
		{name: "bad bucket", options: Options{Bucket: "a/b", Region: "x"}, err: "not the name of a bucket"},
		{name: "bad prefix", options: Options{Bucket: "bucket", Prefix: "/a", Region: "x"}, err: "the prefix in the bucket"},
		{name: "bad endpoint", options: Options{Bucket: "bucket", Endpoint: "http://192.0.2.1"}, err: "is not https"},
		{name: "cancelled", options: Options{Bucket: "bucket", Endpoint: server.URL}, ctx: ended, err: context.Canceled.Error()},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, name := range []string{"AWS_SESSION_TOKEN", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"} {
				t.Setenv(name, "")
			}
			t.Setenv("HOME", t.TempDir())
			for _, env := range []map[string]string{keys, c.env} {
				for name, value := range env {
					t.Setenv(name, value)
				}
			}
			ctx := t.Context()
			if c.ctx != nil {
				ctx = c.ctx
			}
			c.options.tuning.backoff = time.Millisecond
			s, err := Open(ctx, c.options)
			if err == nil {
				defer s.Close()
			}
			if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Fatalf("%v; want %q", err, c.err)
			}
			if err == nil {
				return
			}
			for _, secret := range []string{testdata.S3Secret, "another+secret", "token-secret", "\u202e"} {
				if strings.Contains(err.Error(), secret) {
					t.Errorf("%q has %q", err, secret)
				}
			}
		})
	}
}

func TestCheckEndpoint(t *testing.T) {
	for _, c := range []struct{ endpoint, err string }{
		{"", ""},
		{"https://s3.example.org", ""},
		{"https://s3.example.org:9000/path", ""},
		{"http://127.0.0.1:7070", ""},
		{"http://localhost", ""},
		{"http://[::1]:7070", ""},
		{"http://s3.example.org", "others could change"},
		{"http://localhost.example.org", "others could change"},
		{"ftp://s3.example.org", "not https"},
		{"s3.example.org", "not the URL"},
		{"https://", "not the URL"},
		{"https://a\x7f", "not the URL"},
		{"https://s3.example.org?x=y", "not the URL"},
		{"https://s3.example.org#x", "not the URL"},
		{"https://key:secret@s3.example.org", "has a user"},
	} {
		err := checkEndpoint(c.endpoint)
		if (err == nil) != (c.err == "") || err != nil && (!strings.Contains(err.Error(), c.err) || strings.Contains(err.Error(), "secret")) {
			t.Errorf("%q: %v; want %q", c.endpoint, err, c.err)
		}
	}
}

func TestString(t *testing.T) {
	for _, c := range []struct {
		options Options
		want    string
	}{
		{Options{Bucket: "b", Region: "r"}, "s3://b?region=r"},
		{Options{Bucket: "b", Prefix: "p/q r", Region: "r"}, "s3://b/p/q%20r?region=r"},
		{Options{Bucket: "b", Prefix: "p", Endpoint: "https://e/&x", Region: "us-east-1"}, "s3://b/p?endpoint=https://e/%26x"},
	} {
		if got := newStore(c.options, testKeys).String(); got != c.want {
			t.Errorf("%s; want %s", got, c.want)
		}
	}
}

// A file has at most 10,000 parts, and a part the least and the most that S3 takes.
func TestPartSize(t *testing.T) {
	const gib, tib = 1 << 30, 1 << 40
	for _, c := range []struct{ option, size, part, count int64 }{
		{0, 0, 16 * mib, 1},
		{0, 1, 16 * mib, 1},
		{0, 16 * mib, 16 * mib, 1},
		{0, 16*mib + 1, 16 * mib, 2},
		{0, 10 * gib, 16 * mib, 640},
		{0, 160_000 * mib, 16 * mib, 10_000},
		{0, 160_000*mib + 1, 17 * mib, 9412},
		{0, 5 * tib, 525 * mib, 9987},
		{1, 50_000 * mib, 5 * mib, 10_000},
		{1, 50_000*mib + 1, 6 * mib, 8334},
		{64 * mib, 1 * gib, 64 * mib, 16},
	} {
		s := &Store{options: Options{PartSize: c.option}}
		part := s.partSize(c.size)
		if count := countOf(c.size, part); part != c.part || count != c.count || count > maxParts {
			t.Errorf("%d bytes with parts of %d: %d parts of %d; want %d of %d", c.size, c.option, count, part, c.count, c.part)
		}
		if got := s.Requests(c.size); got != c.count+6 {
			t.Errorf("%d bytes take %d requests", c.size, got)
		}
	}
}
