package audit

import (
	"context"
	"fmt"
	"maps"
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

// compareDocuments reports where documents contradict each other, but for the
// digests of files.
func (v *verifier) compareDocuments(context.Context) error {
	v.findUnpublished()
	for p, f := range v.files {
		v.findGaps(p, f)
	}
	for p, s := range v.series {
		if meta.SeriesPath(s.Name) != p {
			v.found.add(p, Inconsistent, "it describes the series "+s.Name)
		}
	}
	if v.index != nil {
		v.checkIndex()
	}
	return nil
}

// findUnpublished reports which of the documents that are published together is
// missing, where no other document names it. CKSUMS alone is what the
// predecessor has.
func (v *verifier) findUnpublished() {
	if v.files[mirror.Index] == nil && v.files[mirror.SHA256] == nil {
		return
	}
	for _, name := range []string{mirror.Index, mirror.CKSUMS, mirror.SHA256} {
		if v.files[name] == nil {
			v.found.add(name, Missing, "it belongs to every mirror with an index.json or SHA256SUMS")
		}
	}
}

// findGaps reports which document lacks a file that others name.
func (v *verifier) findGaps(p string, f *file) {
	inMeta := f.namedBy(isMeta)
	_, payload := ourName(p)
	payload = payload && !isMeta(p)
	listed := f.namedBy(only(mirror.SHA256))
	switch {
	case payload && !inMeta && !v.unknownMeta:
		v.found.add(p, Inconsistent, f.namers()+", no meta does")
	case inMeta && v.cksums != nil && !f.namedBy(only(mirror.CKSUMS)):
		v.found.add(p, Inconsistent, f.namers()+", CKSUMS does not")
	}
	switch {
	case v.sha256 == nil || listed || p == mirror.SHA256:
	case inMeta, f.document && len(f.claims) > 0:
		v.found.add(p, Inconsistent, f.namers()+", SHA256SUMS does not")
	case f.document:
		v.found.add(p, Inconsistent, "SHA256SUMS does not name it")
	}
}

// checkIndex compares the index with the meta.
func (v *verifier) checkIndex() {
	named := make(map[string]bool)
	for _, e := range v.index.Series {
		named[e.Meta] = true
		s := v.series[e.Meta]
		if s == nil {
			continue
		}
		if len(s.Images) != e.Images {
			v.found.add(mirror.Index, Inconsistent, fmt.Sprintf("%d images of the series %s, %s has %d", e.Images, e.Name, e.Meta, len(s.Images)))
		}
		newest := ""
		if im := s.Newest(); im != nil {
			newest = im.Name.String()
		}
		if newest != e.Newest {
			v.found.add(mirror.Index, Inconsistent, fmt.Sprintf("the newest image of the series %s is %q, by %s it is %q", e.Name, e.Newest, e.Meta, newest))
		}
	}
	for _, p := range slices.Sorted(maps.Keys(v.series)) {
		if !named[p] {
			v.found.add(mirror.Index, Inconsistent, "SHA256SUMS names "+p+", index.json does not")
		}
	}
}
