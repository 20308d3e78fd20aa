package audit

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo/internal/compacts/compacttest"
	"puavo-image-repository/imagerepo/internal/meter"
	"puavo-image-repository/imagerepo/internal/mirror"
	"puavo-image-repository/imagerepo/internal/state"
	"puavo-image-repository/meta"
)

const (
	compactUp   = "compact/puavo-os-amxa-buster-2022-01-17-120001--2022-01-20-173248-amd64.cdelta"
	compactFull = "compact/puavo-os-amxa-buster-2022-01-20-173248-amd64.cdelta"
	compactList = "compact/SHA256SUMS"
)

// compactBuilt is a mirror with two compact deltas.
var compactBuilt struct {
	once sync.Once
	dir  string
}

// withCompact returns a copy of it.
func withCompact(t testing.TB) place {
	t.Helper()
	compactBuilt.once.Do(func() {
		compactBuilt.dir = filepath.Join(builds, "compact")
		check(os.CopyFS(compactBuilt.dir, os.DirFS(built())))
		for _, base := range []string{older, ""} {
			compacttest.Put(t, compactBuilt.dir, base, newer)
		}
	})
	return copyOf(t, compactBuilt.dir)
}

// putCompact puts another compact delta into the mirror and its digests into all documents.
func (p place) putCompact(name string, data []byte) {
	p.write(name, data)
	s := p.series(amxaDoc)
	for i := range s.Images {
		for j := range s.Images[i].Compact {
			if c := &s.Images[i].Compact[j]; meta.CompactPath(c.Filename) == name {
				c.Sums = sumsOf(data)
			}
		}
	}
	p.publish(amxaDoc, s)
	p.relist()
}

// Compact deltas are compared with all that names them, and with Deep they must make their
// targets.
func TestCompact(t *testing.T) {
	for _, c := range []struct {
		name       string
		injure     func(p place)
		applied    int         // of four deltas
		want, deep [][3]string // deep is what Deep finds besides
	}{
		{"all is right", func(place) {}, 4, nil, nil},
		{"damaged", func(p place) { p.rot(compactUp) }, 3, [][3]string{{"damaged", compactUp, "sha256 is"}}, nil},
		{"modified", func(p place) { p.write(compactFull, []byte("x")) }, 3, [][3]string{{"modified", compactFull, "size is 1, " + amxaDoc}}, nil},
		{"gone", func(p place) { p.remove(compactUp) }, 3, [][3]string{{"missing", compactUp, amxaDoc + " and " + compactList + " name it"}}, nil},
		{"its base is damaged", func(p place) { p.rot(older) }, 1, [][3]string{{"damaged", older, ""}}, nil},
		{"its target is damaged", func(p place) { p.rot(newer) }, 0, [][3]string{{"damaged", newer, ""}}, nil},
		{"of other images", func(p place) { p.putCompact(compactUp, p.read(compactFull)) }, 4, nil,
			[][3]string{{"wrong", compactUp, "applied to " + older + ": it is of other images"}}},
		{"none", func(p place) { p.putCompact(compactFull, []byte("<html>")) }, 4, nil, [][3]string{{"wrong", compactFull, "applied: it does not make its image"}}},
		{"cut", func(p place) { p.putCompact(compactUp, p.read(compactUp)[:1000]) }, 4, nil,
			[][3]string{{"wrong", compactUp, "applied to " + older + ": it does not make its image"}}},
		{"not in the list", func(p place) {
			lines := must(mirror.ParseList(compactList, p.read(compactList)))
			p.write(compactList, mirror.FormatList(slices.DeleteFunc(lines, func(l cksum.SHA256Line) bool { return l.Path == compactUp })))
		}, 4, [][3]string{{"inconsistent", compactUp, amxaDoc + " names it, " + compactList + " does not"}}, nil},
		{"no list", func(p place) { p.remove(compactList) }, 4, [][3]string{{"missing", compactList, "publishes files in compact"}}, nil},
		{"no meta names it", func(p place) {
			s := p.series(amxaDoc)
			s.Images[1].Compact = s.Images[1].Compact[:1] // not the one from older
			p.publish(amxaDoc, s)
			p.relist()
		}, 3, [][3]string{{"inconsistent", compactUp, compactList + " names it, no meta does"}}, nil},
		{"an orphan", func(p place) {
			p.write("compact/"+meta.CompactName(meta.Name{}, must(meta.ParseName(older))), nil)
		}, 4, [][3]string{{"orphan", "compact/puavo-os-amxa-buster-2022-01-17-120001-amd64.cdelta", nothingNames}}, nil},
		{"an orphan that waits", func(p place) {
			name := meta.CompactName(meta.Name{}, must(meta.ParseName(older)))
			p.write("compact/"+name, nil)
			p.record(name, state.Record{Orphaned: 1})
		}, 4, [][3]string{{"waiting", "compact/puavo-os-amxa-buster-2022-01-17-120001-amd64.cdelta", "1970-01-01"}}, nil},
		{"a file of somebody", func(p place) { p.write("compact/notes", nil) }, 4, [][3]string{{"orphan", "compact/notes", nothingNames}}, nil},
		{"no base is published any more", func(p place) {
			retire(p)
		}, 1, nil, [][3]string{{"note", compactUp, "not applied: its base " + older}, {"note", up, "not applied: its base " + older}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := withCompact(t)
			c.injure(p)
			expect(t, p.verify(false).Findings, c.want)
			r := p.verify(true)
			expect(t, r.Findings, append(c.want, c.deep...))
			if r.Deltas != c.applied {
				t.Errorf("%d deltas applied, want %d", r.Deltas, c.applied)
			}
		})
	}
}

// A result is cached, unless a file was replaced meanwhile, and made no more.
func TestApplyCompact(t *testing.T) {
	live := t.Context()
	for _, c := range []struct {
		name   string
		ctx    context.Context
		change func(p place)
		full   bool
		caches bool
		want   [][3]string
	}{
		{"right", live, nil, false, true, nil},
		{"without a base", live, nil, true, true, nil},
		{"it was replaced", live, func(p place) { p.put(compactUp, p.read(compactUp)) }, false, false, nil},
		{"its base was replaced", live, func(p place) { p.put(older, p.read(older)) }, false, false, nil},
		{"it is gone", live, func(p place) { p.remove(compactUp) }, false, false, [][3]string{{"unreadable", compactUp, "applying it: "}}},
		{"its base is gone", live, func(p place) { p.remove(older) }, false, false, [][3]string{{"unreadable", compactUp, "applying it: "}}},
		{"cancelled", ended(t), nil, false, false, nil},
	} {
		p := withCompact(t)
		known := func(path string) *content {
			return &content{file: &file{path: path}, info: must(os.Lstat(p.path(path))), sums: sumsOf(p.read(path))}
		}
		tr := &trial{must(meta.ParseName(older)), known(compactUp), known(older), known(newer), 360448, true}
		if c.full {
			tr = &trial{meta.Name{}, known(compactFull), nil, known(newer), 360448, true}
		}
		if c.change != nil {
			c.change(p)
		}
		var results cache[[3]state.Stamp, result]
		a := &applier{p.view().Root, &results, newFindings()}
		work := meter.New(0, nil)
		if err := a.applyAll(c.ctx, 1, []*trial{tr}, work); !errors.Is(err, c.ctx.Err()) {
			t.Errorf("%s: %v", c.name, err)
		}
		_, caches := results.get(tr.stamps())
		if expect(t, a.found.sorted().Findings, c.want); caches != c.caches {
			t.Errorf("%s: cached %v", c.name, caches)
		}
		if err := a.applyAll(c.ctx, 1, []*trial{tr}, work); caches && (err != nil || work.Done() != 360448*meter.Apply) {
			t.Errorf("%s: applied again: %v, %d", c.name, err, work.Done())
		}
	}
}

// The status has compact deltas apart from the others.
func TestStatusCompact(t *testing.T) {
	p := withCompact(t)
	s := must(StatusOf(p.dir))
	u, f := int64(len(p.read(compactUp))), int64(len(p.read(compactFull)))
	if s.Deltas != 2 || s.Compact != 2 || s.CompactBytes != u+f {
		t.Errorf("%+v", s)
	}
	want := []DeltaStatus{
		{File: compactFull[len("compact/"):], Size: f, Share: float64(f) / 360448},
		{Base: older, File: compactUp[len("compact/"):], Size: u, Share: float64(u) / 360448},
	}
	if got := s.Series[0].Images[1].Compact; !slices.Equal(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
	retire(p)
	if got := must(StatusOf(p.dir)).Series[0].Images[0].Compact; len(got) != 2 || got[0].Retired || !got[1].Retired {
		t.Errorf("of a base that is no longer there: %+v", got)
	}
}
