package trust

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
	"github.com/theupdateframework/go-tuf/v2/metadata/trustedmetadata"

	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/tuf"
)

// RoleStatus describes the metadata of a role in a mirror.
type RoleStatus struct {
	Role    string    `json:"role"`
	Version int64     `json:"version"`
	Expires time.Time `json:"expires"`
	// Soon reports whether it has expired, or has less than a third of its lifetime
	// left. The lifetime begins at the modification time of the file.
	Soon bool `json:"soon"`
}

// StatusOf describes the metadata of a mirror, in the order of Roles; nil if the mirror
// is not signed. It verifies by the mirror's own first root, so it shows whether the
// parts belong together, not whose they are.
func StatusOf(mirrorDir string, now time.Time) ([]RoleStatus, error) {
	dir, err := atomicfile.Open(mirrorDir)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	if _, err := dir.Lstat(tuf.Dir); os.IsNotExist(err) {
		return nil, nil
	}
	trusted, err := verifyByOwnRoot(context.Background(), dir) // a few small files
	if err != nil {
		return nil, err
	}
	root, timestamp, snapshot, targets := &trusted.Root.Signed, &trusted.Timestamp.Signed, &trusted.Snapshot.Signed, &trusted.Targets[Targets].Signed
	all := []RoleStatus{
		{Role: Root, Version: root.Version, Expires: root.Expires},
		{Role: Timestamp, Version: timestamp.Version, Expires: timestamp.Expires},
		{Role: Snapshot, Version: snapshot.Version, Expires: snapshot.Expires},
		{Role: Targets, Version: targets.Version, Expires: targets.Expires},
	}
	for i := range all {
		r := &all[i]
		info, err := dir.Stat(tuf.MetadataPath(r.Role, r.Version))
		if err != nil {
			return nil, err
		}
		r.Soon = !r.Expires.After(now) || expiresSoon(r.Expires, now, r.Expires.Sub(info.ModTime()))
	}
	return all, nil
}

// verifyByOwnRoot verifies the metadata of a mirror by the mirror's own roots, and
// ignores expiry.
func verifyByOwnRoot(ctx context.Context, dir atomicfile.Dir) (*trustedmetadata.TrustedMetadata, error) {
	roots, err := readRoots(dir, tuf.Dir)
	if err != nil {
		return nil, err
	}
	if len(roots) == 0 {
		return nil, fmt.Errorf("%s has no root; sign the mirror again", filepath.Join(dir.Name(), tuf.Dir))
	}
	trusted, err := tuf.Verify(ctx, roots[len(roots)-1].data, readFunc(dir))
	if err != nil {
		return nil, fmt.Errorf("%w; sign the mirror again", err)
	}
	return trusted, nil
}

// Fault is a fault of the signed metadata of a mirror.
type Fault struct {
	Path   string // in the mirror
	Detail string // a clause for people
	// Stale reports that the document at Path was changed after it was signed: clients
	// that verify still get the signed copy.
	Stale bool
}

// Verify verifies the signed metadata of a mirror as StatusOf does, compares the
// documents with their signed copies, and returns all faults. A mirror that is not
// signed has none.
func Verify(ctx context.Context, mirrorDir string) (faults []Fault, err error) {
	dir, err := atomicfile.Open(mirrorDir)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	if _, err := dir.Lstat(tuf.Dir); os.IsNotExist(err) {
		return nil, nil
	}
	trusted, err := verifyByOwnRoot(ctx, dir)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil {
		return []Fault{{Path: tuf.Dir, Detail: err.Error()}}, nil
	}
	targets := trusted.Targets[Targets].Signed.Targets
	for _, name := range slices.Sorted(maps.Keys(targets)) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if f := verifyDocument(dir, name, targets[name]); f != nil {
			faults = append(faults, *f)
		}
	}
	return faults, ctx.Err()
}

// verifyDocument returns the fault of a document or of its signed copy, nil for none.
func verifyDocument(dir atomicfile.Dir, name string, t *metadata.TargetFiles) *Fault {
	where := tuf.TargetPath(name, t)
	signed, err := dir.ReadFile(where, maxFile)
	if err == nil {
		err = t.VerifyLengthHashes(signed)
	}
	if err != nil {
		return &Fault{Path: where, Detail: err.Error()}
	}
	if now, err := dir.ReadFile(name, maxFile); err != nil || !bytes.Equal(now, signed) {
		return &Fault{Path: name, Detail: "it is not what was signed; build with --sign-keys", Stale: true}
	}
	return nil
}
