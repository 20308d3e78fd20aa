package transfer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo/farm/internal/secret"
	"puavo-image-repository/imagerepo/internal/work"
)

func TestMain(m *testing.M) {
	pause = time.Millisecond
	os.Exit(m.Run())
}

const image = "the image of the plan"

var (
	planned = work.File{Size: int64(len(image)), BLAKE3: digest(image)}
	lentOut = work.File{Size: int64(len("a delta")), BLAKE3: digest("a delta")}
	jobA    = work.ID{1}
)

func digest(text string) cksum.Digest256 {
	h := cksum.NewBLAKE3()
	h.Write([]byte(text))
	return cksum.Digest256(h.Sum(nil))
}

// place is a store with its server, and a client.
type place struct {
	store   *Store
	url     string
	client  *Client
	reports []string
	back    func()
}

const limit = 5000 // bytes of the result of job A, which worker w has

func newPlace(t *testing.T, change func(net.Listener) net.Listener) *place {
	t.Helper()
	p := &place{}
	p.store = NewStore(func(id work.ID, worker string) (int64, bool) { return limit, id == jobA && worker == "w" }, func(report []byte) error {
		p.reports = append(p.reports, string(report))
		if string(report) == "nonsense" {
			return errors.New("it makes no sense")
		}
		return nil
	})
	mirror := t.TempDir()
	if err := os.WriteFile(filepath.Join(mirror, "a.img"), []byte(image), 0o666); err != nil {
		t.Fatal(err)
	}
	p.store.Begin(http.FileServer(http.Dir(mirror)), map[work.File]string{planned: "a.img"}, func() (*os.File, error) {
		return os.CreateTemp(t.TempDir(), "")
	})
	p.back = p.store.Lend(lentOut, strings.NewReader("a delta"))
	token := secret.New()
	s := httptest.NewUnstartedServer(token.Check(p.store))
	if change != nil {
		s.Listener = change(s.Listener)
	}
	s.Start()
	t.Cleanup(s.Close)
	p.url, p.client = s.URL, NewClient(token)
	t.Cleanup(p.client.Close)
	return p
}

func (p *place) image(ctx context.Context, f work.File, at int64) (string, error) {
	r, err := p.client.Image(ctx, p.url, f, at)
	if err != nil {
		return "", err
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	return string(data), err
}

func (p *place) delta(ctx context.Context, f work.File) (string, error) {
	var to bytes.Buffer
	err := p.client.Fetch(ctx, p.url, f, &to)
	return to.String(), err
}

func (p *place) send(ctx context.Context, worker, data string) (string, error) {
	err := p.client.Send(ctx, p.url, jobA, worker, strings.NewReader(data), int64(len(data)))
	return p.taken(), err
}

// taken returns what has arrived of job A.
func (p *place) taken() string {
	f, size, ok := p.store.Take(jobA, "w")
	if !ok {
		return "nothing"
	}
	defer f.Close()
	data, err := io.ReadAll(io.NewSectionReader(f, 0, size))
	return fmt.Sprint(string(data), errors.Join(err))
}

// What moves is what was planned, to and from those who may.
func TestTransfer(t *testing.T) {
	other := work.File{Size: 3, BLAKE3: digest("other")}
	long := strings.Repeat("x", limit+1)
	for name, c := range map[string]struct {
		do   func(ctx context.Context, p *place) (string, error)
		want string
		err  error
	}{
		"an image":           {do: func(ctx context.Context, p *place) (string, error) { return p.image(ctx, planned, 0) }, want: image},
		"the end of it":      {do: func(ctx context.Context, p *place) (string, error) { return p.image(ctx, planned, 4) }, want: image[4:]},
		"another image":      {do: func(ctx context.Context, p *place) (string, error) { return p.image(ctx, other, 0) }, err: ErrGone},
		"a delta":            {do: func(ctx context.Context, p *place) (string, error) { return p.delta(ctx, lentOut) }, want: "a delta"},
		"another delta":      {do: func(ctx context.Context, p *place) (string, error) { return p.delta(ctx, other) }, err: ErrGone},
		"a delta taken back": {do: func(ctx context.Context, p *place) (string, error) { p.back(); return p.delta(ctx, lentOut) }, err: ErrGone},
		"a result":           {do: func(ctx context.Context, p *place) (string, error) { return p.send(ctx, "w", "result") }, want: "result<nil>"},
		"an empty one":       {do: func(ctx context.Context, p *place) (string, error) { return p.send(ctx, "w", "") }, want: "<nil>"},
		"as long as it may":  {do: func(ctx context.Context, p *place) (string, error) { return p.send(ctx, "w", long[:limit]) }, want: long[:limit] + "<nil>"},
		"too long a result":  {do: func(ctx context.Context, p *place) (string, error) { return p.send(ctx, "w", long) }, want: "<nil>", err: ErrGone},
		"of another worker":  {do: func(ctx context.Context, p *place) (string, error) { return p.send(ctx, "v", "result") }, want: "nothing", err: ErrGone},
		"a result, forgotten": {do: func(ctx context.Context, p *place) (string, error) {
			err := p.client.Send(ctx, p.url, jobA, "w", strings.NewReader("result"), 6)
			p.store.Forget(jobA)
			return p.taken(), err
		}, want: "nothing"},
		"the rest of a result": {do: func(ctx context.Context, p *place) (string, error) {
			err := p.client.Send(ctx, p.url, jobA, "w", strings.NewReader("res"), 3)
			return fmt.Sprint(p.send(ctx, "w", "result")), err
		}, want: "result<nil><nil>"},
		"a report": {do: func(ctx context.Context, p *place) (string, error) {
			return "", p.client.Report(ctx, p.url, []byte("report"))
		}},
		"after the end":       {do: func(ctx context.Context, p *place) (string, error) { p.store.End(); return p.send(ctx, "w", "result") }, want: "nothing", err: ErrGone},
		"cancelled":           {do: func(_ context.Context, p *place) (string, error) { return p.send(cancelled(), "w", "result") }, want: "nothing", err: context.Canceled},
		"a report, cancelled": {do: func(_ context.Context, p *place) (string, error) { return "", p.client.Report(cancelled(), p.url, nil) }, err: context.Canceled},
		"a delta, cancelled":  {do: func(_ context.Context, p *place) (string, error) { return p.delta(cancelled(), lentOut) }, err: context.Canceled},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := c.do(t.Context(), newPlace(t, nil))
			if got != c.want || !errors.Is(err, c.err) || c.err == nil && err != nil {
				t.Errorf("got %q, %v; want %q, %v", got, err, c.want, c.err)
			}
		})
	}
}

func cancelled() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// What is refused has a status that says why.
func TestRefused(t *testing.T) {
	p := newPlace(t, nil)
	for _, c := range []struct {
		method, path, offset string
		want                 int
	}{
		{"GET", "/image/" + planned.BLAKE3.String(), "", http.StatusOK},
		{"GET", "/image/zz", "", http.StatusNotFound},
		{"GET", "/image/..%2fa.img", "", http.StatusNotFound},
		{"GET", "/a.img", "", http.StatusNotFound},
		{"POST", "/image/" + planned.BLAKE3.String(), "", http.StatusMethodNotAllowed},
		{"PATCH", "/result/" + jobA.String() + "/w", "7", http.StatusConflict},
		{"PATCH", "/result/" + jobA.String() + "/w", "x", http.StatusConflict},
		{"PATCH", "/result/" + work.ID{2}.String() + "/w", "0", http.StatusForbidden},
		{"POST", "/report", "", http.StatusBadRequest},
	} {
		r, err := http.NewRequest(c.method, p.url+c.path, strings.NewReader("nonsense"))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set(offsetHeader, c.offset)
		if status := statusOf(t, r); status != http.StatusUnauthorized {
			t.Errorf("%s %s without the token: %d", c.method, c.path, status)
		}
		r.Body = io.NopCloser(strings.NewReader("nonsense"))
		p.client.token.Authorize(r)
		if status := statusOf(t, r); status != c.want {
			t.Errorf("%s %s: %d, want %d", c.method, c.path, status, c.want)
		}
	}
}

func statusOf(t *testing.T, r *http.Request) int {
	t.Helper()
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	return res.StatusCode
}

// A transfer goes on where its connection broke, and both ends count what moved.
func TestResume(t *testing.T) {
	p := newPlace(t, func(l net.Listener) net.Listener { return breaking{l} })
	data := strings.Repeat("0123456789", 400)
	if got, err := p.send(t.Context(), "w", data); got != data+"<nil>" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	long := strings.Repeat("a long delta ", 100)
	f := work.File{Size: int64(len(long)), BLAKE3: digest(long)}
	p.store.Lend(f, strings.NewReader(long))
	if got, err := p.delta(t.Context(), f); got != long || err != nil {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if sent, received := p.store.Moved(); sent < f.Size || received != int64(len(data)) {
		t.Errorf("%d bytes sent, %d received", sent, received)
	}
	wrong := f
	wrong.BLAKE3 = digest("other")
	p.store.Lend(wrong, strings.NewReader(long))
	if _, err := p.delta(t.Context(), wrong); err == nil {
		t.Error("another delta arrives")
	}
}

// breaking are connections that break after 600 bytes to the worker, or 1500 from it, headers
// included.
type breaking struct{ net.Listener }

func (b breaking) Accept() (net.Conn, error) {
	c, err := b.Listener.Accept()
	return &breakingConn{c, 600, 1500}, err
}

type breakingConn struct {
	net.Conn
	out, in int
}

func (b *breakingConn) Write(p []byte) (int, error) {
	n, err := b.Conn.Write(p[:min(len(p), b.out)])
	if b.out -= n; b.out == 0 && err == nil {
		b.Conn.Close()
		err = net.ErrClosed
	}
	return n, err
}

func (b *breakingConn) Read(p []byte) (int, error) {
	n, err := b.Conn.Read(p[:min(len(p), b.in)])
	if b.in -= n; b.in == 0 && err == nil {
		b.Conn.Close()
	}
	return n, err
}

// A transfer that does not move is given up.
func TestStall(t *testing.T) {
	stall = 100 * time.Millisecond
	defer func() { stall = time.Minute }()
	silent := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "10")
		w.WriteHeader(http.StatusOK)
		http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}))
	defer silent.Close()
	p := newPlace(t, nil)
	p.url = silent.URL
	if _, err := p.image(t.Context(), planned, 0); !errors.Is(err, errStalled) {
		t.Error(err)
	}
	if _, err := p.image(t.Context(), planned, 4); err == nil {
		t.Error("the whole image is taken for a part")
	}
}

// A disk of the builder that is full ends a result with an error, after some tries.
func TestNoRoom(t *testing.T) {
	p := newPlace(t, nil)
	p.store.scratch = func() (*os.File, error) { return nil, syscall.ENOSPC }
	if _, err := p.send(t.Context(), "w", "result"); err == nil || errors.Is(err, ErrGone) || !strings.Contains(err.Error(), "507") {
		t.Error(err)
	}
	p.store.scratch = func() (*os.File, error) { return os.OpenFile("/dev/full", os.O_RDWR, 0) }
	if _, err := p.send(t.Context(), "w", "result"); err == nil || errors.Is(err, ErrGone) {
		t.Error(err)
	}
}

// What is tried again, and how often.
func TestRetry(t *testing.T) {
	fault := errors.New("a fault")
	for name, c := range map[string]struct {
		answers []error
		moved   bool
		want    error
		times   int
	}{
		"done":        {nil, false, nil, 1},
		"done then":   {[]error{fault, fault}, false, nil, 3},
		"never":       {[]error{fault, fault, fault, fault, fault, fault, fault, fault, fault, fault}, false, fault, tries},
		"it moves on": {[]error{fault, fault, fault, fault, fault, fault, fault, fault, fault, fault}, true, nil, 11},
		"gone":        {[]error{ErrGone}, false, ErrGone, 1},
	} {
		times := 0
		err := Retry(t.Context(), func() (bool, error) {
			times++
			if times <= len(c.answers) {
				return c.moved, c.answers[times-1]
			}
			return c.moved, nil
		})
		if !errors.Is(err, c.want) || c.want == nil && err != nil || times != c.times {
			t.Errorf("%s: %v after %d times", name, err, times)
		}
	}
	if err := Retry(cancelled(), func() (bool, error) { return true, nil }); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
