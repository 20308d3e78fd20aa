package trust

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
)

var hexID = regexp.MustCompile(`[0-9a-f]{8}`)

// clauses returns the changes of a root, ids as x.
func clauses(p Proposal) string {
	return hexID.ReplaceAllString(strings.Join(p.Changes, ", "), "x")
}

// rotate replaces all keys of a role, and wants a complete root.
func (p *place) rotate(role string) {
	p.t.Helper()
	got, err := p.keys().Rotate(role, "")
	if err != nil || len(got.Missing) > 0 {
		p.t.Fatalf("rotating %s: %+v, %v", role, got, err)
	}
}

// lose moves the private keys of a role away, all or the one with an id.
func (p *place) lose(role, id string, to string) {
	p.t.Helper()
	pattern := role + ".*.key"
	if id != "" {
		pattern = keyFile(role, id)
	}
	names, err := filepath.Glob(filepath.Join(p.Dir, pattern))
	if err != nil || len(names) == 0 {
		p.t.Fatalf("no %s in %s, %v", pattern, p.Dir, err)
	}
	for _, name := range names {
		if to != "" {
			err = os.Rename(name, filepath.Join(to, filepath.Base(name)))
		} else {
			err = os.Remove(name)
		}
		if err != nil {
			p.t.Fatal(err)
		}
	}
}

// copyDir makes a copy of the keys directory without private keys.
func (p *place) copyDir() *place {
	p.t.Helper()
	other := *p
	other.Dir = filepath.Join(p.t.TempDir(), "keys")
	if err := os.CopyFS(other.Dir, os.DirFS(p.Dir)); err != nil {
		p.t.Fatal(err)
	}
	os.Chmod(other.Dir, 0o700)
	other.lose("*", "", "")
	return &other
}

// bring copies a file from another keys directory.
func (p *place) bring(from *place, name string) {
	p.t.Helper()
	data, err := os.ReadFile(filepath.Join(from.Dir, name))
	if err == nil {
		err = os.WriteFile(filepath.Join(p.Dir, name), data, 0o644)
	}
	if err != nil {
		p.t.Fatal(err)
	}
}

func TestRotate(t *testing.T) {
	for _, role := range Roles() {
		p := newPlace(t)
		k := p.keys()
		got, err := k.Rotate(role, "")
		if err != nil || got.Version != 2 || len(got.Missing) > 0 || !got.Expires.Equal(begin.Add(365*day)) {
			t.Errorf("%s: %+v, %v", role, got, err)
		}
		if want := fmt.Sprintf("%[1]s gets the key x, %[1]s loses the key x", role); clauses(got) != want {
			t.Errorf("%s: %s, want %s", role, clauses(got), want)
		}
		want := strings.Replace("root used/1, timestamp used/1, snapshot used/1, targets used/1", role+" used/1", role+" used/1, "+role+" retired/0", 1)
		if got := states(t, k); got != want {
			t.Errorf("%s: %s, want %s", role, got, want)
		}
		if version, expires := k.Root(); version != 2 || !expires.Equal(got.Expires) {
			t.Errorf("%s: root %d until %v", role, version, expires)
		}
		if again := states(t, p.keys()); again != want {
			t.Errorf("%s: read again: %s", role, again)
		}
	}
}

// One of several keys is replaced by its id.
func TestRotateOne(t *testing.T) {
	p := newPlace(t)
	k := p.keys()
	if _, err := k.Add(Snapshot, 2); err != nil {
		t.Fatal(err)
	}
	ids := k.newest().Signed.Roles[Snapshot].KeyIDs
	for _, c := range []struct{ id, want string }{
		{"xyz", `0 keys of snapshot have an id that begins with "xyz", want exactly one; see keys list`},
		{ids[0][:8] + "x", "0 keys"},
	} {
		if _, err := k.Rotate(Snapshot, c.id); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, want %q", c.id, err, c.want)
		}
	}
	got, err := k.Rotate(Snapshot, ids[0][:8])
	if err != nil || clauses(got) != "snapshot gets the key x, snapshot loses the key x" || !strings.Contains(got.Changes[1], ids[0][:8]) {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := k.Rotate(Snapshot, ""); err != nil || strings.Count(clauses(got), "gets") != 2 || strings.Count(clauses(got), "loses") != 2 {
		t.Errorf("all: %+v, %v", got, err)
	}
	for _, role := range []string{"", "mirrors"} {
		if _, err := k.Rotate(role, ""); err == nil || !strings.Contains(err.Error(), "want root, timestamp, snapshot, targets") {
			t.Errorf("role %q: %v", role, err)
		}
		if _, err := k.Add(role, 0); err == nil {
			t.Errorf("role %q gets a key", role)
		}
	}
}

func TestAdd(t *testing.T) {
	for _, c := range []struct {
		role      string
		threshold int
		want      string // the changes, or part of the error
		fails     bool
	}{
		{Root, 0, "root gets the key x", false},
		{Root, 1, "root gets the key x", false},
		{Root, 2, "root gets the key x, root needs 2 signatures, not 1", false},
		{Timestamp, 2, "timestamp gets the key x, timestamp needs 2 signatures, not 1", false},
		{Timestamp, 3, "threshold 3, but timestamp will have only 2 keys", true},
		{Timestamp, -1, "threshold -1", true},
	} {
		p := newPlace(t)
		got, err := p.keys().Add(c.role, c.threshold)
		if c.fails {
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s, %d: %v, want %q", c.role, c.threshold, err, c.want)
			}
			if got := states(t, p.keys()); strings.Contains(got, "retired") {
				t.Errorf("%s, %d: left is %s", c.role, c.threshold, got)
			}
			continue
		}
		if err != nil || len(got.Missing) > 0 || clauses(got) != c.want {
			t.Errorf("%s, %d: %+v, %v, want %s", c.role, c.threshold, got, err, c.want)
		}
	}
}

// Root keys in two places, of which both must sign: the new root goes from one to
// the other, and either may complete it.
func TestTwoPlaces(t *testing.T) {
	one := newPlace(t)
	if _, err := one.keys().Add(Root, 2); err != nil {
		t.Fatal(err)
	}
	two := one.copyDir()
	ids := one.keys().newest().Signed.Roles[Root].KeyIDs
	one.lose(Root, ids[1], two.Dir)

	k := one.keys()
	got, err := k.Rotate(Timestamp, "")
	if err != nil || len(got.Missing) != 2 {
		t.Fatalf("%+v, %v", got, err)
	}
	for i, m := range got.Missing {
		if m.Of != int64(i)+2 || m.Signatures != 1 || len(m.Keys) != 1 || m.Keys[0] != ids[1] {
			t.Errorf("missing is %+v", m)
		}
	}
	if want := "root used/2, root used/2!, timestamp used/1, timestamp next/1, snapshot used/1, targets used/1"; states(t, k) != want {
		t.Errorf("%s, want %s", states(t, k), want)
	}
	if _, err := k.Rotate(Root, ""); !errors.Is(err, ErrPending) || !strings.Contains(err.Error(), nextName) {
		t.Errorf("another change: %v", err)
	}
	again, err := k.SignRoot()
	if err != nil || len(again.Missing) != 2 {
		t.Errorf("signed again by the same: %+v, %v", again, err)
	}

	two.bring(one, nextName)
	k = two.keys()
	if p := k.Pending(); p == nil || clauses(*p) != "timestamp gets the key x, timestamp loses the key x" || len(p.Missing) != 2 {
		t.Errorf("pending is %+v", p)
	}
	done, err := k.SignRoot()
	if err != nil || done == nil || len(done.Missing) > 0 || k.Pending() != nil {
		t.Fatalf("%+v, %v", done, err)
	}
	if _, err := os.Lstat(filepath.Join(two.Dir, nextName)); err == nil {
		t.Error("the complete root still waits")
	}

	// Back at the first, the complete root makes the other one go.
	one.bring(two, "3.root.json")
	k = one.keys()
	if k.Pending() != nil || k.newest().Signed.Version != 3 {
		t.Errorf("still waits %+v", k.Pending())
	}
	if p, err := k.SignRoot(); p != nil || err != nil {
		t.Errorf("nothing to sign: %+v, %v", p, err)
	}
	if got, err := k.Rotate(Targets, ""); err != nil || got.Version != 4 {
		t.Errorf("%+v, %v", got, err)
	}
}

// A root key that is made elsewhere, and never leaves that place.
func TestKeyOfAnother(t *testing.T) {
	one := newPlace(t)
	two := one.copyDir()
	got, err := two.keys().Add(Root, 2)
	if err != nil || len(got.Missing) != 2 || got.Missing[1].Of != 2 || got.Missing[1].Signatures != 1 {
		t.Fatalf("%+v, %v", got, err)
	}
	one.bring(two, nextName)
	done, err := one.keys().SignRoot()
	if err != nil || len(done.Missing) > 0 {
		t.Fatalf("%+v, %v", done, err)
	}
	if want := "root used/2, root used/2!, timestamp used/1, snapshot used/1, targets used/1"; states(t, one.keys()) != want {
		t.Errorf("%s, want %s", states(t, one.keys()), want)
	}
	two.bring(one, "2.root.json")
	if want := "root used/2!, root used/2, timestamp used/1!, snapshot used/1!, targets used/1!"; states(t, two.keys()) != want {
		t.Errorf("%s, want %s", states(t, two.keys()), want)
	}
}

// SignRoot renews a root in its last third.
func TestRenewRoot(t *testing.T) {
	p := newPlace(t)
	for _, c := range []struct {
		after   time.Duration
		version int64
	}{{0, 0}, {243 * day, 0}, {244 * day, 2}, {250 * day, 0}, {600 * day, 3}, {2000 * day, 4}} {
		p.now = begin.Add(c.after)
		got, err := p.keys().SignRoot()
		if err != nil || (got == nil) != (c.version == 0) {
			t.Fatalf("after %v: %+v, %v", c.after, got, err)
		}
		if got != nil && (got.Version != c.version || len(got.Changes)+len(got.Missing) > 0 || !got.Expires.Equal(p.now.Add(365*day))) {
			t.Errorf("after %v: %+v", c.after, got)
		}
	}
	p.sign()
}

// A root that comes from elsewhere is not signed if it makes no sense.
func TestImplausible(t *testing.T) {
	type signed = map[string]any
	role := func(s signed, name string) map[string]any { return s["roles"].(map[string]any)[name].(map[string]any) }
	key := func(s signed) map[string]any {
		return s["keys"].(map[string]any)[role(s, Targets)["keyids"].([]any)[0].(string)].(map[string]any)
	}
	for _, c := range []struct {
		name   string
		change func(s signed)
		want   string
	}{
		{"as it was", func(signed) {}, ""},
		{"the one after", func(s signed) { s["version"] = 3 }, "is version 3, but the newest root here is version 1; copy the roots between them here"},
		{"expired", func(s signed) { s["expires"] = begin.Format(time.RFC3339) }, "it has expired; remove it and start again"},
		{"no consistent snapshots", func(s signed) { s["consistent_snapshot"] = false }, "this tool does not make such roots"},
		{"another role", func(s signed) { s["roles"].(map[string]any)["mirrors"] = role(s, Root) }, "this tool does not make such roots"},
		{"a role less", func(s signed) { delete(s["roles"].(map[string]any), Targets) }, "this tool does not make such roots"},
		{"another role instead", func(s signed) {
			s["roles"].(map[string]any)["mirrors"] = role(s, Root)
			delete(s["roles"].(map[string]any), Targets)
		}, "its role targets is invalid"},
		{"no threshold", func(s signed) { role(s, Root)["threshold"] = 0 }, "its role root is invalid"},
		{"a high threshold", func(s signed) { role(s, Snapshot)["threshold"] = 2 }, "its role snapshot is invalid"},
		{"no keys", func(s signed) { role(s, Targets)["keyids"] = []string{} }, "its role targets is invalid"},
		{"an unknown key", func(s signed) { role(s, Targets)["keyids"] = []string{"1234567890"} }, "the key 12345678 is not an Ed25519 key"},
		{"another kind of key", func(s signed) { key(s)["keytype"] = "rsa" }, "is not an Ed25519 key"},
		{"another id", func(s signed) { key(s)["scheme"] = "other" }, "the id of the key"},
	} {
		p := newPlace(t)
		other := p.copyDir()
		if _, err := other.keys().Rotate(Timestamp, ""); err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(filepath.Join(other.Dir, nextName))
		if err != nil {
			t.Fatal(err)
		}
		var doc map[string]any
		if err := json.Unmarshal(data, &doc); err != nil {
			t.Fatal(err)
		}
		c.change(doc["signed"].(signed))
		if data, err = json.Marshal(doc); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(p.Dir, nextName), data, 0o644); err != nil {
			t.Fatal(err)
		}
		got, err := p.keys().SignRoot()
		if c.want == "" {
			if err != nil || len(got.Missing) > 0 {
				t.Errorf("%s: %+v, %v", c.name, got, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), nextName) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
		if after, _ := os.ReadFile(filepath.Join(p.Dir, nextName)); string(after) != string(data) {
			t.Errorf("%s: it was signed", c.name)
		}
	}
}

// A signature that was damaged on the way is made again.
func TestDamagedSignature(t *testing.T) {
	one := newPlace(t)
	if _, err := one.keys().Add(Root, 2); err != nil {
		t.Fatal(err)
	}
	ids := one.keys().newest().Signed.Roles[Root].KeyIDs
	two := one.copyDir()
	one.lose(Root, ids[1], two.Dir)
	if _, err := one.keys().Rotate(Targets, ""); err != nil {
		t.Fatal(err)
	}
	next, err := metadata.Root().FromBytes(one.keys().next.data)
	if err != nil || len(next.Signatures) != 1 {
		t.Fatalf("%+v, %v", next, err)
	}
	next.Signatures[0].Signature[5] ^= 1
	data, err := encode(next)
	if err != nil {
		t.Fatal(err)
	}
	os.WriteFile(filepath.Join(one.Dir, nextName), data, 0o644)
	if p := one.keys().Pending(); len(p.Missing) != 2 || p.Missing[0].Signatures != 2 {
		t.Errorf("%+v", p)
	}
	if p, err := one.keys().SignRoot(); err != nil || p.Missing[0].Signatures != 1 {
		t.Errorf("%+v, %v", p, err)
	}
}
