package audit

import (
	"context"
	"errors"
	"maps"
	"os"
	"reflect"
	"slices"
	"testing"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo/internal/mirror"
	"puavo-image-repository/meta"
)

// view opens a mirror to look at it, until the test ends.
func (p place) view() *mirror.Mirror {
	m := must(mirror.View(p.dir))
	p.t.Cleanup(func() { m.Close() })
	return m
}

// ended returns a context that was cancelled.
func ended(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}

func TestReadDocuments(t *testing.T) {
	all := []string{"CKSUMS", "SHA256SUMS", "index.json", "meta/SHA256SUMS", amxaDoc, freeDoc, "rdiffs/SHA256SUMS"}
	without := func(names ...string) []string {
		return slices.DeleteFunc(slices.Clone(all), func(name string) bool { return slices.Contains(names, name) })
	}
	for _, c := range []struct {
		name                        string
		change                      func(p place)
		parsed                      []string
		complete, lacking, unlisted bool
	}{
		{"as built", func(place) {}, all, true, false, false},
		{"a meta that nothing names", func(p place) { p.write("meta/x.json", nil) }, all, true, false, false},
		{"a meta that a list names", func(p place) { p.write("meta/x.json", nil); p.relist("meta/x.json") }, all, false, true, false},
		{"no index", func(p place) { p.remove("index.json") }, without("index.json"), true, false, false},
		{"no index, and a malformed meta", func(p place) { p.remove("index.json"); p.write("meta/x.json", nil) }, without("index.json"), false, true, false},
		{"the index is malformed", func(p place) { p.write("index.json", nil) }, without("index.json"), false, false, false},
		{"a list is malformed", func(p place) { p.write("CKSUMS", []byte("x")) }, without("CKSUMS"), false, false, false},
		{"a meta is gone", func(p place) { p.remove(freeDoc) }, without(freeDoc), false, true, false},
		{"a meta is huge", func(p place) { check(os.Truncate(p.path(freeDoc), meta.MaxDocument+1)) }, without(freeDoc), false, true, false},
		{"a meta is elsewhere", func(p place) { p.remove(freeDoc); check(os.Symlink("x", p.path(freeDoc))) }, without(freeDoc), false, true, false},
		{"no index, no lists, and meta cannot be listed", func(p place) {
			p.remove("index.json")
			p.remove("SHA256SUMS")
			p.remove("meta")
			p.write("meta", nil)
		}, []string{"CKSUMS", "rdiffs/SHA256SUMS"}, false, false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPlace(t)
			c.change(p)
			root := p.view().Root
			marks := newMarks(root)
			d, err := readDocuments(t.Context(), root, marks)
			if err != nil {
				t.Fatal(err)
			}
			parsed := slices.DeleteFunc(slices.Sorted(maps.Keys(d.read)), func(p string) bool { return !d.parsed(p) })
			if !slices.Equal(parsed, c.parsed) || d.complete() != c.complete || d.lacking != c.lacking || d.unlisted != c.unlisted {
				t.Errorf("parsed %q, complete %v, lacking %v, unlisted %v; want %+v", parsed, d.complete(), d.lacking, d.unlisted, c)
			}
			for p := range d.read {
				if _, marked := marks.stamps[p]; !marked {
					t.Errorf("%s was read and not marked", p)
				}
			}
		})
	}
	root := newPlace(t).view().Root
	if d, err := readDocuments(ended(t), root, newMarks(root)); !errors.Is(err, context.Canceled) || d != nil {
		t.Errorf("cancelled: %v, %v", d, err)
	}
}

// The claims of a file are in one order, whatever was read first.
func TestClaims(t *testing.T) {
	image := meta.Image{Name: must(meta.ParseName(newer)), File: meta.File{Sums: sumsOf([]byte("x"))}}
	other := image
	other.Sums.CRC = 0
	image.Diffs = []meta.Diff{{Base: must(meta.ParseName(older)), Filename: up[len("rdiffs/"):], File: meta.File{Sums: sumsOf(nil)}}}
	whole := valuesOf(image.Sums)
	part := whole
	part[crc] = ""
	for _, c := range []struct {
		name   string
		d      documents
		path   string
		want   []claim
		namers string
	}{
		{"none", documents{}, newer, nil, ""},
		{"a meta", documents{series: map[string]*meta.Series{"b": {Images: []meta.Image{image}}}}, newer, []claim{{"b", whole}}, "b names it"},
		{"two meta", documents{series: map[string]*meta.Series{"b": {Images: []meta.Image{image}}, "a": {Images: []meta.Image{other}}}}, newer,
			[]claim{{"a", part}, {"b", whole}}, "a and b name it"},
		{"a delta", documents{series: map[string]*meta.Series{"b": {Images: []meta.Image{image}}}}, up, []claim{{"b", valuesOf(sumsOf(nil))}}, "b names it"},
		{"a list of CRCs", documents{cksums: []cksum.Line{{CRC: 7, Size: 1, Name: up[len("rdiffs/"):]}}}, up,
			[]claim{{"CKSUMS", values{size: "1", crc: "7"}}}, "CKSUMS names it"},
		{"all", documents{
			index:  meta.Index{Series: []meta.IndexEntry{{Meta: newer}}},
			lists:  map[string][]cksum.SHA256Line{"SHA256SUMS": {{SHA256: image.Sums.SHA256, Path: newer}}},
			cksums: []cksum.Line{{CRC: 7, Size: 0, Name: newer}},
			series: map[string]*meta.Series{"b": {Images: []meta.Image{image}}},
		}, newer, []claim{{"b", whole}, {"CKSUMS", values{size: "0", crc: "7"}}, {"SHA256SUMS", values{sha256: whole[sha256]}}, {"index.json", values{}}},
			"b, CKSUMS, SHA256SUMS and index.json name it"},
		{"twice in one list", documents{lists: map[string][]cksum.SHA256Line{"SHA256SUMS": {{Path: "x"}, {Path: "x"}}}}, "x",
			slices.Repeat([]claim{{"SHA256SUMS", values{sha256: cksum.Digest256{}.String()}}}, 2), "SHA256SUMS names it"},
	} {
		f := c.d.files()[c.path]
		if f == nil {
			if c.want != nil {
				t.Errorf("%s: nothing names it", c.name)
			}
			continue
		}
		if !reflect.DeepEqual(f.claims, c.want) || f.namers() != c.namers || f.path != c.path {
			t.Errorf("%s: %q, %s; want %q, %s", c.name, f.claims, f.namers(), c.want, c.namers)
		}
	}
}
