package edition

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/edition/record"
	"puavo-image-repository/imagerepo/internal/mirror"
	"puavo-image-repository/imagerepo/internal/tuf"
	"puavo-image-repository/meta"
	"puavo-image-repository/meta/untrusted"
)

// ErrMirror is wrapped by the error for a mirror that cannot be published as it is.
var ErrMirror = errors.New("the mirror cannot be published")

// Source is where an edition comes from.
type Source struct {
	// Dir has the documents, and the signed files. It must not be changed while they are read.
	Dir atomicfile.Dir
	// Size returns the size of payload in bytes, by its path in a mirror; nil takes that of
	// the file in Dir.
	Size func(name string) (int64, error)
	// Open opens payload to send it.
	Open func(name string) (*os.File, error)
	Sign Signer // may be nil
}

// edition is what a mirror publishes. The documents are in memory, so that a build can
// change them while payload is sent.
type edition struct {
	payload   map[string]record.Content // images, deltas, torrents
	documents []document                // in the order in which they are written
	trusted   []document                // signed files that nothing reads before the timestamp names them
	timestamp []document                // none or one
	roots     []document                // in their order
	series    []meta.Series
}

// document is a small file.
type document struct {
	name string
	data []byte
}

func (d document) content() record.Content {
	return record.Content{Size: int64(len(d.data)), SHA256: sha256.Sum256(d.data)}
}

// isPayload reports whether a file is large, and sent before the documents that name it.
func isPayload(name string) bool {
	switch path.Ext(name) {
	case ".img", ".rdiff", ".cdelta", ".torrent":
		return true
	}
	return false
}

// isTorrent reports whether a file is a torrent, which clients find without any document: it
// must not be there before its file, or after it.
func isTorrent(name string) bool { return path.Ext(name) == ".torrent" }

// isFile reports whether a file is not a torrent.
func isFile(name string) bool { return !isTorrent(name) }

// isList reports whether a file is a list of digests, which no list names.
func isList(name string) bool { return path.Base(name) == mirror.SHA256 }

// rank is where a document comes when all are written: what has the digest of another comes
// after it.
func rank(name string) int {
	switch {
	case isList(name) && name != mirror.SHA256:
		return 4
	case isList(name):
		return 5
	case name == mirror.CKSUMS:
		return 3
	case name == mirror.Index:
		return 2
	case path.Dir(name) == ".":
		return 1
	}
	return 0
}

func sortDocuments(all []document) {
	slices.SortFunc(all, func(a, b document) int {
		if d := rank(a.name) - rank(b.name); d != 0 {
			return d
		}
		return strings.Compare(a.name, b.name)
	})
}

// read reads an edition.
func (src Source) read(ctx context.Context) (*edition, error) {
	e := &edition{payload: make(map[string]record.Content)}
	for _, list := range mirror.Lists() {
		if err := e.readList(ctx, src, list); err != nil {
			return nil, err
		}
	}
	if !slices.ContainsFunc(e.documents, func(d document) bool { return d.name == mirror.Index }) {
		return nil, NotBuilt(src.Dir.Name())
	}
	if err := e.readTrust(ctx, src.Dir); err != nil {
		return nil, err
	}
	sortDocuments(e.documents)
	documents := maps.Collect(byName(e.documents))
	index, _ := meta.ParseIndex(documents[mirror.Index])
	for _, entry := range index.Series {
		if s, err := meta.ParseSeries(documents[entry.Meta]); err == nil {
			e.series = append(e.series, s)
		}
	}
	return e, e.checkNamed()
}

// checkNamed refuses an edition whose meta names what no list does: it would not be sent.
func (e *edition) checkNamed() error {
	for _, s := range e.series {
		for _, im := range s.Images {
			names := []string{im.Name.String()}
			for _, d := range im.Diffs {
				names = append(names, meta.DeltaPath(d.Filename))
			}
			for _, c := range im.Compact {
				names = append(names, meta.CompactPath(c.Filename))
			}
			for _, name := range names {
				if _, listed := e.payload[name]; !listed {
					return fmt.Errorf("%w: %s names %s, and no %s does; run verify --repair", ErrMirror, meta.SeriesPath(s.Name), untrusted.Show(name), mirror.SHA256)
				}
			}
		}
	}
	return nil
}

// CheckMirror refuses a directory that is not a mirror, before anything is made for it.
func CheckMirror(dir string) error {
	if _, err := os.Stat(dir); err != nil {
		return fmt.Errorf("%w: %w", ErrMirror, err)
	}
	if _, err := os.Stat(filepath.Join(dir, mirror.SHA256)); errors.Is(err, fs.ErrNotExist) {
		return NotBuilt(dir)
	}
	return nil
}

// NotBuilt returns the error for a directory that is not a mirror.
func NotBuilt(dir string) error {
	return fmt.Errorf("%w: no %s of %s names its %s; build it first", ErrMirror, mirror.SHA256, dir, mirror.Index)
}

// byName ranges over documents by their names.
func byName(all []document) func(yield func(string, []byte) bool) {
	return func(yield func(string, []byte) bool) {
		for _, d := range all {
			if !yield(d.name, d.data) {
				return
			}
		}
	}
}

// readList reads what a list names: documents whole, of payload its size.
func (e *edition) readList(ctx context.Context, src Source, list string) error {
	data, err := src.Dir.ReadFile(list, meta.MaxDocument)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	lines, err := mirror.ParseList(list, data)
	if err != nil {
		return fmt.Errorf("%w: %s: %w; run verify --repair", ErrMirror, list, err)
	}
	e.documents = append(e.documents, document{list, data})
	for _, line := range lines {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := e.add(src, list, line); err != nil {
			return err
		}
	}
	return nil
}

// add adds a file that a list names.
func (e *edition) add(src Source, list string, line cksum.SHA256Line) error {
	name, digest := line.Path, line.SHA256
	if !record.Valid(name) {
		return fmt.Errorf("%w: %s has %s, which no published file can be called; run verify --repair", ErrMirror, list, untrusted.Quote(name))
	}
	if isPayload(name) {
		size, err := src.size(name)
		if err != nil {
			return fmt.Errorf("%w: %w; run verify --repair", ErrMirror, err)
		}
		e.payload[name] = record.Content{Size: size, SHA256: digest}
		return nil
	}
	data, err := src.Dir.ReadFile(name, meta.MaxDocument)
	if err != nil {
		return fmt.Errorf("%w: %w; run verify --repair", ErrMirror, err)
	}
	if sha256.Sum256(data) != digest {
		return fmt.Errorf("%w: %s is not what %s says; run verify --repair", ErrMirror, name, list)
	}
	e.documents = append(e.documents, document{name, data})
	return nil
}

// size returns the size of payload.
func (src Source) size(name string) (int64, error) {
	if src.Size != nil {
		return src.Size(name)
	}
	info, err := src.Dir.Lstat(name)
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s: %w", name, atomicfile.ErrNotRegular)
	}
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// readTrust reads the signed files of a mirror, if it has any.
func (e *edition) readTrust(ctx context.Context, dir atomicfile.Dir) error {
	timestamp := tuf.MetadataPath("timestamp", 0)
	err := fs.WalkDir(dir.FS(), tuf.Dir, func(name string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) && name == tuf.Dir {
			return fs.SkipAll
		}
		if err = errors.Join(err, ctx.Err()); err != nil || !d.Type().IsRegular() || !record.Valid(name) {
			return err
		}
		data, err := dir.ReadFile(name, meta.MaxDocument)
		switch doc := (document{name, data}); {
		case err != nil:
			return err
		case name == timestamp:
			e.timestamp = append(e.timestamp, doc)
		case isRoot(name):
			e.roots = append(e.roots, doc)
		default:
			e.trusted = append(e.trusted, doc)
		}
		return nil
	})
	if err == nil && (len(e.timestamp) == 0) != (len(e.roots) == 0) {
		err = fmt.Errorf("%w: %s has roots or a timestamp, and not both; build it with --sign-keys", ErrMirror, dir.Name())
	}
	sortRoots(e.roots)
	return err
}

// sortRoots sorts roots by their versions: each verifies the next.
func sortRoots(roots []document) {
	slices.SortFunc(roots, func(a, b document) int {
		return int(tuf.RootVersion(path.Base(a.name)) - tuf.RootVersion(path.Base(b.name)))
	})
}

// isRoot reports whether a path is that of a root.
func isRoot(name string) bool {
	return path.Dir(name) == tuf.Dir && tuf.RootVersion(path.Base(name)) > 0
}

// all returns what the mirror publishes, by name.
func (e *edition) all() map[string]record.Content {
	all := maps.Clone(e.payload)
	for _, documents := range [][]document{e.documents, e.trusted, e.timestamp, e.roots} {
		for _, d := range documents {
			all[d.name] = d.content()
		}
	}
	return all
}
