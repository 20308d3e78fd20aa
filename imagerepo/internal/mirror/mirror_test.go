package mirror

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"puavo-image-repository/delta"
	"puavo-image-repository/imagerepo/internal/lockfile"
	"puavo-image-repository/imagerepo/internal/state"
	"puavo-image-repository/meta"
)

const (
	image   = "puavo-os-amxa-buster-2022-01-20-173248-amd64.img"
	rdiff   = "puavo-os-amxa-buster-2021-04-13-192449--2022-01-20-173248-amd64.rdiff"
	compact = "puavo-os-amxa-buster-2021-04-13-192449--2022-01-20-173248-amd64.cdelta"
	full    = "puavo-os-amxa-buster-2022-01-20-173248-amd64.cdelta"
	doc     = "puavo-os-amxa-buster-amd64.json"
	foreign = "notes.txt"

	// of earlier versions, which took any digits for a date
	odd      = "puavo-os-amxa-buster-2022-13-20-173248-amd64.img"
	oddDelta = "puavo-os-amxa-buster-2021-04-13-192449--2022-13-20-173248-amd64.rdiff"
)

func TestPaths(t *testing.T) {
	for name, want := range map[string]struct {
		path string
		ours bool
	}{
		image:              {image, true},
		rdiff:              {"rdiffs/" + rdiff, true},
		compact:            {"compact/" + compact, true},
		full:               {"compact/" + full, true},
		full + ".torrent":  {"torrents/" + full + ".torrent", true},
		"x.cdelta":         {"compact/x.cdelta", false},
		"x.cdelta.torrent": {"torrents/x.cdelta.torrent", false},
		doc:                {"meta/" + doc, true},
		foreign:            {foreign, false},
		"index.json":       {"meta/index.json", true}, // of a series of that name
		"x.img":            {"x.img", false},
		odd:                {odd, true},
		oddDelta:           {"rdiffs/" + oddDelta, true},
		"x.rdiff":          {"rdiffs/x.rdiff", false},
		"a b.json":         {"meta/a b.json", false},
		"":                 {"", false},
		"../../etc.img":    {"../../etc.img", false},
	} {
		if got := PathOf(name); got != want.path && name != "" {
			t.Errorf("%q lies at %q, want %q", name, got, want.path)
		}
		if IsOurName(name) != want.ours {
			t.Errorf("%q is ours: %v", name, !want.ours)
		}
	}
}

func TestIsBestBefore(t *testing.T) {
	for name, want := range map[string]bool{
		"BEST-BEFORE-2027-01-31": true, "BEST-BEFORE-2027-02-30": false, "BEST-BEFORE-2027-1-1": false,
		"BEST-BEFORE-": false, "2027-01-31": false, "x/BEST-BEFORE-2027-01-31": false, "best-before-2027-01-31": false,
	} {
		if IsBestBefore(name) != want {
			t.Errorf("%s: %v", name, !want)
		}
	}
}

// The tool owns what a record says that it has placed there, and by names alone only
// what it is told to take over.
func TestLook(t *testing.T) {
	n, err := meta.ParseName(image)
	if err != nil {
		t.Fatal(err)
	}
	tree := fstest.MapFS{
		image:                {Data: []byte("image")},
		"rdiffs/" + rdiff:    {Data: []byte("delta")},
		"compact/" + compact: {Data: []byte("delta")},
		"meta/" + doc:        {Data: []byte(`{"puavo-os-amxa-buster-amd64":{"images":[]}}`)},
		foreign:              {},
		"meta/x y.json":      {},
		SignaturePath(n):     {Data: make([]byte, delta.SignatureSize(5))},
		".checksums/x":       {},
	}
	for _, c := range []struct {
		name    string
		records map[string]*state.Record
		all     bool
		owns    []string
	}{
		{"without records", nil, false, nil},
		{"a record of a delta", map[string]*state.Record{rdiff: {}, "../x": {}, "x": {}}, false, []string{rdiff}},
		{"a record of a compact delta", map[string]*state.Record{compact: {}}, false, []string{compact}},
		{"a record of a base", map[string]*state.Record{image: {}}, false, nil},
		{"a record of an image that was placed", map[string]*state.Record{image: {Placed: true}, doc: {}}, false, []string{image, doc}},
		{"all", nil, true, []string{image, rdiff, compact}},
	} {
		v, err := Look(tree, c.records, map[string]bool{image: true})
		if err != nil {
			t.Fatal(err)
		}
		v.All = c.all
		for _, f := range []string{image, rdiff, compact, doc, foreign, "x y.json", "../x", "x"} {
			if got := v.Owns(f); got != slices.Contains(c.owns, f) {
				t.Errorf("%s: it owns %s: %v", c.name, f, got)
			}
		}
		if got, want := v.Names(), slices.Sorted(slices.Values([]string{image, rdiff, compact, doc})); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", c.name, got, want)
		}
		if stamp, there := v.Has(rdiff); !there || stamp.Size != 5 || !v.Signed(n, 5) || v.Signed(n, 5000) || !v.Listed[image] {
			t.Errorf("%s: %+v", c.name, v)
		}
	}
	if got := OtherTools(tree); !slices.Equal(got, []string{".checksums"}) {
		t.Errorf("of other tools: %v", got)
	}
}

func TestOpen(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "mirror")
	if _, err := View(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no mirror: %v", err)
	}
	var log strings.Builder
	logger := slog.New(slog.NewTextHandler(&log, nil))
	m, err := Open(dir, true, logger)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, true, logger); !errors.Is(err, lockfile.ErrHeld) {
		t.Errorf("a second writer: %v", err)
	}
	view, err := View(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer view.Close()
	if got := view.LastRun(); !reflect.DeepEqual(got, Run{}) {
		t.Errorf("no run yet: %+v", got)
	}
	now := time.Unix(1e9, 0).UTC()
	want := Run{Began: now, Seconds: 1.5, Rate: 2e9, Error: "no", Success: now, Options: []byte(`{}`)}
	if err := m.PutRun(want); err != nil {
		t.Fatal(err)
	}
	if got := view.LastRun(); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}

	// What a dead run left goes, and what is in the way of the folders.
	os.WriteFile(filepath.Join(dir, TmpPath("x")), nil, 0o666)
	os.RemoveAll(filepath.Join(dir, StateDir))
	os.WriteFile(filepath.Join(dir, StateDir), nil, 0o666)
	os.WriteFile(filepath.Join(dir, runFile), []byte("{"), 0o666)
	m, err = Open(dir, true, logger)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if left, _ := filepath.Glob(filepath.Join(dir, tmp, "*")); len(left) > 0 || !strings.Contains(log.String(), "state") {
		t.Errorf("left %v, log %q", left, &log)
	}
	if got := m.LastRun(); !reflect.DeepEqual(got, Run{}) {
		t.Errorf("a damaged note of a run: %+v", got)
	}
}
