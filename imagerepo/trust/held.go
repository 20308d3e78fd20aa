package trust

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
	"github.com/theupdateframework/go-tuf/v2/metadata/trustedmetadata"

	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/mirror"
)

// held is the metadata of a mirror that a root bears out. What comes after a part
// that is missing is missing too.
type held struct {
	timestamp *metadata.Metadata[metadata.TimestampType]
	snapshot  *metadata.Metadata[metadata.SnapshotType]
	targets   *metadata.Metadata[metadata.TargetsType]
}

// readHeld reads the metadata of a mirror. That it has expired does not matter.
func readHeld(dir atomicfile.Dir, root []byte) (h held) {
	trusted, err := trustedmetadata.New(root)
	if err != nil {
		return held{}
	}
	trusted.RefTime = time.Time{}
	_ = verifyChain(dir, trusted) // what fails is missing
	return heldOf(trusted)
}

func heldOf(trusted *trustedmetadata.TrustedMetadata) held {
	h := held{timestamp: trusted.Timestamp, snapshot: trusted.Snapshot, targets: trusted.Targets[Targets]}
	if h.targets == nil { // or the rest would be renewed around them
		return held{timestamp: h.timestamp}
	}
	return h
}

// verifyChain verifies timestamp, snapshot and targets.
func verifyChain(dir atomicfile.Dir, trusted *trustedmetadata.TrustedMetadata) error {
	read := func(name string, update func([]byte) error) error {
		name = path.Join(mirror.TUF, name)
		data, err := readFile(dir, name)
		if err != nil {
			return err
		}
		if err := update(data); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		return nil
	}
	err := read(fileOf(Timestamp), func(data []byte) error {
		_, err := trusted.UpdateTimestamp(data)
		return err
	})
	if err != nil {
		return err
	}
	named := trusted.Timestamp.Signed.Meta[fileOf(Snapshot)]
	if named == nil {
		return errors.New("timestamp.json names no snapshot")
	}
	err = read(versioned(Snapshot, named.Version), func(data []byte) error {
		_, err := trusted.UpdateSnapshot(data, false)
		return err
	})
	if err != nil {
		return err
	}
	if named = trusted.Snapshot.Signed.Meta[fileOf(Targets)]; named == nil {
		return errors.New("the snapshot names no targets")
	}
	return read(versioned(Targets, named.Version), func(data []byte) error {
		_, err := trusted.UpdateTargets(data)
		return err
	})
}

// version returns the version of what is held of a role, 0 if that is nothing.
func (h held) version(role string) int64 {
	switch {
	case role == Timestamp && h.timestamp != nil:
		return h.timestamp.Signed.Version
	case role == Snapshot && h.timestamp != nil:
		if named := h.timestamp.Signed.Meta[fileOf(Snapshot)]; named != nil {
			return named.Version
		}
	case role == Targets && h.targets != nil:
		return h.targets.Signed.Version
	}
	return 0
}

// paths adds where all lies that the snapshot names, and itself.
func (h held) paths(all map[string]bool) {
	all[path.Join(mirror.TUF, versioned(Snapshot, h.snapshot.Signed.Version))] = true
	all[path.Join(mirror.TUF, versioned(Targets, h.targets.Signed.Version))] = true
	for name, t := range h.targets.Signed.Targets {
		all[targetPath(name, t)] = true
	}
}

// writeAll writes the files in their order.
func (s *signing) writeAll(ctx context.Context) error {
	for _, dir := range []string{path.Join(targetDir, mirror.MetaDir), path.Dir(mirror.TmpPath("x"))} {
		if err := s.dir.MkdirAll(dir, 0o777); err != nil {
			return err
		}
	}
	for _, dir := range []string{targetDir, mirror.TUF, "."} { // they may be new in each
		if err := s.dir.SyncDir(dir); err != nil {
			return err
		}
	}
	for _, f := range s.files {
		if err := ctx.Err(); err != nil {
			return err
		}
		written, err := s.dir.Replace(mirror.TmpPath(path.Base(f.name)), f.name, f.data)
		if err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
		s.changed = s.changed || written
	}
	return nil
}

var (
	metadataName = regexp.MustCompile(`^[0-9]+\.(?:snapshot|targets)\.json$`)
	documentName = regexp.MustCompile(`^[0-9a-f]{64}\..+\.json$`)
)

// tidy removes what neither the newest snapshot names nor the one before. Where that
// is not known, or no new one was signed, all stays.
func (s *signing) tidy(ctx context.Context) error {
	after := readHeld(s.dir, s.newest().data)
	if after.targets == nil {
		return errors.New("the mirror does not verify after it was signed; did another program write to it?")
	}
	if s.before.targets == nil || s.before.snapshot.Signed.Version == after.snapshot.Signed.Version {
		return nil
	}
	keep := make(map[string]bool)
	s.before.paths(keep)
	after.paths(keep)
	for _, d := range []struct {
		dir  string
		ours *regexp.Regexp
	}{{mirror.TUF, metadataName}, {targetDir, documentName}, {path.Join(targetDir, mirror.MetaDir), documentName}} {
		entries, err := fs.ReadDir(s.dir.FS(), d.dir)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if err := ctx.Err(); err != nil {
				return err
			}
			if name := path.Join(d.dir, e.Name()); d.ours.MatchString(e.Name()) && !keep[name] {
				if err := s.dir.Remove(name); err != nil {
					return err
				}
				s.changed = true
			}
		}
	}
	return nil
}
