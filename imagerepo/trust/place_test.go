package trust

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/secure-systems-lab/go-securesystemslib/encrypted"
	"github.com/theupdateframework/go-tuf/v2/metadata/config"
	"github.com/theupdateframework/go-tuf/v2/metadata/updater"

	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/mirror"
	"puavo-image-repository/testdata"
)

// TestMain has the keys of firstKeys encrypted as they are, with the least work, and
// all others but marked, by their passphrase.
func TestMain(m *testing.M) {
	remove := testdata.InMemory()
	encrypt = func(text, passphrase []byte) ([]byte, error) {
		return encrypted.EncryptWithCustomKDFParameters(text, passphrase, encrypted.Legacy)
	}
	firstKeys()
	var known sync.Map // what was decrypted before
	mark := func(passphrase []byte) []byte { return fmt.Appendf(nil, "test %x\n", passphrase) }
	encrypt = func(text, passphrase []byte) ([]byte, error) { return append(mark(passphrase), text...), nil }
	decrypt = func(sealed, passphrase []byte) ([]byte, error) {
		if text, ok := bytes.CutPrefix(sealed, mark(passphrase)); ok {
			return bytes.Clone(text), nil
		}
		key := string(passphrase) + "\n" + string(sealed)
		if text, ok := known.Load(key); ok {
			return []byte(text.(string)), nil
		}
		text, err := encrypted.Decrypt(sealed, passphrase)
		if err == nil {
			known.Store(key, string(text))
		}
		return text, err
	}
	code := m.Run()
	os.RemoveAll(keysDir)
	remove()
	os.Exit(code)
}

// keysDir is where firstKeys made them.
var keysDir string

// begin is when the tests take place.
var begin = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

const secret = "open sesame"

// firstKeys returns a directory with keys as Init makes them.
var firstKeys = sync.OnceValue(func() string {
	dir, err := os.MkdirTemp("", "keys")
	if err == nil {
		err = Init(Options{
			Dir: dir, Log: slog.New(slog.DiscardHandler),
			Passphrase: func(bool) ([]byte, error) { return []byte(secret), nil },
			Now:        func() time.Time { return begin },
		})
	}
	if err != nil {
		panic(err)
	}
	keysDir = dir
	return dir
})

// place is a keys directory and a mirror, at a time.
type place struct {
	t      testing.TB
	log    bytes.Buffer
	now    time.Time
	mirror string
	secret string
	url    string // of the mirror
	Options
}

func newPlace(t testing.TB) *place {
	p := &place{t: t, now: begin, mirror: filepath.Join(t.TempDir(), "mirror"), secret: secret}
	p.Options = Options{
		Dir:        filepath.Join(t.TempDir(), "keys"),
		Passphrase: func(bool) ([]byte, error) { return []byte(p.secret), nil },
		Log:        slog.New(slog.NewTextHandler(&p.log, nil)),
		Now:        func() time.Time { return p.now },
	}
	if err := os.CopyFS(p.Dir, os.DirFS(firstKeys())); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(p.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	p.serve()
	p.publish("one", "a", "b.c")
	return p
}

// fork returns a copy of a place and of a client.
func (p *place) fork(c *client) (*place, *client) {
	p.t.Helper()
	other := &place{t: p.t, now: p.now, secret: p.secret, Options: p.Options}
	other.Now = func() time.Time { return other.now }
	dir := p.t.TempDir()
	other.Dir, other.mirror = filepath.Join(dir, "keys"), filepath.Join(dir, "mirror")
	follows := &client{p: other, dir: filepath.Join(dir, "client"), root: c.root}
	err := errors.Join(os.CopyFS(other.Dir, os.DirFS(p.Dir)), os.Chmod(other.Dir, 0o700),
		os.CopyFS(other.mirror, os.DirFS(p.mirror)), os.CopyFS(follows.dir, os.DirFS(c.dir)))
	if err != nil {
		p.t.Fatal(err)
	}
	other.serve()
	return other, follows
}

// serve serves the mirror.
func (p *place) serve() {
	server := httptest.NewServer(http.FileServer(http.Dir(p.mirror)))
	p.t.Cleanup(server.Close)
	p.url = server.URL
}

// publish writes index and meta as a build does; text makes them other ones.
func (p *place) publish(text string, series ...string) {
	p.t.Helper()
	type entry struct {
		Name string `json:"name"`
		Meta string `json:"meta"`
	}
	index := struct {
		Series []entry `json:"series"`
	}{Series: []entry{}}
	for _, s := range series {
		index.Series = append(index.Series, entry{s, "meta/" + s + ".json"})
		p.write("meta/"+s+".json", text+" of "+s)
	}
	data, err := json.Marshal(index)
	if err != nil {
		p.t.Fatal(err)
	}
	p.write("index.json", string(data))
}

// write writes a file of the mirror.
func (p *place) write(name, text string) {
	p.t.Helper()
	name = filepath.Join(p.mirror, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o777), os.WriteFile(name, []byte(text), 0o666)); err != nil {
		p.t.Fatal(err)
	}
}

// keys opens the keys until the end of the test.
func (p *place) keys() *Keys {
	p.t.Helper()
	k, err := Open(p.Options)
	if err != nil {
		p.t.Fatal(err)
	}
	k.dir.NoSync = true
	p.t.Cleanup(func() { k.Close() })
	return k
}

// trySign signs the mirror.
func (p *place) trySign(ctx context.Context) (changed bool, err error) {
	p.t.Helper()
	dir, err := atomicfile.Open(p.mirror)
	if err != nil {
		p.t.Fatal(err)
	}
	defer dir.Close()
	dir.NoSync = true
	return p.keys().Sign(ctx, dir)
}

// sign signs the mirror, which must succeed and give one that verifies.
func (p *place) sign() (changed bool) {
	p.t.Helper()
	changed, err := p.trySign(p.t.Context())
	if err != nil {
		p.t.Fatal(err)
	}
	if err := p.newClient().verify(); err != nil {
		p.t.Fatalf("the mirror does not verify: %v", err)
	}
	return changed
}

// tuf returns the names of the files below tuf, without digests, and versions as v
// where they are times.
func (p *place) tuf() string {
	p.t.Helper()
	var all []string
	err := fs.WalkDir(os.DirFS(filepath.Join(p.mirror, "tuf")), ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			all = append(all, name)
		}
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		p.t.Fatal(err)
	}
	slices.Sort(all)
	return strings.Join(all, "\n")
}

// count returns how many files below tuf match.
func (p *place) count(pattern string) int {
	p.t.Helper()
	names, err := filepath.Glob(filepath.Join(p.mirror, "tuf", pattern))
	if err != nil {
		p.t.Fatal(err)
	}
	return len(names)
}

// client is another implementation of the verifying side, go-tuf's, with the first
// root of the keys and what it remembers.
type client struct {
	p    *place
	dir  string
	root []byte
}

func (p *place) newClient() *client {
	p.t.Helper()
	data, err := os.ReadFile(filepath.Join(p.Dir, "1.root.json"))
	if err != nil {
		p.t.Fatal(err)
	}
	return &client{p: p, dir: p.t.TempDir(), root: data}
}

// verify refreshes the metadata, and holds all documents of the mirror against it.
func (c *client) verify() error {
	u, err := c.refresh()
	if err != nil {
		return err
	}
	targets := u.GetTopLevelTargets()
	if targets["index.json"] == nil {
		return fmt.Errorf("no index among %d targets", len(targets))
	}
	for name := range targets {
		info, err := u.GetTargetInfo(name)
		if err != nil {
			return err
		}
		if _, _, err := u.DownloadTarget(info, filepath.Join(c.dir, "target"), ""); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// upToDate is verify, and that the documents are those of the mirror.
func (c *client) upToDate() error {
	if err := c.verify(); err != nil {
		return err
	}
	faults, err := Verify(c.p.t.Context(), c.p.mirror)
	if err == nil && len(faults) > 0 {
		err = fmt.Errorf("%+v", faults)
	}
	return err
}

func (c *client) refresh() (*updater.Updater, error) {
	cfg, err := config.New(c.p.url+"/tuf", c.root)
	if err != nil {
		return nil, err
	}
	cfg.LocalMetadataDir, cfg.LocalTargetsDir = c.dir, c.dir
	u, err := updater.New(cfg)
	if err != nil {
		return nil, err
	}
	u.UnsafeSetRefTime(c.p.now)
	return u, u.Refresh()
}

// leftovers returns what a run left in the mirror's directory for temporary files.
func (p *place) leftovers() []string {
	p.t.Helper()
	names, err := filepath.Glob(filepath.Join(p.mirror, mirror.TmpPath("*")))
	if err != nil {
		p.t.Fatal(err)
	}
	return names
}
