package trust

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/secure-systems-lab/go-securesystemslib/encrypted"

	"puavo-image-repository/imagerepo/internal/lockfile"
	"puavo-image-repository/testdata"
)

// modes returns the files of a keys directory with their modes, ids as x.
func modes(t testing.TB, dir string) string {
	t.Helper()
	var all []string
	err := fs.WalkDir(os.DirFS(dir), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == lockName {
			return err
		}
		info, err := d.Info()
		if m := keyName.FindStringSubmatch(name); m != nil {
			name = m[1] + ".x.key"
		}
		all = append(all, fmt.Sprintf("%s %o", name, info.Mode().Perm()))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

// InitApart leaves the root's private key in the other directory alone; the first signs all
// the same, and what exists is not touched.
func TestInitApart(t *testing.T) {
	p := newPlace(t)
	p.Dir += "2"
	root := p.Dir + "-root"
	if err := InitApart(p.Options, root); err != nil {
		t.Fatal(err)
	}
	const online = "1.root.json 644, snapshot.x.key 600, targets.x.key 600, timestamp.x.key 600"
	if got := modes(t, p.Dir); got != ". 700, .signed 600, "+online {
		t.Errorf("the keys directory has %s", got)
	}
	if got := modes(t, root); got != ". 700, .signed 600, "+strings.Replace(online, "644,", "644, root.x.key 600,", 1) {
		t.Errorf("the other has %s", got)
	}
	p.publish("first", "a")
	if !p.sign() {
		t.Error("the mirror is not signed")
	}
	if err := InitApart(p.Options, root+"2"); err == nil || !strings.Contains(err.Error(), "is not empty") {
		t.Errorf("a directory that has keys: %v", err)
	}
	if _, err := os.Stat(root + "2"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("root keys are made in vain: %v", err)
	}
	p.Dir += "3"
	if err := InitApart(p.Options, root); err == nil {
		t.Error("a directory that has root keys is taken")
	}
	if _, err := os.Stat(p.Dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a directory is left: %v", err)
	}
}

// What Init makes has its modes whatever the umask, and so has what comes later.
func TestModes(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0))
	for _, umask := range []int{0, 0o022, 0o077, 0o277} {
		for _, there := range []bool{false, true} {
			p := newPlace(t)
			syscall.Umask(umask)
			p.Dir += "2"
			if there {
				os.Mkdir(p.Dir, 0o755)
			}
			if err := Init(p.Options); err != nil {
				t.Fatal(err)
			}
			want := ". 700, .signed 600, 1.root.json 644, root.x.key 600, snapshot.x.key 600, targets.x.key 600, timestamp.x.key 600"
			if got := modes(t, p.Dir); got != want {
				t.Errorf("umask %03o: %s", umask, got)
			}
			rootKey, _ := filepath.Glob(filepath.Join(p.Dir, "root.*"))
			os.Remove(rootKey[0])
			if _, err := p.keys().Rotate(Targets, ""); err != nil {
				t.Fatal(err)
			}
			want = ". 700, .signed 600, 1.root.json 644, next.root.json 644, snapshot.x.key 600, targets.x.key 600, targets.x.key 600, timestamp.x.key 600"
			if got := modes(t, p.Dir); got != want {
				t.Errorf("umask %03o, changed: %s", umask, got)
			}
			if p.log.Len() > 0 {
				t.Errorf("umask %03o: %s", umask, &p.log)
			}
			syscall.Umask(0o022)
		}
	}
}

// The files are those of TUF's tools: another one reads the key, and what is
// readable tells no secret.
func TestKeyFile(t *testing.T) {
	p := newPlace(t)
	names, _ := filepath.Glob(filepath.Join(p.Dir, "*.key"))
	if len(names) != 4 {
		t.Fatal(names)
	}
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, part := range []string{`"scrypt"`, `"nacl/secretbox"`, `"salt"`} {
			if !strings.Contains(string(data), part) {
				t.Errorf("%s: no %s", name, part)
			}
		}
		text, err := encrypted.Decrypt(data, []byte(secret))
		if err != nil || !strings.HasPrefix(string(text), "-----BEGIN PRIVATE KEY-----\n") {
			t.Errorf("%s: %q, %v", name, text, err)
		}
	}
}

func TestInitFails(t *testing.T) {
	refuse := errors.New("not now")
	for _, c := range []struct {
		name    string
		prepare func(p *place)
		want    string
		left    string // of the directory
	}{
		{"not empty", func(p *place) { os.Mkdir(p.Dir, 0o700); os.WriteFile(filepath.Join(p.Dir, "x"), nil, 0o600) }, "not empty; choose a new directory", ". 700, x 600"},
		{"a file", func(p *place) { os.WriteFile(p.Dir, nil, 0o600) }, "not a directory", ""},
		{"no parent", func(p *place) { p.Dir += "/a/b" }, "no such file", ""},
		{"no passphrase", func(p *place) { p.Passphrase = func(bool) ([]byte, error) { return nil, refuse } }, "not now", ""},
		{"an empty one", func(p *place) { p.secret = "" }, "wrong passphrase: it is empty", ""},
		{"a full disk", func(p *place) { p.Dir = testdata.SmallDisk(p.t, 16<<10) }, "no space left", ". 700"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPlace(t)
			p.Dir += "2"
			c.prepare(p)
			err := Init(p.Options)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("%v, want %q", err, c.want)
			}
			if info, err := os.Stat(p.Dir); err != nil || !info.IsDir() {
				if c.left != "" {
					t.Errorf("%s is no directory, %v", p.Dir, err)
				}
				return
			}
			if got := modes(t, p.Dir); got != c.left {
				t.Errorf("left are %s, want %q", got, c.left)
			}
		})
	}
}

// What Init asks for is fresh, and asked for once; what comes later is not.
func TestAsked(t *testing.T) {
	p := newPlace(t)
	var asked []bool
	p.Passphrase = func(fresh bool) ([]byte, error) {
		asked = append(asked, fresh)
		return []byte(secret), nil
	}
	first := p.Dir
	p.Dir += "2"
	if err := Init(p.Options); err != nil || !slices.Equal(asked, []bool{true}) {
		t.Errorf("init: asked %v, %v", asked, err)
	}
	for _, c := range []struct {
		name string
		do   func(k *Keys) error
		want []bool
	}{
		{"list", func(k *Keys) error { _, err := k.List(); return err }, nil},
		{"pending", func(k *Keys) error { k.Pending(); return nil }, nil},
		{"nothing to sign", func(k *Keys) error { _, err := k.SignRoot(); return err }, nil},
		{"check", func(k *Keys) error { return k.Check(p.mirror) }, []bool{false}},
		{"rotate", func(k *Keys) error { _, err := k.Rotate(Root, ""); return err }, []bool{false}},
	} {
		p.Dir, asked = first, nil
		if err := c.do(p.keys()); err != nil || !slices.Equal(asked, c.want) {
			t.Errorf("%s: asked %v, %v, want %v", c.name, asked, err, c.want)
		}
	}
	// In a copy without private keys nothing tells whether it is the right one.
	p.Dir, asked = first, nil
	names, _ := filepath.Glob(filepath.Join(first, "*.key"))
	for _, name := range names {
		os.Remove(name)
	}
	if _, err := p.keys().Add(Root, 0); err != nil || !slices.Equal(asked, []bool{true}) {
		t.Errorf("a copy: asked %v, %v", asked, err)
	}
}

func TestOpenFails(t *testing.T) {
	// change changes a file of the directory; a nil result removes it.
	change := func(name string, to func([]byte) []byte) func(p *place) {
		return func(p *place) {
			names, _ := filepath.Glob(filepath.Join(p.Dir, name))
			data, err := os.ReadFile(names[0])
			if err != nil {
				p.t.Fatal(err)
			}
			os.Remove(names[0])
			if data = to(data); data != nil {
				os.WriteFile(names[0], data, 0o600)
			}
		}
	}
	flip := func(data []byte) []byte {
		return []byte(strings.Replace(string(data), `"threshold": 1`, `"threshold": 0`, 1))
	}
	gone := func([]byte) []byte { return nil }
	text := func([]byte) []byte { return []byte("x") }
	for _, c := range []struct {
		name    string
		prepare func(p *place)
		want    string
		is      error
	}{
		{"missing", func(p *place) { p.Dir += "2" }, "check the path, or create keys with keys init", fs.ErrNotExist},
		{"no roots", change("1.root.json", gone), "has no 1.root.json; create keys with keys init", nil},
		{"changed root", change("1.root.json", flip), "1.root.json: ", nil},
		{"damaged root", change("1.root.json", text), "restore it from a copy", nil},
		{"a root of another kind", change("1.root.json", func(data []byte) []byte {
			return []byte(strings.Replace(string(data), `"version": 1`, `"version": "1"`, 1))
		}), "1.root.json: signed.version is a string, want a whole number; restore it from a copy", nil},
		{"large root", change("1.root.json", func([]byte) []byte { return make([]byte, maxFile+1) }), "bytes", nil},
		{"a gap", func(p *place) {
			data, _ := os.ReadFile(filepath.Join(p.Dir, "1.root.json"))
			os.WriteFile(filepath.Join(p.Dir, "3.root.json"), data, 0o644)
		}, "has 3.root.json, but lacks 2.root.json; copy it there", nil},
		{"the same twice", func(p *place) {
			data, _ := os.ReadFile(filepath.Join(p.Dir, "1.root.json"))
			os.WriteFile(filepath.Join(p.Dir, "2.root.json"), data, 0o644)
		}, "2.root.json: ", nil},
		{"next of another kind", func(p *place) {
			data, _ := os.ReadFile(filepath.Join(p.Dir, "1.root.json"))
			os.WriteFile(filepath.Join(p.Dir, nextName), []byte(strings.Replace(string(data), `"roles": {`, `"roles": 7, "x": {`, 1)), 0o644)
		}, "next.root.json: signed.roles is a number, want an object; copy it again", nil},
		{"damaged next", func(p *place) { os.WriteFile(filepath.Join(p.Dir, nextName), []byte("x"), 0o644) }, "next.root.json: ", nil},
	} {
		p := newPlace(t)
		c.prepare(p)
		_, err := Open(p.Options)
		if err == nil || !strings.Contains(err.Error(), c.want) || c.is != nil && !errors.Is(err, c.is) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

// Private keys that cannot be used are told by name, and without what they hold.
func TestBadKeys(t *testing.T) {
	for _, c := range []struct {
		name    string
		prepare func(p *place, file string)
		want    string
		is      error
	}{
		{"wrong passphrase", func(p *place, _ string) { p.secret = "sesame open" }, ": wrong passphrase, or a damaged file", ErrPassphrase},
		{"damaged", func(p *place, file string) { os.WriteFile(file, []byte("{}"), 0o600) }, "restore the file from a copy", ErrPassphrase},
		{"another kind of file", func(_ *place, file string) { os.WriteFile(file, []byte(`{"kdf":[]}`), 0o600) }, "damaged file: kdf is an array, want an object; give", ErrPassphrase},
		{"no PEM", func(p *place, file string) {
			sealed, _ := encrypt([]byte("no pem"), []byte(secret))
			os.WriteFile(file, sealed, 0o600)
		}, "it contains no PEM block", nil},
		{"another key", func(p *place, file string) {
			other, _ := filepath.Glob(filepath.Join(p.Dir, "snapshot.*"))
			data, _ := os.ReadFile(other[0])
			os.WriteFile(file, data, 0o600)
		}, "restore it from a copy", nil},
		{"a directory", func(p *place, file string) { os.Remove(file); os.Mkdir(file, 0o700) }, "timestamp needs 1 signatures", ErrMissingKeys},
		{"missing", func(p *place, file string) { os.Remove(file) }, "has only 0 of its keys; see keys list", ErrMissingKeys},
	} {
		p := newPlace(t)
		files, _ := filepath.Glob(filepath.Join(p.Dir, "timestamp.*"))
		c.prepare(p, files[0])
		for name, err := range map[string]error{"check": p.keys().Check(p.mirror), "sign": func() error { _, err := p.trySign(t.Context()); return err }()} {
			if err == nil || c.is != nil && !errors.Is(err, c.is) || name == "check" && !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %s: %v, want %q", c.name, name, err, c.want)
			}
			if strings.Contains(fmt.Sprint(err), secret) || strings.Contains(fmt.Sprint(err), p.secret) {
				t.Errorf("%s: %s tells the passphrase: %v", c.name, name, err)
			}
		}
		if p.tuf() != "" {
			t.Errorf("%s: written is %s", c.name, p.tuf())
		}
	}
}

// A directory that others may look into is warned of, and one that is being changed
// is left alone.
func TestDirectory(t *testing.T) {
	p := newPlace(t)
	os.Chmod(p.Dir, 0o750)
	k := p.keys()
	if !strings.Contains(p.log.String(), "other users can read") {
		t.Errorf("log: %s", &p.log)
	}
	lock, err := lockfile.Acquire(k.options.Dir, lockName)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Release()
	if _, err := k.Rotate(Root, ""); !errors.Is(err, lockfile.ErrHeld) {
		t.Errorf("while another changes it: %v", err)
	}
	if err := k.Check(p.mirror); err != nil {
		t.Errorf("reading needs no lock: %v", err)
	}
}

// Close leaves no passphrase.
func TestClose(t *testing.T) {
	p := newPlace(t)
	given := []byte(secret)
	p.Passphrase = func(bool) ([]byte, error) { return given, nil }
	k := p.keys()
	if err := k.Check(p.mirror); err != nil || k.Close() != nil {
		t.Fatal(err)
	}
	if strings.Trim(string(given), "\x00") != "" || len(k.signers) > 0 {
		t.Errorf("left are %q and %d keys", given, len(k.signers))
	}
}

// states returns the states of the keys of each role, and ! for one that is not here.
func states(t testing.TB, k *Keys) string {
	t.Helper()
	list, err := k.List()
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, key := range list {
		s := fmt.Sprintf("%s %s/%d", key.Role, key.State, key.Threshold)
		if !key.Here {
			s += "!"
		}
		all = append(all, s)
		if len(key.ID) != 64 {
			t.Errorf("%s has the id %s", s, key.ID)
		}
	}
	return strings.Join(all, ", ")
}

// The time is the clock's where none is given, in seconds and UTC.
func TestTime(t *testing.T) {
	before := time.Now().Add(-time.Second)
	o, err := Options{Dir: "keys"}.complete()
	if err != nil {
		t.Fatal(err)
	}
	if now := o.time(); now.Before(before) || now.After(time.Now()) || now.Nanosecond() != 0 || now.Location() != time.UTC {
		t.Errorf("%v", now)
	}
}
