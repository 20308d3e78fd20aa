package trust

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"puavo-image-repository/imagerepo/atomicfile"
)

// Keys that lie in the mirror, by whatever name, would be published.
func TestKeysInMirror(t *testing.T) {
	for _, c := range []struct {
		name string
		dirs func(top string) (keys, mirror string)
		bad  bool
	}{
		{"beside it", func(top string) (string, string) { return top + "/keys", top + "/mirror" }, false},
		{"its begin is the same", func(top string) (string, string) { return top + "/mirror.keys", top + "/mirror" }, false},
		{"around it", func(top string) (string, string) { return top, top + "/mirror" }, false},
		{"not there yet", func(top string) (string, string) { return top + "/keys", top + "/none" }, false},
		{"in it", func(top string) (string, string) { return top + "/mirror/keys", top + "/mirror" }, true},
		{"deep in it", func(top string) (string, string) { return top + "/mirror/a/b/keys", top + "/mirror/" }, true},
		{"the same", func(top string) (string, string) { return top + "/mirror", top + "/mirror" }, true},
		{"by a link", func(top string) (string, string) { return top + "/link/keys", top + "/mirror" }, true},
		{"of a mirror by a link", func(top string) (string, string) { return top + "/mirror/keys", top + "/link" }, true},
	} {
		top := t.TempDir()
		os.Mkdir(filepath.Join(top, "mirror"), 0o777)
		os.Symlink("mirror", filepath.Join(top, "link"))
		p := newPlace(t)
		from := p.Dir
		p.Dir, p.mirror = c.dirs(top)
		if err := os.CopyFS(p.Dir, os.DirFS(from)); err != nil {
			t.Fatal(err)
		}
		os.Chmod(p.Dir, 0o700)
		if err := p.keys().Check(p.mirror); (err != nil) != c.bad || err != nil && !strings.Contains(err.Error(), "move them out") {
			t.Errorf("%s: %v", c.name, err)
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
	if _, err := old.trySign(t.Context()); err == nil || !strings.Contains(err.Error(), "has tuf/2.root.json, but "+old.Dir+" does not; copy it there") {
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
	if _, err := other.trySign(t.Context()); !errors.Is(err, ErrOtherKeys) || !strings.Contains(err.Error(), "its tuf/1.root.json differs from that in "+other.Dir) {
		t.Errorf("other keys: %v", err)
	}
	if p.tuf() != before {
		t.Error("the mirror changed")
	}
}

// Too few signatures are not published.
func TestThreshold(t *testing.T) {
	for _, role := range onlineRoles {
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
		for name, err := range map[string]error{"check": p.keys().Check(p.mirror), "sign": err, "renew": p.keys().Renew(t.Context(), p.mirror, true)} {
			if !errors.Is(err, ErrMissingKeys) || !strings.Contains(err.Error(), role) {
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
	for _, role := range onlineRoles {
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

// An old key that cannot be read any more is warned of, and no reason not to sign.
func TestBadOldKey(t *testing.T) {
	p := newPlace(t)
	follows := p.newClient()
	p.sign()
	old := p.keys().newest().Signed.Roles[Snapshot].KeyIDs[0]
	p.rotate(Snapshot)
	if err := os.WriteFile(filepath.Join(p.Dir, keyFile(Snapshot, old)), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	p.sign()
	if err := follows.upToDate(); err != nil || !strings.Contains(p.log.String(), "an old key cannot sign") {
		t.Errorf("%v, log %s", err, &p.log)
	}
	// A mirror that is new needs none.
	p.log.Reset()
	os.RemoveAll(filepath.Join(p.mirror, "tuf"))
	p.sign()
	if err := p.newClient().upToDate(); err != nil || p.log.Len() > 0 {
		t.Errorf("%v, log %s", err, &p.log)
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
	if err := k.Check(p.mirror); err != nil || !strings.Contains(p.log.String(), "a change of keys waits for signatures") {
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
	if err := k.Check(p.mirror); err != nil {
		t.Fatal(err)
	}
	p.rotate(Timestamp)
	dir, err := atomicfile.Open(p.mirror)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	if _, err := k.Sign(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	if err := p.newClient().upToDate(); err != nil || p.count("2.root.json") != 1 {
		t.Errorf("%v in\n%s", err, p.tuf())
	}
}
