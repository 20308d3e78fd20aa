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
	const doc = "meta/x.json"
	image := meta.Image{Name: must(meta.ParseName(newer)), File: meta.File{Sums: sumsOf(nil)}}
	full := func() *documents {
		return &documents{
			read:   map[string]*document{mirror.Index: {}, mirror.CKSUMS: {}, mirror.SHA256: {}, doc: {}},
			index:  meta.Index{Series: []meta.IndexEntry{{Name: "x", Meta: doc, Images: 1, Newest: newer}}},
			cksums: []cksum.Line{{CRC: image.Sums.CRC, Name: newer}},
			sha256: []cksum.SHA256Line{{Path: newer}, {Path: mirror.CKSUMS}, {Path: mirror.Index}, {Path: doc}},
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
			d.index, d.sha256 = meta.Index{}, nil
		}, nil},
		{"malformed", func(d *documents) { d.read[mirror.CKSUMS].malformed = errors.New("cksum: line 1"); d.cksums = nil },
			[][3]string{{"malformed", "CKSUMS", "line 1"}}},
		{"unreadable, which is reported when it is digested", func(d *documents) { d.read[mirror.CKSUMS].unreadable = errors.New("x"); d.cksums = nil }, nil},
		{"one is missing, and not named", func(d *documents) { delete(d.read, mirror.SHA256); d.sha256 = nil },
			[][3]string{{"missing", "SHA256SUMS", "every mirror"}}},
		{"no meta names it", func(d *documents) {
			d.series[doc].Images = nil
			d.index.Series[0] = meta.IndexEntry{Name: "x", Meta: doc}
		},
			[][3]string{{"inconsistent", newer, "CKSUMS and SHA256SUMS name it, no meta does"}}},
		{"one that is missing may name it", func(d *documents) { delete(d.series, doc); d.lacking = true }, nil},
		{"CKSUMS lacks it", func(d *documents) { d.cksums = nil }, [][3]string{{"inconsistent", newer, doc + " and SHA256SUMS name it, CKSUMS does not"}}},
		{"SHA256SUMS lacks it", func(d *documents) { d.sha256 = d.sha256[1:] }, [][3]string{{"inconsistent", newer, "name it, SHA256SUMS does not"}}},
		{"the meta of another series", func(d *documents) { d.series[doc].Name = "y" }, [][3]string{{"inconsistent", doc, "the series y"}}},
		{"the index counts wrong", func(d *documents) { d.index.Series[0].Images = 2 }, [][3]string{{"inconsistent", "index.json", "2 images of the series x, " + doc + " has 1"}}},
		{"the index has another newest", func(d *documents) { d.index.Series[0].Newest = "" },
			[][3]string{{"inconsistent", "index.json", `the newest image of the series x is "", by ` + doc}}},
		{"the index lacks a series", func(d *documents) { d.index.Series = nil }, [][3]string{{"inconsistent", "index.json", "SHA256SUMS names " + doc}}},
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
