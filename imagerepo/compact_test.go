package imagerepo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"puavo-image-repository/imagerepo/internal/compacts/compacttest"
	"puavo-image-repository/imagerepo/internal/mirror"
	"puavo-image-repository/imagerepo/plan"
	"puavo-image-repository/meta"
	"puavo-image-repository/testdata"
)

// withCompact returns a place whose mirror has compact deltas to image4, from image2 and
// without a base.
func withCompact(t testing.TB) *place {
	t.Helper()
	p := newPlace(t, image2, image3, image4)
	p.NoSync, p.Policy.Targets = true, 1
	p.Policy.Compact = plan.Compact{Mode: plan.CompactNewest, Full: true}
	p.build()
	compacttest.Put(t, p.MirrorDir, image2, image4)
	compacttest.Put(t, p.MirrorDir, "", image4)
	return p
}

// compact returns what is published of compact deltas, from which images to which, and those
// that are there besides.
func (p *place) compact() string {
	p.t.Helper()
	short := strings.NewReplacer("puavo-os-amxa-buster-", "", "-amd64", "", "2021-04-13-193910", "2", "2022-01-17-120001", "3", "2022-01-20-173248", "4", ".cdelta", "")
	var all []string
	published := make(map[string]bool)
	for _, file := range []string{image2, image3, image4} {
		im, _ := p.published(file)
		for _, c := range im.Compact {
			published[c.Filename] = true
			all = append(all, c.Filename)
			if c.URLs[0] != p.URL+"/compact/"+c.Filename || c.Memory == 0 || c.Coded == 0 {
				p.t.Errorf("%+v", c)
			}
		}
	}
	files, _ := filepath.Glob(filepath.Join(p.MirrorDir, "compact", "*.cdelta"))
	for _, f := range files {
		if !published[filepath.Base(f)] {
			all = append(all, "+"+filepath.Base(f))
		}
	}
	return short.Replace(strings.Join(all, " "))
}

const of24, full4 = "puavo-os-amxa-buster-2021-04-13-193910--2022-01-20-173248-amd64.cdelta", "puavo-os-amxa-buster-2022-01-20-173248-amd64.cdelta"

// What is right stays published, whatever else changes; what is not, leaves after its grace,
// or at once if it is damaged. Another run has nothing to do.
func TestCompactCarriedOver(t *testing.T) {
	t.Parallel()
	state := func(p *place, file string) string {
		return filepath.Join(p.MirrorDir, mirror.StateDir, file+".json")
	}
	there := func(p *place) string { return filepath.Join(p.MirrorDir, "compact", of24) }
	for i, c := range []struct {
		name   string
		change func(p *place)
		want   string
		says   string // in warnings
	}{
		{"nothing changes", func(*place) {}, "4 2--4", ""},
		{"none are wanted", func(p *place) { p.Policy.Compact = plan.Compact{} }, "+2--4 +4", ""},
		{"none without a base", func(p *place) { p.Policy.Compact.Full = false }, "2--4 +4", ""},
		{"along the deltas", func(p *place) { p.Policy.Compact = plan.Compact{Mode: plan.CompactAll} }, "2--4 +4", ""},
		{"along the deltas, of which there is none", func(p *place) { p.Policy.Compact = plan.Compact{Mode: plan.CompactAll}; p.Policy.Targets = 0 }, "+2--4 +4", ""},
		{"another URL", func(p *place) { p.URL = "https://elsewhere.example.org" }, "4 2--4", ""},
		{"the base left", func(p *place) { p.remove(image2) }, "4 +2--4", ""},
		{"the target left", func(p *place) { p.remove(image4) }, "+2--4 +4", ""},
		{"a newer image", func(p *place) { p.write("puavo-os-amxa-buster-2022-01-21-000000-amd64.img", p.read(image4)) }, "+2--4 +4", ""},
		{"the base was replaced", func(p *place) { p.write(image2, p.read(other)) }, "4 +2--4", ""},
		{"the target was replaced", func(p *place) { p.write(image4, p.read(other)) }, "+2--4 +4", ""},
		{"the target was touched", func(p *place) {
			os.Chtimes(filepath.Join(p.ImageDir, image4), time.Time{}, time.Now().Add(time.Second))
		}, "4 2--4", ""},
		{"a file is gone", func(p *place) { os.Remove(there(p)) }, "4", ""},
		{"a file was touched", func(p *place) { os.Chtimes(there(p), time.Time{}, time.Now().Add(time.Second)) }, "4 2--4", ""},
		{"a file was damaged", func(p *place) { damage(t, there(p)) }, "4", "the compact delta is not right"},
		{"a file was cut", func(p *place) { os.Truncate(there(p), 200) }, "4", "the compact delta is not right"},
		{"a file is another", func(p *place) {
			data, _ := compacttest.Make(t, p.read(image3), p.read(image4))
			os.WriteFile(there(p), data, 0o666)
		}, "4 +2--4", "it starts from another base"},
		{"a record is gone", func(p *place) { os.Remove(state(p, of24)) }, "4 2--4", ""},
		{"a record is damaged", func(p *place) { damage(t, state(p, of24)) }, "4 2--4", "a record is damaged"},
		{"all records are gone", func(p *place) { os.RemoveAll(filepath.Join(p.MirrorDir, mirror.Private)) }, "4 2--4", ""},
		{"a record is gone, and its file damaged", func(p *place) {
			os.Remove(state(p, of24))
			damage(t, there(p))
		}, "4 +2--4", "the compact delta is not right"}, // whose it is, is not known
		{"adopted and damaged", func(p *place) {
			os.RemoveAll(filepath.Join(p.MirrorDir, mirror.Private))
			damage(t, there(p))
			p.Adopt = true
		}, "4", "the compact delta is not right"},
		{"known as damaged", func(p *place) { p.Suspect = []string{"compact/" + of24} }, "4", ""},
	} {
		if i%testdata.Scale(1, 4) > 0 {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := withCompact(t)
			p.Policy.Grace = time.Hour
			c.change(p)
			p.build()
			if got := p.compact(); got != c.want {
				t.Errorf("published and there are %q, want %q", got, c.want)
			}
			if got := p.log.String(); c.says == "" && got != "" || !strings.Contains(got, c.says) {
				t.Errorf("it says %q", got)
			}
			p.Suspect, p.Adopt = nil, false
			p.log.Reset()
			before := p.tree()
			if s := p.build(); s.Changed || p.tree() != before || p.log.Len() > 0 && !strings.Contains(c.want, "+") {
				t.Errorf("another run: %+v, %s", s, &p.log)
			}
			if p.Policy.Grace = 0; strings.HasSuffix(c.name, "its file damaged") {
				return // it stays
			}
			p.build()
			if got, _, _ := strings.Cut(c.want, "+"); p.compact() != strings.TrimSpace(got) {
				t.Errorf("after the grace there are %q, want %q", p.compact(), got)
			}
		})
	}
}

// A mirror with compact deltas has them in the SHA256SUMS of their folder, and nowhere else
// besides the meta and the page.
func TestCompactDocuments(t *testing.T) {
	p := withCompact(t)
	before := p.tree()
	s := p.build()
	if s.Changed || p.tree() != before || s.Compact != 2 || s.CompactBytes == 0 || s.Kept != 2 || s.Made != 0 {
		t.Errorf("%+v, was\n%s is\n%s", s, before, p.tree())
	}
	for doc, want := range map[string]bool{"CKSUMS": false, "index.json": false, "SHA256SUMS": false, "rdiffs/SHA256SUMS": false, "compact/SHA256SUMS": true, "meta/puavo-os-amxa-buster-amd64.json": true} {
		data, err := os.ReadFile(filepath.Join(p.MirrorDir, doc))
		if err != nil || strings.Contains(string(data), of24) != want || strings.Contains(string(data), full4) != want {
			t.Errorf("%s names them: %v, %v", doc, !want, err)
		}
	}
	doc := filepath.Join(p.MirrorDir, "meta/puavo-os-amxa-buster-amd64.json")
	for filter, want := range map[string]string{ // of installed clients
		`[.[][][] | select(has("filename")) | .filename]`:                                 `["` + image2 + `","` + image3 + `","` + image4 + `"]`,
		`[.[][][] | select(has("diffs")) | .diffs[].filename] | length`:                   "2",
		`[.[][][] | select(has("diffs")) | .diffs[].filename | endswith(".rdiff")] | all`: "true",
		`[.[][][] | .urls[]] | length`:                                                    "3",
	} {
		if got := strings.TrimSpace(string(testdata.Run(t, "jq", "-c", filter, doc))); got != want {
			t.Errorf("jq %s: %s, want %s", filter, got, want)
		}
	}
	p.Policy.Compact = plan.Compact{}
	p.build()
	without := newPlace(t, image2, image3, image4)
	without.Policy.Targets = 1
	without.build()
	if got, want := p.tree(), without.tree(); got != want {
		t.Errorf("without compact deltas the mirror is\n%s\nwant\n%s", got, want)
	}
}

// A series that fails, or is not built, keeps its own; only what is gone is withdrawn.
func TestCompactOfFailed(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(p *place)
		want   string
	}{
		{"it stays", func(*place) {}, "4 2--4"},
		{"a file is gone", func(p *place) { os.Remove(filepath.Join(p.MirrorDir, "compact", of24)) }, "4"},
		{"a file was cut", func(p *place) { os.Truncate(filepath.Join(p.MirrorDir, "compact", of24), 200) }, "4 +2--4"},
		{"its target changed in place", func(p *place) { p.overwrite(image4) }, "+2--4 +4"},
	} {
		for _, leave := range []bool{false, true} {
			p := withCompact(t)
			p.add(other)
			p.Policy.Compact = plan.Compact{}
			if leave {
				p.Series = plan.Globs{"puavo-os-free-*"}
			} else {
				p.write("puavo-os-amxa-buster-2023-01-01-000000-amd64.img", nil)
			}
			c.change(p)
			_, _, err := Build(t.Context(), p.Options)
			if _, failed := errors.AsType[*SeriesError](err); failed == leave {
				t.Fatal(err)
			}
			p.valid()
			if got := p.compact(); got != c.want {
				t.Errorf("%s, left out %v: %q, want %q", c.name, leave, got, c.want)
			}
		}
	}
}

// Compact deltas have torrents as deltas have them.
func TestCompactTorrents(t *testing.T) {
	p := withCompact(t)
	p.Torrents = plan.Torrents{Of: plan.TorrentsOfDeltas}
	torrents := func() (all []string) {
		files, _ := filepath.Glob(filepath.Join(p.MirrorDir, "torrents", "*.cdelta.torrent"))
		list, _ := os.ReadFile(filepath.Join(p.MirrorDir, "torrents", "SHA256SUMS"))
		for _, f := range files {
			if name := filepath.Base(f); strings.Contains(string(list), "  "+name+"\n") {
				all = append(all, strings.TrimSuffix(name, ".torrent"))
			}
		}
		return all
	}
	if s := p.build(); s.Torrents != 4 || !slices.Equal(torrents(), []string{of24, full4}) {
		t.Errorf("%d torrents, %q", s.Torrents, torrents())
	}
	if s := p.build(); s.Changed {
		t.Errorf("another run: %+v", s)
	}
	p.remove(image2)
	if s := p.build(); !slices.Equal(torrents(), []string{full4}) || p.there("torrents/"+of24+".torrent") || !slices.Contains(s.Removals, "torrents/"+of24+".torrent") {
		t.Errorf("%q, %+v", torrents(), s)
	}
	damage(t, filepath.Join(p.MirrorDir, "compact", full4))
	p.Policy.Grace = time.Hour
	if p.build(); len(torrents()) != 0 || p.there("torrents/"+full4+".torrent") || p.there("compact/"+full4) {
		t.Errorf("of one that is damaged stays %q", torrents())
	}
}

// Checking compact deltas ends with its context, whenever that is.
func TestCompactCancelled(t *testing.T) {
	p := withCompact(t)
	os.Remove(filepath.Join(p.MirrorDir, mirror.StateDir, of24+".json"))
	want := p.tree()
	for _, stage := range []string{"delta_check"} {
		ctx, cancel := context.WithCancel(t.Context())
		began := false
		p.Stage = func(s, file string) {
			if s == stage && file == "compact/"+of24 {
				began = true
				cancel()
			}
		}
		if _, _, err := Build(ctx, p.Options); !errors.Is(err, context.Canceled) || !began {
			t.Errorf("%v, %v", err, began)
		}
		cancel()
		p.Stage = nil
	}
	if p.build(); p.tree() != want || p.compact() != "4 2--4" {
		t.Errorf("%s\n%s", p.compact(), p.tree())
	}
}

// The plan has the compact deltas that are wanted, and changes nothing.
func TestCompactPlan(t *testing.T) {
	p := withCompact(t)
	before := p.tree()
	planned, err := MakePlan(t.Context(), p.Options)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, c := range planned.Compact {
		all = append(all, fmt.Sprintf("%s %s %v", c.Action, strings.TrimSuffix(c.File, "-2022-01-20-173248-amd64.cdelta"), c.Size > 0))
		if c.Rival == 0 || c.TargetSize == 0 {
			t.Errorf("%+v", c)
		}
	}
	want := []string{"keep puavo-os-amxa-buster-2021-04-13-193910- true", "make puavo-os-amxa-buster-2022-01-17-120001- false", "keep puavo-os-amxa-buster true"}
	if !slices.Equal(all, want) || len(planned.Remove) > 0 || p.tree() != before {
		t.Errorf("%q, want %q; remove %v", all, want, planned.Remove)
	}
}

// A mirror of the version before, whose policy has no compact deltas, is as it was; and is
// taken over by one that has them.
func TestBeforeCompact(t *testing.T) {
	p := newBefore(t)
	if p.Policy.Compact != (plan.Compact{}) {
		t.Errorf("%+v", p.Policy.Compact)
	}
	want := p.tree()
	for _, mode := range []plan.CompactMode{"", plan.CompactAll, plan.CompactNewest} {
		p.Policy.Compact.Mode = mode
		p.build()
		if got := p.tree(); withoutPage(got) != withoutPage(want) || p.there("compact") {
			t.Errorf("%q: the mirror is\n%swas\n%s", mode, got, want)
		}
	}
	file := compacttest.Put(t, p.MirrorDir, image2, image4)
	if s := p.build(); s.Compact != 1 || s.Changed {
		t.Errorf("%+v", s)
	}
	o, err := Remembered(p.MirrorDir)
	if err != nil || o.Policy.Compact.Mode != plan.CompactNewest {
		t.Errorf("%+v, %v", o.Policy, err)
	}
	p.Policy.Compact = plan.Compact{}
	if p.build(); p.there(meta.CompactPath(file)) && p.Policy.Grace == 0 {
		t.Error("it stays")
	}
}
