package trust

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/tuf"
)

// Check reads the private keys that signing a mirror needs, so that a missing key, a
// wrong passphrase, a clock that is behind or a mirror of other keys is reported before
// the work begins. It warns of a root that expires soon or lacks signatures. Keys inside the mirror would be published, which is an
// error. The mirror need not exist yet.
func (k *Keys) Check(mirrorDir string) error {
	if err := k.checkOpen(); err != nil {
		return err
	}
	if err := k.checkOutside(mirrorDir); err != nil {
		return err
	}
	if err := k.checkMirror(mirrorDir); err != nil {
		return err
	}
	newest := k.newest()
	for _, role := range onlineRoles {
		signers, err := k.signersOf(role, newest)
		if err != nil {
			return err
		}
		if have, need := len(signers), newest.Signed.Roles[role].Threshold; have < need {
			return fmt.Errorf("%w: %s needs %d signatures, but %s has only %d of its keys; see keys list", ErrMissingKeys, role, need, k.options.Dir, have)
		}
	}
	if k.next != nil {
		k.options.Log.Warn("a change of keys waits for signatures; signing with the previous root; see keys sign", "file", k.path(nextName))
	}
	if expires := newest.Signed.Expires; expiresSoon(expires, k.options.time(), k.options.lifetime(Root)) {
		k.options.Log.Warn("the root expires soon, after which all clients refuse the mirror; run keys sign where the root keys are",
			"root", newest.Signed.Version, "expires", expires.Format(time.DateOnly))
	}
	return nil
}

// checkOutside returns an error if the keys are inside the mirror.
func (k *Keys) checkOutside(mirrorDir string) error {
	published, err := os.Stat(mirrorDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	dir, err := filepath.Abs(k.options.Dir)
	if err == nil {
		dir, err = filepath.EvalSymlinks(dir)
	}
	for err == nil {
		var info fs.FileInfo
		if info, err = os.Stat(dir); err == nil && os.SameFile(info, published) {
			return fmt.Errorf("the private keys in %s would be published with the mirror; move them out of %s", k.options.Dir, mirrorDir)
		}
		if dir == filepath.Dir(dir) {
			break
		}
		dir = filepath.Dir(dir)
	}
	return err
}

// Sign signs the index and the meta of a mirror that the caller has locked, and
// reports whether it changed anything. dir is the mirror.
func (k *Keys) Sign(ctx context.Context, dir atomicfile.Dir) (changed bool, err error) {
	return k.signDocuments(ctx, dir, 0, false)
}

// SignAfter does what Sign does, and signs the timestamp again with a version above the
// given one, which clients of a destination may have seen.
func (k *Keys) SignAfter(ctx context.Context, dir atomicfile.Dir, version int64) (changed bool, err error) {
	return k.signDocuments(ctx, dir, version, true)
}

// signDocuments signs the index and the meta of a mirror, with versions above the given one.
func (k *Keys) signDocuments(ctx context.Context, dir atomicfile.Dir, after int64, renew bool) (changed bool, err error) {
	s, err := k.newSigning(ctx, dir)
	if err != nil {
		return false, err
	}
	s.after = after
	documents, err := readDocuments(dir)
	if err != nil {
		return false, err
	}
	targets := make(map[string]*metadata.TargetFiles)
	for name, data := range documents {
		// One digest only, see the package documentation.
		if targets[name], err = metadata.TargetFile().FromBytes(name, data, "sha256"); err != nil {
			return false, err
		}
	}
	err = s.sign(ctx, targets, documents, renew)
	return s.changed, err
}

// signersOf returns the ids of the keys that a root gives a role and whose private
// keys are in the directory.
func (k *Keys) signersOf(role string, r *root) (ids []string, err error) {
	for _, id := range r.Signed.Roles[role].KeyIDs {
		s, err := k.signer(role, id)
		if err != nil {
			return nil, err
		}
		if s != nil {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// signing is the state of one signing of a mirror.
type signing struct {
	keys      *Keys
	dir       atomicfile.Dir // the mirror
	now       time.Time
	published int64       // the version of the newest root in the mirror, 0 if it has none
	valid     metadataSet // what the newest root of the keys verifies
	before    metadataSet // valid, or if that has no targets, what the newest root of the mirror verifies
	after     int64       // versions are above this one
	files     []newFile   // to be written, in this order
	changed   bool        // a file was written or removed
}

// newFile is a file to be written.
type newFile struct {
	name string
	data []byte
}

// newSigning reads what a mirror has, and refuses a clock that is behind. It reads the
// roots of the keys again: hours may have passed since Check.
func (k *Keys) newSigning(ctx context.Context, dir atomicfile.Dir) (*signing, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := k.checkOpen(); err != nil {
		return nil, err
	}
	if err := k.load(); err != nil {
		return nil, err
	}
	s := &signing{keys: k, dir: dir, now: k.options.time()}
	if err := s.compareRoots(); err != nil {
		return nil, err
	}
	var err error
	if s.valid, err = readMetadata(ctx, dir, k.newest().data); err != nil {
		return nil, err
	}
	s.before = s.valid
	if s.before.targets == nil && s.published > 0 {
		if s.before, err = readMetadata(ctx, dir, k.roots[s.published-1].data); err != nil {
			return nil, err
		}
	}
	return s, s.checkClock()
}

// compareRoots finds the newest root of the mirror. Each must be one of the keys
// directory.
func (s *signing) compareRoots() error {
	versions, err := rootVersions(s.dir, tuf.Dir)
	if err != nil {
		return err
	}
	keysDir := s.keys.options.Dir
	for _, n := range versions {
		name := tuf.MetadataPath(Root, n)
		if n > int64(len(s.keys.roots)) {
			return fmt.Errorf("%s has %s, but %s does not; copy it there, and all else it lacks", s.dir.Name(), name, keysDir)
		}
		data, err := s.dir.ReadFile(name, maxFile)
		if err != nil {
			return err
		}
		if !bytes.Equal(data, s.keys.roots[n-1].data) {
			return fmt.Errorf("%s is %w: its %s differs from that in %s; give its keys, or remove %s", s.dir.Name(), ErrOtherKeys, name, keysDir, tuf.Dir)
		}
		s.published = n
	}
	return nil
}

// sign signs what needs it, and writes the files in an order in which the mirror
// verifies at any instant. documents are the contents of the targets, nil if their
// copies are in the mirror already. With renew, timestamp and snapshot are signed in
// any case.
func (s *signing) sign(ctx context.Context, targets map[string]*metadata.TargetFiles, documents map[string][]byte, renew bool) error {
	for _, name := range slices.Sorted(maps.Keys(documents)) {
		s.add(tuf.TargetPath(name, targets[name]), documents[name])
	}
	if s.published == 0 {
		s.addRoots()
	}
	err := s.signMetadata(targets, renew)
	if err == nil {
		s.addRoots()
		err = s.writeAll(ctx)
	}
	if err == nil {
		err = s.removeOrphans(ctx)
	}
	if err != nil {
		return fmt.Errorf("signing the mirror: %w", err)
	}
	return nil
}

// signMetadata signs what needs it, from the targets up to the timestamp.
func (s *signing) signMetadata(targets map[string]*metadata.TargetFiles, renew bool) error {
	signed, err := s.signTargets(targets)
	if err == nil {
		signed, err = s.signSnapshot(signed, renew)
	}
	if err == nil {
		err = s.signTimestamp(signed)
	}
	return err
}

func (s *signing) add(name string, data []byte) { s.files = append(s.files, newFile{name, data}) }

func (s *signing) addRoots() {
	for i, r := range s.keys.roots {
		s.add(tuf.MetadataPath(Root, int64(i)+1), r.data)
	}
}

// signTargets returns the entry of the snapshot for new targets, nil if the old ones
// stay.
func (s *signing) signTargets(targets map[string]*metadata.TargetFiles) (*metadata.MetaFiles, error) {
	same := func(a, b *metadata.TargetFiles) bool { return a.Equal(*b) }
	if old := s.valid.targets; old != nil && maps.EqualFunc(old.Signed.Targets, targets, same) && !s.expiresSoon(Targets, old.Signed.Expires) {
		return nil, nil
	}
	m := metadata.Targets(s.expires(Targets))
	m.Signed.Targets = targets
	m.Signed.Version = s.nextVersion(s.before.version(Targets))
	return addMetadata(s, Targets, m, m.Signed.Version)
}

// signSnapshot returns the entry of the timestamp for a new snapshot, nil if the old
// one stays.
func (s *signing) signSnapshot(targets *metadata.MetaFiles, renew bool) (*metadata.MetaFiles, error) {
	old := s.valid.snapshot
	if targets == nil {
		if !renew && !s.expiresSoon(Snapshot, old.Signed.Expires) {
			return nil, nil
		}
		targets = old.Signed.Meta[tuf.FileName(Targets)]
	}
	m := metadata.Snapshot(s.expires(Snapshot))
	m.Signed.Meta[tuf.FileName(Targets)] = targets
	m.Signed.Version = s.nextVersion(s.before.version(Snapshot))
	return addMetadata(s, Snapshot, m, m.Signed.Version)
}

// signTimestamp signs a timestamp for a new snapshot, or for the old one again if the
// old timestamp expires soon.
func (s *signing) signTimestamp(snapshot *metadata.MetaFiles) error {
	old := s.valid.timestamp
	if snapshot == nil {
		if !s.expiresSoon(Timestamp, old.Signed.Expires) {
			return nil
		}
		snapshot = old.Signed.Meta[tuf.FileName(Snapshot)]
	}
	m := metadata.Timestamp(s.expires(Timestamp))
	m.Signed.Meta[tuf.FileName(Snapshot)] = snapshot
	m.Signed.Version = s.nextVersion(s.before.version(Timestamp))
	if _, err := addMetadata(s, Timestamp, m, 0); err != nil {
		return err
	}
	return s.addRecord(m.Signed.Version)
}

// expiresSoon reports whether metadata must be renewed.
func (s *signing) expiresSoon(role string, expires time.Time) bool {
	return expiresSoon(expires, s.now, s.keys.options.lifetime(role))
}

// expires returns when metadata of a role expires that is signed now.
func (s *signing) expires(role string) time.Time {
	return s.now.Add(s.keys.options.lifetime(role))
}

// nextVersion returns the next version.
func (s *signing) nextVersion(before int64) int64 { return max(before+1, s.after+1, s.now.Unix()) }

// addMetadata signs metadata, adds it to the files to be written, and returns the
// entry for it in other metadata. version is that of its file name; the timestamp has
// none there.
func addMetadata[T metadata.Roles](s *signing, role string, m *metadata.Metadata[T], version int64) (*metadata.MetaFiles, error) {
	if err := signWithKeys(s, role, m); err != nil {
		return nil, err
	}
	if err := s.keys.newest().VerifyDelegate(role, m); err != nil {
		return nil, fmt.Errorf("%w: %w; see keys list", ErrMissingKeys, err)
	}
	data, err := encode(m)
	if err != nil {
		return nil, err
	}
	s.add(tuf.MetadataPath(role, version), data)
	of, err := metadata.TargetFile().FromBytes("", data, "sha256", "sha512")
	if err != nil {
		return nil, err
	}
	return &metadata.MetaFiles{Version: version, Length: of.Length, Hashes: of.Hashes}, nil
}

// signWithKeys signs metadata with the private keys of its role that are in the
// directory: those of the newest root, and those of the roots that clients of the
// mirror may still have.
func signWithKeys[T metadata.Roles](s *signing, role string, m *metadata.Metadata[T]) error {
	for _, r := range s.rootsInUse() {
		ids, err := s.keys.signersOf(role, r)
		if err != nil && r != s.keys.newest() {
			s.keys.options.Log.Warn("an old key cannot sign: clients may refuse the mirror until they have the new root", "root", r.Signed.Version, "reason", err)
		} else if err != nil {
			return err
		}
		for _, id := range ids {
			if slices.ContainsFunc(m.Signatures, func(s metadata.Signature) bool { return s.KeyID == id }) {
				continue
			}
			if _, err := m.Sign(s.keys.signers[id]); err != nil {
				return err
			}
		}
	}
	return nil
}

// rootsInUse returns the newest root, and before it those that clients of the mirror
// may have until they find it.
func (s *signing) rootsInUse() (all []*root) {
	roots := s.keys.roots
	for i := range roots {
		if n := int64(i) + 1; s.published > 0 && n >= s.published || n == int64(len(roots)) {
			all = append(all, &roots[i])
		}
	}
	return all
}
