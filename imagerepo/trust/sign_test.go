package trust

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"puavo-image-repository/imagerepo/internal/mirror"
)

// A client that follows a mirror from its first root verifies each of its states,
// and one that begins there as well.
func TestSign(t *testing.T) {
	p := newPlace(t)
	follows := p.newClient()
	for _, c := range []struct {
		name    string
		do      func()
		changed bool
		roots   int
	}{
		{"first", func() {}, true, 1},
		{"nothing new", func() {}, false, 1},
		{"nothing new, later", func() { p.now = p.now.Add(day) }, false, 1},
		{"another content", func() { p.publish("two", "a", "b.c") }, true, 1},
		{"another one in the same second", func() { p.publish("three", "a", "b.c") }, true, 1},
		{"a series more", func() { p.publish("three", "a", "b.c", strings.Repeat("long", 45)) }, true, 1},
		{"series less", func() { p.publish("three", "b.c") }, true, 1},
		{"no series", func() { p.publish("three") }, true, 1},
		{"as before", func() { p.publish("one", "a", "b.c") }, true, 1},
		{"the clock goes back", func() { p.now = p.now.Add(-100 * day); p.IgnoreClock = true; p.publish("four", "a") }, true, 1},
		{"and on again", func() { p.now = p.now.Add(100 * day); p.IgnoreClock = false; p.publish("five", "a") }, true, 1},
		{"rotate timestamp", func() { p.rotate(Timestamp) }, true, 2},
		{"rotate snapshot", func() { p.rotate(Snapshot) }, true, 3},
		{"rotate targets", func() { p.rotate(Targets) }, true, 4},
		{"rotate root", func() { p.rotate(Root) }, true, 5},
		{"nothing new after that", func() {}, false, 5},
		{"rotate all and publish", func() {
			for _, role := range Roles() {
				p.rotate(role)
			}
			p.publish("six", "a")
		}, true, 9},
		{"two signatures", func() {
			for _, role := range Roles() {
				if _, err := p.keys().Add(role, 2); err != nil {
					t.Fatal(err)
				}
			}
		}, true, 13},
		{"after the expiry of all", func() { p.now = p.now.Add(300 * day) }, true, 13},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.do()
			if changed := p.sign(); changed != c.changed {
				t.Errorf("changed: %v", changed)
			}
			if err := follows.upToDate(); err != nil {
				t.Errorf("who follows: %v", err)
			}
			if err := p.newClient().upToDate(); err != nil {
				t.Errorf("who begins: %v", err)
			}
			if n := p.count("*.root.json"); n != c.roots {
				t.Errorf("%d roots, want %d", n, c.roots)
			}
			if left := p.leftovers(); len(left) > 0 {
				t.Errorf("left: %v", left)
			}
		})
	}
}

// Who reads a snapshot finds all that it names while the next one is published. Older
// files are removed.
func TestOrphans(t *testing.T) {
	p := newPlace(t)
	foreign := []string{"tuf/notes.txt", "tuf/targets/notes.json", "tuf/1.other.json"}
	for _, name := range foreign {
		p.write(name, "not ours")
	}
	for i, want := range []int{1, 2, 2, 2} {
		before := p.tuf()
		p.publish(fmt.Sprint("text ", i), "a")
		p.now = p.now.Add(time.Hour)
		p.sign()
		for _, pattern := range []string{"*.snapshot.json", "*.targets.json", "targets/meta/*.a.json"} {
			if n := p.count(pattern); n != want {
				t.Errorf("run %d: %d of %s, want %d", i, n, pattern, want)
			}
		}
		if n := p.count("targets/*.index.json"); n != 1 {
			t.Errorf("run %d: %d copies of an index that did not change", i, n)
		}
		if i == 1 && len(missingLines(before, p.tuf())) > 0 {
			t.Errorf("gone are %q", missingLines(before, p.tuf()))
		}
	}
	// A timestamp alone makes no difference to the rest.
	before := p.tuf()
	p.now = p.now.Add(25 * day)
	p.sign()
	if p.tuf() != before {
		t.Errorf("%s became %s", before, p.tuf())
	}
	for _, name := range foreign {
		if _, err := os.Lstat(filepath.Join(p.mirror, name)); err != nil {
			t.Error(err)
		}
	}
}

// missingLines returns the lines of a that b has not.
func missingLines(a, b string) (all []string) {
	for line := range strings.Lines(a + "\n") {
		if !strings.Contains("\n"+b+"\n", "\n"+line) {
			all = append(all, line)
		}
	}
	return all
}

// expiries returns when the metadata of the mirror expires, by role, in days from
// now.
func (p *place) expiries() string {
	p.t.Helper()
	status, err := StatusOf(p.mirror, p.now)
	if err != nil {
		p.t.Fatal(err)
	}
	var all []string
	for _, s := range status {
		all = append(all, fmt.Sprintf("%s %d", s.Role, s.Expires.Sub(p.now)/day))
	}
	return strings.Join(all, ", ")
}

// A run renews what has less than a third of its time left, Renew timestamp and
// snapshot besides.
func TestRenewal(t *testing.T) {
	for _, c := range []struct {
		after       time.Duration
		sign, renew string // until when all holds then, in days
	}{
		{19 * day, "root 346, timestamp 11, snapshot 71, targets 71", "root 346, timestamp 30, snapshot 90, targets 71"},
		{20 * day, "root 345, timestamp 10, snapshot 70, targets 70", "root 345, timestamp 30, snapshot 90, targets 70"},
		{20*day + time.Second, "root 344, timestamp 30, snapshot 69, targets 69", "root 344, timestamp 30, snapshot 90, targets 69"},
		{60*day + time.Second, "root 304, timestamp 30, snapshot 90, targets 90", "root 304, timestamp 30, snapshot 90, targets 90"},
		{400 * day, "root -35, timestamp 30, snapshot 90, targets 90", "root -35, timestamp 30, snapshot 90, targets 90"},
	} {
		for name, want := range map[string]string{"sign": c.sign, "renew": c.renew} {
			p := newPlace(t)
			follows := p.newClient()
			p.sign()
			if err := follows.upToDate(); err != nil {
				t.Fatal(err)
			}
			p.now = p.now.Add(c.after)
			p.log.Reset()
			k := p.keys()
			err := k.Check(p.mirror)
			if err == nil && name == "renew" {
				err = k.Renew(t.Context(), p.mirror, true)
			} else if err == nil {
				_, err = p.trySign(t.Context())
			}
			if err != nil || p.expiries() != want {
				t.Errorf("%s after %v: %s, %v, want %s", name, c.after, p.expiries(), err, want)
			}
			expired := strings.Contains(want, "root -")
			if err := follows.upToDate(); (err != nil) != expired {
				t.Errorf("%s after %v: %v", name, c.after, err)
			}
			if warned := strings.Contains(p.log.String(), "the root expires soon"); warned != expired {
				t.Errorf("%s after %v: %s", name, c.after, &p.log)
			}
		}
	}
}

// Renew keeps to what was signed, whatever the mirror has by now, follows new keys,
// and takes the lock.
func TestRenew(t *testing.T) {
	p := newPlace(t)
	renew := func() error { return p.keys().Renew(t.Context(), p.mirror, true) }
	if err := renew(); !errors.Is(err, ErrUnsigned) || !strings.Contains(err.Error(), "build it with --sign-keys") {
		t.Errorf("not signed: %v", err)
	}
	p.sign()
	follows := p.newClient()
	if err := follows.upToDate(); err != nil {
		t.Fatal(err)
	}
	p.publish("unsigned", "a")
	for _, role := range Roles() {
		p.rotate(role)
		p.now = p.now.Add(time.Hour)
		if err := renew(); err != nil {
			t.Fatalf("%s: %v", role, err)
		}
		if err := follows.verify(); err != nil {
			t.Errorf("%s: %v", role, err)
		}
	}
	if faults, err := Verify(t.Context(), p.mirror); err != nil || len(faults) != 2 || !faults[0].Stale {
		t.Errorf("%+v, %v", faults, err)
	}
	m, err := mirror.Open(p.mirror, true, p.Log)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := p.keys().Renew(ctx, p.mirror, true); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("while a build works: %v", err)
	}
	time.AfterFunc(300*time.Millisecond, func() { m.Close() })
	if err := renew(); err != nil {
		t.Errorf("when the build ends: %v", err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	cancel()
	before := p.tuf()
	if err := p.keys().Renew(ctx, p.mirror, true); !errors.Is(err, context.Canceled) || p.tuf() != before {
		t.Errorf("cancelled: %v", err)
	}
	p.mirror += "2"
	if err := renew(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no mirror: %v", err)
	}
	if _, err := os.Lstat(p.mirror); err == nil {
		t.Error("a mirror was made")
	}
	os.Mkdir(p.mirror, 0o777)
	if err := renew(); !errors.Is(err, ErrUnsigned) {
		t.Errorf("no mirror: %v", err)
	}
	if entries, _ := os.ReadDir(p.mirror); len(entries) > 0 {
		t.Errorf("in what is no mirror: %v", entries)
	}
}

// What a build did not write as it should is not signed.
func TestBadDocuments(t *testing.T) {
	for _, c := range []struct {
		name    string
		prepare func(p *place)
		want    string
	}{
		{"no index", func(p *place) { os.Remove(filepath.Join(p.mirror, "index.json")) }, "index.json"},
		{"malformed index", func(p *place) { p.write("index.json", "{") }, "index.json"},
		{"a path that leads out", func(p *place) {
			p.write("index.json", `{"series":[{"name":"a","meta":"../a.json","images":0,"newest":""}]}`)
		}, "index.json"},
		{"no meta", func(p *place) { os.Remove(filepath.Join(p.mirror, "meta/a.json")) }, "a.json"},
	} {
		p := newPlace(t)
		c.prepare(p)
		if _, err := p.trySign(t.Context()); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
		if p.tuf() != "" {
			t.Errorf("%s: written is %s", c.name, p.tuf())
		}
	}
}
