// Package trust signs what a mirror publishes, by The Update Framework (TUF), so
// that a client with a root of trust knows that it reads exactly what the owners of the
// keys published, and nothing older than they allow. Package
// imagerepo/internal/tuf verifies.
//
// # Parties
//
// Four roles sign, each with Ed25519 keys of its own and a threshold, the number of
// keys that must sign:
//
//	root       which keys the roles have; clients are given the first root
//	targets    which documents exist: index.json and the meta, by their digests;
//	           these have the digests of all images and deltas
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
//	.signed          when a root was last signed here, see Clock; mode 0600
//	.lock            held while the directory is changed
//
// All private keys of a directory have one passphrase. A new root needs signatures by
// the thresholds of its own root keys and of those of the root before. If these keys
// are in several places, copy next.root.json from one copy of the directory to the
// next: SignRoot adds the signatures that are possible there, and the last one
// completes the root. Until then runs use the newest complete root. Retired private
// keys stay until the administrator removes them: mirrors that were not signed since
// need them once more.
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
// The targets have one digest only: a client may look for a document under any digest
// that is named, and only with a SHA-256 is the name short enough for every file
// system. The version of a root counts from 1. Other versions are the time of signing,
// in seconds since 1970, but at least one more than the version before: a mirror that
// is built again from nothing, with the same keys, is never taken for an old one.
//
// # Order
//
// A file is written before the file that names it: documents, targets, snapshot,
// timestamp. A new root follows the timestamp, which the old keys sign too, as far as
// they are in the directory: at any instant the newest root of the mirror verifies its
// metadata. In a mirror that was never signed the roots come first. The last step
// removes orphans: files that neither the new snapshot nor the previous one names. So
// a client that reads meanwhile finds all files.
//
// A run that is killed at any point leaves a mirror that verifies, and the next one
// continues. If an old private key is lost, the mirror may not verify between the
// timestamp and the root.
//
// # When
//
// A run signs metadata that has changed, that the newest root does not verify, or that
// has less than a third of its lifetime left. A run with nothing new signs nothing. A
// mirror's timestamp must be renewed, by a build or by Renew, before it expires:
// clients refuse an expired one, since newer documents may be withheld from them.
//
// Renew takes the documents from the signed targets, not from the mirror: it never
// signs a document that no build made. After a targets key was stolen, build.
//
// # Clock
//
// With a clock that is behind, new signatures would have expired already, and nobody would
// notice until clients refuse them. So nothing is signed while the clock is more than an hour
// behind the last signing. Two places show that: the version of the mirror's timestamp,
// which depends neither on lifetimes nor on the times of files; and .signed in the keys
// directory, for roots, and for mirrors that are new.
//
// With Options.IgnoreClock signing continues with the next versions. The version of a
// timestamp can then be more than an hour ahead of the clock; .repo/signed.json in the
// mirror says when that version was signed. So IgnoreClock is needed once after a clock
// that was ahead.
//
// Source: https://theupdateframework.github.io/specification/latest/, sections 3, 4
// and 6.
package trust

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"slices"
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

// onlineRoles are the roles that sign each state of a mirror.
var onlineRoles = []string{Targets, Snapshot, Timestamp}

var (
	// ErrPassphrase is wrapped by the error for a private key that the passphrase
	// does not decrypt.
	ErrPassphrase = errors.New("wrong passphrase")
	// ErrMissingKeys is wrapped by the error for a role of which too few private keys
	// are in the keys directory.
	ErrMissingKeys = errors.New("private keys are missing")
	// ErrPending is wrapped by the error for a change of the root while another one
	// waits for signatures.
	ErrPending = errors.New("another change waits for signatures")
	// ErrOtherKeys is wrapped by the error for a mirror that was signed with other keys.
	ErrOtherKeys = errors.New("signed with other keys")
	// ErrUnsigned is wrapped by the error for a mirror without signed targets.
	ErrUnsigned = errors.New("not signed")
)

const day = 24 * time.Hour

// defaultLifetimes suit a mirror that is built at least monthly.
var defaultLifetimes = map[string]time.Duration{
	Root: 365 * day, Targets: 90 * day, Snapshot: 90 * day, Timestamp: 30 * day,
}

// DefaultLifetime returns how long metadata of a role is valid unless
// Options.Lifetimes says otherwise; 0 for an unknown role.
func DefaultLifetime(role string) time.Duration { return defaultLifetimes[role] }

// expiresSoon reports whether less than a third of a lifetime is left. Such metadata
// is renewed.
func expiresSoon(expires, now time.Time, lifetime time.Duration) bool {
	return expires.Sub(now) < lifetime/3
}

// Options say where keys are, and how they are used. Only Dir is needed by all calls.
type Options struct {
	Dir string // the keys directory
	// Passphrase returns the passphrase of the private keys. It is called at most
	// once, when a private key is needed; nil is an error then. fresh says that no
	// private key exists yet that would show whether the passphrase is right. Close
	// clears the result.
	Passphrase func(fresh bool) ([]byte, error)
	// Lifetimes is how long metadata is valid that is signed now, by role. A role
	// that is missing, or has 0, gets its DefaultLifetime.
	Lifetimes map[string]time.Duration
	// IgnoreClock signs even if the clock is more than an hour behind the last signing.
	IgnoreClock bool
	Log         *slog.Logger     // gets warnings; nil discards them
	Now         func() time.Time // nil is time.Now
}

// complete returns the options with the defaults filled in, or an error that names the
// wrong field.
func (o Options) complete() (Options, error) {
	if o.Dir == "" {
		return o, errors.New("trust.Options.Dir is empty, want the keys directory")
	}
	for role, lifetime := range o.Lifetimes {
		if !slices.Contains(Roles(), role) {
			return o, fmt.Errorf("trust.Options.Lifetimes: %w", unknownRole(role))
		}
		if lifetime < 0 {
			return o, fmt.Errorf("trust.Options.Lifetimes: %s has %v, want more than 0", role, lifetime)
		}
	}
	if o.Passphrase == nil {
		o.Passphrase = func(bool) ([]byte, error) {
			return nil, errors.New("trust.Options.Passphrase is nil, and the private keys need their passphrase")
		}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o, nil
}

// lifetime returns how long metadata of a role is valid.
func (o Options) lifetime(role string) time.Duration {
	return cmp.Or(o.Lifetimes[role], DefaultLifetime(role))
}

// time returns the time, in the whole seconds of metadata.
func (o Options) time() time.Time { return o.Now().UTC().Truncate(time.Second) }
