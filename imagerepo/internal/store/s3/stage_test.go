package s3

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/service/s3"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo/internal/store"
	"puavo-image-repository/testdata"
)

// Payload of any size is invisible until it is released, which can be done twice, and by
// another process.
func TestPublish(t *testing.T) {
	t.Parallel()
	s := newBucket(t)
	ctx := t.Context()
	for i, size := range []int{0, 1, leastPart - 1, leastPart, leastPart + 1, 3*leastPart + 7, 17} {
		var done counted
		c, data := payload(t, image, size, byte(i))
		if err := s.Stage(ctx, done.of(c)); err != nil {
			t.Fatalf("%d bytes: %v", size, err)
		}
		if done.sent != int64(size) || done.there != 0 {
			t.Errorf("%d bytes: %d sent, %d there", size, done.sent, done.there)
		}
		if file, err := s.Stat(ctx, image); i == 0 != errors.Is(err, fs.ErrNotExist) || err == nil && file.Size == int64(size) {
			t.Errorf("%d bytes: before: %+v, %v", size, file, err)
		}
		other := opened(t, s.options)
		for range 2 {
			if err := other.Release(ctx, c); err != nil {
				t.Fatalf("%d bytes: %v", size, err)
			}
		}
		if !bytes.Equal(content(t, s, image), data) {
			t.Errorf("%d bytes: the object is another", size)
		}
		if left, err := s.uploads(ctx, ""); err != nil || len(left) > 0 {
			t.Errorf("%d bytes: uploads left: %v, %v", size, left, err)
		}
	}
}

// What is not staged, or only in part, is not released.
func TestReleaseRefused(t *testing.T) {
	t.Parallel()
	s := newBucket(t)
	ctx := t.Context()
	c, _ := payload(t, image, 2*leastPart+1, 1)
	same, _ := payload(t, image, 2*leastPart+1, 2)
	for _, step := range []struct {
		name  string
		do    func() error
		of    store.Content
		is    error
		whole bool
	}{
		{"nothing", func() error { return nil }, c, fs.ErrNotExist, false},
		{"two of three parts", func() error { return put(s, begun(s, c), c, 1, 2) }, c, fs.ErrNotExist, false},
		{"a gap", func() error { return put(s, begun(s, c), c, 2, 3) }, c, fs.ErrNotExist, false},
		{"all of another upload", func() error { return put(s, begun(s, c), c, 1, 2, 3) }, c, nil, true},
		{"another of that size", func() error { return nil }, same, fs.ErrNotExist, true},
	} {
		if err := step.do(); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		if err := s.Release(ctx, step.of); !errors.Is(err, step.is) || err != nil && !strings.Contains(err.Error(), "publish again") {
			t.Errorf("%s: %v", step.name, err)
		}
		if _, err := s.Stat(ctx, image); (err == nil) != step.whole {
			t.Errorf("%s: afterwards %v", step.name, err)
		}
	}
}

// begun begins an upload for a file.
func begun(s *Store, c store.Content) upload {
	up, err := s.begin(context.Background(), c)
	if err != nil {
		panic(err)
	}
	return up
}

// put sends some parts of a file.
func put(s *Store, up upload, c store.Content, numbers ...int64) error {
	f, err := c.Open()
	if err != nil {
		return err
	}
	defer f.Close()
	for _, n := range numbers {
		at := (n - 1) * leastPart
		data := make([]byte, min(leastPart, c.Size-at))
		if _, err := f.ReadAt(data, at); err != nil {
			return err
		}
		if err := putData(s, up, int32(n), data); err != nil {
			return err
		}
	}
	return nil
}

func putData(s *Store, up upload, number int32, data []byte) error {
	_, err := s.client.UploadPart(context.Background(), &sdk.UploadPartInput{
		Bucket: &s.options.Bucket, Key: &up.key, UploadId: &up.id, PartNumber: &number, Body: bytes.NewReader(data)})
	return err
}

// What is there is verified by its content, and only what is missing is sent.
func TestResume(t *testing.T) {
	t.Parallel()
	server := testdata.NewS3(t)
	const size = 2*leastPart + 3
	c, data := payload(t, "rdiffs/a.rdiff", size, 1)
	old, _ := payload(t, "rdiffs/a.rdiff", size, 2)
	shorter, _ := payload(t, "rdiffs/a.rdiff", leastPart+3, 1)
	longer, _ := payload(t, "rdiffs/a.rdiff", size+leastPart, 1)
	damaged := bytes.Clone(data[:leastPart])
	damaged[leastPart/2] ^= 1
	all := []string{"1", "2", "3"}
	rows := []struct {
		name  string
		begin func(s *Store) error
		want  []string // parts that are sent
	}{
		{"nothing", func(*Store) error { return nil }, all},
		{"an empty upload", func(s *Store) error { begun(s, c); return nil }, all},
		{"the first parts", func(s *Store) error { return put(s, begun(s, c), c, 1, 2) }, []string{"3"}},
		{"some parts", func(s *Store) error { return put(s, begun(s, c), c, 3) }, []string{"1", "2"}},
		{"all parts", func(s *Store) error { return put(s, begun(s, c), c, 1, 2, 3) }, nil},
		{"the newest of two", func(s *Store) error {
			err := put(s, begun(s, c), c, 1)
			time.Sleep(1100 * time.Millisecond) // the server's times are in seconds
			return errors.Join(err, put(s, begun(s, c), c, 1, 2))
		}, []string{"3"}},
		{"a damaged part", func(s *Store) error {
			up := begun(s, c)
			return errors.Join(putData(s, up, 1, damaged), put(s, up, c, 2))
		}, all},
		{"another file", func(s *Store) error { return put(s, begun(s, old), old, 1, 2) }, all},
		{"a shorter file", func(s *Store) error { return put(s, begun(s, shorter), shorter, 1, 2) }, all},
		{"a longer file", func(s *Store) error { return put(s, begun(s, longer), longer, 1, 4) }, all},
		{"another key", func(s *Store) error {
			more := c
			more.Name += ".rdiff"
			return put(s, begun(s, more), c, 1, 2)
		}, all},
	}
	for _, r := range rows[:testdata.Scale(len(rows), 7)] {
		t.Run(r.name, func(t *testing.T) {
			o := bucketOf(server)
			o.Prefix = strings.ReplaceAll(r.name, " ", "_")
			if err := r.begin(opened(t, o)); err != nil {
				t.Fatal(err)
			}
			var sent parts
			o.Endpoint = proxy(t, server.URL, sent.count)
			s := opened(t, o)
			var done counted
			if err := publish(t.Context(), s, done.of(c)); err != nil {
				t.Fatal(err)
			}
			slices.Sort(sent.numbers)
			if r.name == "a damaged part" || r.name == "another file" { // the third may have been sent to the first upload, too
				sent.numbers = slices.Compact(sent.numbers)
			}
			if !slices.Equal(sent.numbers, r.want) {
				t.Errorf("parts %v were sent; want %v", sent.numbers, r.want)
			}
			if !bytes.Equal(content(t, s, c.Name), data) {
				t.Error("the object is another")
			}
			if done.sent+done.there != size {
				t.Errorf("%d sent, %d there; want %d together", done.sent, done.there, size)
			}
			if _, metadata, err := s.head(t.Context(), c.Name); err != nil || metadata[digestOf] != c.SHA256.String() {
				t.Errorf("%v, %v", metadata, err)
			}
		})
	}
}

// A file with a wrong content is not published, and leaves nothing.
func TestChanged(t *testing.T) {
	t.Parallel()
	s := newBucket(t)
	c, _ := payload(t, image, 2*leastPart+1, 1)
	for name, change := range map[string]func(*store.Content){
		"digest":  func(c *store.Content) { c.SHA256[0] ^= 1 },
		"shorter": func(c *store.Content) { c.Size++ },
		"longer":  func(c *store.Content) { c.Size-- },
	} {
		wrong := c
		change(&wrong)
		if err := s.Stage(t.Context(), wrong); !errors.Is(err, store.ErrChanged) || !strings.Contains(err.Error(), image) {
			t.Errorf("%s: %v", name, err)
		}
		if left, err := s.uploads(t.Context(), ""); err != nil || len(left) > 0 {
			t.Errorf("%s: uploads left: %v, %v", name, left, err)
		}
	}
	none := c
	none.Open = func() (*os.File, error) { return nil, fs.ErrPermission }
	if err := s.Stage(t.Context(), none); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("it cannot be opened: %v", err)
	}
}

// The next Stage continues, whatever ended the one before, and although the server was away
// meanwhile.
func TestBreaks(t *testing.T) {
	t.Parallel()
	const size = 4*leastPart + 9
	for _, b := range []struct {
		name string
		jobs int
		do   func(server *testdata.S3, cancel func()) // in the third part
		err  error
	}{
		{"cancelled", 1, func(_ *testdata.S3, cancel func()) { cancel() }, context.Canceled},
		{"the server starts again", 1, func(s *testdata.S3, _ func()) { s.Stop(); s.Start() }, nil},
		{"the server starts again, four jobs", 4, func(s *testdata.S3, _ func()) { s.Stop(); s.Start() }, nil},
	} {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			server := testdata.NewS3(t)
			o := bucketOf(server)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var paced, after atomic.Int64
			var once sync.Once
			o.Jobs = b.jobs
			o.Pace = func(ctx context.Context, n int) error {
				if n > maxPiece {
					t.Errorf("%d bytes at once", n)
				}
				if paced.Add(int64(n)) > 2.5*leastPart {
					once.Do(func() { b.do(server, cancel) })
				}
				return ctx.Err()
			}
			s := opened(t, o)
			c, data := payload(t, image, size, 1)
			var first, second counted
			if err := s.Stage(ctx, first.of(c)); !errors.Is(err, b.err) {
				t.Fatalf("%v; want %v", err, b.err)
			}
			o.Pace = func(_ context.Context, n int) error { after.Add(int64(n)); return nil }
			s = opened(t, o)
			if err := publish(t.Context(), s, second.of(c)); err != nil {
				t.Fatal(err)
			}
			if want := size - first.sent; second.there < first.sent || second.sent > want || after.Load() > want+10_000 {
				t.Errorf("first %d sent; then %d there, %d sent, in %d bytes", first.sent, second.there, second.sent, after.Load())
			}
			if b.err != nil && (first.sent != 2*leastPart || second.there != 2*leastPart) {
				t.Errorf("%d bytes were sent before the break, and %d used", first.sent, second.there)
			}
			if !bytes.Equal(content(t, s, image), data) {
				t.Error("the object is another")
			}
		})
	}
}

// A request is made again if the answer asks for it, a limited number of times.
func TestRetries(t *testing.T) {
	t.Parallel()
	server := testdata.NewS3(t)
	var asked atomic.Int32
	for _, c := range []struct {
		name   string
		status int
		code   string
		times  int32 // that the server says it
		asked  int32
		err    string
	}{
		{"busy", 503, "SlowDown", 3, 4, ""},
		{"an error of the server", 500, "InternalError", 7, 8, ""},
		{"always busy", 503, "SlowDown", 100, 8, "with fewer jobs"},
		{"not allowed", 403, "AccessDenied", 100, 1, "must be allowed to do this"},
		{"skewed", 400, "InvalidRequest", 100, 1, "InvalidRequest: m"},
		{"gone", 410, "", 100, 1, "410 Gone"},
	} {
		t.Run(c.name, func(t *testing.T) {
			asked.Store(0)
			o := bucketOf(server)
			o.Endpoint = proxy(t, server.URL, func(w http.ResponseWriter, r *http.Request) bool {
				if r.Method != http.MethodPut || asked.Add(1) > c.times {
					return false
				}
				w.WriteHeader(c.status)
				if c.code != "" {
					io.WriteString(w, "<Error><Code>"+c.code+"</Code><Message>m</Message></Error>")
				}
				return true
			})
			o.tuning.backoff = time.Millisecond
			err := opened(t, o).Write(t.Context(), "a.json", []byte("{}"))
			if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) || asked.Load() != c.asked {
				t.Errorf("asked %d times, %v; want %d times, %q", asked.Load(), err, c.asked, c.err)
			}
		})
	}
}

// Many files that are tried again do not use up the tries of others, and an answer that is cut
// off is asked for again.
func TestManyRetries(t *testing.T) {
	t.Parallel()
	server := testdata.NewS3(t)
	o := bucketOf(server)
	var asked atomic.Int32
	var cut atomic.Bool
	o.Endpoint = proxy(t, server.URL, func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPut && asked.Add(1)%8 != 0 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return true
		}
		if r.Method == http.MethodGet && cut.CompareAndSwap(true, false) {
			w.Header().Set("Content-Length", "1000")
			io.WriteString(w, "<ListBucketResult><Name>bucket")
			panic(http.ErrAbortHandler)
		}
		return false
	})
	o.tuning.backoff = time.Millisecond
	s := opened(t, o)
	for range 20 {
		if err := s.Write(t.Context(), "a.json", nil); err != nil {
			t.Fatal(err)
		}
	}
	cut.Store(true)
	if files, err := s.List(t.Context()); err != nil || len(files) != 1 || cut.Load() {
		t.Errorf("%v, %v", files, err)
	}
}

// An answer with another digest than was sent is an error, unless it cannot be one.
func TestDigestOfParts(t *testing.T) {
	const other = `"d41d8cd98f00b204e9800998ecf8427e"`
	for _, c := range []struct {
		name, header, value, etag string
		err                       error
	}{
		{"another", "", "", other, errDigest},
		{"another, with keys of S3", "X-Amz-Server-Side-Encryption", "AES256", other, errDigest},
		{"keys of KMS", "X-Amz-Server-Side-Encryption", "aws:kms", other, nil},
		{"keys of the customer", "X-Amz-Server-Side-Encryption-Customer-Algorithm", "AES256", other, nil},
		{"no MD5", "", "", `"abc"`, nil},
		{"none", "", "", "", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			url := proxy(t, "http://127.0.0.1:1", func(w http.ResponseWriter, r *http.Request) bool {
				if r.Header.Get("Content-MD5") == "" {
					t.Error("no Content-MD5")
				}
				if c.header != "" {
					w.Header().Set(c.header, c.value)
				}
				w.Header().Set("ETag", c.etag)
				return true
			})
			s := newStore(Options{Bucket: "bucket", Endpoint: url, Region: "r"}, testKeys)
			err := (&sending{Store: s}).one(t.Context(), upload{key: "k", id: "i"}, 1, []byte("data"))
			if !errors.Is(err, c.err) || (err == nil) != (c.err == nil) {
				t.Errorf("%v; want %v", err, c.err)
			}
		})
	}
}

// Old uploads of payload that is not kept are aborted, no others.
func TestSweep(t *testing.T) {
	t.Parallel()
	server := testdata.NewS3(t)
	s := opened(t, bucketOf(server))
	other := opened(t, Options{Bucket: "bucket", Endpoint: server.URL, Region: "us-east-1"})
	named := func(name string) store.Content {
		return store.Content{Name: name, Size: 1, SHA256: cksum.Digest256{1}}
	}
	const old, kept, young, alien, outside = "old.img", "rdiffs/kept.rdiff", "young.img", "backup.tar", "some/old.img"
	for _, name := range []string{old, kept, alien} {
		server.Age(begun(s, named(name)).id, 8*24*time.Hour)
	}
	server.Age(begun(other, named(outside)).id, 8*24*time.Hour)
	server.Age(begun(s, named(young)).id, 6*24*time.Hour)
	for range 2 {
		if err := s.Sweep(t.Context(), []store.Content{named(kept)}); err != nil {
			t.Fatal(err)
		}
	}
	left, err := s.uploads(t.Context(), "")
	var keys []string
	for _, u := range left {
		keys = append(keys, u.key)
	}
	slices.Sort(keys)
	want := []string{"some/old.img", "some/prefix/backup.tar", "some/prefix/rdiffs/kept.rdiff", "some/prefix/young.img"}
	if err != nil || !slices.Equal(keys, want) {
		t.Errorf("%q, %v; want %q", keys, err, want)
	}
}

// An upload that a killed publisher had begun for another content of the name, of which no
// part has arrived that differs, does not spoil the next one.
func TestStageBegunForOther(t *testing.T) {
	for name, arrived := range map[string][]int64{"no part": nil, "a part that both have": {1}} {
		s := opened(t, bucketOf(testdata.NewS3(t)))
		c, data := payload(t, image, 2*leastPart+1, 1)
		old, was := payload(t, image, 2*leastPart+1, 2)
		copy(was, data[:leastPart])
		f, err := old.Open()
		if err == nil {
			err = os.WriteFile(f.Name(), was, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		old.SHA256[0] ^= 1
		if err := put(s, begun(s, old), old, arrived...); err != nil {
			t.Fatal(err)
		}
		if err := s.Stage(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		if err := s.Release(t.Context(), c); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if !bytes.Equal(content(t, s, image), data) {
			t.Errorf("%s: the object is another", name)
		}
	}
}
