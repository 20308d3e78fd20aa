package s3

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"puavo-image-repository/imagerepo/internal/store"
	"puavo-image-repository/testdata"
)

// link forwards connections to a server, a few bytes at a time: rate a second of each
// connection, and none after most of all.
func link(t *testing.T, server string, rate, most int64) (address string) {
	t.Helper()
	u, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	var came atomic.Int64
	go func() { // until the listener is closed
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", u.Host)
			if err != nil {
				in.Close()
				continue
			}
			in.(*net.TCPConn).SetReadBuffer(16 << 10)
			t.Cleanup(func() { in.Close(); out.Close() })
			go func() { io.Copy(in, out); in.Close() }()
			go func() {
				defer out.Close()
				buf := make([]byte, max(rate/100, 1))
				for came.Load() < most {
					n, err := in.Read(buf)
					if err != nil {
						return
					}
					came.Add(int64(n))
					if _, err := out.Write(buf[:n]); err != nil {
						return
					}
					time.Sleep(10 * time.Millisecond)
				}
				<-t.Context().Done() // it takes no more, and does not say so
			}()
		}
	}()
	return "http://" + l.Addr().String()
}

// A slow link is not an error; one on which nothing moves is.
func TestLinks(t *testing.T) {
	t.Parallel()
	const never = 1 << 60
	for _, c := range []struct {
		name       string
		rate, most int64
		stall      time.Duration
		err        string
	}{
		{"slow", 3 * mib, never, time.Second, ""}, // a part takes longer than a connection may be silent
		{"stalled", 100 * mib, 3 * mib, 200 * time.Millisecond, "(8 times); check the network"},
		{"stalled at once", 100 * mib, 0, 200 * time.Millisecond, "(8 times); check the network"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			o := bucketOf(testdata.NewS3(t))
			o.Endpoint = link(t, o.Endpoint, c.rate, c.most)
			o.tuning = tuning{stall: c.stall, backoff: time.Millisecond}
			s := newStore(o, testKeys)
			p, data := payload(t, image, leastPart, 1)
			err := publish(t.Context(), s, p)
			if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Fatalf("%v; want %q", err, c.err)
			}
			if err == nil && !bytes.Equal(content(t, s, image), data) {
				t.Error("the object is another")
			}
		})
	}
}

// However much the network reads at once, Pace gets it in small pieces.
func TestPieces(t *testing.T) {
	var pieces []int
	stop := errors.New("stop")
	body := &paced{io.NopCloser(bytes.NewReader(make([]byte, 3*maxPiece))), t.Context(), func(_ context.Context, n int) error {
		if pieces = append(pieces, n); len(pieces) > 2 {
			return stop
		}
		return nil
	}}
	n, err := body.Read(make([]byte, 4*maxPiece))
	if n != maxPiece || err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
	if _, err := io.ReadAll(body); err != stop || len(pieces) != 3 || pieces[0] != maxPiece {
		t.Errorf("%v, %v", pieces, err)
	}
}

// All that is sent goes through Pace, in small pieces, and no more than Jobs parts are in
// memory.
func TestPace(t *testing.T) {
	t.Parallel()
	o := bucketOf(testdata.NewS3(t))
	var paced atomic.Int64
	o.Jobs = 3
	o.Pace = func(_ context.Context, n int) error {
		paced.Add(int64(n))
		if n > maxPiece {
			t.Errorf("%d bytes at once", n)
		}
		return nil
	}
	s := opened(t, o)
	const size = 7*leastPart + 1
	c, _ := payload(t, image, size, 1)
	if err := publish(t.Context(), s, c); err != nil {
		t.Fatal(err)
	}
	if err := s.Write(t.Context(), "a.json", make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	if got := paced.Load(); got < size+1000 || got > size+10_000 {
		t.Errorf("%d bytes were paced; %d are payload", got, size)
	}
	if len(s.buffers) != o.Jobs {
		t.Errorf("%d buffers are back of %d", len(s.buffers), o.Jobs)
	}
}

// A Stage takes no more buffers than there are, and ends if it waits for one.
func TestBuffers(t *testing.T) {
	b := newBuffers(2)
	first, err := b.take(t.Context(), 10)
	if err != nil || len(first) != 10 {
		t.Fatalf("%d bytes, %v", len(first), err)
	}
	if second, err := b.take(t.Context(), 5); err != nil || len(second) != 5 {
		t.Fatalf("%d bytes, %v", len(second), err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := b.take(ctx, 1); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a third: %v", err)
	}
	b.give(first)
	if again, err := b.take(t.Context(), 7); err != nil || &again[0] != &first[0] || len(again) != 7 {
		t.Errorf("it is not used again: %v", err)
	}
}

// Where requests go, and what is signed of a body.
func TestRequests(t *testing.T) {
	const unsigned = "UNSIGNED-PAYLOAD"
	for _, c := range []struct {
		options Options
		secure  bool
		url     string // of the object, "%" stands for the server
		digest  string
	}{
		{Options{Bucket: "bucket"}, true, "bucket.s3.eu-north-1.amazonaws.com/some/a.json", unsigned},
		{Options{Bucket: "buc.ket"}, true, "s3.eu-north-1.amazonaws.com/buc.ket/some/a.json", unsigned},
		{Options{Bucket: "bucket", Endpoint: "https://%/"}, true, "%/bucket/some/a.json", unsigned},
		{Options{Bucket: "bucket", Endpoint: "http://%/in"}, false, "%/in/bucket/some/a.json",
			"44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"},
	} {
		var got, digest, auth string
		var newer []string
		handler := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			got, digest, auth = r.Host+r.URL.Path, r.Header.Get("X-Amz-Content-Sha256"), r.Header.Get("Authorization")
			for name := range r.Header {
				if strings.Contains(name, "Checksum") || strings.Contains(name, "Trailer") {
					newer = append(newer, name)
				}
			}
		})
		server := httptest.NewUnstartedServer(handler)
		if c.secure {
			server.StartTLS()
		} else {
			server.Start()
		}
		defer server.Close()
		address := server.Listener.Addr().String()
		o := c.options
		o.Prefix, o.Region, o.Endpoint = "some", "eu-north-1", strings.ReplaceAll(o.Endpoint, "%", address)
		s := newStore(o, testKeys)
		base := transportOf(s)
		base.TLSClientConfig = &tls.Config{InsecureSkipVerify: true}
		base.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, address)
		}
		if err := s.Write(t.Context(), "a.json", []byte("{}")); err != nil {
			t.Fatal(err)
		}
		if want := strings.ReplaceAll(c.url, "%", address); got != want || digest != c.digest {
			t.Errorf("%+v: %s, %s; want %s, %s", c.options, got, digest, want, c.digest)
		}
		if !strings.Contains(auth, "content-md5;") {
			t.Errorf("Content-MD5 is not signed: %s", auth)
		}
		if _, err := s.begin(t.Context(), store.Content{Name: "a.img"}); err != nil || len(newer) > 0 {
			t.Errorf("%v; these not all servers know: %v", err, newer)
		}
	}
}

func transportOf(s *Store) *http.Transport {
	return s.client.Options().HTTPClient.(*http.Client).Transport.(*transport).base
}

// Answers are bounded, unless they are files; lists must end.
func TestAnswers(t *testing.T) {
	endless := func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != "/bucket/" && r.URL.Path != "/bucket" {
			w.Write(make([]byte, maxAnswer+mib))
			return true
		}
		io.WriteString(w, "<ListBucketResult><Name>")
		junk := bytes.Repeat([]byte("x"), mib)
		for range maxAnswer/mib + 1 {
			if _, err := w.Write(junk); err != nil {
				break
			}
		}
		return true
	}
	again := func(w http.ResponseWriter, _ *http.Request) bool {
		io.WriteString(w, "<R><IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken><NextKeyMarker>k</NextKeyMarker></R>")
		return true
	}
	at := func(change func(http.ResponseWriter, *http.Request) bool) *Store {
		return newStore(Options{
			Bucket: "bucket", Endpoint: proxy(t, "http://127.0.0.1:1", change), Region: "r", tuning: tuning{backoff: time.Millisecond, pages: 50},
		}, testKeys)
	}
	s := at(endless)
	if _, err := s.List(t.Context()); !errors.Is(err, errTooLarge) {
		t.Errorf("a large answer: %v", err)
	}
	if got := len(content(t, s, "a")); got != maxAnswer+mib {
		t.Errorf("a large file: %d bytes", got)
	}
	s = at(again)
	if _, err := s.List(t.Context()); !errors.Is(err, errEndless) {
		t.Errorf("files: %v", err)
	}
	if _, err := s.uploads(t.Context(), ""); !errors.Is(err, errEndless) {
		t.Errorf("uploads: %v", err)
	}
	if err := s.list(t.Context(), &upload{key: "k", id: "i"}); !errors.Is(err, errEndless) {
		t.Errorf("parts: %v", err)
	}
}
