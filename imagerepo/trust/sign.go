package trust

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/mirror"
	"puavo-image-repository/meta"
)

// targetDir is where the documents lie.
const targetDir = mirror.TUF + "/targets"

// Check reads the private keys that signing a mirror takes, so that what is wrong
// with them or with the passphrase is known before the work begins. It warns of a
// root that expires soon or waits for signatures. Keys that are in the mirror would
// be published: that is an error. The mirror need not be there yet.
func (k *Keys) Check(mirrorDir string) error {
	if err := k.apart(mirrorDir); err != nil {
		return err
	}
	newest := k.newest()
	for _, role := range online {
		signers, err := k.signersOf(role, newest)
		if err != nil {
			return err
		}
		if have, need := len(signers), newest.Signed.Roles[role].Threshold; have < need {
			return fmt.Errorf("%w: %s needs %d signatures, and %s has %d of its keys; see keys list", ErrKeys, role, need, k.Dir, have)
		}
	}
	if k.next != nil {
		k.Log.Warn("a change of keys waits for signatures, going on with the root before it; see keys sign", "file", k.path(nextName))
	}
	if expires := newest.Signed.Expires; near(expires, k.time(), k.Expiry.Root) {
		k.Log.Warn("the root expires soon, and all clients will refuse the mirror; run keys sign where the root keys are, before",
			"root", newest.Signed.Version, "expires", expires.Format(time.DateOnly))
	}
	return nil
}

// apart returns an error if the keys are in the mirror.
func (k *Keys) apart(mirrorDir string) error {
	published, err := os.Stat(mirrorDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	dir, err := filepath.Abs(k.Dir)
	if err == nil {
		dir, err = filepath.EvalSymlinks(dir)
	}
	for err == nil {
		var info fs.FileInfo
		if info, err = os.Stat(dir); err == nil && os.SameFile(info, published) {
			return fmt.Errorf("the private keys in %s would be published with the mirror; move them out of %s", k.Dir, mirrorDir)
		}
		if dir == filepath.Dir(dir) {
			break
		}
		dir = filepath.Dir(dir)
	}
	return err
}

// Sign signs the index and the meta of a mirror that the caller has locked, and
// reports whether it wrote anything.
func (k *Keys) Sign(ctx context.Context, dir atomicfile.Dir) (changed bool, err error) {
	s, err := k.begin(ctx, dir)
	if err != nil {
		return false, err
	}
	documents, err := readDocuments(dir)
	if err != nil {
		return false, err
	}
	wanted := make(map[string]*metadata.TargetFiles)
	for name, data := range documents {
		// Under one digest alone, see the package documentation.
		if wanted[name], err = metadata.TargetFile().FromBytes(name, data, "sha256"); err != nil {
			return false, err
		}
	}
	err = s.sign(ctx, wanted, documents, false)
	return s.changed, explain(err)
}

// patience is how long Renew waits for the mirror's lock: it runs by itself once a day,
// perhaps while a build does.
const patience = 10 * time.Minute

// Renew signs a mirror's timestamp and snapshot anew, and what else needs it, for
// the documents that were signed last. It takes the mirror's lock, and waits up to ten
// minutes while another process holds it. With noSync what is written is not flushed to
// the disk.
func (k *Keys) Renew(ctx context.Context, mirrorDir string, noSync bool) (err error) {
	view, err := mirror.View(mirrorDir) // which makes none
	if err != nil {
		return fmt.Errorf("the mirror: %w; check the path", err)
	}
	_, err = view.Root.Lstat(mirror.TUF)
	view.Close()
	if err != nil {
		return unsigned(mirrorDir)
	}
	m, err := mirror.OpenWhenFree(ctx, mirrorDir, noSync, patience, k.Log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	s, err := k.begin(ctx, m.Root)
	if err != nil {
		return err
	}
	if s.before.targets == nil {
		return unsigned(mirrorDir)
	}
	return explain(s.sign(ctx, s.before.targets.Signed.Targets, nil, true))
}

func unsigned(mirrorDir string) error {
	return fmt.Errorf("%s: %w, or not by these keys, or the metadata is damaged; build it with --sign-keys", mirrorDir, ErrUnsigned)
}

// explain says what was done when an error occurred.
func explain(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("signing the mirror: %w", err)
}

// readDocuments returns the documents of a mirror that are signed.
func readDocuments(dir atomicfile.Dir) (map[string][]byte, error) {
	documents := make(map[string][]byte)
	data, err := readFile(dir, mirror.Index)
	if err != nil {
		return nil, err
	}
	index, err := meta.ParseIndex(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", mirror.Index, err)
	}
	documents[mirror.Index] = data
	for _, e := range index.Series {
		if documents[e.Meta], err = readFile(dir, e.Meta); err != nil {
			return nil, err
		}
	}
	return documents, nil
}

// targetPath returns where a document lies.
func targetPath(name string, t *metadata.TargetFiles) string {
	return path.Join(targetDir, path.Dir(name), hex.EncodeToString(t.Hashes["sha256"])+"."+path.Base(name))
}

// signersOf returns the keys of a role that are here, of one root.
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
	*Keys
	dir       atomicfile.Dir
	now       time.Time
	published int64 // the newest root of the mirror, 0 if it has none
	valid     held  // what the newest root of the keys bears out
	before    held  // the same, or if that is nothing, what the newest root of the mirror does
	files     []newFile
	changed   bool
}

// newFile is a file that is to be written.
type newFile struct {
	name string
	data []byte
}

// begin finds out what a mirror holds. The roots are read anew: since they were
// checked, hours may have passed.
func (k *Keys) begin(ctx context.Context, dir atomicfile.Dir) (*signing, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := k.load(); err != nil {
		return nil, err
	}
	s := &signing{Keys: k, dir: dir, now: k.time()}
	if err := s.compareRoots(); err != nil {
		return nil, err
	}
	s.valid = readHeld(dir, k.newest().data)
	s.before = s.valid
	if s.before.targets == nil && s.published > 0 {
		s.before = readHeld(dir, k.roots[s.published-1].data)
	}
	return s, nil
}

// compareRoots finds the newest root of the mirror. Each must be one of the keys
// directory.
func (s *signing) compareRoots() error {
	versions, err := rootVersions(s.dir, mirror.TUF)
	if err != nil {
		return err
	}
	for _, n := range versions {
		name := path.Join(mirror.TUF, rootFile(n))
		if n > int64(len(s.roots)) {
			return fmt.Errorf("%s has %s, and %s does not; copy it there, with what else it lacks", s.dir.Name(), name, s.Dir)
		}
		data, err := readFile(s.dir, name)
		if err != nil {
			return err
		}
		if !bytes.Equal(data, s.roots[n-1].data) {
			return fmt.Errorf("%s is %w: its %s is not the one of %s; give its keys, or remove %s", s.dir.Name(), ErrOther, name, s.Dir, mirror.TUF)
		}
		s.published = n
	}
	return nil
}

// sign signs what needs it and writes all in an order that fits at any instant.
// documents are the contents of the targets, none if these are there already. With
// fresh, timestamp and snapshot are signed in any case.
func (s *signing) sign(ctx context.Context, targets map[string]*metadata.TargetFiles, documents map[string][]byte, fresh bool) error {
	for _, name := range slices.Sorted(maps.Keys(documents)) {
		s.add(targetPath(name, targets[name]), documents[name])
	}
	if s.published == 0 {
		s.addRoots()
	}
	signed, err := s.signTargets(targets)
	if err == nil {
		signed, err = s.signSnapshot(signed, fresh)
	}
	if err == nil {
		err = s.signTimestamp(signed)
	}
	if err != nil {
		return err
	}
	s.addRoots()
	if err := s.writeAll(ctx); err != nil {
		return err
	}
	return s.tidy(ctx)
}

func (s *signing) add(name string, data []byte) { s.files = append(s.files, newFile{name, data}) }

func (s *signing) addRoots() {
	for i := range s.roots {
		s.add(path.Join(mirror.TUF, rootFile(int64(i)+1)), s.roots[i].data)
	}
}

// signTargets returns what the snapshot is to say of new targets, nil if the old
// ones stay.
func (s *signing) signTargets(targets map[string]*metadata.TargetFiles) (*metadata.MetaFiles, error) {
	same := func(a, b *metadata.TargetFiles) bool { return a.Equal(*b) }
	if old := s.valid.targets; old != nil && maps.EqualFunc(old.Signed.Targets, targets, same) && !s.ageing(Targets, old.Signed.Expires) {
		return nil, nil
	}
	m := metadata.Targets(s.expires(Targets))
	m.Signed.Targets = targets
	m.Signed.Version = s.version(s.before.version(Targets))
	return addMetadata(s, Targets, m, m.Signed.Version)
}

// signSnapshot returns what the timestamp is to say of a new snapshot, nil if the
// old one stays.
func (s *signing) signSnapshot(targets *metadata.MetaFiles, fresh bool) (*metadata.MetaFiles, error) {
	old := s.valid.snapshot
	if targets == nil {
		if !fresh && !s.ageing(Snapshot, old.Signed.Expires) {
			return nil, nil
		}
		targets = old.Signed.Meta[fileOf(Targets)]
	}
	m := metadata.Snapshot(s.expires(Snapshot))
	m.Signed.Meta[fileOf(Targets)] = targets
	m.Signed.Version = s.version(s.before.version(Snapshot))
	return addMetadata(s, Snapshot, m, m.Signed.Version)
}

func (s *signing) signTimestamp(snapshot *metadata.MetaFiles) error {
	old := s.valid.timestamp
	if snapshot == nil {
		if !s.ageing(Timestamp, old.Signed.Expires) {
			return nil
		}
		snapshot = old.Signed.Meta[fileOf(Snapshot)]
	}
	m := metadata.Timestamp(s.expires(Timestamp))
	m.Signed.Meta[fileOf(Snapshot)] = snapshot
	m.Signed.Version = s.version(s.before.version(Timestamp))
	_, err := addMetadata(s, Timestamp, m, 0)
	return err
}

// ageing reports whether metadata is to be renewed for its time.
func (s *signing) ageing(role string, expires time.Time) bool {
	return near(expires, s.now, s.Expiry.of(role))
}

func (s *signing) expires(role string) time.Time { return s.now.Add(s.Expiry.of(role)) }

// version returns the version that follows one.
func (s *signing) version(before int64) int64 { return max(before+1, s.now.Unix()) }

// addMetadata signs metadata with the keys of its role that are here, those of the
// newest root and those of the roots that clients of the mirror may still have. It
// adds it to what is written, under a name with a version unless that is 0, and
// returns what is said of it.
func addMetadata[T metadata.Roles](s *signing, role string, m *metadata.Metadata[T], version int64) (*metadata.MetaFiles, error) {
	for _, r := range s.rootsInUse() {
		ids, err := s.signersOf(role, r)
		if err != nil && r != s.newest() {
			s.Log.Warn("an old key cannot sign: until a client has the new root, it may refuse the mirror", "root", r.Signed.Version, "reason", err)
		} else if err != nil {
			return nil, err
		}
		for _, id := range ids {
			if slices.ContainsFunc(m.Signatures, func(s metadata.Signature) bool { return s.KeyID == id }) {
				continue
			}
			if _, err := m.Sign(s.signers[id]); err != nil {
				return nil, err
			}
		}
	}
	if err := s.newest().VerifyDelegate(role, m); err != nil {
		return nil, fmt.Errorf("%w: %w; see keys list", ErrKeys, err)
	}
	data, err := encode(m)
	if err != nil {
		return nil, err
	}
	name := fileOf(role)
	if version > 0 {
		name = versioned(role, version)
	}
	s.add(path.Join(mirror.TUF, name), data)
	of, err := metadata.TargetFile().FromBytes("", data, "sha256", "sha512")
	if err != nil {
		return nil, err
	}
	return &metadata.MetaFiles{Version: version, Length: of.Length, Hashes: of.Hashes}, nil
}

// rootsInUse returns the newest root, and before it those that clients of the mirror
// may have until they find it.
func (s *signing) rootsInUse() (all []*root) {
	for i := range s.roots {
		if n := int64(i) + 1; s.published > 0 && n >= s.published || n == int64(len(s.roots)) {
			all = append(all, &s.roots[i])
		}
	}
	return all
}

func fileOf(role string) string { return role + ".json" }

func versioned(role string, version int64) string { return fmt.Sprintf("%d.%s.json", version, role) }
