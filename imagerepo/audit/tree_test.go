package audit

import (
	"context"
	"errors"
	"slices"
	"testing"

	"puavo-image-repository/imagerepo/internal/state"
)

// Signed metadata is not compared with anything here, and is no orphan; a file of its
// name is one.
func TestSignedMetadata(t *testing.T) {
	p := newPlace(t)
	p.write("tuf/timestamp.json", []byte("x"))
	p.write("tuf/targets/meta/x.json", []byte("x"))
	expect(t, p.verify(false).Findings, nil)
	p.remove("tuf")
	p.write("tuf", []byte("x"))
	expect(t, p.verify(false).Findings, [][3]string{{"orphan", "tuf", "no document names it"}})
}

func TestFindOrphans(t *testing.T) {
	named := files{older: {}, up: {}}
	waiting := records{absent: {Orphaned: 1}}
	live := t.Context()
	for _, c := range []struct {
		name    string
		ctx     context.Context
		d       documents
		records records
		have    []string
		ours    []string
		want    [][3]string
	}{
		{"all is named", live, documents{}, nil, []string{older, up}, nil, nil},
		{"what is named is missing", live, documents{}, nil, nil, nil, nil},
		{"a foreign file", live, documents{}, nil, []string{older, "x/README"}, nil, [][3]string{{"orphan", "x/README", "no document names it"}}},
		{"with a name of ours", live, documents{}, nil, []string{absent, down}, []string{absent, down}, nil},
		{"with a name of ours, elsewhere", live, documents{}, nil, []string{"x/" + absent}, nil, [][3]string{{"orphan", "x/" + absent, ""}}},
		{"one that waits", live, documents{}, waiting, []string{absent, down}, []string{down}, [][3]string{{"waiting", absent, "since 1970-01-01 00:00:01 UTC"}}},
		{"a meta is missing that may name it", live, documents{lacking: true}, nil, []string{absent, "x"}, nil, [][3]string{{"orphan", "x", ""}}},
		{"a list is malformed that may name it", live, documents{read: map[string]*document{"CKSUMS": {malformed: errors.New("x")}}}, nil, []string{absent}, nil, nil},
		{"a document is missing, and it waits", live, documents{lacking: true}, waiting, []string{absent}, nil, [][3]string{{"waiting", absent, ""}}},
		{"signed metadata and private files", live, documents{}, nil, []string{"tuf/x", ".repo/x"}, nil, nil},
		{"of the predecessor", live, documents{}, nil, []string{".checksums/x"}, nil, [][3]string{{"note", ".checksums", "the old rake task"}}},
		{"cancelled", ended(t), documents{}, nil, []string{"x"}, nil, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := place{t, t.TempDir()}
			for _, name := range c.have {
				p.write(name, nil)
			}
			found := newFindings()
			ours, err := findOrphans(c.ctx, p.view().Root, &c.d, named, c.records, found)
			if !errors.Is(err, c.ctx.Err()) || !slices.Equal(ours, c.ours) {
				t.Errorf("%q, %v; want %q, %v", ours, err, c.ours, c.ctx.Err())
			}
			expect(t, found.sorted().Findings, c.want)
		})
	}
}

func TestOurName(t *testing.T) {
	for p, want := range map[string]bool{
		newer: true, up: true, amxaDoc: true, "meta/" + newer: false, "rdiffs/" + newer: false, "x.json": false, "README": false, "index.json": false, "": false,
	} {
		if _, ours := ourName(p); ours != want {
			t.Errorf("%q: %v", p, ours)
		}
	}
	if (records{absent: &state.Record{}}).of("x/"+absent) != nil {
		t.Error("a record of a file elsewhere")
	}
}
