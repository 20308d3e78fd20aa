package mirrortest

import (
	"context"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/trust"
)

// Passphrase is that of all keys here.
const Passphrase = "open sesame"

// Keys are open keys that can sign concurrently. To read them takes long by design, so places
// share them.
type Keys struct {
	*trust.Keys
	Dir string // the keys directory
	mu  *sync.Mutex
}

// Sign signs a mirror, see trust.Keys.
func (k *Keys) Sign(ctx context.Context, mirror atomicfile.Dir) (bool, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.Keys.Sign(ctx, mirror)
}

// SignAfter signs a mirror with a version after another, see trust.Keys.
func (k *Keys) SignAfter(ctx context.Context, mirror atomicfile.Dir, version int64) (bool, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.Keys.SignAfter(ctx, mirror, version)
}

// RootFile returns the path of the first root.
func (k *Keys) RootFile() string { return filepath.Join(k.Dir, "1.root.json") }

// KeyOptions are those of a keys directory.
func KeyOptions(dir string) trust.Options {
	return trust.Options{Dir: dir, Log: slog.New(slog.DiscardHandler), Passphrase: func(bool) ([]byte, error) { return []byte(Passphrase), nil }}
}

func openKeys(dir string) (*Keys, error) {
	k, err := trust.Open(KeyOptions(dir))
	return &Keys{k, dir, &sync.Mutex{}}, err
}

// made are the directories of shared keys, which RemoveKeys removes.
var made struct {
	sync.Mutex
	dirs []string
}

func makeKeys() (*Keys, error) {
	dir, err := os.MkdirTemp("", "keys")
	if err != nil {
		return nil, err
	}
	made.Lock()
	made.dirs = append(made.dirs, dir)
	made.Unlock()
	if err := trust.Init(KeyOptions(dir)); err != nil {
		return nil, err
	}
	return openKeys(dir)
}

// SharedKeys and OtherKeys return keys that this process makes the first time, for all places.
// Who changes them copies them, see Place.OwnKeys.
var SharedKeys, OtherKeys = sync.OnceValues(makeKeys), sync.OnceValues(makeKeys)

// RemoveKeys removes the shared keys. TestMain calls it in the end.
func RemoveKeys() {
	made.Lock()
	defer made.Unlock()
	for _, dir := range made.dirs {
		os.RemoveAll(dir)
	}
}

// Sign has Build sign the mirror, with the shared keys.
func (p *Place) Sign() {
	p.T.Helper()
	var err error
	p.Keys, err = SharedKeys()
	p.Must(err)
}

// CopyKeys has Build sign the mirror with the shared keys, and copies them to the folder keys
// of the place.
func (p *Place) CopyKeys() {
	p.T.Helper()
	p.Sign()
	shared := p.Keys
	dir := filepath.Join(p.Dir, "keys")
	p.Must(os.CopyFS(dir, os.DirFS(shared.Dir)))
	p.Must(filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			err = os.Chmod(name, 0o600)
		} else if err == nil {
			err = os.Chmod(name, 0o700)
		}
		return err
	}))
}

// OwnKeys has Build sign the mirror with a copy of the shared keys, in the folder keys of the
// place. They can be changed.
func (p *Place) OwnKeys() {
	p.T.Helper()
	p.CopyKeys()
	p.OpenKeys()
}

// OpenKeys opens the keys in the folder keys of the place again.
func (p *Place) OpenKeys() {
	p.T.Helper()
	keys, err := openKeys(filepath.Join(p.Dir, "keys"))
	p.Must(err)
	p.Keys = keys
	p.T.Cleanup(func() { keys.Close() })
}
