package trust

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// signings are all ways to sign, each at a time when there is something to sign.
var signings = []struct {
	name string
	do   func(ctx context.Context, p *place) error
	of   string // what tells of the last signing
}{
	{"Check", func(_ context.Context, p *place) error { return p.keys().Check(p.mirror) }, "tuf/timestamp.json"},
	{"Sign", func(ctx context.Context, p *place) error { _, err := p.trySign(ctx); return err }, "tuf/timestamp.json"},
	{"Renew", func(ctx context.Context, p *place) error { return p.keys().Renew(ctx, p.mirror, true) }, "tuf/timestamp.json"},
	{"Rotate", func(_ context.Context, p *place) error { _, err := p.keys().Rotate(Snapshot, ""); return err }, ".signed"},
	{"Add", func(_ context.Context, p *place) error { _, err := p.keys().Add(Snapshot, 0); return err }, ".signed"},
	{"SignRoot", func(_ context.Context, p *place) error { _, err := p.keys().SignRoot(); return err }, ".signed"},
}

// onlySoon has SignRoot sign: any root expires soon.
var onlySoon = map[string]time.Duration{Root: 10000 * day}

// A clock that is more than an hour behind the last signing signs nothing, unless that is
// asked for, and then goes on with the next version.
func TestClockBehind(t *testing.T) {
	for _, s := range signings {
		for _, c := range []struct {
			behind  time.Duration
			ignore  bool
			refused bool
		}{
			{-time.Hour, false, false}, {0, false, false}, {time.Hour, false, false},
			{time.Hour + time.Second, false, true}, {400 * day, false, true}, {400 * day, true, false},
		} {
			p := newPlace(t)
			p.now = p.now.Add(day)
			p.rotate(Timestamp)
			p.Lifetimes = map[string]time.Duration{Timestamp: 300 * day} // does not matter
			p.sign()
			p.Lifetimes = onlySoon
			p.publish("two", "a")
			follows, before := p.newClient(), p.tuf()+p.keysDir()
			if err := follows.verify(); err != nil {
				t.Fatal(err)
			}
			last := p.now
			p.now, p.IgnoreClock = p.now.Add(-c.behind), c.ignore
			err := s.do(t.Context(), p)
			if c.refused != (err != nil) {
				t.Errorf("%s, %v behind, ignored %v: %v", s.name, c.behind, c.ignore, err)
			}
			if after := p.tuf() + p.keysDir(); c.refused && after != before {
				t.Errorf("%s, %v behind: changed from\n%s\nto\n%s", s.name, c.behind, before, after)
			}
			for _, says := range []string{p.now.Format(time.RFC3339), last.Format(time.RFC3339), s.of + " has a signing at ", "set the clock", "--ignore-clock"} {
				if err != nil && !strings.Contains(err.Error(), says) {
					t.Errorf("%s: %v, want one that says %q", s.name, err, says)
				}
			}
			if err := follows.verify(); err != nil {
				t.Errorf("%s, %v behind: who follows: %v", s.name, c.behind, err)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if p := newPlace(t); s.name == "Sign" {
			if err := s.do(ctx, p); !errors.Is(err, context.Canceled) {
				t.Errorf("cancelled: %v", err)
			}
		}
	}
}

// keysDir returns the names in the keys directory.
func (p *place) keysDir() string {
	p.t.Helper()
	names, err := filepath.Glob(filepath.Join(p.Dir, "*"))
	if err != nil {
		p.t.Fatal(err)
	}
	return strings.Join(names, "\n")
}

// After a clock that was ahead, IgnoreClock is needed once.
func TestClockWasAhead(t *testing.T) {
	p := newPlace(t)
	p.now = p.now.Add(100 * day)
	p.sign()
	follows := p.newClient()
	p.now = p.now.Add(-100 * day)
	for i, c := range []struct {
		name    string
		prepare func()
		refused bool
	}{
		{"at first", func() {}, true},
		{"ignored", func() { p.IgnoreClock = true }, false},
		{"after that", func() { p.IgnoreClock = false }, false},
		{"and again", func() {}, false},
		{"later", func() { p.now = p.now.Add(day) }, false},
		{"further behind", func() { p.now = p.now.Add(-2 * day) }, true},
		{"when the record is lost", func() {
			p.now = p.now.Add(2 * day)
			p.unlink(p.mirror, ".repo", "signed.json")
		}, true},
		{"when it is of another version", func() { p.write(".repo/signed.json", `{"version":1,"signed":"2026-01-02T03:04:05Z"}`) }, true},
		{"when it is damaged", func() { p.write(".repo/signed.json", `{"version":`) }, true},
	} {
		c.prepare()
		p.publish(strings.Repeat("x", i), "a")
		_, err := p.trySign(t.Context())
		if c.refused != (err != nil) || err != nil && !strings.Contains(err.Error(), "set the clock") {
			t.Errorf("%s: %v", c.name, err)
		}
		if err := follows.verify(); err != nil && i > 0 {
			t.Errorf("%s: who follows: %v", c.name, err)
		}
	}
}

// unlink removes a file.
func (p *place) unlink(elem ...string) {
	p.t.Helper()
	if err := os.Remove(filepath.Join(elem...)); err != nil {
		p.t.Fatal(err)
	}
}

// The keys tell of the clock where the mirror is new. Keys of a version that recorded
// nothing do not, nor do damaged records.
func TestClockOfNewMirror(t *testing.T) {
	for _, c := range []struct {
		name    string
		prepare func(p *place)
		refused bool
	}{
		{"recorded", func(*place) {}, true},
		{"not recorded", func(p *place) { p.unlink(p.Dir, clockName) }, false},
		{"damaged", func(p *place) { os.WriteFile(filepath.Join(p.Dir, clockName), []byte("soon\n"), 0o600) }, false},
		{"too long", func(p *place) { os.WriteFile(filepath.Join(p.Dir, clockName), make([]byte, 1<<20), 0o600) }, false},
		{"ignored", func(p *place) { p.IgnoreClock = true }, false},
		{"signed since", func(p *place) { p.IgnoreClock = true; p.rotate(Targets); p.IgnoreClock = false }, false},
	} {
		for _, s := range signings[:2] {
			p := newPlace(t)
			p.now = p.now.Add(-100 * day)
			c.prepare(p)
			if err := s.do(t.Context(), p); c.refused != (err != nil) || err != nil && !strings.Contains(err.Error(), clockName+" has a signing at ") {
				t.Errorf("%s, %s: %v", c.name, s.name, err)
			}
			if warned := strings.Contains(p.log.String(), clockName); warned != (c.name == "damaged") {
				t.Errorf("%s: warned %v: %s", c.name, warned, &p.log)
			}
		}
	}
}

// What is wrong with a mirror is reported before the work begins; that it is not there,
// or is none, is for the builder to say.
func TestCheckMirror(t *testing.T) {
	p := newPlace(t)
	p.sign()
	other := newPlace(t)
	other.Dir += "2"
	if err := Init(other.Options); err != nil {
		t.Fatal(err)
	}
	if err := other.keys().Check(p.mirror); !errors.Is(err, ErrOtherKeys) {
		t.Errorf("a mirror of other keys: %v", err)
	}
	for _, mirror := range []string{p.mirror, p.mirror + "2", filepath.Join(p.mirror, "index.json")} {
		if err := p.keys().Check(mirror); err != nil {
			t.Errorf("%s: %v", mirror, err)
		}
	}
}
