package trust

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"puavo-image-repository/testdata"
)

// What is damaged is made anew, and versions never go back.
func TestDamage(t *testing.T) {
	t.Parallel()
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
	t.Parallel()
	for _, c := range mirrorChanges {
		first := newPlace(t)
		begins := first.newClient()
		first.sign()
		if err := begins.upToDate(); err != nil {
			t.Fatal(err)
		}
		first.now = first.now.Add(time.Hour)
		c.change(first)
		for at := 0; ; at += testdata.Scale(1, 4) {
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
	t.Parallel()
	for _, c := range mirrorChanges[:4] {
		first := newPlace(t)
		begins := first.newClient()
		first.sign()
		first.now = first.now.Add(time.Hour)
		c.change(first)
		full := 0
		for room := 0; ; room += 4 << 10 {
			p, follows := first.fork(begins)
			disk := testdata.SmallDisk(t, 16<<20)
			if err := os.CopyFS(disk, os.DirFS(p.mirror)); err != nil {
				t.Fatal(err)
			}
			p.mirror = disk
			p.serve()
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
