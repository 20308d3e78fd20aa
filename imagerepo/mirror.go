package imagerepo

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"

	"puavo-image-repository/cksum"
	"puavo-image-repository/delta"
	"puavo-image-repository/imagerepo/internal/lockfile"
	"puavo-image-repository/imagerepo/internal/state"
	"puavo-image-repository/meta"
)

// Where things lie in a mirror.
const (
	indexFile  = "index.json"
	cksumsFile = "CKSUMS"
	sha256File = "SHA256SUMS"

	deltaDir = "rdiffs"
	metaDir  = "meta"

	private      = ".repo"
	lockFile     = private + "/lock"
	stateDir     = private + "/state"
	signatureDir = private + "/signatures"
	tmpDir       = private + "/tmp"
)

func tmpPath(name string) string { return tmpDir + "/" + name }

func signaturePath(n meta.Name) string { return signatureDir + "/" + n.String() + ".sig" }

// held is what a mirror holds before a run.
type held struct {
	records map[string]*state.Record // by the name of the file
	files   map[string]state.Stamp   // by the path in the mirror
	// named are the files that the published lists name, so that the tool knows
	// its own even where its records are lost.
	named map[string]bool
}

func (h held) owned(name string) bool { return h.records[name] != nil || h.named[name] }

// placed reports whether the tool put a file of that name into the mirror. The
// record of an image alone does not tell: it may have served as a base only.
func (h held) placed(name string) bool {
	return h.named[name] || path.Ext(name) != ".img"
}

// own returns the names of the tool's own files, sorted.
func (h held) own() []string {
	all := maps.Clone(h.named)
	for name := range h.records {
		all[name] = true
	}
	return slices.Sorted(maps.Keys(all))
}

// signed reports whether there is a signature that can be that of the image.
func (h held) signed(im Image) bool {
	return h.files[signaturePath(im.Name)].Size == delta.SignatureSize(im.Stamp.Size)
}

// look finds out what a mirror holds. It reads no images and no deltas.
func look(mirror fs.FS, records map[string]*state.Record) (held, error) {
	h := held{records: maps.Clone(records), files: make(map[string]state.Stamp), named: make(map[string]bool)}
	maps.DeleteFunc(h.records, func(name string, _ *state.Record) bool { return !isOurName(name) })
	for _, dir := range []string{".", deltaDir, metaDir, signatureDir} {
		entries, err := fs.ReadDir(mirror, dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return held{}, err
		}
		for _, e := range entries {
			// A symbolic link is nothing that the tool makes: it is not followed.
			if info, err := e.Info(); err == nil && !info.IsDir() {
				h.files[path.Join(dir, e.Name())] = state.StampOf(info)
			}
		}
	}
	for _, name := range listed(mirror) {
		h.named[name] = isOurName(name)
	}
	maps.DeleteFunc(h.named, func(_ string, ours bool) bool { return !ours })
	return h, nil
}

// listed returns the names of the files that CKSUMS and index.json name. A list
// that is not there or not as it must be names none.
func listed(mirror fs.FS) (names []string) {
	if f, err := mirror.Open(cksumsFile); err == nil {
		lines, _ := cksum.ParseCKSUMS(f)
		f.Close()
		for _, l := range lines {
			names = append(names, l.Name)
		}
	}
	if data, err := fs.ReadFile(mirror, indexFile); err == nil {
		ix, _ := meta.ParseIndex(data)
		for _, s := range ix.Series {
			names = append(names, s.Name+".json")
		}
	}
	return names
}

// isOurName reports whether the tool may have given a file that name.
func isOurName(name string) bool {
	var err error
	switch path.Ext(name) {
	case ".img":
		_, err = meta.ParseName(name)
	case ".rdiff":
		_, _, err = meta.ParseDeltaName(name)
	case ".json":
		_, err = meta.ParseSeriesName(name[:len(name)-len(".json")])
	default:
		return false
	}
	return err == nil
}

// mirror is a mirror that is locked for this run.
type mirror struct {
	dir   string
	root  *os.Root
	state *state.Dir
	lock  *lockfile.Lock
}

// openMirror makes the mirror where there is none, locks it, and removes the
// temporary files of dead runs.
func openMirror(dir string, log *slog.Logger) (*mirror, error) {
	if err := os.MkdirAll(filepath.Join(dir, private), 0o777); err != nil {
		return nil, fmt.Errorf("making the mirror: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	m := &mirror{dir: dir, root: root}
	if err := m.prepare(log); err != nil {
		m.close()
		return nil, err
	}
	return m, nil
}

func (m *mirror) prepare(log *slog.Logger) (err error) {
	if m.lock, err = lockfile.Acquire(m.root, lockFile); err != nil {
		return err
	}
	if err := m.root.RemoveAll(tmpDir); err != nil {
		return err
	}
	for _, dir := range []string{stateDir, signatureDir} {
		if info, err := m.root.Lstat(dir); err == nil && !info.IsDir() {
			log.Warn("not a directory, made anew: what it held is read again", "file", filepath.Join(m.dir, dir))
			if err := m.root.Remove(dir); err != nil {
				return err
			}
		}
	}
	for _, dir := range []string{deltaDir, metaDir, signatureDir, stateDir, tmpDir} {
		if err := m.root.MkdirAll(dir, 0o777); err != nil {
			return err
		}
	}
	m.state = state.New(m.root, stateDir, tmpDir)
	return nil
}

func (m *mirror) close() error {
	var err error
	if m.lock != nil {
		err = m.lock.Release()
	}
	return errors.Join(err, m.root.Close())
}

// checkPlaces refuses directories that would get mixed up: a mirror that is its
// own image directory, or that lies in another mirror.
func checkPlaces(imageDir, mirrorDir string) error {
	images, err := os.Stat(imageDir)
	if err != nil {
		return err
	}
	if !images.IsDir() {
		return fmt.Errorf("%s is not a directory; give the directory of the images", imageDir)
	}
	if info, err := os.Stat(mirrorDir); err == nil && !info.IsDir() {
		return fmt.Errorf("the mirror %s is not a directory; remove it or give another", mirrorDir)
	}
	here, err := filepath.EvalSymlinks(imageDir)
	if err != nil {
		return err
	}
	if here, err = filepath.Abs(here); err != nil {
		return err
	}
	if inside(here, mirrorDir) {
		return fmt.Errorf("the image directory %s is in the mirror %s; give the directory where the images are made", imageDir, mirrorDir)
	}
	there, err := filepath.Abs(mirrorDir)
	if err != nil {
		return err
	}
	for dir := filepath.Dir(there); ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, private)); err == nil {
			return fmt.Errorf("the mirror %s is in another mirror, %s; give another directory", mirrorDir, dir)
		}
		if dir == filepath.Dir(dir) {
			return nil
		}
	}
}

// inside reports whether path is dir or lies in it.
func inside(path, dir string) bool {
	want, err := os.Stat(dir)
	if err != nil {
		return false
	}
	for {
		if info, err := os.Stat(path); err == nil && os.SameFile(info, want) {
			return true
		}
		if path == filepath.Dir(path) {
			return false
		}
		path = filepath.Dir(path)
	}
}
