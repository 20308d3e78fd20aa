package trust

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"puavo-image-repository/testdata"
)

const beforeDoc = "meta/puavo-os-long-buster-amd64.json"

// newBefore returns the keys and the mirror that the program before has left.
func newBefore(t testing.TB) *place {
	t.Helper()
	dir := t.TempDir()
	testdata.Before(t, "keys", dir)
	testdata.Before(t, "mirror", dir)
	p := newPlace(t)
	p.Dir, p.mirror = filepath.Join(dir, "keys"), filepath.Join(dir, "mirror")
	p.secret = strings.TrimSuffix(string(testdata.Read(t, "before/passphrase")), "\n")
	p.now = time.Date(2027, 1, 2, 3, 4, 5, 0, time.UTC) // after it was signed
	p.serve()
	return p
}

// Keys of the program before are those that they were, and open with the passphrase.
func TestBeforeKeys(t *testing.T) {
	p := newBefore(t)
	keys := p.keys()
	if err := keys.Check(p.mirror); err != nil {
		t.Error(err)
	}
	all, err := keys.List()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, k := range all {
		got = append(got, fmt.Sprintf("%s %s %v", k.Role, k.State, k.Here))
	}
	want := "root used true, timestamp used true, timestamp retired true, snapshot used true, targets used true"
	if strings.Join(got, ", ") != want {
		t.Errorf("%q, want %s", got, want)
	}
	if version, expires := keys.Root(); version != 2 || expires.Year() != 2054 {
		t.Errorf("root %d until %v", version, expires)
	}
	if p.log.Len() > 0 {
		t.Errorf("warnings: %s", &p.log)
	}
	p.secret = "another"
	if err := p.keys().Check(p.mirror); !errors.Is(err, ErrPassphrase) {
		t.Errorf("another passphrase: %v", err)
	}
}

// A mirror that the program before has signed is not signed again as long as it is
// as it was, and then goes on from there: a client of that time follows.
func TestBeforeSigned(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(p *place) error
		signs  bool
	}{
		{"as it was left", func(*place) error { return nil }, false},
		{"another document", func(p *place) error { p.write(beforeDoc, "another"); return nil }, true},
		{"another key", func(p *place) error { _, err := p.keys().Rotate(Targets, ""); return err }, true},
		{"near its end", func(p *place) error { p.now = time.Date(2054, 4, 1, 0, 0, 0, 0, time.UTC); return nil }, true},
		{"renewed", func(p *place) error { return p.keys().Renew(t.Context(), p.mirror, true) }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newBefore(t)
			follows := p.newClient()
			if err := follows.upToDate(); err != nil {
				t.Fatalf("before: %v", err)
			}
			if err := c.change(p); err != nil {
				t.Fatal(err)
			}
			if changed := p.sign(); changed != c.signs {
				t.Errorf("signed: %v", changed)
			}
			if err := follows.upToDate(); err != nil {
				t.Error(err)
			}
			if changed := p.sign(); changed {
				t.Error("signed twice")
			}
		})
	}
}
