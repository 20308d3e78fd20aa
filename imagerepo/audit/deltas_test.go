package audit

import (
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"puavo-image-repository/cksum"
	"puavo-image-repository/meta"
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
			[][3]string{{"wrong", up, "from " + older + " it makes a file of which blake3 is "}}},
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
		}, 2, [][3]string{{"wrong", up, "from " + older}}},
		{"a base is bad", func(p place) { p.rot(older) }, 0, [][3]string{{"damaged", older, ""}}},
		{"a base is gone", func(p place) { p.remove(newer) }, 0, [][3]string{{"missing", newer, ""}}},
		{"a delta is bad", func(p place) { p.rot(up) }, 1, [][3]string{{"damaged", up, ""}}},
		{"a meta is wrong about the target", func(p place) { p.replace(amxaDoc, `"size":360448`, `"size":360449`); p.relist() }, 2,
			[][3]string{{"inconsistent", newer, "by CKSUMS; the file is as CKSUMS says"}}},
		{"a base is retired", func(p place) {
			retire(p)
			p.write(older, []byte("x")) // whatever it is, nothing tells what it was
		}, 0, [][3]string{{"orphan", older, ""}, {"note", up, "not applied: its base " + older + " is not in the mirror"}}},
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
