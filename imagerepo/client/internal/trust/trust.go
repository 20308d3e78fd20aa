// Package trust verifies what a mirror says, by The Update Framework (TUF), from a
// root that the client was given: whoever controls the mirror or the wire cannot
// give it wrong documents, nor old ones as new. The documents tell the digests of
// all images and deltas.
//
// # Parties
//
// Four roles sign, each with keys of its own: root says which keys the roles have
// and how many of them must sign (the threshold), targets says which documents there
// are, snapshot which targets belong together with it, timestamp which snapshot is
// the newest. All say until when they hold.
//
// # Files of the mirror
//
//	tuf/<n>.root.json       the n-th root, signed by the keys of the one before and its own
//	tuf/timestamp.json      names the snapshot by version, length and digests
//	tuf/<n>.snapshot.json   names the targets by version, length and digests
//	tuf/<n>.targets.json    names the documents by length and digests
//	tuf/targets/<dir>/<sha256>.<name>   the documents
//
// # Files of the client
//
//	.trust/pinned           SHA-256 of the root that was given
//	.trust/root.json        the newest root that it has led to
//	.trust/timestamp.json   the newest of each that was verified:
//	.trust/snapshot.json    none of them is ever gone back behind
//	.trust/targets.json
//
// What of these is damaged, or signed by keys that are no longer trusted, counts for
// nothing. So a new timestamp key recovers from a stolen one that was used to sign a
// version so high that none comes after it.
//
// # What is refused
//
// Each error wraps ErrRefused and names what it may be the sign of: a signature
// that is missing or of too few keys (arbitrary install, wrong software), an older
// version than was seen before (rollback), metadata that has expired (freeze),
// parts that do not belong together (mix and match), more bytes than there may be
// (endless data). Slow retrieval is for package fetch to notice.
//
// Source: https://theupdateframework.github.io/specification/latest/, sections 3
// and 5.
package trust

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
	"github.com/theupdateframework/go-tuf/v2/metadata/trustedmetadata"

	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/client/internal/fetch"
)

// DirName is the name of the directory of the client's files.
const DirName = ".trust"

// How large metadata may be, in bytes, and how many roots may follow the one that
// is trusted.
const (
	mostRoot      = 512 << 10
	mostTimestamp = 16 << 10
	mostSnapshot  = 2 << 20
	mostTargets   = 16 << 20
	mostRoots     = 256
)

// Fetch returns a file of the mirror, as fetch.Mirror.Document does.
type Fetch func(ctx context.Context, name string, most int64) ([]byte, error)

// Trust is what is trusted of a mirror. It is not for concurrent use.
type Trust struct {
	dir      atomicfile.Dir // the zero Dir where there is none
	readOnly bool
	pinned   []byte
	now      time.Time

	get     Fetch
	trusted *trustedmetadata.TrustedMetadata
}

// Options say what is trusted.
type Options struct {
	Root []byte // the root that was given: a root.json of any version
	// Dir holds the client's files; the zero Dir where there are none yet. With
	// ReadOnly nothing is written to it.
	Dir      atomicfile.Dir
	ReadOnly bool
	Now      time.Time // the zero Time is now
}

// CheckRoot returns an error for what is no root.
func CheckRoot(root []byte) error {
	_, err := trustedmetadata.New(root)
	return err
}

// Refresh fetches and verifies the metadata of a mirror. Metadata that was verified
// is remembered at once, so that none before it is accepted later.
func Refresh(ctx context.Context, get Fetch, o Options) (t *Trust, err error) {
	defer func() {
		// What the keys have signed may still be made to break the library.
		if r := recover(); r != nil {
			t, err = nil, fmt.Errorf("%w: metadata that makes no sense: %v", ErrRefused, r)
		}
	}()
	t = &Trust{dir: o.Dir, readOnly: o.ReadOnly || o.Dir.IsZero(), pinned: o.Root, now: o.Now, get: get}
	if t.now.IsZero() {
		t.now = time.Now()
	}
	if t.trusted, err = t.firstRoot(); err != nil {
		return nil, fmt.Errorf("the root that is to be trusted: %w", err)
	}
	t.trusted.RefTime = t.now.UTC()
	for _, step := range []func(context.Context) error{t.roots, t.timestamp, t.snapshot, t.targets} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// remembered returns a file of the client, nil where it is not there.
func (t *Trust) remembered(name string) []byte {
	if t.dir.IsZero() {
		return nil
	}
	data, err := t.dir.ReadFile(name)
	if err != nil {
		return nil
	}
	return data
}

// firstRoot begins with the newest root that was trusted before, if the one that
// was given is the same as then.
func (t *Trust) firstRoot() (*trustedmetadata.TrustedMetadata, error) {
	if bytes.Equal(t.remembered("pinned"), t.pin()) {
		if trusted, err := trustedmetadata.New(t.remembered("root.json")); err == nil {
			return trusted, nil
		}
	}
	return trustedmetadata.New(t.pinned)
}

// pin tells the root that was given from others.
func (t *Trust) pin() []byte { return fmt.Appendf(nil, "%x\n", sha256.Sum256(t.pinned)) }

// roots follows the roots that come after the trusted one. An expired one on the
// way does no harm.
func (t *Trust) roots(ctx context.Context) error {
	for range mostRoots + 1 { // the last one is that which is not there
		next := fmt.Sprintf("%d.root.json", t.trusted.Root.Signed.Version+1)
		data, err := t.metadata(ctx, next, mostRoot)
		if errors.Is(err, fs.ErrNotExist) {
			return t.rememberRoot()
		} else if err != nil {
			return err
		}
		if _, err := t.trusted.UpdateRoot(data); err != nil {
			return refused(next, err)
		}
	}
	return fmt.Errorf("%w: more than %d roots follow the trusted one (endless data attack?)", ErrRefused, mostRoots)
}

func (t *Trust) rememberRoot() error {
	data, err := t.trusted.Root.ToBytes(false)
	if err != nil {
		return err
	}
	// The root first: under another pin it counts for nothing.
	if err := t.remember("root.json", data); err != nil {
		return err
	}
	return t.remember("pinned", t.pin())
}

func (t *Trust) timestamp(ctx context.Context) error {
	// That the old one has expired does no harm either.
	_, _ = t.trusted.UpdateTimestamp(t.remembered("timestamp.json"))
	data, err := t.metadata(ctx, "timestamp.json", mostTimestamp)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("it is not signed, and so not trusted; have it signed, or do without a root: %w", err)
	} else if err != nil {
		return err
	}
	if err := wants(data, "snapshot.json"); err != nil {
		return refused("timestamp.json", err)
	}
	_, err = t.trusted.UpdateTimestamp(data)
	if errors.Is(err, &metadata.ErrEqualVersionNumber{}) {
		if t.trusted.Timestamp.Signed.IsExpired(t.trusted.RefTime) {
			err = &metadata.ErrExpiredMetadata{Msg: "timestamp.json is expired"}
		} else {
			return nil
		}
	}
	if err != nil {
		return refused("timestamp.json", err)
	}
	return t.remember("timestamp.json", data)
}

func (t *Trust) snapshot(ctx context.Context) error {
	if _, err := t.trusted.UpdateSnapshot(t.remembered("snapshot.json"), true); err == nil {
		return nil
	}
	named := t.trusted.Timestamp.Signed.Meta["snapshot.json"]
	name := fmt.Sprintf("%d.snapshot.json", named.Version)
	data, err := t.metadata(ctx, name, bound(named.Length, mostSnapshot))
	if err != nil {
		return missing(err, name)
	}
	if err := wants(data, "targets.json"); err != nil {
		return refused(name, err)
	}
	if _, err := t.trusted.UpdateSnapshot(data, false); err != nil {
		return refused(name, err)
	}
	return t.remember("snapshot.json", data)
}

func (t *Trust) targets(ctx context.Context) error {
	if _, err := t.trusted.UpdateTargets(t.remembered("targets.json")); err == nil {
		return nil
	}
	named := t.trusted.Snapshot.Signed.Meta["targets.json"]
	name := fmt.Sprintf("%d.targets.json", named.Version)
	data, err := t.metadata(ctx, name, bound(named.Length, mostTargets))
	if err != nil {
		return missing(err, name)
	}
	if _, err := t.trusted.UpdateTargets(data); err != nil {
		return refused(name, err)
	}
	return t.remember("targets.json", data)
}

// bound returns how many bytes to read of a file of which a length may be named.
func bound(length, most int64) int64 {
	if length > 0 && length < most {
		return length
	}
	return most
}

// Document returns a document that the targets name, such as index.json, verified.
// One that they do not name is an fs.ErrNotExist.
func (t *Trust) Document(ctx context.Context, name string, most int64) ([]byte, error) {
	target, ok := t.trusted.Targets[metadata.TARGETS].Signed.Targets[name]
	if !ok {
		return nil, fmt.Errorf("%s is not among the signed documents: %w", name, fs.ErrNotExist)
	}
	digest := target.Hashes["sha256"]
	if len(digest) != sha256.Size || target.Length > most {
		return nil, fmt.Errorf("%w: the targets name %s without its SHA-256, or with %d bytes", ErrRefused, name, target.Length)
	}
	where := path.Join("targets", path.Dir(name), hex.EncodeToString(digest)+"."+path.Base(name))
	data, err := t.metadata(ctx, where, target.Length)
	if err != nil {
		return nil, missing(err, where)
	}
	if err := target.VerifyLengthHashes(data); err != nil {
		return nil, refused(where, err)
	}
	return data, nil
}

// metadata fetches a file of the mirror's tuf directory.
func (t *Trust) metadata(ctx context.Context, name string, most int64) ([]byte, error) {
	data, err := t.get(ctx, "tuf/"+name, most)
	if errors.Is(err, fetch.ErrTooLarge) {
		return nil, fmt.Errorf("%w: tuf/%s: %w (endless data attack?)", ErrRefused, name, err)
	}
	return data, err
}

// remember writes a file of the client.
func (t *Trust) remember(name string, data []byte) error {
	if t.readOnly {
		return nil
	}
	if _, err := t.dir.Replace(name+".tmp", name, data); err != nil {
		return fmt.Errorf("remembering what is trusted: %w", err)
	}
	return nil
}
