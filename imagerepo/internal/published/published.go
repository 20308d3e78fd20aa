// Package published has the documents that clients read: the meta of each series,
// index.json, CKSUMS, the SHA256SUMS of the root and of each folder, and the page for
// people, index.html. They are parsed once, changed in memory, and written in one order, so
// that they agree as far as several files can.
//
// A document is written before the one that has its digest: meta, index.html, index.json,
// CKSUMS, the SHA256SUMS of the folders, that of the root. No list names a list. The page is
// made of the meta; it is not parsed. Where several documents name a file, it is withdrawn
// from all of them before its content changes.
//
// A mirror of an earlier version has one SHA256SUMS, in the root, which names the files of
// the folders too. It is read as if each line stood in the list of its folder; what both
// name is as the folder's list says, which is written first. The list of a folder without
// published files is removed if it is the tool's own: if each of its lines is about a file
// that is the tool's own, or that the meta names.
//
// # BEST-BEFORE-YYYY-MM-DD
//
// An empty file in the root, which SHA256SUMS names. systemd-sysupdate(8), since version 260,
// refuses a SHA256SUMS that names one from 00:00 UTC of its day on. The day is that on which
// the signature of the timestamp role expires, in UTC, so the refusal comes less than a day
// before that of clients that verify signatures.
//
// The mirror is signed first, then come the file, SHA256SUMS, and last the removal of the file
// before. So a run that ends in between leaves the earlier day, or two files of which
// SHA256SUMS names one, and the next run leaves one. A file of that name is the tool's own if a
// record, which is written before it, or SHA256SUMS names it. One that is not empty the tool
// neither replaces nor removes without a record.
//
// Source: https://github.com/systemd/systemd/pull/40393
package published

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/mirror"
	"puavo-image-repository/meta"
	"puavo-image-repository/meta/untrusted"
)

// Documents are those of one mirror. They can be used concurrently.
type Documents struct {
	dir atomicfile.Dir

	mu     sync.Mutex
	series map[string]*series // by name
	lines  map[string]line    // of the lists, by the name of the image, delta or torrent
	sums   map[string]cksum.Sums
	dirty  bool // what is in memory is not all written

	// bestBefore are the lines of files that say until when the mirror may be believed.
	bestBefore     []cksum.SHA256Line
	dropBestBefore bool // they are not written
	// ownLists are the SHA256SUMS of folders that are the tool's own, by their paths.
	ownLists map[string]bool

	page       Page
	listedPage cksum.Digest256 // the one that the root's SHA256SUMS has of the page, zero for none
}

// series is the document of one series.
type series struct {
	meta.Series
	data []byte // as it is written, nil if it changed since
}

// line is what the lists of digests say of an image or a delta.
type line struct {
	cksum  *cksum.Line      // nil if CKSUMS does not name it
	sha256 *cksum.Digest256 // nil if no SHA256SUMS does
}

// Load reads the documents of a mirror. One that is missing or malformed names
// nothing. Of the files in meta, those count that index.json or a SHA256SUMS names, or
// that are the tool's own; all, where there is no index.json.
func Load(dir atomicfile.Dir, own func(name string) bool) (*Documents, error) {
	d := &Documents{dir: dir, series: make(map[string]*series), lines: make(map[string]line)}
	entries, err := fs.ReadDir(dir.FS(), mirror.MetaDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	named, err := d.readLists()
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		doc := mirror.MetaDir + "/" + e.Name()
		if !named.all && !named.paths[doc] && !own(e.Name()) {
			continue
		}
		data, err := readDocument(dir, doc)
		if err != nil {
			return nil, err
		}
		if s, err := meta.ParseSeries(data); err == nil && meta.SeriesPath(s.Name) == doc {
			d.series[s.Name] = &series{s, data}
		}
	}
	d.index()
	d.ownLists = named.ownLists(func(p string) bool {
		name := path.Base(p)
		file, _ := mirror.FileOf(name)
		_, published := d.sums[file]
		return published || d.series[strings.TrimSuffix(name, ".json")] != nil || own(name)
	})
	return d, nil
}

func (d *Documents) read(name string, parse func([]byte)) error {
	data, err := readDocument(d.dir, name)
	if err == nil && data != nil {
		parse(data)
	}
	return err
}

// readDocument returns a document, nil for what is missing, no regular file or too large:
// that names nothing.
func readDocument(dir atomicfile.Dir, name string) ([]byte, error) {
	data, err := dir.ReadFile(name, meta.MaxDocument)
	for _, nothing := range []error{fs.ErrNotExist, atomicfile.ErrNotRegular, untrusted.ErrTooLarge} {
		if errors.Is(err, nothing) {
			return nil, nil
		}
	}
	return data, err
}

// index finds out what the meta says of each file.
func (d *Documents) index() {
	d.sums = make(map[string]cksum.Sums)
	for _, s := range d.series {
		for _, im := range s.Images {
			d.sums[im.Name.String()] = im.Sums
			for _, diff := range im.Diffs {
				d.sums[diff.Filename] = diff.Sums
			}
			for _, c := range im.Compact {
				d.sums[c.Filename] = c.Sums
			}
		}
	}
}

// Names returns the names of all files that a document names: images, deltas, their
// torrents, and documents of series.
func (d *Documents) Names() map[string]bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	names := make(map[string]bool)
	for name := range d.lines {
		names[name] = true
	}
	for name := range d.sums {
		names[name] = true
	}
	for name := range d.series {
		names[name+".json"] = true
	}
	return names
}

// Listed returns the SHA-256 that a SHA256SUMS has of an image, a delta or a torrent.
func (d *Documents) Listed(file string) (sha256 cksum.Digest256, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if l := d.lines[file]; l.sha256 != nil {
		return *l.sha256, true
	}
	return sha256, false
}

// Sums returns what the meta says of an image or a delta.
func (d *Documents) Sums(file string) (cksum.Sums, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	sums, ok := d.sums[file]
	return sums, ok
}

// Series returns the document of a series.
func (d *Documents) Series(name string) (meta.Series, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.series[name]
	if s == nil {
		return meta.Series{}, false
	}
	return s.Series, true
}

// All returns the documents of all series, sorted by name.
func (d *Documents) All() (all []meta.Series) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(d.series)) {
		all = append(all, d.series[name].Series)
	}
	return all
}

// Withdraw takes files out of all documents in memory, with an image also the
// deltas that lead from it, and to it, and with each file its torrent. It reports whether any document named one of
// them; Call Write then.
func (d *Documents) Withdraw(files ...string) (found bool) {
	if len(files) == 0 {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	gone := make(map[string]bool)
	for _, f := range files {
		gone[f] = true
	}
	for _, s := range d.series {
		found = s.withdraw(gone) || found
	}
	for file := range gone {
		for _, name := range []string{file, mirror.TorrentOf(file)} {
			if _, listed := d.lines[name]; listed {
				delete(d.lines, name)
				found = true
			}
		}
	}
	if found {
		d.index()
		d.dirty = true
	}
	return found
}

// withdraw takes files out of a series, and adds the deltas that go with them to
// those that are gone.
func (s *series) withdraw(gone map[string]bool) (found bool) {
	images := make([]meta.Image, 0, len(s.Images))
	for _, im := range s.Images {
		lost := gone[im.Name.String()]
		diffs := make([]meta.Diff, 0, len(im.Diffs))
		for _, diff := range im.Diffs {
			if lost || gone[diff.Filename] || gone[diff.Base.String()] {
				gone[diff.Filename], found = true, true
				continue
			}
			diffs = append(diffs, diff)
		}
		found = withdrawCompact(&im, gone, lost) || found
		if im.Diffs = diffs; !lost {
			images = append(images, im)
		}
	}
	if found = found || len(images) < len(s.Images); found {
		s.Images, s.data = images, nil
	}
	return found
}

// Publish replaces all documents in memory by those of the built series and, as they
// are, those of the kept ones; Call Write then. Torrents has the SHA-256 of the torrents of
// the built series, by the names of their files; those of the kept ones stay as they are.
func (d *Documents) Publish(built []meta.Series, kept []string, torrents map[string]cksum.Digest256) {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := make(map[string]*series, len(built))
	for _, s := range built {
		all[s.Name] = &series{Series: s}
	}
	for _, name := range kept {
		if s := d.series[name]; s != nil {
			all[name] = s
		}
	}
	stay := d.torrentsOf(kept)
	d.series = all
	d.index()
	for name := range d.lines {
		if _, named := d.sums[name]; !named && !stay[name] {
			delete(d.lines, name)
		}
	}
	for name, sums := range d.sums {
		d.lines[name] = d.lines[name].or(name, sums)
	}
	for file, sha256 := range torrents {
		d.lines[mirror.TorrentOf(file)] = line{sha256: &sha256}
	}
	d.dirty = true
}

// torrentsOf returns the names of all torrents that the files of some series can have.
func (d *Documents) torrentsOf(names []string) map[string]bool {
	torrents := make(map[string]bool)
	for _, name := range names {
		s := d.series[name]
		if s == nil {
			continue
		}
		for _, im := range s.Images {
			torrents[mirror.TorrentOf(im.Name.String())] = true
			for _, diff := range im.Diffs {
				torrents[mirror.TorrentOf(diff.Filename)] = true
			}
			for _, c := range im.Compact {
				torrents[mirror.TorrentOf(c.Filename)] = true
			}
		}
	}
	return torrents
}

// or returns the line of a file by its digests, as far as these are given. CKSUMS names no
// compact deltas.
func (l line) or(name string, sums cksum.Sums) line {
	if path.Ext(name) != mirror.CompactExt && (sums.CRC != 0 || l.cksum == nil) {
		l.cksum = &cksum.Line{CRC: sums.CRC, Size: sums.Size, Name: name}
	}
	if sums.SHA256 != (cksum.Digest256{}) {
		l.sha256 = &sums.SHA256
	}
	return l
}

// Write writes what changed, and reports whether anything did.
func (d *Documents) Write(ctx context.Context) (changed bool, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.dirty {
		return false, nil
	}
	w := &writing{ctx: ctx, dir: d.dir, sums: make(map[string][]cksum.SHA256Line)}
	if err := d.writeAll(w); err != nil {
		return w.changed, err
	}
	// Of what is as it was, a run that was killed may not have flushed the name.
	if err := mirror.SyncFolders(d.dir); err != nil {
		return w.changed, err
	}
	d.dirty = false
	return w.changed, nil
}

// writeAll writes the documents in their order.
func (d *Documents) writeAll(w *writing) error {
	if err := d.writeSeries(w.write); err != nil {
		return err
	}
	lines, payload := d.payload()
	if err := w.write(mirror.CKSUMS, cksum.AppendCKSUMS(nil, lines)); err != nil {
		return err
	}
	w.sum(payload...)
	if !d.dropBestBefore {
		w.sum(d.bestBefore...)
	}
	for _, list := range mirror.Lists() {
		if err := d.writeList(w, list); err != nil {
			return err
		}
	}
	removed, err := d.removePage()
	w.changed = w.changed || removed
	return err
}

// writeSeries writes the meta, the page and the index.
func (d *Documents) writeSeries(write func(name string, data []byte) error) (err error) {
	var all []meta.Series
	for _, name := range slices.Sorted(maps.Keys(d.series)) {
		s := d.series[name]
		if s.data == nil {
			if s.data, err = s.Encode(); err != nil {
				return err
			}
		}
		if err := write(meta.SeriesPath(name), s.data); err != nil {
			return err
		}
		all = append(all, s.Series)
	}
	if err := d.writePage(all, write); err != nil {
		return err
	}
	index, err := meta.NewIndex(all).Encode()
	if err != nil {
		return err
	}
	return write(mirror.Index, index)
}
