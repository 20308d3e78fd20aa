package audit

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"puavo-image-repository/cksum"
	"puavo-image-repository/delta"
	"puavo-image-repository/imagerepo/internal/meter"
	"puavo-image-repository/imagerepo/internal/state"
	"puavo-image-repository/meta"
	"puavo-image-repository/testdata"
)

// literal returns a delta that makes data of anything.
func literal(data []byte) []byte {
	delta := binary.BigEndian.AppendUint32([]byte("rs\x026\x43"), uint32(len(data)))
	return append(append(delta, data...), 0)
}

// copies returns a delta that makes so many bytes of the base, from its start.
func copies(n int) []byte {
	return append(binary.BigEndian.AppendUint32([]byte("rs\x026\x47\x00"), uint32(n)), 0)
}

// Only applying a delta tells whether it makes its image.
func TestDeep(t *testing.T) {
	for _, c := range []struct {
		name    string
		injure  func(p place)
		applied int
		want    [][3]string
	}{
		{"all is right", func(place) {}, 2, nil},
		{"other deltas that are right", func(p place) { p.putDelta(up, literal(p.read(newer))) }, 2, nil},
		{"a delta makes something else", func(p place) { p.putDelta(up, literal(flip(p.read(newer)))) }, 2,
			[][3]string{{"wrong", up, "applied to " + older + " it makes a file with blake3 "}}},
		{"a delta makes too little", func(p place) { p.putDelta(up, copies(5)) }, 2,
			[][3]string{{"wrong", up, "applied to " + older + ": not valid: "}}},
		{"a delta reads beyond its base", func(p place) { p.putDelta(up, copies(360448)) }, 2,
			[][3]string{{"wrong", up, "not valid"}}},
		{"a delta is none", func(p place) { p.putDelta(up, []byte("<html>")) }, 2, [][3]string{{"wrong", up, "not valid"}}},
		{"a delta is of no bytes", func(p place) { p.putDelta(down, nil) }, 2, [][3]string{{"wrong", down, "not valid"}}},
		{"no blake3", func(p place) {
			noBLAKE3(p)
			p.putDelta(up, literal(flip(p.read(newer))))
			noBLAKE3(p)
		}, 2, [][3]string{{"wrong", up, "applied to " + older}}},
		{"a base is bad", func(p place) { p.rot(older) }, 0, [][3]string{{"damaged", older, ""}}},
		{"a base is gone", func(p place) { p.remove(newer) }, 0, [][3]string{{"missing", newer, ""}}},
		{"a delta is bad", func(p place) { p.rot(up) }, 1, [][3]string{{"damaged", up, ""}}},
		{"a meta is wrong about the target", func(p place) { p.replace(amxaDoc, `"size":360448`, `"size":360449`); p.relist() }, 2,
			[][3]string{{"inconsistent", newer, "in CKSUMS; the file agrees with CKSUMS"}}},
		{"a base is retired", func(p place) {
			retire(p)
			p.write(older, []byte("x")) // whatever it is, nothing tells what it was
		}, 0, [][3]string{{"orphan", older, ""}, {"note", up, "not applied: its base " + older + " is no longer in the mirror"}}},
		{"a base is retired and the delta bad", func(p place) { retire(p); p.remove(up) }, 0, [][3]string{{"missing", up, ""}}},
		{"series share a delta", func(p place) {
			s := p.series(amxaDoc)
			s.Name = "x"
			p.publish("meta/x.json", s)
			p.replace("index.json", `]}`, `,{"name":"x","meta":"meta/x.json","images":2,"newest":"`+newer+`"}]}`)
			p.relist("meta/x.json")
			p.putDelta(up, p.read(up))
		}, 2, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPlace(t)
			c.injure(p)
			r := p.verify(true)
			expect(t, r.Findings, c.want)
			if r.Deltas != c.applied {
				t.Errorf("%d deltas applied, want %d", r.Deltas, c.applied)
			}
			if shallow := p.verify(false); slices.ContainsFunc(shallow.Findings, func(f Finding) bool { return f.Problem == Wrong }) || shallow.Deltas != 0 {
				t.Errorf("without Deep: %+v", shallow)
			}
		})
	}
}

// Each delta is tried once for its target, the largest targets first.
func TestPlanTrials(t *testing.T) {
	a, b, c := must(meta.ParseName(older)), must(meta.ParseName(newer)), must(meta.ParseName(absent))
	delta := func(base, target meta.Name) meta.Diff {
		return meta.Diff{Base: base, Filename: meta.DeltaName(base, target)}
	}
	image := func(n meta.Name, size int64, diffs ...meta.Diff) meta.Image {
		return meta.Image{Name: n, File: meta.File{Sums: cksum.Sums{Size: size}}, Diffs: diffs}
	}
	one := &meta.Series{Images: []meta.Image{image(a, 5, delta(b, a)), image(b, 7, delta(a, b), delta(c, b))}}
	contents := make(map[string]*content)
	for _, p := range []string{older, newer, up, down, meta.DeltaPath(meta.DeltaName(c, b))} {
		contents[p] = &content{file: &file{path: p}}
	}
	for _, c := range []struct {
		name   string
		series map[string]*meta.Series
		want   []string
	}{
		{"none", nil, nil},
		{"no deltas", map[string]*meta.Series{"a": {Images: []meta.Image{image(a, 1)}}}, nil},
		{"one series", map[string]*meta.Series{"a": one}, []string{older + " 7", " 7", newer + " 5"}},
		{"two with the same", map[string]*meta.Series{"a": one, "b": one}, []string{older + " 7", " 7", newer + " 5"}},
	} {
		var got []string
		for _, tr := range planTrials(c.series, contents) {
			base := "" // not published
			if tr.base != nil {
				base = tr.base.file.path
			}
			got = append(got, fmt.Sprintf("%s %d", base, tr.size))
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// A result that is cached is not made again.
func TestApplier(t *testing.T) {
	live := t.Context()
	for _, c := range []struct {
		name    string
		ctx     context.Context
		change  func(p place, t *trial) // after the files were examined
		cached  *result
		applied int
		bytes   int64 // to be made
		caches  bool
		want    [][3]string
	}{
		{"right", live, nil, nil, 1, 360448, true, nil},
		{"cached, right", live, nil, &result{sumsOf(must(os.ReadFile(testdata.Path("images/" + newer)))).BLAKE3, nil}, 1, 0, true, nil},
		{"cached, wrong", live, nil, &result{}, 1, 0, true, [][3]string{{"wrong", up, "applied to " + older}}},
		{"cached, no delta", live, nil, &result{err: delta.ErrFormat}, 1, 0, true, [][3]string{{"wrong", up, "applied to " + older}}},
		{"the delta was replaced", live, func(p place, _ *trial) { p.put(up, p.read(up)) }, nil, 1, 360448, false, nil},
		{"the delta is gone", live, func(p place, _ *trial) { p.remove(up) }, nil, 1, 360448, false, [][3]string{{"unreadable", up, "applying it: "}}},
		{"the base is bad", live, func(_ place, t *trial) { t.base.bad = true }, nil, 0, 0, false, nil},
		{"the base is not published", live, func(_ place, t *trial) { t.base = nil }, nil, 0, 0, false, [][3]string{{"note", up, "its base " + older}}},
		{"the target is bad, too", live, func(_ place, t *trial) { t.base, t.target.bad = nil, true }, nil, 0, 0, false, nil},
		{"cancelled", ended(t), nil, nil, 0, 360448, false, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPlace(t)
			known := func(path string) *content {
				return &content{file: &file{path: path}, info: must(os.Lstat(p.path(path))), sums: sumsOf(p.read(path))}
			}
			tr := &trial{must(meta.ParseName(older)), known(up), known(older), known(newer), 360448, false}
			key := tr.stamps()
			var results cache[[3]state.Stamp, result]
			if c.cached != nil {
				results.put(key, *c.cached)
			}
			if c.change != nil {
				c.change(p, tr)
			}
			a := &applier{p.view().Root, &results, newFindings()}
			if n := a.bytesOf([]*trial{tr}); n != c.bytes {
				t.Errorf("%d bytes are to be made, want %d", n, c.bytes)
			}
			if err := a.applyAll(c.ctx, 1, []*trial{tr}, meter.New(0, nil)); !errors.Is(err, c.ctx.Err()) {
				t.Errorf("error %v", err)
			}
			if _, caches := results.get(key); caches != c.caches {
				t.Errorf("cached: %v", caches)
			}
			r := a.found.sorted()
			expect(t, r.Findings, c.want)
			if r.Deltas != c.applied {
				t.Errorf("%d applied, want %d", r.Deltas, c.applied)
			}
		})
	}
}

// noBLAKE3 takes blake3 out of the meta.
func noBLAKE3(p place) {
	s := p.series(amxaDoc)
	for i := range s.Images {
		s.Images[i].Sums.BLAKE3 = cksum.Digest256{}
		for j := range s.Images[i].Diffs {
			s.Images[i].Diffs[j].Sums.BLAKE3 = cksum.Digest256{}
		}
	}
	p.publish(amxaDoc, s)
	p.relist()
}

// retire takes the older image out of the mirror, but not the delta from it.
func retire(p place) {
	s := p.series(amxaDoc)
	s.Images = s.Images[1:]
	p.publish(amxaDoc, s)
	p.remove(older)
	p.remove(down)
	p.remove(".repo/state/" + older + ".json")
	p.replace("index.json", `"images":2`, `"images":1`)
	var lines []cksum.Line
	for _, l := range must(cksum.ParseCKSUMS(strings.NewReader(string(p.read("CKSUMS"))))) {
		if l.Name != older && meta.DeltaPath(l.Name) != down {
			lines = append(lines, l)
		}
	}
	p.write("CKSUMS", cksum.AppendCKSUMS(nil, lines))
	p.relist()
}
