package s3

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"

	"puavo-image-repository/imagerepo/internal/pool"
	"puavo-image-repository/imagerepo/internal/store"
	"puavo-image-repository/testdata"
)

// A store does not see what is outside the prefix, and errors name the destination.
func TestPrefix(t *testing.T) {
	t.Parallel()
	s := newBucket(t)
	ctx := t.Context()
	other := opened(t, Options{Bucket: "bucket", Endpoint: s.options.Endpoint, Region: "us-east-1"})
	for _, name := range []string{"index.json", "some/prefix2/x"} {
		if err := other.Write(ctx, name, nil); err != nil {
			t.Fatal(err)
		}
	}
	for what, err := range map[string]error{
		"Stat": second(s.Stat(ctx, "index.json")), "Open": second(s.Open(ctx, "index.json")),
	} {
		if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "s3://bucket/some/prefix?") || !strings.Contains(err.Error(), "index.json") {
			t.Errorf("%s: %v", what, err)
		}
	}
	if files, err := s.List(ctx); err != nil || len(files) > 0 {
		t.Errorf("%v, %v", files, err)
	}
	if err := other.Write(ctx, "some/prefix/a", []byte("text")); err != nil || string(content(t, s, "a")) != "text" {
		t.Errorf("inside: %v", err)
	}
}

func second[T any](_ T, err error) error { return err }

// A list can have several pages, is sorted, and leaves out what is not a file.
func TestList(t *testing.T) {
	t.Parallel()
	server := testdata.NewS3(t)
	s := opened(t, bucketOf(server))
	var names []string
	for i := range 1203 {
		names = append(names, fmt.Sprintf("meta/%04d.json", i))
	}
	names = append(names, ".published.json", "a/b/c", "meta.json")
	other := opened(t, Options{Bucket: "bucket", Endpoint: s.options.Endpoint, Region: "us-east-1"})
	in := &sdk.PutObjectInput{Bucket: aws.String("bucket"), Key: aws.String("some/prefix/folder/"), Body: strings.NewReader("")}
	if _, err := other.client.PutObject(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	keys := []string{"some/prefix/.hidden", "some/prefix/.publish/x", "some/prefix0", "some/other"}
	for _, name := range names {
		keys = append(keys, "some/prefix/"+name)
	}
	for _, key := range keys {
		server.Put("bucket", key)
	}
	files, err := s.List(t.Context())
	if err != nil || len(files) != len(names) {
		t.Fatalf("%d files of %d, %v", len(files), len(names), err)
	}
	seen := make(map[string]bool)
	for i, f := range files {
		seen[f.Name] = true
		if i > 0 && files[i-1].Name >= f.Name {
			t.Errorf("%s before %s", files[i-1].Name, f.Name)
		}
	}
	for _, name := range names {
		if !seen[name] {
			t.Errorf("%s is missing", name)
		}
	}
	all, err := other.List(t.Context())
	if err != nil || len(all) != len(names)+1 { // two more, and .published.json belongs to the root only
		t.Errorf("%d files in the bucket, %v", len(all), err)
	}
}

// Of several calls that create a document, one succeeds, and the others leave nothing.
func TestCreate(t *testing.T) {
	t.Parallel()
	s := newBucket(t)
	var made atomic.Pointer[string]
	var count atomic.Int32
	err := pool.Each(t.Context(), 8, []string{"a", "b", "c", "d", "e", "f", "g", "h"}, func(ctx context.Context, text string) error {
		err := s.Create(ctx, ".publish.lock", []byte(text))
		if errors.Is(err, fs.ErrExist) {
			return nil
		}
		made.Store(&text)
		count.Add(1)
		return err
	})
	if err != nil || count.Load() != 1 {
		t.Fatalf("%d created it, %v", count.Load(), err)
	}
	if got := content(t, s, ".publish.lock"); string(got) != *made.Load() {
		t.Errorf("it has %q, and %q was created", got, *made.Load())
	}
}

// resigned signs a request as the client does, after it was changed.
func resigned(r *http.Request) {
	at, _ := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
	keys := aws.Credentials{AccessKeyID: testKeys.ID, SecretAccessKey: testKeys.Secret}
	plain := r.Clone(r.Context())
	plain.Header = http.Header{}
	for name, values := range r.Header {
		if strings.HasPrefix(name, "X-Amz-") || strings.HasPrefix(name, "Content-") || name == "Cache-Control" {
			plain.Header[name] = values
		}
	}
	plain.URL.Scheme, plain.URL.Host = "http", r.Host
	digest := r.Header.Get("X-Amz-Content-Sha256")
	if err := v4.NewSigner().SignHTTP(r.Context(), keys, plain, digest, "s3", "us-east-1", at, func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true }); err != nil {
		panic(err)
	}
	r.Header.Set("Authorization", plain.Header.Get("Authorization"))
}

// Create at servers that lack what it needs, and where answers are lost.
func TestCreateElsewhere(t *testing.T) {
	t.Parallel()
	server := testdata.NewS3(t)
	conditional := func(r *http.Request) bool { return r.Header.Get("If-None-Match") != "" }
	var mu sync.Mutex
	var conflicts, lost, late int
	answer := func(w http.ResponseWriter, status int, code string) bool {
		w.WriteHeader(status)
		fmt.Fprintf(w, "<Error><Code>%s</Code><Message>m</Message></Error>", code)
		return true
	}
	for _, c := range []struct {
		name   string
		change func(w http.ResponseWriter, r *http.Request) bool
		err    error
		left   string // "-" is no file
	}{
		{"obeys", func(http.ResponseWriter, *http.Request) bool { return false }, nil, "text"},
		{"ignores the header", func(w http.ResponseWriter, r *http.Request) bool {
			if conditional(r) {
				r.Header.Del("If-None-Match")
				resigned(r)
			}
			return false
		}, store.ErrIgnored, "-"},
		{"does not know the header", func(w http.ResponseWriter, r *http.Request) bool {
			return conditional(r) && answer(w, http.StatusNotImplemented, "NotImplemented")
		}, store.ErrIgnored, "-"},
		{"conflicts", func(w http.ResponseWriter, r *http.Request) bool {
			mu.Lock()
			defer mu.Unlock()
			if conditional(r) {
				conflicts++
			}
			return conditional(r) && conflicts < 3 && answer(w, http.StatusConflict, "ConditionalRequestConflict")
		}, nil, "text"},
		{"conflicts always", func(w http.ResponseWriter, r *http.Request) bool {
			return conditional(r) && answer(w, http.StatusConflict, "ConditionalRequestConflict")
		}, fs.ErrExist, "-"},
		{"loses the answer", func(w http.ResponseWriter, r *http.Request) bool {
			mu.Lock()
			defer mu.Unlock()
			if !conditional(r) {
				return false
			}
			if lost++; lost > 1 {
				return false
			}
			forward(t, server.URL, r)
			return answer(w, http.StatusInternalServerError, "InternalError")
		}, nil, "text"},
		{"another is faster", func(w http.ResponseWriter, r *http.Request) bool {
			mu.Lock()
			defer mu.Unlock()
			if late++; r.Method == http.MethodPut && late > 1 && late < 4 {
				o := bucketOf(server)
				o.Prefix = "another_is_faster"
				if err := newStore(o, testKeys).Write(t.Context(), "lock", []byte("theirs")); err != nil {
					t.Error(err)
				}
			}
			return false
		}, fs.ErrExist, "theirs"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := bucketOf(server)
			o.Prefix = strings.ReplaceAll(c.name, " ", "_")
			o.Endpoint = proxy(t, server.URL, c.change)
			o.tuning.backoff = time.Millisecond
			s := opened(t, o)
			err := s.Create(t.Context(), "lock", []byte("text"))
			if !errors.Is(err, c.err) || (err == nil) != (c.err == nil) {
				t.Errorf("%v; want %v", err, c.err)
			}
			if _, err := s.Stat(t.Context(), "lock"); (c.left == "-") != errors.Is(err, fs.ErrNotExist) {
				t.Errorf("afterwards: %v; want %q", err, c.left)
			} else if err == nil && string(content(t, s, "lock")) != c.left {
				t.Errorf("afterwards it is not %q", c.left)
			}
		})
	}
}

// Replace compares and replaces in one step, even where an answer is lost. A server that does
// not know how replaces what was written in between.
func TestReplaceElsewhere(t *testing.T) {
	t.Parallel()
	server := testdata.NewS3(t)
	answer := func(w http.ResponseWriter, status int, code string) bool {
		w.WriteHeader(status)
		fmt.Fprintf(w, "<Error><Code>%s</Code><Message>m</Message></Error>", code)
		return true
	}
	for _, c := range []struct {
		name string
		// change sees the requests that write; before is how many came before.
		change func(s *Store, w http.ResponseWriter, r *http.Request, before int) bool
		err    error
		left   string
	}{
		{"another is faster", func(s *Store, _ http.ResponseWriter, _ *http.Request, _ int) bool {
			s.Write(t.Context(), "lock", []byte("theirs"))
			return false
		}, store.ErrOther, "theirs"},
		{"it is removed", func(s *Store, _ http.ResponseWriter, _ *http.Request, _ int) bool {
			s.Remove(t.Context(), "lock")
			return false
		}, store.ErrOther, ""},
		{"ignores the header", func(s *Store, _ http.ResponseWriter, r *http.Request, _ int) bool {
			s.Write(t.Context(), "lock", []byte("theirs"))
			r.Header.Del("If-Match")
			resigned(r)
			return false
		}, nil, "new"},
		{"does not know the header", func(_ *Store, w http.ResponseWriter, r *http.Request, _ int) bool {
			return r.Header.Get("If-Match") != "" && answer(w, http.StatusNotImplemented, "NotImplemented")
		}, nil, "new"},
		{"conflicts", func(_ *Store, w http.ResponseWriter, _ *http.Request, before int) bool {
			return before < 2 && answer(w, http.StatusConflict, "ConditionalRequestConflict")
		}, nil, "new"},
		{"conflicts always", func(_ *Store, w http.ResponseWriter, _ *http.Request, _ int) bool {
			return answer(w, http.StatusConflict, "ConditionalRequestConflict")
		}, store.ErrOther, "old"},
		{"loses the answer", func(_ *Store, w http.ResponseWriter, r *http.Request, before int) bool {
			if before == 0 {
				forward(t, server.URL, r)
			}
			return before == 0 && answer(w, http.StatusInternalServerError, "InternalError")
		}, nil, "new"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := bucketOf(server)
			o.Prefix = strings.ReplaceAll(c.name, " ", "_")
			direct := opened(t, o)
			if err := direct.Write(t.Context(), "lock", []byte("old")); err != nil {
				t.Fatal(err)
			}
			var writes atomic.Int32
			o.Endpoint = proxy(t, server.URL, func(w http.ResponseWriter, r *http.Request) bool {
				return r.Method == http.MethodPut && c.change(direct, w, r, int(writes.Add(1))-1)
			})
			o.tuning.backoff = time.Millisecond
			err := opened(t, o).Replace(t.Context(), "lock", []byte("old"), []byte("new"))
			if !errors.Is(err, c.err) || (err == nil) != (c.err == nil) {
				t.Errorf("%v; want %v", err, c.err)
			}
			if _, err := direct.Stat(t.Context(), "lock"); (c.left == "") != errors.Is(err, fs.ErrNotExist) {
				t.Errorf("afterwards: %v; want %q", err, c.left)
			} else if err == nil && string(content(t, direct, "lock")) != c.left {
				t.Errorf("afterwards it is not %q", c.left)
			}
		})
	}
}

// forward sends a request to a server, and drops the answer.
func forward(t *testing.T, server string, r *http.Request) {
	again, err := http.NewRequestWithContext(r.Context(), r.Method, server+r.URL.RequestURI(), r.Body)
	if err != nil {
		t.Error(err)
		return
	}
	again.Header, again.Host, again.ContentLength = r.Header.Clone(), r.Host, r.ContentLength
	answer, err := http.DefaultClient.Do(again)
	if err != nil {
		t.Error(err)
		return
	}
	answer.Body.Close()
}

// A plain client gets the headers that our own server gives, and the digest.
func TestHeaders(t *testing.T) {
	t.Parallel()
	s := newBucket(t)
	ctx := t.Context()
	_, err := s.client.PutBucketPolicy(ctx, &sdk.PutBucketPolicyInput{Bucket: aws.String("bucket"), Policy: aws.String(
		`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::bucket/*"}]}`)})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, kind, cached string }{
		{image, "application/octet-stream", "public, max-age=86400"},
		{"rdiffs/a.rdiff", "application/octet-stream", "public, max-age=86400"},
		{"torrents/a.torrent", "application/x-bittorrent", "public, max-age=86400"},
		{"index.json", "application/json", "no-cache"},
		{"index.html", "text/html; charset=utf-8", "no-cache"},
		{"CKSUMS", "text/plain; charset=utf-8", "no-cache"},
		{".published.json", "application/json", "no-cache"},
	} {
		p, data := payload(t, c.name, 1000, 1)
		if strings.Contains(c.cached, "max-age") {
			err = publish(ctx, s, p)
		} else {
			err = s.Write(ctx, c.name, data)
		}
		if err != nil {
			t.Fatal(err)
		}
		answer, err := http.Get(s.options.Endpoint + "/bucket/some/prefix/" + c.name)
		if err != nil {
			t.Fatal(err)
		}
		var got bytes.Buffer
		got.ReadFrom(answer.Body)
		answer.Body.Close()
		h := answer.Header
		if answer.StatusCode != http.StatusOK || !bytes.Equal(got.Bytes(), data) || h.Get("Content-Type") != c.kind || h.Get("Cache-Control") != c.cached ||
			h.Get("X-Amz-Meta-Sha256") != fmt.Sprintf("%x", sha256.Sum256(data)) {
			t.Errorf("%s: %s, %d bytes, %v", c.name, answer.Status, got.Len(), h)
		}
	}
}
