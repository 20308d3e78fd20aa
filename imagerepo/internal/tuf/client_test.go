package tuf

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"os"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// A client follows the repository, and remembers what it saw.
func TestRefresh(t *testing.T) {
	r := newRepo(t)
	u := newUser(t, r.files["1.root.json"])
	for i := range 4 {
		want := fmt.Sprint("an index of version ", i)
		r.docs["index.json"] = want
		r.next()
		for range 2 { // again nothing is new
			if got, err := u.index(r.files); err != nil || got != want {
				t.Fatalf("version %d: %q, %v", i, got, err)
			}
		}
	}
	if names := slices.Sorted(maps.Keys(u.state())); !slices.Equal(names, []string{"pinned", "root.json", "snapshot.json", "targets.json", "timestamp.json"}) {
		t.Errorf("remembered %q", names)
	}
}

// What is damaged in the memory of a client counts for nothing.
func TestDamagedMemory(t *testing.T) {
	r := newRepo(t)
	for _, name := range []string{"pinned", "root.json", "snapshot.json", "targets.json", "timestamp.json"} {
		for _, damage := range []func([]byte) []byte{
			func([]byte) []byte { return nil },
			func(b []byte) []byte { return b[:len(b)/2] },
			func(b []byte) []byte { return bytes.Repeat([]byte("["), 1000) },
			func(b []byte) []byte {
				return []byte(`{"signed":{"_type":"` + strings.TrimSuffix(name, ".json") + `"}}`)
			},
		} {
			u := newUser(t, r.files["1.root.json"])
			if _, err := u.index(r.files); err != nil {
				t.Fatal(err)
			}
			file := path.Join(u.path, name)
			os.WriteFile(file, damage(must(os.ReadFile(file))), 0o666)
			if got, err := u.index(r.files); err != nil || got != "an index" {
				t.Errorf("%s: %q, %v", name, got, err)
			}
		}
	}
}

// Where nothing is to be written nothing is.
func TestReadOnly(t *testing.T) {
	r := newRepo(t)
	u := newUser(t, r.files["1.root.json"])
	c := u.client()
	c.ReadOnly = true
	d, err := c.Refresh(t.Context(), reader(r.files))
	if err != nil || len(u.state()) > 0 {
		t.Fatalf("%v, wrote %v", err, u.state())
	}
	if _, err := d.Read(t.Context(), "nothing.json", 1<<20); !errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrRefused) {
		t.Errorf("a document that nothing names: %v", err)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Refresh(cancelled, reader(r.files)); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if _, err := d.Read(cancelled, "index.json", 1<<20); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// A client that is one, two or five roots behind arrives, whatever role got another
// key.
func TestRotation(t *testing.T) {
	for _, role := range roles {
		for _, behind := range []int{1, 2, 5} {
			for _, known := range []bool{false, true} { // it has been there before
				r := newRepo(t)
				u := newUser(t, r.files["1.root.json"])
				if known {
					if _, err := u.index(r.files); err != nil {
						t.Fatal(err)
					}
				}
				for range behind {
					r.rotate(role)
				}
				if got, err := u.index(r.files); err != nil || got != "an index" {
					t.Errorf("%s, %d behind: %q, %v", role, behind, got, err)
				}
				if !strings.Contains(u.state()["root.json"], fmt.Sprintf(`"version":%d`, behind+1)) {
					t.Errorf("%s, %d behind: the root is %s", role, behind, u.state()["root.json"])
				}
			}
		}
	}
}

// A root that is given anew begins anew.
func TestAnotherPin(t *testing.T) {
	r, other := newRepo(t), newRepo(t)
	u := newUser(t, r.files["1.root.json"])
	if _, err := u.index(r.files); err != nil {
		t.Fatal(err)
	}
	u.root = other.files["1.root.json"]
	if _, err := u.index(r.files); !errors.Is(err, ErrRefused) {
		t.Errorf("the old repository under another root: %v", err)
	}
	if got, err := u.index(other.files); err != nil || got != "an index" {
		t.Errorf("the other repository: %q, %v", got, err)
	}
	for _, root := range []string{"", "{}", "[", string(r.files["timestamp.json"]), strings.Replace(string(r.files["1.root.json"]), `"version":1`, `"version":2`, 1)} {
		u := newUser(t, []byte(root))
		if _, err := u.index(r.files); err == nil || len(u.state()) > 0 {
			t.Errorf("a root that is none, %.20q: %v", root, err)
		}
	}
}

// stolen replaces the keys that a role is signed with, not those that are trusted.
func stolen(r *repo, role string) { r.keys[role] = append(r.keys[role][:0:0], newKey()) }

// attackTable are those of the specification, section 1.5.2, and more.
var attackTable = []struct {
	name   string
	attack func(r *repo, old map[string][]byte) map[string][]byte // after the client has been there
	says   string
}{
	{"arbitrary install: another document", func(r *repo, _ map[string][]byte) map[string][]byte {
		for name := range r.files {
			if strings.HasSuffix(name, ".index.json") {
				r.files[name] = []byte("AN index")
			}
		}
		return r.files
	}, "changed"},
	{"arbitrary install: all signed by others", func(r *repo, _ map[string][]byte) map[string][]byte {
		for _, role := range roles[1:] {
			stolen(r, role)
		}
		r.next()
		return r.files
	}, "arbitrary install"},
	{"arbitrary install: another root", func(r *repo, _ map[string][]byte) map[string][]byte {
		for _, role := range roles {
			r.replaceKey(role)
		}
		r.root.Signed.Version++
		r.signRoot(r.keys["root"])
		r.next()
		return r.files
	}, "arbitrary install"},
	{"no signatures", func(r *repo, _ map[string][]byte) map[string][]byte {
		r.timestamp.Signed.Version++
		r.signTimestamp(nil)
		return r.files
	}, "too few trusted keys have signed it"},
	{"wrong software: a document of another name", func(r *repo, _ map[string][]byte) map[string][]byte {
		var index, series string
		for name := range r.files {
			switch {
			case strings.HasSuffix(name, ".index.json"):
				index = name
			case strings.HasSuffix(name, ".a.json"):
				series = name
			}
		}
		r.files[index] = r.files[series]
		return r.files
	}, "mix-and-match"},
	{"endless data: timestamp", func(r *repo, _ map[string][]byte) map[string][]byte {
		r.files["timestamp.json"] = append(r.files["timestamp.json"], bytes.Repeat([]byte(" "), maxTimestamp)...)
		return r.files
	}, "endless data"},
	{"endless data: snapshot", func(r *repo, _ map[string][]byte) map[string][]byte {
		r.next()
		name := fmt.Sprintf("%d.snapshot.json", r.snapshot.Signed.Version)
		r.files[name] = append(r.files[name], ' ')
		return r.files
	}, "endless data"},
	{"endless data: a document", func(r *repo, _ map[string][]byte) map[string][]byte {
		for name := range r.files {
			if strings.HasSuffix(name, ".index.json") {
				r.files[name] = append(r.files[name], ' ')
			}
		}
		return r.files
	}, "endless data"},
	{"endless data: roots without end", func(r *repo, _ map[string][]byte) map[string][]byte {
		for range maxRoots + 1 {
			r.root.Signed.Version++
			r.signRoot(r.keys["root"])
		}
		return r.files
	}, "endless data"},
	{"rollback: all as it was", func(_ *repo, old map[string][]byte) map[string][]byte { return old }, "rollback"},
	{"rollback: an older snapshot under a new timestamp", func(r *repo, _ map[string][]byte) map[string][]byte {
		r.snapshot.Signed.Version--
		r.timestamp.Signed.Version++
		r.signSnapshot(r.keys["snapshot"])
		r.signTimestamp(r.keys["timestamp"])
		return r.files
	}, "rollback"},
	{"rollback: older targets under a new snapshot", func(r *repo, _ map[string][]byte) map[string][]byte {
		r.targets.Signed.Version--
		r.snapshot.Signed.Version++
		r.timestamp.Signed.Version++
		r.publish()
		return r.files
	}, "rollback"},
	{"freeze: the timestamp has expired", func(r *repo, _ map[string][]byte) map[string][]byte {
		r.timestamp.Signed.Expires = now.AddDate(0, 0, -1)
		r.next()
		return r.files
	}, "freeze"},
	{"freeze: the snapshot has expired", func(r *repo, _ map[string][]byte) map[string][]byte {
		r.snapshot.Signed.Expires = now.AddDate(0, 0, -1)
		r.next()
		return r.files
	}, "freeze"},
	{"freeze: the targets have expired", func(r *repo, _ map[string][]byte) map[string][]byte {
		r.targets.Signed.Expires = now.AddDate(0, 0, -1)
		r.next()
		return r.files
	}, "freeze"},
	{"freeze: the root has expired", func(r *repo, _ map[string][]byte) map[string][]byte {
		r.root.Signed.Expires = now.AddDate(0, 0, -1)
		r.root.Signed.Version++
		r.signRoot(r.keys["root"])
		return r.files
	}, "freeze"},
	{"mix and match: a snapshot of another time", func(r *repo, old map[string][]byte) map[string][]byte {
		last := r.copy()
		r.next()
		last["timestamp.json"] = r.files["timestamp.json"]
		last[fmt.Sprintf("%d.snapshot.json", r.snapshot.Signed.Version)] = old[fmt.Sprintf("%d.snapshot.json", r.snapshot.Signed.Version-2)]
		return last
	}, "mix-and-match"},
	{"mix and match: targets of another time", func(r *repo, old map[string][]byte) map[string][]byte {
		r.next()
		r.files[fmt.Sprintf("%d.targets.json", r.targets.Signed.Version)] = old[fmt.Sprintf("%d.targets.json", r.targets.Signed.Version-2)]
		return r.files
	}, "mix-and-match"},
	{"mix and match: the snapshot is missing", func(r *repo, _ map[string][]byte) map[string][]byte {
		r.next()
		delete(r.files, fmt.Sprintf("%d.snapshot.json", r.snapshot.Signed.Version))
		return r.files
	}, "mix-and-match"},
	{"mix and match: another type of metadata", func(r *repo, _ map[string][]byte) map[string][]byte {
		r.files["timestamp.json"] = r.files[fmt.Sprintf("%d.snapshot.json", r.snapshot.Signed.Version)]
		return r.files
	}, "not trusted"},
	{"fast-forward: by someone without the key", func(r *repo, _ map[string][]byte) map[string][]byte {
		stolen(r, "timestamp")
		r.timestamp.Signed.Version = math.MaxInt64 - 1
		r.signTimestamp(r.keys["timestamp"])
		return r.files
	}, "fast-forward"},
	{"key compromise: fewer keys than the threshold", func(r *repo, _ map[string][]byte) map[string][]byte {
		r.addKey("targets", newKey())
		r.root.Signed.Roles["targets"].Threshold = 2
		r.root.Signed.Version++
		r.signRoot(r.keys["root"])
		r.keys["targets"] = r.keys["targets"][:1]
		r.next()
		return r.files
	}, "too few trusted keys have signed it"},
	{"key compromise: one key twice", func(r *repo, _ map[string][]byte) map[string][]byte {
		r.addKey("targets", newKey())
		r.root.Signed.Roles["targets"].Threshold = 2
		r.root.Signed.Version++
		r.signRoot(r.keys["root"])
		r.keys["targets"][1] = r.keys["targets"][0]
		r.next()
		return r.files
	}, "not trusted"},
	{"a root that leaves one out", func(r *repo, _ map[string][]byte) map[string][]byte {
		r.root.Signed.Version += 2
		r.files[fmt.Sprintf("%d.root.json", r.root.Signed.Version-1)] = sign(r.root, r.keys["root"])
		return r.files
	}, "not the version that is named"},
	{"a timestamp that names nothing", func(r *repo, _ map[string][]byte) map[string][]byte {
		r.timestamp.Signed.Version++
		r.timestamp.Signed.Meta = map[string]*metadata.MetaFiles{}
		r.files["timestamp.json"] = sign(r.timestamp, r.keys["timestamp"])
		return r.files
	}, "does not name"},
	{"targets that describe nothing", func(r *repo, _ map[string][]byte) map[string][]byte {
		r.targets.Signed.Targets["index.json"] = nil
		r.targets.Signed.Version++
		r.snapshot.Signed.Version++
		r.timestamp.Signed.Version++
		r.files[fmt.Sprintf("%d.targets.json", r.targets.Signed.Version)] = sign(r.targets, r.keys["targets"])
		r.signSnapshot(r.keys["snapshot"])
		r.signTimestamp(r.keys["timestamp"])
		return r.files
	}, "invalid metadata"},
	{"no metadata at all", func(*repo, map[string][]byte) map[string][]byte { return nil }, "file does not exist"},
	{"metadata that is none", func(r *repo, _ map[string][]byte) map[string][]byte {
		r.files["timestamp.json"] = bytes.Repeat([]byte("["), 10_000)
		return r.files
	}, "not trusted"},
}

// Each attack is refused with an error that names it, and what is remembered of the
// documents stays.
func TestAttacks(t *testing.T) {
	for _, c := range attackTable {
		t.Run(c.name, func(t *testing.T) {
			r := newRepo(t)
			old := r.copy()
			r.next()
			u := newUser(t, r.files["1.root.json"])
			if _, err := u.index(r.files); err != nil {
				t.Fatal(err)
			}
			before := u.state()
			got, err := u.index(c.attack(r, old))
			if err == nil || !strings.Contains(err.Error(), c.says) || !errors.Is(err, ErrRefused) && !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%q, %v; want one that says %q", got, err, c.says)
			}
			if after := u.state(); after["targets.json"] != before["targets.json"] {
				t.Error("other targets are remembered")
			}
		})
	}
}

// A mirror that stands still is a freeze attack once what it says has expired.
func TestFreeze(t *testing.T) {
	r := newRepo(t)
	u := newUser(t, r.files["1.root.json"])
	for days, fails := range map[int]bool{0: false, 9: false, 11: true, 1000: true} {
		u.now = now.AddDate(0, 0, days)
		if _, err := u.index(r.files); (err != nil) != fails || fails && !strings.Contains(err.Error(), "freeze") {
			t.Errorf("after %d days: %v", days, err)
		}
	}
}

// A version that is signed so high, with a stolen key, that none comes after it is
// recovered from by another key of that role.
func TestFastForwardRecovery(t *testing.T) {
	for _, role := range []string{"timestamp", "snapshot"} {
		r := newRepo(t)
		u := newUser(t, r.files["1.root.json"])
		snapshot, timestamp := r.snapshot.Signed.Version, r.timestamp.Signed.Version
		r.timestamp.Signed.Version = math.MaxInt64 - 1
		if role == "snapshot" {
			r.snapshot.Signed.Version = math.MaxInt64 - 1
		}
		r.publish()
		if _, err := u.index(r.files); err != nil {
			t.Fatal(err)
		}
		r.snapshot.Signed.Version, r.timestamp.Signed.Version = snapshot, timestamp
		r.next()
		if _, err := u.index(r.files); err == nil {
			t.Errorf("%s: without another key it was accepted", role)
		}
		r.snapshot.Signed.Version, r.timestamp.Signed.Version = snapshot, timestamp
		r.rotate("timestamp")
		if role == "snapshot" {
			r.rotate("snapshot")
		}
		if got, err := u.index(r.files); err != nil || got != "an index" {
			t.Errorf("%s: %q, %v", role, got, err)
		}
	}
}

// FuzzRefresh wants an error, and no panic, for whatever a mirror has for timestamp
// or snapshot.
func FuzzRefresh(f *testing.F) {
	r := newRepo(f)
	for name, data := range r.files {
		f.Add(name, data)
	}
	f.Fuzz(func(t *testing.T, name string, data []byte) {
		files := r.copy()
		if was, ok := files[name]; !ok || bytes.Equal(was, data) {
			return
		}
		files[name] = data
		u := newUser(t, r.files["1.root.json"])
		got, err := u.index(files)
		if err == nil && got != "an index" {
			t.Errorf("%s: %q", name, got)
		}
	})
}
