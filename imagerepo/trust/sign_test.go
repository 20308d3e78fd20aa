package trust

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"puavo-image-repository/imagerepo/internal/atomicfile"
	"puavo-image-repository/imagerepo/internal/lockfile"
	"puavo-image-repository/imagerepo/internal/mirror"
	"puavo-image-repository/testdata"
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
		{"the clock goes back", func() { p.now = p.now.Add(-100 * day); p.publish("four", "a") }, true, 1},
		{"and on again", func() { p.now = p.now.Add(100 * day); p.publish("five", "a") }, true, 1},
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

// Whoever reads a snapshot finds what it names while the next one is published, and
// what is older goes.
func TestTidy(t *testing.T) {
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
			err := k.Check()
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
	if err := renew(); !errors.Is(err, lockfile.ErrHeld) {
		t.Errorf("while a build works: %v", err)
	}
	m.Close()
	ctx, cancel := context.WithCancel(t.Context())
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
}

// What is damaged is made anew, and versions never go back.
func TestDamage(t *testing.T) {
	for _, pattern := range []string{"timestamp.json", "*.snapshot.json", "*.targets.json", "targets/*.index.json", "targets/meta/*.a.json", "1.root.json"} {
		for name, damage := range map[string]func(file string) error{
			"gone":      os.Remove,
			"empty":     func(file string) error { return os.Truncate(file, 0) },
			"cut":       func(file string) error { return os.Truncate(file, 20) },
			"malformed": func(file string) error { return os.WriteFile(file, []byte(`{"signed":{"_type":"timestamp"}}`), 0o666) },
		} {
			if pattern == "1.root.json" && name != "gone" {
				continue // see TestOtherKeys
			}
			p := newPlace(t)
			p.sign()
			follows := p.newClient()
			if err := follows.upToDate(); err != nil {
				t.Fatal(err)
			}
			files, err := filepath.Glob(filepath.Join(p.mirror, "tuf", pattern))
			if err != nil || len(files) != 1 {
				t.Fatal(files, err)
			}
			if err := damage(files[0]); err != nil {
				t.Fatal(err)
			}
			if faults, err := Verify(t.Context(), p.mirror); err != nil || len(faults) != 1 || faults[0].Stale {
				t.Errorf("%s %s: found %+v, %v", pattern, name, faults, err)
			}
			p.now = p.now.Add(time.Hour)
			if !p.sign() {
				t.Errorf("%s %s: nothing was done", pattern, name)
			}
			if err := follows.upToDate(); err != nil {
				t.Errorf("%s %s: %v", pattern, name, err)
			}
		}
	}
}

// A mirror of other keys, or of newer ones than are known, is not signed over.
func TestOtherKeys(t *testing.T) {
	p := newPlace(t)
	p.sign()
	old := p.copyDir()
	p.rotate(Root)
	p.sign()
	before := p.tuf()
	if _, err := old.trySign(t.Context()); err == nil || !strings.Contains(err.Error(), "has tuf/2.root.json, and "+old.Dir+" does not; copy it there") {
		t.Errorf("an old copy: %v", err)
	}
	other := *p
	other.Dir += "2"
	if err := Init(other.Options); err != nil {
		t.Fatal(err)
	}
	if err := other.keys().Renew(t.Context(), p.mirror, true); err == nil {
		t.Error("renewed with other keys")
	}
	other.rotate(Root)
	if _, err := other.trySign(t.Context()); !errors.Is(err, ErrOther) || !strings.Contains(err.Error(), "its tuf/1.root.json is not the one of "+other.Dir) {
		t.Errorf("other keys: %v", err)
	}
	if p.tuf() != before {
		t.Error("the mirror changed")
	}
}

// Too few signatures are not published.
func TestThreshold(t *testing.T) {
	for _, role := range online {
		p := newPlace(t)
		follows := p.newClient()
		p.sign()
		if _, err := p.keys().Add(role, 2); err != nil {
			t.Fatal(err)
		}
		away := t.TempDir()
		ids := p.keys().newest().Signed.Roles[role].KeyIDs
		p.lose(role, ids[1], away)
		before := p.tuf()
		p.publish("two", "a")
		_, err := p.trySign(t.Context())
		for name, err := range map[string]error{"check": p.keys().Check(), "sign": err, "renew": p.keys().Renew(t.Context(), p.mirror, true)} {
			if !errors.Is(err, ErrKeys) || !strings.Contains(err.Error(), role) {
				t.Errorf("%s: %s: %v", role, name, err)
			}
		}
		if p.tuf() != before || follows.verify() != nil {
			t.Errorf("%s: the mirror changed", role)
		}
		if err := os.Rename(filepath.Join(away, keyFile(role, ids[1])), filepath.Join(p.Dir, keyFile(role, ids[1]))); err != nil {
			t.Fatal(err)
		}
		p.sign()
		if err := follows.upToDate(); err != nil {
			t.Errorf("%s: %v", role, err)
		}
		// Any two of three will do.
		if _, err := p.keys().Add(role, 0); err != nil {
			t.Fatal(err)
		}
		p.lose(role, ids[0], away)
		p.publish("three", "a")
		p.sign()
		if err := follows.upToDate(); err != nil {
			t.Errorf("%s: two of three: %v", role, err)
		}
	}
}

// A key that is lost is replaced: only its old signatures are missing.
func TestLostKey(t *testing.T) {
	for _, role := range online {
		p := newPlace(t)
		follows := p.newClient()
		p.sign()
		if err := follows.upToDate(); err != nil {
			t.Fatal(err)
		}
		p.lose(role, "", "")
		p.rotate(role)
		p.sign()
		if err := follows.upToDate(); err != nil {
			t.Errorf("%s: %v", role, err)
		}
	}
}

// A change that waits for signatures keeps nothing.
func TestPending(t *testing.T) {
	p := newPlace(t)
	away := t.TempDir()
	p.lose(Root, "", away)
	if got, err := p.keys().Rotate(Targets, ""); err != nil || len(got.Missing) != 2 {
		t.Fatalf("%+v, %v", got, err)
	}
	k := p.keys()
	if err := k.Check(); err != nil || !strings.Contains(p.log.String(), "a change of keys waits for signatures") {
		t.Errorf("%v, log %s", err, &p.log)
	}
	p.sign()
	if n := p.count("*.root.json"); n != 1 {
		t.Errorf("%d roots", n)
	}
}

// A change of keys after they were checked counts.
func TestMeanwhile(t *testing.T) {
	p := newPlace(t)
	p.sign()
	k := p.keys()
	if err := k.Check(); err != nil {
		t.Fatal(err)
	}
	p.rotate(Timestamp)
	root, err := os.OpenRoot(p.mirror)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	if _, err := k.Sign(t.Context(), atomicfile.Dir{Root: root}); err != nil {
		t.Fatal(err)
	}
	if err := p.newClient().upToDate(); err != nil || p.count("2.root.json") != 1 {
		t.Errorf("%v in\n%s", err, p.tuf())
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

// countdown is a context that ends after it was asked so many times.
type countdown struct {
	context.Context
	left int
}

func (c *countdown) Err() error {
	if c.left--; c.left < 0 {
		return context.Canceled
	}
	return nil
}

// changes are what a mirror can go through, each as a test's row.
var mirrorChanges = []struct {
	name   string
	change func(p *place)
}{
	{"another content", func(p *place) { p.publish("two", "a", "new") }},
	{"new keys", func(p *place) {
		for _, role := range Roles() {
			p.rotate(role)
		}
	}},
	{"both", func(p *place) { p.rotate(Timestamp); p.rotate(Snapshot); p.publish("two", "new") }},
	{"more signatures", func(p *place) {
		for _, role := range Roles() {
			if _, err := p.keys().Add(role, 2); err != nil {
				p.t.Fatal(err)
			}
		}
	}},
	{"time", func(p *place) { p.now = p.now.Add(25 * day) }},
}

// However a run ends early, between any two files, clients old and new verify what
// is there, and the next run ends as any.
func TestAborted(t *testing.T) {
	for _, c := range mirrorChanges {
		first := newPlace(t)
		begins := first.newClient()
		first.sign()
		if err := begins.upToDate(); err != nil {
			t.Fatal(err)
		}
		first.now = first.now.Add(time.Hour)
		c.change(first)
		for at := 0; ; at++ {
			p, follows := first.fork(begins)
			_, err := p.trySign(&countdown{t.Context(), at})
			if err == nil {
				if at < 5 {
					t.Errorf("%s: only %d points", c.name, at)
				}
				break
			}
			if !errors.Is(err, context.Canceled) {
				t.Fatalf("%s, %d: %v", c.name, at, err)
			}
			p.verifies(follows, fmt.Sprintf("%s, aborted at %d", c.name, at))
			p.now = p.now.Add(time.Hour)
			p.sign()
			if err := follows.upToDate(); err != nil {
				t.Errorf("%s, after %d: %v", c.name, at, err)
			}
		}
	}
}

// verifies wants the mirror to verify for a client that follows it, and for one that
// begins.
func (p *place) verifies(follows *client, when string) {
	p.t.Helper()
	if err := follows.verify(); err != nil {
		p.t.Errorf("%s: who follows: %v in\n%s", when, err, p.tuf())
	}
	if err := p.newClient().verify(); err != nil {
		p.t.Errorf("%s: who begins: %v in\n%s", when, err, p.tuf())
	}
	if left := p.leftovers(); len(left) > 0 {
		p.t.Errorf("%s: left are %v", when, left)
	}
}

// On a disk that gets full at any file, or becomes read-only, the mirror verifies,
// and with room again the next run ends as any.
func TestDisk(t *testing.T) {
	for _, c := range mirrorChanges[:4] {
		full := 0
		for room := 0; ; room += 4 << 10 {
			p := newPlace(t)
			p.mirror = testdata.SmallDisk(t, 16<<20)
			p.serve()
			p.publish("one", "a", "b.c")
			p.sign()
			follows := p.newClient()
			p.now = p.now.Add(time.Hour)
			c.change(p)
			limit(t, p.mirror, room)
			_, err := p.trySign(t.Context())
			p.verifies(follows, fmt.Sprintf("%s, %d bytes free", c.name, room))
			if err == nil {
				break
			}
			full++
			if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "signing the mirror: tuf/") {
				t.Fatalf("%s, %d bytes free: %v", c.name, room, err)
			}
			remount(t, p.mirror, "size=16m")
			p.sign()
			if err := follows.upToDate(); err != nil {
				t.Errorf("%s, %d bytes free before: %v", c.name, room, err)
			}
		}
		if full < 3 {
			t.Errorf("%s: only %d disks got full", c.name, full)
		}
	}
	p := newPlace(t)
	p.mirror = testdata.SmallDisk(t, 1<<20)
	p.serve()
	p.publish("one", "a")
	p.sign()
	follows := p.newClient()
	p.publish("two", "a")
	if err := syscall.Mount("", p.mirror, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := p.trySign(t.Context()); !errors.Is(err, syscall.EROFS) {
		t.Errorf("read-only: %v", err)
	}
	p.verifies(follows, "read-only")
}

// limit leaves a small disk so much room, in bytes.
func limit(t *testing.T, dir string, room int) {
	t.Helper()
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		t.Fatal(err)
	}
	remount(t, dir, fmt.Sprintf("size=%d", int(s.Blocks-s.Bfree)*int(s.Bsize)+room))
}

func remount(t *testing.T, dir, options string) {
	t.Helper()
	if err := syscall.Mount("", dir, "", syscall.MS_REMOUNT, options); err != nil {
		t.Fatal(err)
	}
}
