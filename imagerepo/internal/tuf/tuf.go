// Package tuf verifies the signed metadata of a mirror, by The Update Framework
// (TUF). The client, the signer and the audit walk the same chain; what differs is
// where they read and what they remember. Package imagerepo/trust signs.
//
// # Parties
//
// Four roles sign, each with keys of its own: root says which keys the roles have
// and how many of them must sign (the threshold), targets lists the documents,
// snapshot names the targets that belong together with it, timestamp names the newest
// snapshot. All metadata has an expiry date.
//
// # Chain
//
//	trusted root -> next root -> ... -> timestamp -> snapshot -> targets -> documents
//
// Client.Refresh walks the whole chain from the root that a client was given. Whoever
// controls the mirror or the wire can give it neither wrong documents nor old ones as
// new; the documents have the digests of all images and deltas. Verify walks from the
// timestamp on, by the root that it is given, ignores expiry and remembers nothing.
//
// # Files of the mirror
//
//	tuf/<n>.root.json       the n-th root, signed by the keys of the previous root and its own
//	tuf/timestamp.json      names the snapshot by version, length and digests
//	tuf/<n>.snapshot.json   names the targets by version, length and digests
//	tuf/<n>.targets.json    names the documents by length and digests
//	tuf/targets/<dir>/<sha256>.<name>   the documents
//
// # Files of the client
//
//	.trust/pinned           SHA-256 of the root that was given, in hex, and a newline
//	.trust/root.json        the newest root reached from the given one
//	.trust/timestamp.json   the newest verified timestamp,
//	.trust/snapshot.json    snapshot
//	.trust/targets.json     and targets: older versions are refused
//
// A file that is damaged, or signed by keys that are no longer trusted, is ignored.
// So a new timestamp key recovers from a fast-forward attack: a stolen key that
// signed a version so high that none comes after it.
//
// # Refusals
//
// Each error for metadata or documents that must not be trusted wraps ErrRefused and
// names the possible attack: a missing signature, or too few (arbitrary install,
// wrong software), an older version than was seen before (rollback), expired metadata
// (freeze), parts that do not belong together (mix and match), more bytes than
// allowed (endless data). Package fetch notices slow retrieval.
//
// # Why not go-tuf's updater
//
// metadata/updater of go-tuf v2.4.2 fails for good once a file that it keeps is
// damaged, continues with an old root where more follow than it reads, and panics at a
// timestamp that names no snapshot. It also takes no context, and writes its files by
// path, without flushing them.
//
// Source: https://theupdateframework.github.io/specification/latest/, sections 3
// and 5.
package tuf

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"path"
	"regexp"
	"strconv"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"puavo-image-repository/meta"
	"puavo-image-repository/meta/untrusted"
)

const (
	// Dir is the directory of the signed metadata in a mirror.
	Dir = "tuf"
	// TargetsDir is the directory of the signed copies of documents in a mirror.
	TargetsDir = Dir + "/targets"
)

// The largest metadata and the largest file "pinned", in bytes, and how many roots may
// follow the trusted one.
const (
	maxRoot      = 512 << 10
	maxTimestamp = 16 << 10
	maxSnapshot  = 2 << 20
	maxTargets   = 16 << 20
	maxRoots     = 256
	maxPin       = 2*sha256.Size + 1
)

// ReadFunc returns the file of a mirror with a path such as tuf/timestamp.json. Its
// error for a file that does not exist wraps fs.ErrNotExist, and that for one of more
// than most bytes ErrEndlessData.
type ReadFunc func(ctx context.Context, name string, most int64) ([]byte, error)

// RootName returns the name of the file of the n-th root, also in a keys directory.
func RootName(n int64) string { return fmt.Sprintf("%d.root.json", n) }

var rootName = regexp.MustCompile(`^([1-9][0-9]{0,8})\.root\.json$`)

// RootVersion returns the version of the root in a file of this name, 0 if it is none.
func RootVersion(name string) int64 {
	m := rootName.FindStringSubmatch(name)
	if m == nil {
		return 0
	}
	n, _ := strconv.ParseInt(m[1], 10, 64) // it is a number
	return n
}

// TimestampVersion returns the version of a timestamp, whoever signed it.
func TimestampVersion(data []byte) (int64, error) {
	m := new(metadata.Metadata[metadata.TimestampType])
	err := recovered(func() (err error) {
		_, err = m.FromBytes(data)
		return err
	})
	if err != nil {
		return 0, untrusted.Error(meta.PlainJSON(err))
	}
	return m.Signed.Version, nil
}

// MetadataPath returns the path of the metadata of a role in a mirror. The path of
// the timestamp has no version.
func MetadataPath(role string, version int64) string {
	if role == metadata.TIMESTAMP {
		return Dir + "/" + FileName(role)
	}
	return fmt.Sprintf("%s/%d.%s", Dir, version, FileName(role))
}

// FileName returns the name by which metadata refers to that of a role.
func FileName(role string) string { return role + ".json" }

// TargetPath returns the path in a mirror of the signed copy of a document.
func TargetPath(name string, t *metadata.TargetFiles) string {
	return path.Join(TargetsDir, path.Dir(name), hex.EncodeToString(t.Hashes["sha256"])+"."+path.Base(name))
}

// Expires returns when metadata of any role expires, whoever signed it.
func Expires(data []byte) (time.Time, error) {
	var m struct {
		Signed struct {
			Expires time.Time `json:"expires"`
		} `json:"signed"`
	}
	err := json.Unmarshal(data, &m)
	return m.Signed.Expires, untrusted.Error(meta.PlainJSON(err))
}
