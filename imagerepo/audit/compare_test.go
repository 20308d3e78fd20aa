package audit

import (
	"errors"
	"testing"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo/internal/mirror"
	"puavo-image-repository/meta"
)

// Documents are compared without a mirror.
func TestCompareDocuments(t *testing.T) {
	const doc, list, deltas = "meta/x.json", "meta/SHA256SUMS", "rdiffs/SHA256SUMS"
	image := meta.Image{Name: must(meta.ParseName(newer)), File: meta.File{Sums: sumsOf(nil)}}
	full := func() *documents {
		return &documents{
			read:   map[string]*document{mirror.Index: {}, mirror.CKSUMS: {}, mirror.SHA256: {}, list: {}, doc: {}},
			index:  meta.Index{Series: []meta.IndexEntry{{Name: "x", Meta: doc, Images: 1, Newest: newer}}},
			cksums: []cksum.Line{{CRC: image.Sums.CRC, Name: newer}},
			lists:  map[string][]cksum.SHA256Line{mirror.SHA256: {{Path: newer}, {Path: mirror.CKSUMS}, {Path: mirror.Index}}, list: {{Path: doc}}},
			series: map[string]*meta.Series{doc: {Name: "x", Images: []meta.Image{image}}},
		}
	}
	for _, c := range []struct {
		name   string
		change func(d *documents)
		want   [][3]string
	}{
		{"they agree", func(*documents) {}, nil},
		{"nothing", func(d *documents) { *d = documents{} }, nil},
		{"the list of the predecessor", func(d *documents) {
			delete(d.read, mirror.Index)
			delete(d.read, mirror.SHA256)
			delete(d.read, list)
			d.index, d.lists = meta.Index{}, nil
		}, nil},
		{"one list of all, of the version before", func(d *documents) {
			delete(d.read, list)
			d.lists = map[string][]cksum.SHA256Line{mirror.SHA256: append(d.lists[mirror.SHA256], d.lists[list]...)}
		}, nil},
		{"that list lacks a meta", func(d *documents) {
			delete(d.read, list)
			d.lists = map[string][]cksum.SHA256Line{mirror.SHA256: append(d.lists[mirror.SHA256], cksum.SHA256Line{Path: "meta/y.json"})}
		}, [][3]string{{"inconsistent", doc, "index.json names it, SHA256SUMS does not"}}},
		{"that list cannot be parsed", func(d *documents) {
			delete(d.read, list)
			d.read[mirror.SHA256].malformed, d.lists = errors.New("x"), nil
		}, [][3]string{{"malformed", "SHA256SUMS", "x"}}},
		{"a folder lacks its list", func(d *documents) { delete(d.read, list); delete(d.lists, list) },
			[][3]string{{"missing", list, "every mirror that publishes files in meta"}}},
		{"the root's list names what the folder's should", func(d *documents) {
			d.lists[list] = nil
			d.lists[mirror.SHA256] = append(d.lists[mirror.SHA256], cksum.SHA256Line{Path: doc})
		}, [][3]string{{"inconsistent", doc, "SHA256SUMS and index.json name it, meta/SHA256SUMS does not"}}},
		{"a list of nothing", func(d *documents) { d.read[deltas] = new(document) }, [][3]string{{"orphan", deltas, "it names nothing"}}},
		{"malformed", func(d *documents) { d.read[mirror.CKSUMS].malformed = errors.New("cksum: line 1"); d.cksums = nil },
			[][3]string{{"malformed", "CKSUMS", "line 1"}}},
		{"unreadable, which is reported when it is digested", func(d *documents) { d.read[mirror.CKSUMS].unreadable = errors.New("x"); d.cksums = nil }, nil},
		{"one is missing, and not named", func(d *documents) { delete(d.read, mirror.SHA256); delete(d.lists, mirror.SHA256) },
			[][3]string{{"missing", "SHA256SUMS", "every mirror"}}},
		{"no meta names it", func(d *documents) {
			d.series[doc].Images = nil
			d.index.Series[0] = meta.IndexEntry{Name: "x", Meta: doc}
		},
			[][3]string{{"inconsistent", newer, "CKSUMS and SHA256SUMS name it, no meta does"}}},
		{"one that is missing may name it", func(d *documents) { delete(d.series, doc); d.lacking = true }, nil},
		{"CKSUMS lacks it", func(d *documents) { d.cksums = nil }, [][3]string{{"inconsistent", newer, doc + " and SHA256SUMS name it, CKSUMS does not"}}},
		{"SHA256SUMS lacks it", func(d *documents) { d.lists[mirror.SHA256] = d.lists[mirror.SHA256][1:] }, [][3]string{{"inconsistent", newer, "name it, SHA256SUMS does not"}}},
		{"the meta of another series", func(d *documents) { d.series[doc].Name = "y" }, [][3]string{{"inconsistent", doc, "the series y"}}},
		{"the index counts wrong", func(d *documents) { d.index.Series[0].Images = 2 }, [][3]string{{"inconsistent", "index.json", "2 images of the series x, " + doc + " has 1"}}},
		{"the index has another newest", func(d *documents) { d.index.Series[0].Newest = "" },
			[][3]string{{"inconsistent", "index.json", `it names "" as the newest image of the series x, ` + doc + " names "}}},
		{"the index lacks a series", func(d *documents) { d.index.Series = nil }, [][3]string{{"inconsistent", "index.json", "meta/SHA256SUMS names " + doc}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, found := full(), newFindings()
			c.change(d)
			compareDocuments(d, d.files(), found)
			expect(t, found.sorted().Findings, c.want)
		})
	}
}

func TestDiffer(t *testing.T) {
	for _, c := range []struct {
		name  string
		a, b  values
		kind  int
		found bool
	}{
		{"nothing given", values{}, values{}, 0, false},
		{"not given by one", values{size: "1"}, values{crc: "1"}, 0, false},
		{"the same", values{size: "1", crc: "2"}, values{size: "1", crc: "2"}, 0, false},
		{"one", values{size: "1", crc: "2"}, values{size: "1", crc: "3"}, crc, true},
		{"several: the first", values{size: "1", crc: "2", blake3: "a"}, values{size: "1", crc: "3", blake3: "b"}, blake3, true},
	} {
		if kind, found := differ(c.a, c.b); kind != c.kind || found != c.found {
			t.Errorf("%s: %d, %v", c.name, kind, found)
		}
	}
}

// What a meta does not give is not compared; what a list gives is.
func TestGiven(t *testing.T) {
	full := sumsOf([]byte("x"))
	if given(full) != valuesOf(full) {
		t.Error("something that is given is left out")
	}
	none := cksum.Sums{Size: full.Size, SHA512: full.SHA512}
	if vs := given(none); vs != (values{size: "1", sha512: full.SHA512.String()}) {
		t.Errorf("%q", vs)
	}
}
