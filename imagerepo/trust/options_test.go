package trust

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"puavo-image-repository/imagerepo/atomicfile"
)

// Options that are left out have defaults, or are an error that names them once they
// are needed.
func TestOptions(t *testing.T) {
	passphrase := func(bool) ([]byte, error) { return []byte(secret), nil }
	open := func(use func(k *Keys, mirror string) error) func(o Options, mirror string) error {
		return func(o Options, mirror string) error {
			k, err := Open(o)
			if err != nil {
				return err
			}
			defer k.Close()
			return use(k, mirror)
		}
	}
	initialize := func(o Options, _ string) error {
		if o.Dir != "" {
			o.Dir += "2"
		}
		err := Init(o)
		if _, stat := os.Stat(o.Dir); err != nil && stat == nil {
			return fmt.Errorf("%w; it left a directory", err)
		}
		return err
	}
	list := open(func(k *Keys, _ string) error { _, err := k.List(); return err })
	check := open((*Keys).Check)
	for _, c := range []struct {
		name string
		o    func(dir string) Options
		do   func(o Options, mirror string) error
		want string // "": no error
	}{
		{"none, init", func(string) Options { return Options{} }, initialize, "trust.Options.Dir is empty, want the keys directory"},
		{"none, open", func(string) Options { return Options{} }, list, "trust.Options.Dir is empty, want the keys directory"},
		{"directory, init", func(dir string) Options { return Options{Dir: dir} }, initialize, "trust.Options.Passphrase is nil, and the private keys need their passphrase"},
		{"directory, list", func(dir string) Options { return Options{Dir: dir} }, list, ""},
		{"directory, check", func(dir string) Options { return Options{Dir: dir} }, check, "trust.Options.Passphrase is nil, and the private keys need their passphrase"},
		{"passphrase, init", func(dir string) Options { return Options{Dir: dir, Passphrase: passphrase} }, initialize, ""},
		{"passphrase, check", func(dir string) Options { return Options{Dir: dir, Passphrase: passphrase} }, check, ""},
		{"unknown role", func(dir string) Options {
			return Options{Dir: dir, Lifetimes: map[string]time.Duration{"mirrors": day}}
		}, list, `trust.Options.Lifetimes: no role "mirrors"; want root, timestamp, snapshot, targets`},
		{"negative lifetime", func(dir string) Options {
			return Options{Dir: dir, Lifetimes: map[string]time.Duration{Root: -day}}
		}, list, "trust.Options.Lifetimes: root has -24h0m0s, want more than 0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPlace(t)
			err := c.do(c.o(p.Dir), p.mirror)
			if got := fmt.Sprint(err); (c.want == "") != (err == nil) || err != nil && got != c.want {
				t.Errorf("%s, want %q", got, c.want)
			}
		})
	}
}

// A lifetime that is not given, or is 0, is the default one.
func TestLifetimes(t *testing.T) {
	for _, c := range []struct {
		name  string
		given map[string]time.Duration
		want  map[string]time.Duration // of what is not the default
	}{
		{"none", nil, nil},
		{"zero", map[string]time.Duration{Root: 0, Targets: 0, Snapshot: 0, Timestamp: 0}, nil},
		{"one", map[string]time.Duration{Timestamp: day}, map[string]time.Duration{Timestamp: day}},
		{"all", map[string]time.Duration{Root: 9 * day, Targets: 8 * day, Snapshot: 7 * day, Timestamp: 6 * day}, map[string]time.Duration{Root: 9 * day, Targets: 8 * day, Snapshot: 7 * day, Timestamp: 6 * day}},
	} {
		p := newPlace(t)
		p.Lifetimes = c.given
		p.rotate(Root) // a root of that lifetime
		p.sign()
		status, err := StatusOf(p.mirror, p.now)
		if err != nil || len(status) != len(Roles()) {
			t.Fatal(status, err)
		}
		for _, s := range status {
			want, ok := c.want[s.Role]
			if !ok {
				want = DefaultLifetime(s.Role)
			}
			if got := s.Expires.Sub(p.now); got != want || got <= 0 {
				t.Errorf("%s: %s is valid for %v, want %v", c.name, s.Role, got, want)
			}
		}
	}
	if got := DefaultLifetime("mirrors"); got != 0 {
		t.Errorf("an unknown role has %v", got)
	}
}

// The zero Keys are an error, and no panic.
func TestZeroKeys(t *testing.T) {
	dir, err := atomicfile.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	if err := os.Mkdir(filepath.Join(dir.Name(), "tuf"), 0o777); err != nil {
		t.Fatal(err)
	}
	var k Keys
	for name, do := range map[string]func() error{
		"Check":    func() error { return k.Check(dir.Name()) },
		"Sign":     func() error { _, err := k.Sign(t.Context(), dir); return err },
		"Renew":    func() error { return k.Renew(t.Context(), dir.Name(), true) },
		"List":     func() error { _, err := k.List(); return err },
		"Rotate":   func() error { _, err := k.Rotate(Root, ""); return err },
		"Add":      func() error { _, err := k.Add(Root, 0); return err },
		"SignRoot": func() error { _, err := k.SignRoot(); return err },
	} {
		if err := do(); err == nil || !strings.Contains(err.Error(), "trust.Keys are not open; get them from trust.Open") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if version, expires := k.Root(); version != 0 || !expires.IsZero() || k.Pending() != nil {
		t.Errorf("root %d until %v, pending %v", version, expires, k.Pending())
	}
	if err := k.Close(); err != nil {
		t.Error(err)
	}
}
