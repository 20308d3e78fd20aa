package queue

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"puavo-image-repository/imagerepo/farm/internal/secret"
)

// place is a queue with its builder.
type place struct {
	t       *testing.T
	server  *Server
	options Options
	builder *Conn
	jobs    *Jobs
}

func newPlace(t *testing.T, withTLS bool) *place {
	t.Helper()
	p := &place{t: t, options: Options{Token: secret.New(), Version: "1", Pinned: true, TLS: withTLS}}
	p.serve("127.0.0.1:0")
	p.builder = p.dial(Options{Token: p.options.Token, Version: "1", Server: p.server, Pinned: true})
	p.fresh()
	return p
}

func (p *place) serve(address string) {
	p.t.Helper()
	s, err := Serve(address, p.options.Token, p.options.TLS)
	if err != nil {
		p.t.Fatal(err)
	}
	p.server, p.options.URL = s, "nats://"+s.Address()
	p.t.Cleanup(func() { s.Close() })
}

func (p *place) fresh() {
	p.t.Helper()
	j, err := p.builder.Fresh(p.t.Context())
	if err != nil {
		p.t.Fatal(err)
	}
	p.jobs = j
}

func (p *place) dial(o Options) *Conn {
	p.t.Helper()
	c, err := Dial(o)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(c.Close)
	return c
}

func (p *place) put(base string, memory int64, id string) uint64 {
	p.t.Helper()
	n, err := p.jobs.Put(p.t.Context(), Item{ID: id, Base: base, Memory: memory, Data: []byte(id)})
	if err != nil {
		p.t.Fatal(err)
	}
	return n
}

// next returns the job that a worker gets, "" for none.
func (p *place) next(c *Conn, memory int64, held string) (*Message, string) {
	p.t.Helper()
	m, err := c.Next(p.t.Context(), "w", memory, func(base string) bool { return base == held })
	if errors.Is(err, ErrEmpty) {
		return nil, ""
	} else if err != nil {
		p.t.Fatal(err)
	}
	return m, string(m.Data())
}

// get returns a job that a worker gets, for which it may wait.
func (p *place) get(c *Conn, memory int64, held string) (*Message, string) {
	p.t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if m, got := p.next(c, memory, held); m != nil {
			return m, got
		}
	}
	p.t.Fatal("no job comes")
	return nil, ""
}

const (
	baseA = "aaaaaaaaaaaaaaaa"
	baseB = "bbbbbbbbbbbbbbbb"
)

// Jobs are handed out once each: of the base that is held, within the memory, and not those that
// were taken back.
func TestNext(t *testing.T) {
	p := newPlace(t, false)
	w := p.dial(p.options)
	if _, got := p.next(w, 1<<40, ""); got != "" {
		t.Errorf("%q of an empty queue", got)
	}
	for i := range 3 {
		p.put(baseA+"and more", 100<<20, fmt.Sprint("a", i))
	}
	p.put(baseA, 100<<20, "a0") // again
	p.put(baseB, 100<<20, "b0")
	large := p.put(baseB, 1<<30, "b large")
	for _, c := range []struct {
		memory int64
		held   string
		want   string
	}{{99 << 20, "", ""}, {100 << 20, baseB, "b0"}, {100 << 20, baseB, "a0"}, {100 << 20, "", "a1"}, {100 << 20, "", "a2"}, {100 << 20, "", ""}, {1 << 29, "", ""}, {1 << 30, "", "b large"}} {
		next := p.next
		if c.want != "" {
			next = p.get
		}
		m, got := next(w, c.memory, c.held)
		if got != c.want {
			t.Fatalf("%+v: got %q", c, got)
		}
		if m != nil {
			m.Done()
		}
	}
	if err := p.jobs.Remove(t.Context(), large); err != nil {
		t.Errorf("removing one that is done: %v", err)
	}
	taken := p.put(baseA, 1, "taken back")
	if err := p.jobs.Remove(t.Context(), taken); err != nil {
		t.Error(err)
	}
	if _, got := p.next(w, 1<<40, ""); got != "" {
		t.Errorf("%q was taken back", got)
	}
	for _, it := range []Item{
		{ID: "not for w", Base: baseA, Not: []string{"v", "w"}, Urgent: true},
		{ID: "usual, held", Base: baseA, Not: []string{"v"}},
		{ID: "usual", Base: baseB},
		{ID: "urgent", Base: baseB, Urgent: true},
		{ID: "urgent, held", Base: baseA, Urgent: true},
	} {
		it.Data = []byte(it.ID)
		if _, err := p.jobs.Put(t.Context(), it); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []string{"urgent, held", "usual, held", "urgent", "usual"} {
		if m, got := p.get(w, 0, baseA); got != want {
			t.Errorf("got %q, want %q", got, want)
		} else {
			m.Done()
		}
	}
	if err := p.jobs.Clear(t.Context()); err != nil {
		t.Error(err)
	}
	if _, got := p.next(w, 0, baseA); got != "" {
		t.Errorf("%q of a queue that was cleared", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.jobs.Clear(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if _, err := w.Next(ctx, "w", 1<<40, func(string) bool { return false }); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if _, err := p.jobs.Put(ctx, Item{ID: "x", Base: baseA}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// A job that its worker leaves is handed to another: at once, or when nobody has worked on it
// for a while.
func TestAgain(t *testing.T) {
	ackWait = time.Second
	defer func() { ackWait = 30 * time.Second }()
	p := newPlace(t, false)
	first, second := p.dial(p.options), p.dial(p.options)
	p.put(baseA, 1, "job")
	m, _ := p.get(first, 1<<20, "")
	if _, got := p.next(second, 1<<20, ""); got != "" {
		t.Fatalf("%q twice", got)
	}
	m.Back(0)
	m, _ = p.get(second, 1<<20, "")
	for range 4 { // longer than ackWait
		time.Sleep(400 * time.Millisecond)
		m.Working()
		if _, got := p.next(first, 1<<20, ""); got != "" {
			t.Fatalf("%q is worked on", got)
		}
	}
	m, _ = p.get(second, 1<<20, "")
	m.Done()
	time.Sleep(1500 * time.Millisecond)
	if _, got := p.next(first, 1<<20, ""); got != "" {
		t.Errorf("%q is done", got)
	}
}

// Reports are answered, and without a builder of the version nobody answers.
func TestAsk(t *testing.T) {
	p := newPlace(t, true)
	w := p.dial(p.options)
	if _, err := w.Ask(t.Context(), []byte("x")); !errors.Is(err, ErrNobody) {
		t.Error(err)
	}
	if err := p.builder.Answer(func(report []byte) []byte { return append([]byte("answer to "), report...) }); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		got, err := w.Ask(t.Context(), []byte("x"))
		if err == nil && string(got) == "answer to x" {
			break
		} else if time.Now().After(end) {
			t.Fatalf("%q, %v", got, err)
		}
	}
	other := p.options
	other.Version = "2"
	if _, err := p.dial(other).Ask(t.Context(), []byte("x")); !errors.Is(err, ErrNobody) {
		t.Errorf("another version: %v", err)
	}
	p.put(baseA, 1, "job")
	if _, got := p.next(p.dial(other), 1<<20, ""); got != "" {
		t.Errorf("another version gets %q", got)
	}
}

// Only who has the token is let in, over TLS where that is wanted.
func TestDial(t *testing.T) {
	plain, secure := newPlace(t, false), newPlace(t, true)
	for name, c := range map[string]struct {
		p      *place
		change func(*Options)
		ok     bool
	}{
		"plain":                {plain, func(*Options) {}, true},
		"plain, another token": {plain, func(o *Options) { o.Token = secret.New() }, false},
		"plain, TLS wanted":    {plain, func(o *Options) { o.TLS = true }, false},
		"TLS":                  {secure, func(*Options) {}, true},
		"TLS, not asked for":   {secure, func(o *Options) { o.TLS = false }, true},
		"TLS, another token":   {secure, func(o *Options) { o.Token = secret.New() }, false},
		"TLS, not pinned":      {secure, func(o *Options) { o.Pinned = false }, false},
		"nobody there":         {secure, func(o *Options) { o.URL = "nats://127.0.0.1:1" }, false},
		"a bad user":           {plain, func(o *Options) { o.URL = strings.Replace(o.URL, "//", "//u:hidden@", 1) }, false},
	} {
		o := c.p.options
		c.change(&o)
		conn, err := Dial(o)
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil {
			conn.Close()
		} else if strings.Contains(err.Error(), "hidden") {
			t.Errorf("%s: %v shows the password", name, err)
		}
	}
	if _, err := Serve(plain.server.Address(), secret.New(), false); err == nil {
		t.Error("two servers at one address")
	}
}

// A connection says why the server cannot be reached, and whether it is tried again.
func TestTrouble(t *testing.T) {
	plain, secure := newPlace(t, false), newPlace(t, true)
	for name, c := range map[string]struct {
		p      *place
		change func(*Options)
		want   string
	}{
		"none":                 {plain, func(*Options) {}, ""},
		"another token":        {plain, func(o *Options) { o.Token = secret.New() }, ErrRefused.Error()},
		"another token, TLS":   {secure, func(o *Options) { o.Token = secret.New() }, secret.ErrOther.Error()},
		"nobody there":         {plain, func(o *Options) { o.URL = "nats://127.0.0.1:1" }, "disconnected"},
		"a server without TLS": {plain, func(o *Options) { o.TLS = true }, "secure connection not available"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := c.p.options
			o.Patient = true
			c.change(&o)
			conn := c.p.dial(o)
			got := ""
			for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
				got = fmt.Sprint(conn.Trouble())
				if c.want == "" && got == "<nil>" || c.want != "" && strings.Contains(got, c.want) {
					return
				}
			}
			t.Errorf("got %s, want %q", got, c.want)
		})
	}
}

// When the server begins again, without what it had, workers and builder find it, and the
// builder is told that the queue is empty.
func TestServerLost(t *testing.T) {
	p := newPlace(t, false)
	p.builder = p.dial(p.options) // over the network, as with a cluster
	p.fresh()
	w := p.dial(p.options)
	p.put(baseA, 1, "job")
	if lost, err := p.jobs.Lost(t.Context()); lost || err != nil {
		t.Fatal(lost, err)
	}
	address := p.server.Address()
	p.server.Close()
	p.serve(address)
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		lost, err := p.jobs.Lost(t.Context())
		if lost && err == nil {
			break
		} else if time.Now().After(end) {
			t.Fatal(lost, err)
		}
	}
	p.put(baseA, 1, "job")
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		if m, err := w.Next(t.Context(), "w", 1<<20, func(string) bool { return false }); err == nil && string(m.Data()) == "job" {
			break
		} else if time.Now().After(end) {
			t.Fatal(err)
		}
	}
	if err := p.jobs.Delete(t.Context()); err != nil {
		t.Error(err)
	}
	if _, got := p.next(w, 1<<20, ""); got != "" {
		t.Errorf("%q of a queue that is gone", got)
	}
}
