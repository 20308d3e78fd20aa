// Package trust signs what a mirror publishes, by The Update Framework (TUF), so
// that a client that was once given a root knows that what it reads is what the
// keys' owners published, whole, and no older than they say. Package
// imagerepo/internal/tuf verifies.
//
// # Parties
//
// Four roles sign, each with Ed25519 keys of its own and a threshold, the number of
// keys that must sign:
//
//	root       which keys the roles have; clients are given the first root
//	targets    which documents there are: index.json and the meta, by their digests;
//	           these tell the digests of all images and deltas
//	snapshot   which targets are the newest
//	timestamp  which snapshot is the newest
//
// The keys of targets, snapshot and timestamp are needed by each run that signs.
// Those of root are needed to change keys, and may be kept elsewhere.
//
// # Keys
//
// A keys directory, of mode 0700:
//
//	<role>.<id>.key  a private key; id is the first 8 digits of its key id. PKCS #8
//	                 in PEM, encrypted by scrypt and NaCl's secretbox as the tools
//	                 of TUF do it, mode 0600
//	<n>.root.json    the n-th root, complete, with all before it; mode 0644
//	next.root.json   the root that comes next and still lacks signatures
//	.lock            held while the directory is changed
//
// All private keys of a directory have one passphrase. A new root is signed by the
// thresholds of its own root keys and of those of the root before. Where these are
// not in one place, next.root.json goes from copy to copy of the directory, and
// SignRoot adds what each can; the last completes it. Until then all goes on with
// the root that is complete. Private keys that no root names any more are left for
// the administrator to remove: mirrors that have not yet been signed since need
// them once more.
//
// # Files of the mirror
//
//	tuf/<n>.root.json       roots, of which none is ever removed
//	tuf/timestamp.json      names the snapshot by version, length and digests
//	tuf/<n>.snapshot.json   names the targets likewise
//	tuf/<n>.targets.json    names the documents by length and SHA-256
//	tuf/targets/index.json and tuf/targets/meta/<series>.json, each with its SHA-256
//	                        and a dot before its file name: the documents
//
// The targets have but one digest because a client may look for a document under
// any that is named, and only names with a SHA-256 are sure to be short enough for
// a file. The version of a root counts from 1; those of the others are the seconds
// since 1970 of the signing, or one more than the version before: so a mirror that
// is made anew, with the same keys, is never taken for an old one.
//
// # Order
//
// What is named is written before what names it: documents, targets, snapshot,
// timestamp. A new root that changes keys comes after the timestamp, which is then
// signed by the old keys too, as far as they are here: at any instant the metadata
// fits the newest root that is there. Of a mirror that was never signed the roots
// come first. At last, what neither the new snapshot names nor the one before is
// removed, so that a client that reads while this goes on finds all it looks for.
//
// A run that is killed at any point leaves a mirror that verifies, and the next one
// goes on. Where an old private key is lost, the mirror may not verify between the
// timestamp and the root.
//
// # When
//
// A run signs what has changed, what the newest root does not bear out, and what
// has less than a third of its time left. So a run with nothing new signs nothing.
// A mirror's timestamp must be renewed, by a build or by Renew, before it expires:
// clients take an older one for a sign that newer documents are kept from them.
//
// Renew takes the documents from the targets that are signed, not from the mirror:
// it never signs what no build made. After a targets key was stolen, build.
//
// Source: https://theupdateframework.github.io/specification/latest/, sections 3, 4
// and 6.
package trust

import (
	"errors"
	"log/slog"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// The roles, in the order in which clients verify them.
const (
	Root      = metadata.ROOT
	Timestamp = metadata.TIMESTAMP
	Snapshot  = metadata.SNAPSHOT
	Targets   = metadata.TARGETS
)

// Roles returns the roles.
func Roles() []string { return []string{Root, Timestamp, Snapshot, Targets} }

// online are the roles that sign each state of a mirror.
var online = []string{Targets, Snapshot, Timestamp}

var (
	// ErrPassphrase is wrapped by the error for a private key that the passphrase
	// does not open.
	ErrPassphrase = errors.New("wrong passphrase")
	// ErrKeys is wrapped by the error for a role of which too few private keys are
	// in the keys directory.
	ErrKeys = errors.New("private keys are missing")
	// ErrPending is wrapped by the error for a change of the root while another one
	// waits for signatures.
	ErrPending = errors.New("another change waits for signatures")
	// ErrOther is wrapped by the error for a mirror that was signed with other keys.
	ErrOther = errors.New("signed with other keys")
	// ErrUnsigned is wrapped by the error for a mirror that no targets are signed of.
	ErrUnsigned = errors.New("not signed")
)

// Expiry says for how long metadata holds, by role.
type Expiry struct{ Root, Targets, Snapshot, Timestamp time.Duration }

// DefaultExpiry returns what fits a mirror that is built at least monthly.
func DefaultExpiry() Expiry {
	const day = 24 * time.Hour
	return Expiry{Root: 365 * day, Targets: 90 * day, Snapshot: 90 * day, Timestamp: 30 * day}
}

// of returns for how long metadata of a role holds.
func (e Expiry) of(role string) time.Duration {
	return map[string]time.Duration{Root: e.Root, Targets: e.Targets, Snapshot: e.Snapshot, Timestamp: e.Timestamp}[role]
}

// near reports whether less than a third of a lifetime is left.
func near(expires, now time.Time, lifetime time.Duration) bool {
	return expires.Sub(now) < lifetime/3
}

// Options say how keys are used.
type Options struct {
	Dir string // the keys directory
	// Passphrase returns the passphrase of the private keys. It is called at most
	// once, when a private key is needed. fresh says that nothing is there yet that
	// tells whether it is the right one. The result is cleared by Close.
	Passphrase func(fresh bool) ([]byte, error)
	Expiry     Expiry
	Log        *slog.Logger     // takes warnings
	Now        func() time.Time // nil is time.Now
}

// time returns the time, in the whole seconds of metadata.
func (o Options) time() time.Time {
	now := time.Now
	if o.Now != nil {
		now = o.Now
	}
	return now().UTC().Truncate(time.Second)
}
