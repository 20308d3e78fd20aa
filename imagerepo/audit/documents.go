package audit

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/mirror"
	"puavo-image-repository/meta"
	"puavo-image-repository/meta/untrusted"
)

// documents are those that a mirror publishes, as one look has read them.
type documents struct {
	read map[string]*document // by path, those that exist

	// What the documents say, zero where one is missing or malformed.
	index    meta.Index
	cksums   []cksum.Line
	lists    map[string][]cksum.SHA256Line // by the path of the SHA256SUMS; paths are those in the mirror
	series   map[string]*meta.Series       // by the path of the document
	unlisted bool                          // meta/ could not be listed, and had to be
	lacking  bool                          // some published meta is missing or malformed
}

// document is one that exists, as it was read.
type document struct {
	data       []byte // nil if it was not read to its end
	unreadable error
	malformed  error // it cannot be parsed, or is too large
}

// parsed reports whether the document at a path exists and could be parsed.
func (d *documents) parsed(p string) bool {
	doc := d.read[p]
	return doc != nil && doc.unreadable == nil && doc.malformed == nil
}

// listOf returns the path of the SHA256SUMS that must name the file at a path: that of its
// folder, or of the root where the root's list does what the folder's should: in a mirror of
// an earlier version, which has no other, it names files of the folder.
func (d *documents) listOf(p string) string {
	list := mirror.ListOf(p)
	inFolder := func(l cksum.SHA256Line) bool { return mirror.ListOf(l.Path) == list }
	switch {
	case !slices.Contains(mirror.Lists(), list):
		return mirror.SHA256
	case d.read[list] == nil && slices.ContainsFunc(d.lists[mirror.SHA256], inFolder):
		return mirror.SHA256
	}
	return list
}

// complete reports whether the documents say all that the mirror publishes, as far as
// they exist.
func (d *documents) complete() bool {
	for p := range d.read {
		if !d.parsed(p) {
			return false
		}
	}
	return !d.unlisted && !d.lacking
}

// readDocuments reads and parses the documents of a mirror. It marks each before it
// reads it.
func readDocuments(ctx context.Context, root atomicfile.Dir, marks marks) (*documents, error) {
	d := &documents{read: make(map[string]*document), series: make(map[string]*meta.Series), lists: make(map[string][]cksum.SHA256Line)}
	r := documentReader{root, marks, d.read}
	d.index = readAs(r, mirror.Index, meta.ParseIndex)
	d.cksums = readAs(r, mirror.CKSUMS, ofBytes(cksum.ParseCKSUMS))
	for _, list := range mirror.Lists() {
		d.lists[list] = readAs(r, list, func(data []byte) ([]cksum.SHA256Line, error) { return mirror.ParseList(list, data) })
	}
	paths, err := d.metaPaths(root, marks)
	for _, p := range paths {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if s := readAs(r, p, meta.ParseSeries); d.parsed(p) {
			d.series[p] = &s
		}
	}
	d.unlisted, d.lacking = err != nil, len(d.series) < len(paths)
	return d, nil
}

// metaPaths returns the paths of the published meta, sorted. Without an index that could
// be parsed, all of meta/ is published.
func (d *documents) metaPaths(root atomicfile.Dir, marks marks) (paths []string, err error) {
	if !d.parsed(mirror.Index) {
		marks.put(mirror.MetaDir)
		paths, err = allMeta(root)
	}
	for _, e := range d.index.Series {
		paths = append(paths, e.Meta)
	}
	for _, lines := range d.lists {
		for _, l := range lines {
			if isMeta(l.Path) {
				paths = append(paths, l.Path)
			}
		}
	}
	slices.Sort(paths)
	return slices.Compact(paths), err
}

// documentReader reads documents into a map, by path.
type documentReader struct {
	root  atomicfile.Dir
	marks marks
	read  map[string]*document
}

// readAs reads and parses a document. What it returns is zero if the document is missing,
// which is no fault of its own, or cannot be parsed.
func readAs[T any](r documentReader, name string, parse func([]byte) (T, error)) (zero T) {
	r.marks.put(name)
	data, err := readDocument(r.root, name)
	if errors.Is(err, fs.ErrNotExist) {
		return zero
	}
	doc := &document{data: data}
	r.read[name] = doc
	var parsed T
	switch {
	case errors.Is(err, untrusted.ErrTooLarge):
		doc.malformed = err
	case err != nil:
		doc.unreadable = err
	default:
		parsed, doc.malformed = parse(data)
	}
	if doc.malformed != nil {
		return zero
	}
	return parsed
}

// ofBytes makes a parser of a reader one of bytes.
func ofBytes[T any](parse func(io.Reader) (T, error)) func([]byte) (T, error) {
	return func(data []byte) (T, error) { return parse(bytes.NewReader(data)) }
}

// file is a document that exists, or what documents name.
type file struct {
	path     string
	document *document // nil if it is none
	claims   []claim
}

// claim is what a document says of a file.
type claim struct {
	from string // the document
	values
}

// namedBy reports whether a document for which is holds names the file.
func (f *file) namedBy(is func(document string) bool) bool {
	return slices.ContainsFunc(f.claims, func(c claim) bool { return is(c.from) })
}

func only(document string) func(string) bool {
	return func(d string) bool { return d == document }
}

// namers returns which documents name the file, as a clause.
func (f *file) namers() string {
	var all []string
	for _, c := range f.claims {
		if !slices.Contains(all, c.from) {
			all = append(all, c.from)
		}
	}
	if last := len(all) - 1; last > 0 {
		return strings.Join(all[:last], ", ") + " and " + all[last] + " name it"
	}
	return strings.Join(all, "") + " names it"
}

// files are files by path.
type files map[string]*file

func (all files) at(p string) *file {
	if all[p] == nil {
		all[p] = &file{path: p}
	}
	return all[p]
}

func (all files) claim(p, from string, vs values) {
	f := all.at(p)
	f.claims = append(f.claims, claim{from, vs})
}

// files returns the documents that exist and the files that they name, with what each
// claims of them: first the meta, sorted, then CKSUMS, each SHA256SUMS and index.json.
func (d *documents) files() files {
	all := make(files)
	for p, doc := range d.read {
		all.at(p).document = doc
	}
	for _, p := range slices.Sorted(maps.Keys(d.series)) {
		for _, im := range d.series[p].Images {
			all.claim(im.Name.String(), p, given(im.Sums))
			for _, diff := range im.Diffs {
				all.claim(meta.DeltaPath(diff.Filename), p, given(diff.Sums))
			}
			for _, c := range im.Compact {
				all.claim(meta.CompactPath(c.Filename), p, given(c.Sums))
			}
		}
	}
	for _, l := range d.cksums {
		sums := valuesOf(cksum.Sums{Size: l.Size, CRC: l.CRC})
		all.claim(mirror.PathOf(l.Name), mirror.CKSUMS, values{size: sums[size], crc: sums[crc]})
	}
	for _, list := range mirror.Lists() {
		for _, l := range d.lists[list] {
			all.claim(l.Path, list, values{sha256: l.SHA256.String()})
		}
	}
	for _, e := range d.index.Series {
		all.claim(e.Meta, mirror.Index, values{})
	}
	return all
}
