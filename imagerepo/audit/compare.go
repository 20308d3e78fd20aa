package audit

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo/internal/mirror"
	"puavo-image-repository/meta"
)

// values are the size and the digests of a file as they stand in documents, ""
// where one is not given.
type values [5]string

// The kinds of values, those first that say most to people.
const (
	size = iota
	sha256
	sha512
	blake3
	crc
)

var kinds = [len(values{})]string{size: "size", sha256: "sha256", sha512: "sha512", blake3: "blake3", crc: "cksum"}

// valuesOf returns the values of all sums.
func valuesOf(s cksum.Sums) values {
	return values{
		size: strconv.FormatInt(s.Size, 10), crc: strconv.FormatUint(uint64(s.CRC), 10),
		sha256: s.SHA256.String(), sha512: s.SHA512.String(), blake3: s.BLAKE3.String(),
	}
}

// given returns the values of those sums that a meta gives.
func given(s cksum.Sums) values {
	vs := valuesOf(s)
	if s.CRC == 0 {
		vs[crc] = ""
	}
	if s.SHA256 == (cksum.Digest256{}) {
		vs[sha256] = ""
	}
	if s.BLAKE3 == (cksum.Digest256{}) {
		vs[blake3] = ""
	}
	return vs
}

// differ returns the first kind of which both have a value and not the same.
func differ(a, b values) (kind int, found bool) {
	for kind := range kinds {
		if a[kind] != "" && b[kind] != "" && a[kind] != b[kind] {
			return kind, true
		}
	}
	return 0, false
}

// short returns a value as people compare it.
func short(value string) string {
	if len(value) > 20 {
		return value[:12] + "..."
	}
	return value
}

// compareDocuments reports the documents that are malformed, and where they contradict
// each other, but for the digests of files.
func compareDocuments(d *documents, all files, found *findings) {
	for p, doc := range d.read {
		if doc.malformed != nil {
			found.add(p, Malformed, strings.TrimPrefix(doc.malformed.Error(), "cksum: "))
		}
	}
	findUnpublished(d, all, found)
	for _, f := range all {
		findGaps(d, all, f, found)
	}
	for p, s := range d.series {
		if meta.SeriesPath(s.Name) != p {
			found.add(p, Inconsistent, "it describes the series "+s.Name)
		}
	}
	if d.parsed(mirror.Index) {
		compareIndex(d, found)
	}
}

// findUnpublished reports which of the documents that are published together is missing,
// where no other document names it, and which list names nothing. CKSUMS alone is what the
// predecessor has.
func findUnpublished(d *documents, all files, found *findings) {
	if all[mirror.Index] == nil && all[mirror.SHA256] == nil {
		return
	}
	for _, name := range []string{mirror.Index, mirror.CKSUMS, mirror.SHA256} {
		if all[name] == nil {
			found.add(name, Missing, "it belongs to every mirror with an index.json or SHA256SUMS")
		}
	}
	needed := make(map[string]bool)
	for p, f := range all {
		needed[d.listOf(p)] = needed[d.listOf(p)] || len(f.claims) > 0
	}
	// A root's list that cannot be parsed may be the only one, of an earlier version.
	unknown := d.read[mirror.SHA256] != nil && !d.parsed(mirror.SHA256)
	for _, folder := range mirror.Folders() {
		switch list := folder + "/" + mirror.SHA256; {
		case needed[list] && all[list] == nil && !unknown:
			found.add(list, Missing, "it belongs to every mirror that publishes files in "+folder)
		case !needed[list] && d.parsed(list):
			found.add(list, Orphan, "it names nothing")
		}
	}
}

// findGaps reports which document lacks a file that others name.
func findGaps(d *documents, all files, f *file, found *findings) {
	inMeta := f.namedBy(isMeta)
	_, payload := ourName(f.path)
	payload = payload && !isMeta(f.path)
	of, isTorrent := torrentOf(f.path)
	switch {
	case isTorrent && !d.lacking && (all[of] == nil || !all[of].namedBy(isMeta)):
		found.add(f.path, Inconsistent, f.namers()+", no meta names "+of)
	case isTorrent:
	case payload && !inMeta && !d.lacking:
		found.add(f.path, Inconsistent, f.namers()+", no meta does")
	case inMeta && d.parsed(mirror.CKSUMS) && path.Ext(f.path) != mirror.CompactExt && !f.namedBy(only(mirror.CKSUMS)):
		found.add(f.path, Inconsistent, f.namers()+", CKSUMS does not")
	}
	list := d.listOf(f.path)
	switch {
	case !d.parsed(list) || f.namedBy(only(list)) || slices.Contains(mirror.Lists(), f.path):
	case inMeta, f.document != nil && len(f.claims) > 0:
		found.add(f.path, Inconsistent, f.namers()+", "+list+" does not")
	case f.document != nil:
		found.add(f.path, Inconsistent, list+" does not name it")
	}
}

// compareIndex compares the index with the meta.
func compareIndex(d *documents, found *findings) {
	named := make(map[string]bool)
	for _, e := range d.index.Series {
		named[e.Meta] = true
		if s := d.series[e.Meta]; s != nil {
			compareEntry(e, s, found)
		}
	}
	for p := range d.series {
		if !named[p] {
			found.add(mirror.Index, Inconsistent, d.listOf(p)+" names "+p+", index.json does not")
		}
	}
}

// compareEntry compares what the index says of a series with its meta.
func compareEntry(e meta.IndexEntry, s *meta.Series, found *findings) {
	if len(s.Images) != e.Images {
		found.add(mirror.Index, Inconsistent, fmt.Sprintf("it counts %d images of the series %s, %s has %d", e.Images, e.Name, e.Meta, len(s.Images)))
	}
	newest := ""
	if im := s.Newest(); im != nil {
		newest = im.Name.String()
	}
	if newest != e.Newest {
		found.add(mirror.Index, Inconsistent, fmt.Sprintf("it names %[2]q as the newest image of the series %[1]s, %[3]s names %[4]q", e.Name, e.Newest, e.Meta, newest))
	}
}
