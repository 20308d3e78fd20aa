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

	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/mirror"
	"puavo-image-repository/imagerepo/internal/published"
	"puavo-image-repository/imagerepo/internal/tuf"
	"puavo-image-repository/meta"
)

// metadataSet is the verified metadata of a mirror. Either it is complete, or only the
// timestamp is there, or nothing: without the targets the rest is worth nothing.
type metadataSet struct {
	timestamp *metadata.Metadata[metadata.TimestampType]
	snapshot  *metadata.Metadata[metadata.SnapshotType]
	targets   *metadata.Metadata[metadata.TargetsType]
}

// readMetadata reads the metadata of a mirror that a root verifies, expired or not.
// What does not verify is left out: a run signs it again.
func readMetadata(ctx context.Context, dir atomicfile.Dir, root []byte) (metadataSet, error) {
	trusted, _ := tuf.Verify(ctx, root, readFunc(dir))
	switch {
	case trusted == nil:
		return metadataSet{}, ctx.Err()
	case trusted.Targets[Targets] == nil:
		return metadataSet{timestamp: trusted.Timestamp}, ctx.Err()
	}
	return metadataSet{trusted.Timestamp, trusted.Snapshot, trusted.Targets[Targets]}, ctx.Err()
}

// readFunc returns the tuf.ReadFunc of a mirror on disk.
func readFunc(dir atomicfile.Dir) tuf.ReadFunc {
	return func(ctx context.Context, name string, most int64) ([]byte, error) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		return dir.ReadFile(name, most)
	}
}

// version returns the version of the metadata of a role, 0 if there is none.
func (m metadataSet) version(role string) int64 {
	switch {
	case role == Timestamp && m.timestamp != nil:
		return m.timestamp.Signed.Version
	case role == Snapshot && m.timestamp != nil: // also of a snapshot that does not verify
		if named := m.timestamp.Signed.Meta[tuf.FileName(Snapshot)]; named != nil {
			return named.Version
		}
	case role == Targets && m.targets != nil:
		return m.targets.Signed.Version
	}
	return 0
}

// addPaths adds the paths of snapshot, targets and documents.
func (m metadataSet) addPaths(all map[string]bool) {
	all[tuf.MetadataPath(Snapshot, m.snapshot.Signed.Version)] = true
	all[tuf.MetadataPath(Targets, m.targets.Signed.Version)] = true
	for name, t := range m.targets.Signed.Targets {
		all[tuf.TargetPath(name, t)] = true
	}
}

// readDocuments returns the documents of a mirror that are signed: the index, and the
// meta that it names.
func readDocuments(dir atomicfile.Dir) (map[string][]byte, error) {
	documents := make(map[string][]byte)
	data, err := dir.ReadFile(mirror.Index, maxFile)
	if err != nil {
		return nil, err
	}
	index, err := meta.ParseIndex(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", mirror.Index, err)
	}
	documents[mirror.Index] = data
	for _, e := range index.Series {
		if documents[e.Meta], err = dir.ReadFile(e.Meta, maxFile); err != nil {
			return nil, err
		}
	}
	return documents, nil
}

// writeAll writes the new files in their order.
func (s *signing) writeAll(ctx context.Context) error {
	for _, dir := range []string{path.Join(tuf.TargetsDir, mirror.MetaDir), path.Dir(mirror.TmpPath("x"))} {
		if err := s.dir.MkdirAll(dir, 0o777); err != nil {
			return err
		}
	}
	for _, dir := range []string{tuf.TargetsDir, tuf.Dir, "."} { // each may have got a new directory
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

// orphanDirs are the directories in which files become orphans, each with the names
// that such files have.
var orphanDirs = []struct {
	dir  string
	name *regexp.Regexp
}{
	{tuf.Dir, regexp.MustCompile(`^[0-9]+\.(?:snapshot|targets)\.json$`)},
	{tuf.TargetsDir, documentName},
	{tuf.TargetsDir + "/" + mirror.MetaDir, documentName},
}

var documentName = regexp.MustCompile(`^[0-9a-f]{64}\..+\.json$`)

// removeOrphans removes the files that neither the new snapshot nor the previous one names.
// Without a new snapshot, or if the previous one is unknown, it removes nothing.
func (s *signing) removeOrphans(ctx context.Context) error {
	after, err := readMetadata(ctx, s.dir, s.keys.newest().data)
	if err != nil {
		return err
	}
	if after.targets == nil {
		return errors.New("the signed mirror does not verify; did another program write to it?")
	}
	if s.before.targets == nil || s.before.snapshot.Signed.Version == after.snapshot.Signed.Version {
		return nil
	}
	keep := make(map[string]bool)
	s.before.addPaths(keep)
	after.addPaths(keep)
	for _, d := range orphanDirs {
		entries, err := fs.ReadDir(s.dir.FS(), d.dir)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if err := ctx.Err(); err != nil {
				return err
			}
			if name := path.Join(d.dir, e.Name()); d.name.MatchString(e.Name()) && !keep[name] {
				if err := s.dir.Remove(name); err != nil {
					return err
				}
				s.changed = true
			}
		}
	}
	return nil
}

// patience is how long Renew waits for the mirror's lock: it runs by itself once a day,
// perhaps while a build does.
const patience = 10 * time.Minute

// Renew signs timestamp and snapshot of a mirror again, and the targets if they need
// it, for the documents that were signed last. It also publishes new roots. Where SHA256SUMS
// names a file BEST-BEFORE-YYYY-MM-DD, that moves to the day on which the new timestamp
// expires. It takes the
// mirror's lock, and waits up to ten minutes while another process holds it. With noSync
// the files are not flushed to the disk.
func (k *Keys) Renew(ctx context.Context, mirrorDir string, noSync bool) (err error) {
	view, err := mirror.View(mirrorDir) // does not create it
	if err != nil {
		return fmt.Errorf("the mirror: %w; check the path", err)
	}
	_, err = view.Root.Lstat(tuf.Dir)
	view.Close()
	if err != nil {
		return unsigned(mirrorDir)
	}
	m, err := mirror.OpenWhenFree(ctx, mirrorDir, noSync, patience, k.options.Log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	s, err := k.newSigning(ctx, m.Root)
	if err != nil {
		return err
	}
	if s.before.targets == nil {
		return unsigned(mirrorDir)
	}
	if err := s.sign(ctx, s.before.targets.Signed.Targets, nil, true); err != nil {
		return err
	}
	return published.RenewBestBefore(ctx, m.Root, m.State)
}

func unsigned(mirrorDir string) error {
	return fmt.Errorf("%s: %w, or signed with other keys, or its metadata is damaged; build it with --sign-keys", mirrorDir, ErrUnsigned)
}
