package tuf

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"testing"
	"time"

	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/theupdateframework/go-tuf/v2/metadata"

	"puavo-image-repository/imagerepo/atomicfile"
)

// now is when the tests take place.
var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

var roles = []string{"root", "targets", "snapshot", "timestamp"}

// repo is a signed repository in memory: the files below tuf/.
type repo struct {
	t     testing.TB
	files map[string][]byte
	keys  map[string][]ed25519.PrivateKey // of each role
	docs  map[string]string

	root      *metadata.Metadata[metadata.RootType]
	targets   *metadata.Metadata[metadata.TargetsType]
	snapshot  *metadata.Metadata[metadata.SnapshotType]
	timestamp *metadata.Metadata[metadata.TimestampType]
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func newKey() ed25519.PrivateKey {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	return must(key, err)
}

// newRepo returns a repository with a key for each role, of which all metadata
// holds for 10 days from now, and the root for 100.
func newRepo(t testing.TB) *repo {
	r := &repo{t: t, files: map[string][]byte{}, keys: map[string][]ed25519.PrivateKey{}, docs: map[string]string{"index.json": "an index", "meta/a.json": "a series"}}
	r.root = metadata.Root(now.AddDate(0, 0, 100))
	r.root.Signed.ConsistentSnapshot = true
	for _, role := range roles {
		r.addKey(role, newKey())
	}
	r.targets = metadata.Targets(now.AddDate(0, 0, 10))
	r.snapshot = metadata.Snapshot(now.AddDate(0, 0, 10))
	r.timestamp = metadata.Timestamp(now.AddDate(0, 0, 10))
	r.signRoot(r.keys["root"])
	r.publish()
	return r
}

func (r *repo) addKey(role string, key ed25519.PrivateKey) {
	r.keys[role] = append(r.keys[role], key)
	if err := r.root.Signed.AddKey(must(metadata.KeyFromPublicKey(key.Public())), role); err != nil {
		r.t.Fatal(err)
	}
}

// replaceKey gives a role another key.
func (r *repo) replaceKey(role string) {
	for _, old := range r.keys[role] {
		if err := r.root.Signed.RevokeKey(must(must(metadata.KeyFromPublicKey(old.Public())).ID()), role); err != nil {
			r.t.Fatal(err)
		}
	}
	r.keys[role] = nil
	r.addKey(role, newKey())
}

func sign[T metadata.Roles](m *metadata.Metadata[T], keys []ed25519.PrivateKey) []byte {
	m.ClearSignatures()
	for _, key := range keys {
		must(m.Sign(must(signature.LoadSigner(key, crypto.Hash(0)))))
	}
	return must(m.ToBytes(false))
}

// signRoot publishes the root.
func (r *repo) signRoot(keys []ed25519.PrivateKey) {
	r.files[fmt.Sprintf("%d.root.json", r.root.Signed.Version)] = sign(r.root, keys)
}

// rotate publishes another root, in which a role has another key, and all else
// signed by the keys of now.
func (r *repo) rotate(role string) {
	signers := slices.Clone(r.keys["root"])
	r.replaceKey(role)
	if role == "root" {
		signers = append(signers, r.keys["root"]...)
	}
	r.root.Signed.Version++
	r.signRoot(signers)
	r.next()
}

// next publishes the next version of all but the root.
func (r *repo) next() {
	r.targets.Signed.Version++
	r.snapshot.Signed.Version++
	r.timestamp.Signed.Version++
	r.publish()
}

func (r *repo) publish() {
	r.signTargets(r.keys["targets"])
	r.signSnapshot(r.keys["snapshot"])
	r.signTimestamp(r.keys["timestamp"])
}

func (r *repo) signTargets(keys []ed25519.PrivateKey) {
	r.targets.Signed.Targets = map[string]*metadata.TargetFiles{}
	for name, text := range r.docs {
		r.targets.Signed.Targets[name] = must(metadata.TargetFile().FromBytes(name, []byte(text), "sha256", "sha512"))
		digest := sha256.Sum256([]byte(text))
		r.files[path.Join("targets", path.Dir(name), hex.EncodeToString(digest[:])+"."+path.Base(name))] = []byte(text)
	}
	r.files[fmt.Sprintf("%d.targets.json", r.targets.Signed.Version)] = sign(r.targets, keys)
}

func (r *repo) signSnapshot(keys []ed25519.PrivateKey) {
	r.snapshot.Signed.Meta["targets.json"] = metaOf(r.targets.Signed.Version, r.files[fmt.Sprintf("%d.targets.json", r.targets.Signed.Version)])
	r.files[fmt.Sprintf("%d.snapshot.json", r.snapshot.Signed.Version)] = sign(r.snapshot, keys)
}

func (r *repo) signTimestamp(keys []ed25519.PrivateKey) {
	r.timestamp.Signed.Meta["snapshot.json"] = metaOf(r.snapshot.Signed.Version, r.files[fmt.Sprintf("%d.snapshot.json", r.snapshot.Signed.Version)])
	r.files["timestamp.json"] = sign(r.timestamp, keys)
}

// metaOf tells of a file as snapshot and timestamp do.
func metaOf(version int64, data []byte) *metadata.MetaFiles {
	digest := sha256.Sum256(data)
	m := metadata.MetaFile(version)
	m.Length, m.Hashes = int64(len(data)), metadata.Hashes{"sha256": digest[:]}
	return m
}

// copy returns the files, which others may change.
func (r *repo) copy() map[string][]byte { return maps.Clone(r.files) }

// reader is the ReadFunc of files.
func reader(files map[string][]byte) ReadFunc {
	return func(ctx context.Context, name string, most int64) ([]byte, error) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		data, ok := files[name[len("tuf/"):]]
		switch {
		case !ok:
			return nil, fs.ErrNotExist
		case int64(len(data)) > most:
			return nil, fmt.Errorf("too many bytes (%w)", ErrEndlessData)
		}
		return data, nil
	}
}

// user is a client with its files.
type user struct {
	t    testing.TB
	root []byte
	path string
	now  time.Time
}

// newUser returns a client that was given a root.
func newUser(t testing.TB, root []byte) *user { return &user{t, root, t.TempDir(), now} }

func (u *user) client() Client {
	return Client{Root: u.root, Dir: must(atomicfile.Open(u.path)), Now: u.now}
}

// index refreshes and returns the index.
func (u *user) index(files map[string][]byte) (string, error) {
	d, err := u.client().Refresh(u.t.Context(), reader(files))
	if err != nil {
		return "", err
	}
	data, err := d.Read(u.t.Context(), "index.json", 1<<20)
	return string(data), err
}

// state returns the files of the client.
func (u *user) state() map[string]string {
	state := map[string]string{}
	for _, e := range must(os.ReadDir(u.path)) {
		state[e.Name()] = string(must(os.ReadFile(path.Join(u.path, e.Name()))))
	}
	return state
}
