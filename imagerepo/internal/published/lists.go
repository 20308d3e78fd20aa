package published

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/mirror"
	"puavo-image-repository/meta"
)

// named is what index.json and the lists of digests name besides images and deltas.
type named struct {
	paths map[string]bool
	all   bool // there is no index: all of meta is published
	// lines are the paths that the SHA256SUMS of each folder names, by the path of the list.
	lines map[string][]string
}

// readLists reads index.json and the lists.
func (d *Documents) readLists() (*named, error) {
	n := &named{paths: make(map[string]bool), all: true, lines: make(map[string][]string)}
	err := errors.Join(
		d.read(mirror.Index, func(data []byte) {
			ix, err := meta.ParseIndex(data)
			n.all = err != nil
			for _, s := range ix.Series {
				n.paths[s.Meta] = true
			}
		}),
		d.read(mirror.CKSUMS, func(data []byte) {
			lines, _ := cksum.ParseCKSUMS(bytes.NewReader(data))
			for _, l := range lines {
				d.lines[l.Name] = line{cksum: &l}
			}
		}),
		d.readList(mirror.SHA256, n),
	)
	for _, list := range mirror.Lists() {
		if list != mirror.SHA256 {
			err = errors.Join(err, d.readList(list, n)) // after the root's, see the package documentation
		}
	}
	return n, err
}

// readList reads a SHA256SUMS.
func (d *Documents) readList(list string, n *named) error {
	return d.read(list, func(data []byte) {
		lines, err := mirror.ParseList(list, data)
		if list != mirror.SHA256 && err == nil {
			n.lines[list] = []string{}
		}
		for _, l := range lines {
			name := path.Base(l.Path)
			if ext := path.Ext(name); mirror.PathOf(name) == l.Path && slices.Contains([]string{".img", ".rdiff", mirror.CompactExt, ".torrent"}, ext) {
				d.lines[name] = line{d.lines[name].cksum, &l.SHA256}
			} else {
				n.paths[l.Path] = true
			}
			if list != mirror.SHA256 {
				n.lines[list] = append(n.lines[list], l.Path)
			}
			if l.Path == mirror.Page {
				d.listedPage = l.SHA256
			}
			if mirror.IsBestBefore(l.Path) {
				d.bestBefore = append(d.bestBefore, l)
			}
		}
	})
}

// ownLists returns the lists of folders that name nothing but what is the tool's own.
func (n *named) ownLists(own func(p string) bool) map[string]bool {
	lists := make(map[string]bool)
	for list, paths := range n.lines {
		lists[list] = true
		for _, p := range paths {
			lists[list] = lists[list] && own(p)
		}
	}
	return lists
}

// writing is what one call of Write has written.
type writing struct {
	ctx     context.Context // of the call
	dir     atomicfile.Dir
	sums    map[string][]cksum.SHA256Line // by the path of the list that they belong to
	changed bool
}

// write writes a document, unless it is there as it is.
func (w *writing) write(name string, data []byte) error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	if path.Base(name) != mirror.SHA256 {
		w.sum(cksum.SHA256Line{SHA256: digestsOf(data).SHA256, Path: name})
	}
	written, err := w.dir.Replace(mirror.TmpPath(path.Base(name)), name, data)
	if err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	w.changed = w.changed || written
	return nil
}

// sum adds lines to the lists that are written later.
func (w *writing) sum(lines ...cksum.SHA256Line) {
	for _, l := range lines {
		list := mirror.ListOf(l.Path)
		w.sums[list] = append(w.sums[list], l)
	}
}

// writeList writes a SHA256SUMS. One that would be empty is removed, if it is the tool's
// own.
func (d *Documents) writeList(w *writing, list string) error {
	if lines := w.sums[list]; len(lines) > 0 {
		if err := w.write(list, mirror.FormatList(lines)); err != nil {
			return err
		}
		d.ownLists[list] = true
		return nil
	}
	if !d.ownLists[list] {
		return nil
	}
	err := d.dir.Remove(list)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing %s: %w", list, err)
	}
	w.changed = w.changed || err == nil
	delete(d.ownLists, list)
	return nil
}

// payload returns the lines of CKSUMS, and those of images, deltas and torrents in the SHA256SUMS,
// with their paths in the mirror.
func (d *Documents) payload() (lines []cksum.Line, sums []cksum.SHA256Line) {
	for name, l := range d.lines {
		if l.cksum != nil {
			lines = append(lines, *l.cksum)
		}
		if l.sha256 != nil {
			sums = append(sums, cksum.SHA256Line{SHA256: *l.sha256, Path: mirror.PathOf(name)})
		}
	}
	return lines, sums
}
