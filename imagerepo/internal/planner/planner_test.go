package planner

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"puavo-image-repository/cksum"
	"puavo-image-repository/delta"
	"puavo-image-repository/imagerepo/internal/mirror"
	"puavo-image-repository/imagerepo/internal/source"
	"puavo-image-repository/imagerepo/internal/state"
	"puavo-image-repository/imagerepo/plan"
	"puavo-image-repository/meta"
)

// sums are digests that differ with seed.
func sums(size int64, seed byte) cksum.Sums {
	return cksum.Sums{Size: size, CRC: uint32(seed), SHA256: [32]byte{seed}, SHA512: [64]byte{seed}, BLAKE3: [32]byte{seed}}
}

// world is an image directory and a mirror.
type world struct {
	images  fstest.MapFS
	mirror  fstest.MapFS
	records map[string]*state.Record
	series  []meta.SeriesConfig
	// documents are names of meta that index.json names, and adopt is Options.Adopt.
	documents []string
	listed    []string // names that other documents name
	suspect   []string
	published []meta.Series
	adopt     bool
	torrents  plan.Torrents
}

// image5 is newer than all others.
const image5 = "puavo-os-amxa-buster-2022-02-01-120000-amd64.img"

// now is when plans are made.
var now = time.Unix(1e9, 0)

// orphaned makes a file an orphan of that age in seconds.
func (w *world) orphaned(file string, seconds int64) {
	w.records[file].Orphaned = now.Unix() - seconds
}

// built is a mirror of images 1 to 4 in which nothing is left to do.
func built() *world {
	w := &world{images: files(image1, image2, image3, image4), mirror: make(fstest.MapFS), records: make(map[string]*state.Record)}
	for i, f := range []string{image1, image2, image3, image4} {
		w.mirror[f] = w.images[f]
		w.mirror[mirror.SignaturePath(name(f))] = &fstest.MapFile{Data: make([]byte, delta.SignatureSize(int64(len(f))))}
		w.records[f] = &state.Record{Stamp: w.stamp(w.images, f), Sums: sums(int64(len(f)), byte(i+1)), Conf: map[string]json.RawMessage{}, Placed: true}
	}
	for _, pair := range [][2]string{{image1, image2}, {image1, image3}, {image1, image4}, {image2, image3}, {image2, image4}, {image3, image2}, {image3, image4}, {image4, image2}, {image4, image3}} {
		w.delta(pair[0], pair[1], 10)
	}
	w.records["puavo-os-amxa-buster-amd64.json"] = &state.Record{}
	w.mirror["meta/puavo-os-amxa-buster-amd64.json"] = &fstest.MapFile{}
	w.mirror["CKSUMS"] = &fstest.MapFile{Data: []byte("1 2 " + image1 + "\n1 2 " + image2 + "\n1 2 " + image3 + "\n1 2 " + image4 + "\n")}
	return w
}

func (w *world) stamp(dir fs.FS, f string) state.Stamp {
	info, err := fs.Stat(dir, f)
	if err != nil {
		panic(err)
	}
	return state.StampOf(info)
}

// delta puts a delta of so many bytes into the mirror.
func (w *world) delta(base, target string, size int) string {
	f := meta.DeltaName(name(base), name(target))
	w.mirror[meta.DeltaPath(f)] = &fstest.MapFile{Data: make([]byte, size)}
	w.records[f] = &state.Record{
		Stamp: w.stamp(w.mirror, meta.DeltaPath(f)), Sums: sums(int64(size), 99),
		Base: w.records[base].Sums.BLAKE3, Target: w.records[target].Sums.BLAKE3,
	}
	return f
}

func (w *world) plan(p plan.Policy) (plan.Plan, error) {
	found, err := source.Scan(w.images)
	if err != nil {
		return plan.Plan{}, err
	}
	series := w.series
	if series == nil {
		series = Group(found, plan.Config{})
	}
	listed := make(map[string]bool)
	if f := w.mirror["CKSUMS"]; f != nil {
		lines, _ := cksum.ParseCKSUMS(bytes.NewReader(f.Data))
		for _, l := range lines {
			listed[l.Name] = true
		}
	}
	for _, doc := range slices.Concat(w.documents, w.listed) {
		listed[doc] = true
	}
	holds, err := mirror.Look(w.mirror, w.records, listed)
	if err != nil {
		return plan.Plan{}, err
	}
	holds.All = w.adopt
	return New(Input{Found: found, Series: series, Holds: holds, Policy: p, Now: now, Torrents: w.torrents, Suspect: w.suspect, Documents: w.published}), nil
}

// brief is a plan in words: what is not kept.
func brief(p plan.Plan) string {
	short := strings.NewReplacer("puavo-os-amxa-buster-", "", "-amd64", "", "2021-04-13-192449", "1", "2021-04-13-193910", "2", "2022-01-17-120001", "3", "2022-01-20-173248", "4", ".img", "", ".rdiff", "", "rdiffs/", "", "puavo-os-free-buster-2022-02-04-140532", "other", "2022-02-01-120000", "5")
	var all []string
	for _, im := range p.Images {
		if im.Action != plan.Keep {
			all = append(all, string(im.Action)+" "+im.File)
		}
		if im.Read {
			verb := "read "
			if im.Touched {
				verb = "compare "
			}
			all = append(all, verb+im.File)
		}
		if im.Sign {
			all = append(all, "sign "+im.File)
		}
	}
	for _, d := range p.Deltas {
		if d.Action != plan.Keep {
			all = append(all, string(d.Action)+" "+d.File)
		}
	}
	for _, r := range p.Remove {
		verb := "remove "
		if !r.Due.IsZero() {
			verb = "wait "
		}
		all = append(all, verb+r.Path)
	}
	for _, f := range p.Unowned {
		all = append(all, "leave "+f)
	}
	return short.Replace(strings.Join(all, ", "))
}

func TestPlan(t *testing.T) {
	const all = "make 1--2, make 1--3, make 1--4, make 2--3, make 2--4, make 3--2, make 3--4, make 4--2, make 4--3"
	for _, c := range []struct {
		name   string
		change func(*world)
		policy func(*plan.Policy)
		want   string
	}{
		{"nothing to do", nil, nil, ""},
		{"no mirror", func(w *world) { w.mirror, w.records = fstest.MapFS{}, nil }, nil,
			"link 1, read 1, link 2, read 2, link 3, read 3, link 4, read 4, " + all},
		{"an image was touched", func(w *world) {
			w.images[image4] = &fstest.MapFile{Data: []byte(image4), ModTime: w.images[image4].ModTime.Add(1)}
			w.mirror[image4] = w.images[image4]
		}, nil, "compare 4, await 1--4, await 2--4, await 3--4, await 4--2, await 4--3"},
		{"an image was replaced", func(w *world) { w.images[image4] = &fstest.MapFile{Data: []byte("longer than it was: " + image4)} }, nil,
			"replace 4, read 4, await 1--4, await 2--4, await 3--4, await 4--2, await 4--3"},
		{"an image is new", func(w *world) { w.images[other] = &fstest.MapFile{Data: []byte("x")} }, nil, "link other, read other"},
		{"an image left", func(w *world) { delete(w.images, image1) }, nil, "remove 1, remove 1--2, remove 1--3, remove 1--4"},
		{"an image was copied", func(w *world) {
			w.mirror[image4] = &fstest.MapFile{Data: []byte(image4), ModTime: w.images[image4].ModTime.Add(1)}
			w.records[image4].Copy = w.stamp(w.mirror, image4)
		}, nil, ""},
		{"a copy was damaged", func(w *world) { w.mirror[image4] = &fstest.MapFile{Data: []byte("x")} }, nil, "replace 4"},
		{"an image is missing in the mirror", func(w *world) { delete(w.mirror, image4) }, nil, "link 4"},
		{"a signature is missing", func(w *world) { delete(w.mirror, mirror.SignaturePath(name(image4))) },
			func(p *plan.Policy) { p.KeepSignatures = true }, ""},
		{"a record is missing", func(w *world) { delete(w.records, image4) }, nil,
			"read 4, await 1--4, await 2--4, await 3--4, await 4--2, await 4--3"},
		{"no records", func(w *world) { w.records = nil }, nil,
			"read 1, read 2, read 3, read 4, " + strings.ReplaceAll(all, "make", "check")},
		{"a delta is missing", func(w *world) { delete(w.mirror, meta.DeltaPath(meta.DeltaName(name(image3), name(image4)))) }, nil, "make 3--4"},
		{"a delta was changed", func(w *world) {
			w.mirror[meta.DeltaPath(meta.DeltaName(name(image3), name(image4)))] = &fstest.MapFile{Data: []byte("x")}
		}, nil, "check 3--4"},
		{"a delta's record is missing", func(w *world) { delete(w.records, meta.DeltaName(name(image3), name(image4))) }, nil, "check 3--4"},
		{"a delta is of another base", func(w *world) { w.records[meta.DeltaName(name(image3), name(image4))].Base[1]++ }, nil, "check 3--4"},
		{"a delta is too large now", nil, func(p *plan.Policy) { p.MaxRatio = 0.1 },
			strings.ReplaceAll(all, "make", "drop") + ", " + strings.ReplaceAll(strings.Join(slices.Sorted(slices.Values(strings.Split(all, ", "))), ", "), "make", "remove")},
		{"a delta was dropped", func(w *world) {
			f := meta.DeltaName(name(image3), name(image4))
			delete(w.mirror, meta.DeltaPath(f))
			w.records[f] = &state.Record{Dropped: true, Sums: cksum.Sums{Size: 46}, Base: w.records[f].Base, Target: w.records[f].Target}
		}, nil, "drop 3--4"},
		{"a dropped delta is wanted now", func(w *world) {
			f := meta.DeltaName(name(image3), name(image4))
			delete(w.mirror, meta.DeltaPath(f))
			w.records[f] = &state.Record{Dropped: true, Sums: cksum.Sums{Size: 46}, Base: w.records[f].Base, Target: w.records[f].Target}
		}, func(p *plan.Policy) { p.MaxRatio = 1 }, "make 3--4"},
		{"one target", nil, func(p *plan.Policy) { p.Targets = 1 }, "remove 1--2, remove 1--3, remove 2--3, remove 3--2, remove 4--2, remove 4--3"},
		{"no targets", nil, func(p *plan.Policy) { p.Targets = 0 }, "remove 1--2, remove 1--3, remove 1--4, remove 2--3, remove 2--4, remove 3--2, remove 3--4, remove 4--2, remove 4--3"},
		{"many targets", nil, func(p *plan.Policy) { p.Targets = 9 }, "make 2--1, make 3--1, make 4--1"},
		{"no downgrades", nil, func(p *plan.Policy) { p.Downgrades = false }, "remove 3--2, remove 4--2, remove 4--3"},
		{"one base", nil, func(p *plan.Policy) { p.Bases = 1 }, "remove 1--3, remove 1--4, remove 2--4, remove 3--2, remove 4--2, remove 4--3"},
		{"two bases", nil, func(p *plan.Policy) { p.Bases = 2 }, "remove 1--4, remove 4--2, remove 4--3"},
		{"extra deltas", func(w *world) {
			w.series = []meta.SeriesConfig{{Name: "puavo-os-amxa-buster-amd64", Images: names(image1, image2, image3, image4), Extra: map[meta.Name][]meta.Name{name(image1): names(image4, image1)}}}
		}, nil, "make 4--1"},
		{"a base of no series", func(w *world) {
			w.images[other] = &fstest.MapFile{Data: []byte("x")}
			w.series = []meta.SeriesConfig{{Name: "puavo-os-amxa-buster-amd64", Images: names(image1, image2, image3, image4), Extra: map[meta.Name][]meta.Name{name(image4): names(other)}}}
		}, nil, "base other, read other, make other--4"},
		{"an image left and its signature stays", func(w *world) { delete(w.images, image1) }, func(p *plan.Policy) { p.KeepSignatures = true }, "retired 1, remove 1"},
		{"a retired image and a new one", func(w *world) {
			delete(w.images, image1)
			delete(w.mirror, image1)
			w.images[image5] = &fstest.MapFile{Data: []byte("x")}
		}, func(p *plan.Policy) { p.KeepSignatures = true },
			"retired 1, link 5, read 5, make 1--5, make 2--5, make 3--5, make 4--5, make 5--3, make 5--4, remove 1--2, remove 3--2, remove 4--2"},
		{"a retired image that is not near", func(w *world) { delete(w.images, image1) },
			func(p *plan.Policy) { p.KeepSignatures, p.Bases, p.Downgrades = true, 1, false }, "retired 1, remove 1, remove 1--3, remove 1--4, remove 2--4, remove 3--2, remove 4--2, remove 4--3"},
		{"a retired image of which a newer one is a target", func(w *world) { delete(w.images, image3) }, func(p *plan.Policy) { p.KeepSignatures = true },
			"retired 3, make 2--1, make 3--1, make 4--1, remove 3, remove 1--3, remove 2--3, remove 4--3"},
		{"an image left and is signed", func(w *world) { delete(w.images, image1); delete(w.mirror, mirror.SignaturePath(name(image1))) },
			func(p *plan.Policy) { p.KeepSignatures = true }, "retired 1, sign 1, remove 1"},
		{"an image left and is not signed", func(w *world) { delete(w.images, image1); delete(w.mirror, mirror.SignaturePath(name(image1))) },
			nil, "remove 1, remove 1--2, remove 1--3, remove 1--4"},
		{"an image left and its signature is damaged", func(w *world) {
			delete(w.images, image1)
			w.mirror[mirror.SignaturePath(name(image1))] = &fstest.MapFile{Data: []byte("x")}
		}, func(p *plan.Policy) { p.KeepSignatures = true }, "retired 1, sign 1, remove 1"},
		{"an image that waits is signed", func(w *world) {
			delete(w.images, image1)
			delete(w.mirror, mirror.SignaturePath(name(image1)))
			w.orphaned(image1, 60)
		}, func(p *plan.Policy) { p.Grace, p.KeepSignatures = time.Hour, true }, "retired 1, sign 1, wait 1"},
		{"a retired image without a signature and a file", func(w *world) {
			delete(w.images, image1)
			delete(w.mirror, image1)
			delete(w.mirror, mirror.SignaturePath(name(image1)))
		}, func(p *plan.Policy) { p.KeepSignatures = true }, "remove 1, remove 1--2, remove 1--3, remove 1--4"},
		{"a retired image without a signature whose file has another size", func(w *world) {
			delete(w.images, image1)
			delete(w.mirror, mirror.SignaturePath(name(image1)))
			w.mirror[image1] = &fstest.MapFile{Data: []byte("x")}
		}, func(p *plan.Policy) { p.KeepSignatures = true }, "remove 1, remove 1--2, remove 1--3, remove 1--4"},
		{"a retired image without a signature whose file is somebody's", func(w *world) {
			delete(w.images, image1)
			delete(w.mirror, mirror.SignaturePath(name(image1)))
			w.records[image1].Placed = false
		}, func(p *plan.Policy) { p.KeepSignatures = true }, "remove 1--2, remove 1--3, remove 1--4, leave 1"},
		{"a retired image of which nothing is known", func(w *world) { delete(w.images, image1); w.records[image1] = &state.Record{Placed: true} },
			func(p *plan.Policy) { p.KeepSignatures = true }, "remove 1, remove 1--2, remove 1--3, remove 1--4"},
		{"a retired image is not wanted any more", func(w *world) { delete(w.images, image1); delete(w.mirror, image1) }, nil, "remove 1, remove 1--2, remove 1--3, remove 1--4"},
		{"one image of each day is kept", nil, func(p *plan.Policy) { p.Keep.Daily = 9 }, "remove 1, remove 1--2, remove 1--3, remove 1--4"},
		{"an image that is not kept waits", nil, func(p *plan.Policy) { p.Keep.Daily, p.Grace = 9, time.Hour }, "wait 1, wait 1--2, wait 1--3, wait 1--4"},
		{"an image that is not kept and its signature stays", nil, func(p *plan.Policy) { p.Keep.Daily, p.KeepSignatures = 9, true }, "retired 1, remove 1"},
		{"an image that is not kept is unusable", func(w *world) { w.images[image1] = &fstest.MapFile{} },
			func(p *plan.Policy) { p.Keep.Last = 3 }, "remove 1, remove 1--2, remove 1--3, remove 1--4"},
		{"an image that another series keeps", func(w *world) {
			w.series = []meta.SeriesConfig{{Name: "amd64", Images: names(image1, image2)}, {Name: "puavo-os-amxa-buster-amd64", Images: names(image1, image2, image3, image4)}}
			w.records["amd64.json"] = &state.Record{}
		}, func(p *plan.Policy) { p.Keep.Last, p.KeepSignatures = 2, true },
			"make 2--1, remove 1--3, remove 1--4, remove 2--3, remove 2--4, remove 3--2, remove 4--2"},
		{"a retired image came back", func(w *world) { delete(w.mirror, image1) }, func(p *plan.Policy) { p.KeepSignatures = true }, "link 1"},
		{"an image left a moment ago", func(w *world) { delete(w.images, image1) }, func(p *plan.Policy) { p.Grace = time.Hour }, "wait 1, wait 1--2, wait 1--3, wait 1--4"},
		{"an image left less than the grace ago", func(w *world) { delete(w.images, image1); w.orphaned(image1, 3599) }, func(p *plan.Policy) { p.Grace = time.Hour }, "wait 1, wait 1--2, wait 1--3, wait 1--4"},
		{"the grace is over for an image", func(w *world) { delete(w.images, image1); w.orphaned(image1, 3600) }, func(p *plan.Policy) { p.Grace = time.Hour }, "remove 1, wait 1--2, wait 1--3, wait 1--4"},
		{"an image left a moment ago and its signature stays", func(w *world) { delete(w.images, image1) }, func(p *plan.Policy) { p.Grace, p.KeepSignatures = time.Hour, true }, "retired 1, wait 1"},
		{"an image that left is not listed any more", func(w *world) {
			delete(w.images, image1)
			delete(w.mirror, "CKSUMS")
			w.orphaned(image1, 7200)
		}, func(p *plan.Policy) { p.Grace, p.KeepSignatures = time.Hour, true }, "retired 1, remove 1"},
		{"an image came back within the grace", func(w *world) { w.orphaned(image1, 60) }, func(p *plan.Policy) { p.Grace = time.Hour }, ""},
		{"meta has no grace", func(w *world) { w.records["old.json"] = &state.Record{}; w.mirror["meta/old.json"] = &fstest.MapFile{} },
			func(p *plan.Policy) { p.Grace = time.Hour }, "remove meta/old.json"},
		{"foreign files stay", func(w *world) {
			for _, f := range []string{"README", "index.html", "rdiffs/notes", "rdiffs/x.rdiff", "meta/extra.json", "ltsp.img", other, ".checksums/x"} {
				w.mirror[f] = &fstest.MapFile{Data: []byte("x")}
			}
		}, nil, ""},
		{"without records nothing is removed", func(w *world) {
			w.records = nil
			delete(w.images, image1)
			w.mirror[other] = &fstest.MapFile{Data: []byte("x")}
			w.mirror["meta/old.json"] = &fstest.MapFile{Data: []byte("x")}
			w.mirror["meta/foreign.json"] = &fstest.MapFile{Data: []byte("x")}
			w.mirror["CKSUMS"] = &fstest.MapFile{Data: []byte("1 2 " + image1 + "\n1 2 README\n1 2 " + meta.DeltaName(name(image1), name(image2)) + "\n")}
			w.documents = []string{"old.json"}
		}, nil, "read 2, read 3, read 4, check 2--3, check 2--4, check 3--2, check 3--4, check 4--2, check 4--3, leave meta/old.json, leave 1, leave 1--2"},
		{"without records what is to be taken over is removed", func(w *world) {
			w.records = nil
			delete(w.images, image1)
			w.mirror["meta/old.json"] = &fstest.MapFile{Data: []byte("x")}
			w.mirror["meta/foreign.json"] = &fstest.MapFile{Data: []byte("x")}
			w.documents, w.adopt = []string{"old.json"}, true
		}, nil, "read 2, read 3, read 4, check 2--3, check 2--4, check 3--2, check 3--4, check 4--2, check 4--3, remove meta/old.json, remove 1, remove 1--2, remove 1--3, remove 1--4"},
		{"an image that was not placed stays", func(w *world) { delete(w.images, image1); w.records[image1].Placed = false }, nil,
			"remove 1--2, remove 1--3, remove 1--4, leave 1"},
		{"a file in the way of an image", func(w *world) {
			w.images[other] = &fstest.MapFile{Data: []byte("x")}
			w.mirror[other] = &fstest.MapFile{Data: []byte("y"), ModTime: now}
		}, nil, "check other, read other"},
		{"an image of the same size is new", func(w *world) {
			w.images[image4] = &fstest.MapFile{Data: []byte(strings.ToUpper(image4)), ModTime: w.images[image4].ModTime.Add(1)}
		}, nil, "check 4, compare 4, await 1--4, await 2--4, await 3--4, await 4--2, await 4--3"},
	} {
		w, p := built(), usual
		if c.change != nil {
			c.change(w)
		}
		if c.policy != nil {
			c.policy(&p)
		}
		plan, err := w.plan(p)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if got := brief(plan); got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.name, got, c.want)
		}
		again, _ := w.plan(p)
		if fmt.Sprint(plan) != fmt.Sprint(again) {
			t.Errorf("%s: another plan the second time", c.name)
		}
	}
}

// A series that contradicts itself is left out, and the others are planned; nothing
// of it is removed.
func TestPlanFails(t *testing.T) {
	twin := "puavo-os-free-buster-2022-01-20-173248-amd64.img"
	for _, c := range []struct {
		name   string
		change func(*world)
		failed string
		err    error
		says   string
		want   string // the rest of the plan
	}{
		{"two deltas of one name", func(w *world) {
			w.images[twin] = &fstest.MapFile{Data: []byte("x")}
			w.series = []meta.SeriesConfig{
				{Name: "a", Images: names(image3, image4)},
				{Name: "b", Images: names(twin), Extra: map[meta.Name][]meta.Name{name(twin): names(image3)}},
			}
		}, "b", plan.ErrConfig, "would have the same name", "remove meta/amd64.json, remove 1, remove 2, remove 1--2, remove 1--3, remove 1--4, remove 2--3, remove 2--4, remove 3--2, remove 4--2"},
		{"an image that is not there", func(w *world) {
			delete(w.images, image1)
			w.series = []meta.SeriesConfig{{Name: "a", Images: names(image1, image2)}, {Name: "b", Images: names(image3, image4)}}
		}, "a", plan.ErrConfig, image1 + " is not in the image directory", "remove meta/amd64.json"},
		{"a base that is not there", func(w *world) {
			w.series = []meta.SeriesConfig{
				{Name: "a", Images: names(image3, image4)},
				{Name: "b", Images: names(image2), Extra: map[meta.Name][]meta.Name{name(image2): names(other)}},
			}
		}, "b", plan.ErrConfig, "extra_rdiffs of " + image2, "remove meta/amd64.json"},
		{"one version twice", func(w *world) {
			w.images[twin] = &fstest.MapFile{Data: []byte("x")}
			w.series = []meta.SeriesConfig{{Name: "a", Images: names(image3, image4)}, {Name: "b", Images: names(image4, twin)}}
		}, "b", plan.ErrInput, "have the same version", "remove meta/amd64.json"},
		{"an empty image", func(w *world) { w.images[other] = &fstest.MapFile{} }, "puavo-os-free-buster-amd64", plan.ErrInput, "is empty", ""},
	} {
		w := built()
		c.change(w)
		plan, err := w.plan(usual)
		if err != nil || len(plan.Failed) != 1 {
			t.Errorf("%s: %+v, %v", c.name, plan.Failed, err)
			continue
		}
		f := plan.Failed[0]
		if f.Name != c.failed || !errors.Is(f.Err, c.err) || !strings.Contains(f.Reason, c.says) || f.Reason != f.Err.Error() {
			t.Errorf("%s: %+v", c.name, f)
		}
		if got := brief(plan); got != c.want || len(plan.Series) != 1 {
			t.Errorf("%s: %d series, %s", c.name, len(plan.Series), got)
		}
	}
}

// The plan tells of each image why it is kept; a series of which none is kept fails.
func TestPlanChoices(t *testing.T) {
	keep := usual
	keep.Keep = plan.Retention{Last: 1, Daily: 3}
	w := built()
	w.series = []meta.SeriesConfig{{Name: "a", Images: names(image1, image2, image3, image4)}}
	p, err := w.plan(keep)
	want := fmt.Sprint([]plan.Choice{
		{File: image1, Reasons: []string{}}, {File: image2, Reasons: []string{"daily"}},
		{File: image3, Reasons: []string{"daily"}}, {File: image4, Reasons: []string{"last", "daily"}},
	})
	if err != nil || len(p.Series) != 1 || fmt.Sprint(p.Series[0].Choices) != want || !slices.Equal(p.Series[0].Images, []string{image2, image3, image4}) {
		t.Errorf("%v, got %+v\nwant %s", err, p.Series, want)
	}
	if !slices.Equal(w.series[0].Images, names(image1, image2, image3, image4)) {
		t.Error("the series of the input was changed")
	}
	keep.Keep = plan.Retention{Last: -1}
	p, err = w.plan(keep)
	if err != nil || len(p.Failed) != 1 || !errors.Is(p.Failed[0].Err, plan.ErrConfig) || !strings.Contains(p.Failed[0].Reason, "keep none of the 4 images of the series") {
		t.Errorf("%v, %+v", err, p.Failed)
	}
}

// Two series can share an image; its deltas are made once.
func TestPlanSharedImages(t *testing.T) {
	w := built()
	w.records["release.json"], w.records["devel.json"] = &state.Record{}, &state.Record{}
	delete(w.records, "puavo-os-amxa-buster-amd64.json")
	w.series = []meta.SeriesConfig{
		{Name: "devel", Images: names(image1, image2, image3, image4)},
		{Name: "release", Images: names(image2, image4)},
	}
	plan, err := w.plan(usual)
	if err != nil || brief(plan) != "" || len(plan.Series) != 2 || len(plan.Deltas) != 9 {
		t.Fatalf("%s, %v", brief(plan), err)
	}
	if got := plan.Series[1].Deltas[image4]; len(got) != 1 || got[0] != meta.DeltaName(name(image2), name(image4)) {
		t.Errorf("deltas of %s in release: %v", image4, got)
	}
}
