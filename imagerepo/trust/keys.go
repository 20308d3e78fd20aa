package trust

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/theupdateframework/go-tuf/v2/metadata"
	"github.com/theupdateframework/go-tuf/v2/metadata/trustedmetadata"

	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/lockfile"
	"puavo-image-repository/imagerepo/internal/tuf"
	"puavo-image-repository/meta"
)

const (
	nextName = "next.root.json"
	lockName = ".lock"
	// maxFile bounds the size of a file of the directory, or of a document, in bytes.
	maxFile = 16 << 20
)

// root is a root with its file.
type root struct {
	*metadata.Metadata[metadata.RootType]
	data []byte
}

// Keys is an open keys directory, see Open. It is not for concurrent use.
type Keys struct {
	options    Options
	dir        atomicfile.Dir
	roots      []root                      // the n-th at n-1
	next       *root                       // the root that lacks signatures, nil for none
	signers    map[string]signature.Signer // by key id
	passphrase []byte
	verified   bool // the passphrase has decrypted a private key of the directory
}

// Init makes a keys directory with a key for each role and the first root. A directory
// that exists must be empty.
func Init(o Options) (err error) {
	k, err := newKeys(o)
	if err != nil {
		return err
	}
	if _, err := k.askPassphrase(true); err != nil {
		return err
	}
	if err := k.makeDir(); err != nil {
		return err
	}
	defer k.Close()
	return k.withLock(func() error {
		if len(k.roots) > 0 { // another was faster
			return notEmpty(o.Dir)
		}
		err := k.createFirstRoot()
		if err != nil {
			k.removeAll()
		}
		return err
	})
}

// InitApart makes a keys directory as Init does, but leaves the private keys of the role
// root only in another new directory, rootDir, which has all the rest too: a copy to be
// kept on another machine. rootDir is made first; if the other cannot be made, rootDir
// stays.
func InitApart(o Options, rootDir string) error {
	if entries, err := os.ReadDir(o.Dir); err == nil && len(entries) > 0 {
		return notEmpty(o.Dir)
	}
	apart := o
	apart.Dir = rootDir
	if err := Init(apart); err != nil {
		return err
	}
	from, err := atomicfile.Open(rootDir)
	if err != nil {
		return err
	}
	defer from.Close()
	k, err := newKeys(o)
	if err != nil {
		return err
	}
	if err := k.makeDir(); err != nil {
		return err
	}
	defer k.Close()
	if err := k.copyOnline(from); err != nil {
		k.removeAll()
		return err
	}
	return nil
}

// makeDir makes and opens the directory. One that exists must be empty.
func (k *Keys) makeDir() error {
	dir := k.options.Dir
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		return cmp.Or(err, notEmpty(dir))
	}
	if err := os.Chmod(dir, 0o700); err != nil { // whatever the umask took or left
		return err
	}
	return k.openDir()
}

func notEmpty(dir string) error { return fmt.Errorf("%s is not empty; choose a new directory", dir) }

// removeAll removes what a failed Init made.
func (k *Keys) removeAll() {
	entries, _ := fs.ReadDir(k.dir.FS(), ".")
	for _, e := range entries {
		k.dir.Remove(e.Name())
	}
}

// Open opens a keys directory, for the caller to close. It reads no private key.
func Open(o Options) (*Keys, error) {
	k, err := newKeys(o)
	if err != nil {
		return nil, err
	}
	if err := k.openDir(); err != nil {
		return nil, err
	}
	err = k.load()
	if err == nil && k.newest() == nil {
		err = fmt.Errorf("%s has no %s; create keys with keys init, or copy all roots there", o.Dir, tuf.RootName(1))
	}
	if err != nil {
		k.Close()
		return nil, err
	}
	return k, nil
}

func newKeys(o Options) (*Keys, error) {
	o, err := o.complete()
	return &Keys{options: o, signers: make(map[string]signature.Signer)}, err
}

// checkOpen returns an error for the zero Keys.
func (k *Keys) checkOpen() error {
	if k.dir.IsZero() {
		return errors.New("the trust.Keys are not open; get them from trust.Open")
	}
	return nil
}

func (k *Keys) openDir() error {
	dir, err := atomicfile.Open(k.options.Dir)
	if err != nil {
		return fmt.Errorf("the keys: %w; check the path, or create keys with keys init", err)
	}
	k.dir = dir
	if info, err := dir.Stat("."); err == nil && info.Mode().Perm()&0o077 != 0 {
		k.options.Log.Warn("other users can read the keys directory; chmod it to 0700", "directory", k.options.Dir, "mode", info.Mode().Perm().String())
	}
	return nil
}

// Close closes the directory and forgets the passphrase.
func (k *Keys) Close() error {
	clear(k.passphrase)
	clear(k.signers)
	if k.dir.IsZero() {
		return nil
	}
	return k.dir.Close()
}

// withLock has a root signed under the lock of the directory, unless the clock is behind,
// and then reads the directory again.
func (k *Keys) withLock(change func() error) error {
	if err := k.checkOpen(); err != nil {
		return err
	}
	lock, err := lockfile.Acquire(k.options.Dir, lockName)
	if err != nil {
		return err
	}
	for _, step := range []func() error{k.load, k.checkClock, change} {
		if err = step(); err != nil {
			break
		}
	}
	if err == nil {
		k.recordClock()
	}
	return errors.Join(err, k.load(), lock.Release())
}

// load reads and verifies the roots.
func (k *Keys) load() error {
	roots, err := readRoots(k.dir, ".")
	if err != nil {
		return err
	}
	k.roots, k.next = roots, nil
	data, err := k.dir.ReadFile(nextName, maxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	next, err := metadata.Root().FromBytes(data)
	if err != nil {
		return fmt.Errorf("%s: %w; copy it again, or remove it and start again", k.path(nextName), meta.PlainJSON(err))
	}
	if next.Signed.Version > int64(len(roots)) { // or it is complete already
		k.next = &root{next, data}
	}
	return nil
}

// path returns the path of a file of the directory, for messages.
func (k *Keys) path(name string) string { return filepath.Join(k.options.Dir, name) }

// newest returns the newest complete root, nil if there is none.
func (k *Keys) newest() *root {
	if len(k.roots) == 0 {
		return nil
	}
	return &k.roots[len(k.roots)-1]
}

// readRoots reads and verifies the roots in a folder, from the first one on. The first
// one is trusted; each other one must be signed by the thresholds of the root before it.
func readRoots(dir atomicfile.Dir, folder string) (roots []root, err error) {
	versions, err := rootVersions(dir, folder)
	if err != nil {
		return nil, err
	}
	var trusted *trustedmetadata.TrustedMetadata
	for i, n := range versions {
		name := filepath.Join(folder, tuf.RootName(n))
		if n != int64(i)+1 {
			return nil, fmt.Errorf("%s has %s, but lacks %s; copy it there", dir.Name(), name, tuf.RootName(int64(i)+1))
		}
		data, err := dir.ReadFile(name, maxFile)
		if err != nil {
			return nil, err
		}
		if i == 0 {
			trusted, err = trustedmetadata.New(data)
		} else {
			_, err = trusted.UpdateRoot(data)
		}
		if err == nil && trusted.Root.Signed.Version != n {
			err = fmt.Errorf("it is version %d", trusted.Root.Signed.Version)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w; restore it from a copy", filepath.Join(dir.Name(), name), meta.PlainJSON(err))
		}
		roots = append(roots, root{trusted.Root, data})
	}
	return roots, nil
}

// rootVersions returns the versions of the roots in a folder, sorted.
func rootVersions(dir atomicfile.Dir, folder string) (versions []int64, err error) {
	entries, err := fs.ReadDir(dir.FS(), folder)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, e := range entries {
		if n := tuf.RootVersion(e.Name()); n > 0 {
			versions = append(versions, n)
		}
	}
	slices.Sort(versions)
	return versions, nil
}

// write writes a file of the directory with a mode, whatever the umask.
func (k *Keys) write(name string, data []byte, mode fs.FileMode) error {
	f, err := k.dir.Begin(name+".tmp", name)
	if err != nil {
		return err
	}
	defer f.Discard()
	if err := f.Chmod(mode); err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		return err
	}
	return f.Commit()
}

// Root returns the version of the newest complete root, and when it expires.
func (k *Keys) Root() (version int64, expires time.Time) {
	if r := k.newest(); r != nil {
		return r.Signed.Version, r.Signed.Expires
	}
	return 0, time.Time{}
}

// KeyInfo describes a key.
type KeyInfo struct {
	Role string `json:"role"`
	ID   string `json:"id"`
	// State is "used" if the newest root names the key, "next" if only the root does
	// that waits for signatures, and "retired" if only older ones do, or none.
	State     string `json:"state"`
	Threshold int    `json:"threshold"` // of the role; 0 of a retired key
	Here      bool   `json:"here"`      // the private key is in the directory
}

// List returns the keys that the newest root and the next one name, and all other
// private keys in the directory, in the order of Roles.
func (k *Keys) List() ([]KeyInfo, error) {
	if err := k.checkOpen(); err != nil {
		return nil, err
	}
	var all []KeyInfo
	named := make(map[string]bool)
	add := func(r *root, state string) {
		for _, role := range Roles() {
			if r == nil {
				return
			}
			for _, id := range r.Signed.Roles[role].KeyIDs {
				if file := keyFile(role, id); !named[file] {
					named[file] = true
					all = append(all, KeyInfo{role, id, state, r.Signed.Roles[role].Threshold, k.hasPrivate(role, id)})
				}
			}
		}
	}
	add(k.newest(), "used")
	add(k.next, "next")
	entries, err := fs.ReadDir(k.dir.FS(), ".")
	for _, e := range entries {
		if m := keyName.FindStringSubmatch(e.Name()); m != nil && !named[e.Name()] {
			all = append(all, KeyInfo{Role: m[1], ID: k.fullID(m[1], m[2]), State: "retired", Here: true})
		}
	}
	slices.SortStableFunc(all, func(a, b KeyInfo) int {
		return cmp.Compare(slices.Index(Roles(), a.Role), slices.Index(Roles(), b.Role))
	})
	return all, err
}

// fullID returns the id that a root has given to a role and that has this beginning,
// or the beginning if there is none.
func (k *Keys) fullID(role, begin string) string {
	for _, r := range slices.Backward(k.roots) {
		for _, id := range r.Signed.Roles[role].KeyIDs {
			if shortID(id) == begin {
				return id
			}
		}
	}
	return begin
}
