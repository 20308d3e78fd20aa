package trust

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata/trustedmetadata"

	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/mirror"
)

// RoleStatus tells of the metadata of a role in a mirror.
type RoleStatus struct {
	Role    string    `json:"role"`
	Version int64     `json:"version"`
	Expires time.Time `json:"expires"`
	// Soon says that it has expired, or that less than a third is left of the time
	// between its writing, by the time of its file, and its end.
	Soon bool `json:"soon"`
}

// StatusOf tells of the metadata of a mirror, in the order of Roles, and nothing of
// a mirror that is not signed. It verifies by the first root of the mirror itself,
// so it tells whether the parts fit, not whose they are.
func StatusOf(mirrorDir string, now time.Time) ([]RoleStatus, error) {
	dir, err := atomicfile.Open(mirrorDir)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	if _, err := dir.Lstat(mirror.TUF); os.IsNotExist(err) {
		return nil, nil
	}
	trusted, err := verifyAll(dir)
	if err != nil {
		return nil, err
	}
	h := heldOf(trusted)
	root, timestamp, snapshot, targets := &trusted.Root.Signed, &h.timestamp.Signed, &h.snapshot.Signed, &h.targets.Signed
	all := []RoleStatus{
		{Role: Root, Version: root.Version, Expires: root.Expires},
		{Role: Timestamp, Version: timestamp.Version, Expires: timestamp.Expires},
		{Role: Snapshot, Version: snapshot.Version, Expires: snapshot.Expires},
		{Role: Targets, Version: targets.Version, Expires: targets.Expires},
	}
	for i := range all {
		r := &all[i]
		name := versioned(r.Role, r.Version)
		if r.Role == Timestamp {
			name = fileOf(Timestamp)
		}
		info, err := dir.Stat(path.Join(mirror.TUF, name))
		if err != nil {
			return nil, err
		}
		r.Soon = !r.Expires.After(now) || near(r.Expires, now, r.Expires.Sub(info.ModTime()))
	}
	return all, nil
}

// verifyAll verifies the metadata of a mirror by its own first root. That it has
// expired does not matter.
func verifyAll(dir atomicfile.Dir) (*trustedmetadata.TrustedMetadata, error) {
	roots, err := readRoots(dir, mirror.TUF)
	if err != nil {
		return nil, err
	}
	if len(roots) == 0 {
		return nil, fmt.Errorf("%s: there is no root; sign the mirror again", filepath.Join(dir.Name(), mirror.TUF))
	}
	trusted, err := trustedmetadata.New(roots[len(roots)-1].data)
	if err != nil {
		return nil, err
	}
	trusted.RefTime = time.Time{}
	if err := verifyChain(dir, trusted); err != nil {
		return nil, fmt.Errorf("%w; sign the mirror again", err)
	}
	return trusted, nil
}

// Fault is what is not as it should be with signed metadata.
type Fault struct {
	Path   string // in the mirror
	Detail string // a clause for people
	// Stale says that the document was changed since it was signed: clients that
	// verify are given the one before.
	Stale bool
}

// Verify reads the signed metadata of a mirror, and the documents that it names, and
// tells what does not fit. It verifies as StatusOf does. A mirror that is not signed
// has no faults.
func Verify(ctx context.Context, mirrorDir string) (faults []Fault, err error) {
	dir, err := atomicfile.Open(mirrorDir)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	if _, err := dir.Lstat(mirror.TUF); os.IsNotExist(err) {
		return nil, nil
	}
	trusted, err := verifyAll(dir)
	if err != nil {
		return []Fault{{Path: mirror.TUF, Detail: err.Error()}}, ctx.Err()
	}
	targets := trusted.Targets[Targets].Signed.Targets
	for _, name := range slices.Sorted(maps.Keys(targets)) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		t := targets[name]
		where := targetPath(name, t)
		signed, err := readFile(dir, where)
		if err == nil {
			err = t.VerifyLengthHashes(signed)
		}
		if err != nil {
			faults = append(faults, Fault{Path: where, Detail: err.Error()})
			continue
		}
		if now, err := readFile(dir, name); err != nil || !bytes.Equal(now, signed) {
			faults = append(faults, Fault{Path: name, Detail: "it is not the one that was signed; build with --sign-keys", Stale: true})
		}
	}
	return faults, ctx.Err()
}
