package client_test

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"puavo-image-repository/imagerepo/client"
	"puavo-image-repository/imagerepo/internal/lockfile"
)

// dripping sends so many bytes of payload at once, and then some every 10 ms.
func dripping(atOnce, each int) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if isPayload(r.URL.Path) {
				w = &drips{w, atOnce, each}
			}
			next.ServeHTTP(w, r)
		})
	}
}

type drips struct {
	http.ResponseWriter
	left, each int
}

func (d *drips) Write(p []byte) (n int, err error) {
	for len(p) > 0 && err == nil {
		if d.left == 0 {
			d.ResponseWriter.(http.Flusher).Flush()
			time.Sleep(10 * time.Millisecond)
			d.left = d.each
		}
		piece := p[:min(len(p), d.left)]
		var m int
		m, err = d.ResponseWriter.Write(piece)
		n, p, d.left = n+m, p[m:], d.left-m
	}
	return n, err
}

// A mirror that is too slow is left for another, which continues from the same byte.
func TestSlow(t *testing.T) {
	t.Parallel()
	for _, have := range [][]string{{huge1}, nil} {
		slow, fast := newBreakingFor(t, "huge", dripping(4<<20, 2000)), newBreaking(t)
		p := newPlace(t, have...)
		o := p.options("", huge2)
		o.Mirrors = []string{slow.URL, fast.URL}
		o.MaxTime = 16 * time.Second // at 200 kB a second it would take a minute
		if _, err := client.Update(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		p.want(made(have, huge2))
		if !strings.Contains(p.log.String(), "too slow to end in time") {
			t.Errorf("warnings: %s", &p.log)
		}
		if fast.sent.Load() == 0 || fast.sent.Load() > fast.size(t, have)-2<<20 {
			t.Errorf("with %q: the fast mirror sent %d bytes of %d", have, fast.sent.Load(), fast.size(t, have))
		}
	}
}

// If every source is too slow, the last goes on as long as it may. Then all that has
// come is kept.
func TestAllSlow(t *testing.T) {
	t.Parallel()
	for name, mirrors := range map[string]int{"one": 1, "two": 2} {
		p := newPlace(t, huge1)
		o := p.options("", huge2)
		var sites []*breaking
		o.Mirrors = nil
		for range mirrors {
			s := newBreakingFor(t, "huge", dripping(2<<20, 2000))
			sites = append(sites, s)
			o.Mirrors = append(o.Mirrors, s.URL)
		}
		o.MaxTime = 4 * time.Second
		_, err := client.Update(t.Context(), o)
		if !errors.Is(err, client.ErrIncomplete) || !strings.Contains(err.Error(), "--max-time") {
			t.Fatalf("%s: %v", name, err)
		}
		p.wantResumable(huge2)
		var sent int64
		for _, s := range sites {
			if sent += s.sent.Load(); s.sent.Load() == 0 {
				t.Errorf("%s: a mirror was not tried", name)
			}
		}
		fast := newBreaking(t)
		o.Mirrors, o.MaxTime = []string{fast.URL}, 0
		if _, err := client.Update(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		p.want(made([]string{huge1}, huge2))
		if again := fast.sent.Load() + sent - fast.size(t, []string{huge1}); again > int64(mirrors)*(3<<20) {
			t.Errorf("%s: %d bytes came twice", name, again)
		}
	}
}

// A slow mirror is taken again if the others fail.
func TestSlowButAlone(t *testing.T) {
	t.Parallel()
	var answers atomic.Int32
	slow := newBreakingFor(t, "huge", func(next http.Handler) http.Handler {
		dripping := dripping(4<<20, 2000)(next)
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if isPayload(r.URL.Path) && answers.Add(1) == 1 {
				dripping.ServeHTTP(w, r)
				return
			}
			next.ServeHTTP(w, r)
		})
	})
	empty := newSite(t, "huge", func(path string) fault {
		if isPayload(path) {
			return status(http.StatusNotFound)
		}
		return nil
	})
	p := newPlace(t, huge1)
	o := p.options("", huge2)
	o.Mirrors = []string{slow.URL, empty.URL}
	o.MaxTime = 16 * time.Second
	if _, err := client.Update(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	p.want(made([]string{huge1}, huge2))
	if !strings.Contains(p.log.String(), "too slow to end in time") || answers.Load() != 2 {
		t.Errorf("%d answers, warnings: %s", answers.Load(), &p.log)
	}
}

// The slow line of the machine itself is no reason to leave a mirror, nor is a mirror
// that is slow but will end in time.
func TestSlowEnough(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		each int // of the first mirror, every 10 ms
		rate int64
		max  time.Duration
	}{
		"the rate is limited": {40_000, 512 << 10, 3 * time.Second},
		"it ends in time":     {8_000, 0, 40 * time.Second}, // the rate of 5 s counts
	} {
		first, second := newBreakingFor(t, "chain", dripping(0, c.each)), newBreakingFor(t, "chain", atOnce)
		p := newPlace(t, chain1)
		o := p.options("", chain3)
		o.Mirrors = []string{first.URL, second.URL}
		o.Rate, o.MaxTime = c.rate, c.max
		_, err := client.Update(t.Context(), o)
		if err != nil && !errors.Is(err, client.ErrIncomplete) || second.sent.Load() > 0 {
			t.Errorf("%s: the second mirror sent %d bytes, %v", name, second.sent.Load(), err)
		}
	}
}

// Who has to wait for the lock learns which image is made, how fast, and how long that
// will take.
func TestLockSays(t *testing.T) {
	t.Parallel()
	s := newBreakingFor(t, "huge", dripping(1<<20, 50_000))
	p := newPlace(t, huge1)
	var said atomic.Value
	o := p.options(s.URL, huge2)
	o.Progress = func(int64, int64) {
		if who, held := lockfile.Holder(p.dir, lockFile); held && strings.Contains(who, ", ") {
			said.Store(who)
		}
	}
	if _, err := client.Update(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	want := regexp.MustCompile(`^process \d+ \(.*\) since .*, making ` + regexp.QuoteMeta(huge2) + ` at [1-9]\d*\.\d kB/s, \d+s left$`)
	if who, _ := said.Load().(string); !want.MatchString(who) {
		t.Errorf("%q", who)
	}
	if data := must(os.ReadFile(filepath.Join(p.dir, lockFile))); len(strings.TrimSpace(string(data))) > 0 {
		t.Errorf("left in the lock: %q", data)
	}
}
