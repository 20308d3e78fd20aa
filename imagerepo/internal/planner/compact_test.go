package planner

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo/internal/mirror"
	"puavo-image-repository/imagerepo/internal/state"
	"puavo-image-repository/imagerepo/plan"
	"puavo-image-repository/meta"
)

// seriesOf returns a series of images, each of 100 times its number of bytes; deltas are bases
// and targets, as in 12, each of its number of bytes.
func seriesOf(name string, images []int, deltas ...int) meta.Series {
	s := meta.Series{Name: name}
	number := func(i int) meta.Name {
		return meta.Name{Prefix: "os", Version: fmt.Sprintf("2024-01-%02d-120000", i), Arch: "amd64"}
	}
	for _, i := range images {
		im := meta.Image{Name: number(i), File: meta.File{Sums: cksum.Sums{Size: int64(100 * i)}}}
		for _, d := range deltas {
			if d%10 == i {
				im.Diffs = append(im.Diffs, meta.Diff{Base: number(d / 10), File: meta.File{Sums: cksum.Sums{Size: int64(d)}}})
			}
		}
		s.Images = append(s.Images, im)
	}
	return s
}

func TestCompact(t *testing.T) {
	a := seriesOf("a", []int{1, 2, 3}, 13, 23, 31, 21)
	b := seriesOf("b", []int{2, 3}, 23)
	other := seriesOf("c", []int{1, 3})
	other.Images[1].Name.Prefix = "oz"
	for _, c := range []struct {
		name   string
		series []meta.Series
		policy plan.Compact
		want   string // base>target rival series
	}{
		{"none", []meta.Series{a}, plan.Compact{}, ""},
		{"no series", nil, plan.Compact{Mode: plan.CompactAll, Full: true}, ""},
		{"no images", []meta.Series{{Name: "a"}}, plan.Compact{Mode: plan.CompactNewest, Full: true}, ""},
		{"newest", []meta.Series{a}, plan.Compact{Mode: plan.CompactNewest}, "1>3 13 a, 2>3 23 a"},
		{"newest, without rdiffs", []meta.Series{seriesOf("a", []int{1, 2, 3})}, plan.Compact{Mode: plan.CompactNewest}, "1>3 300 a, 2>3 300 a"},
		{"all", []meta.Series{a}, plan.Compact{Mode: plan.CompactAll}, "1>3 13 a, 2>1 21 a, 2>3 23 a, 3>1 31 a"},
		{"all, from a base that left", []meta.Series{seriesOf("a", []int{2, 3}, 13, 23)}, plan.Compact{Mode: plan.CompactAll}, "2>3 23 a"},
		{"all, from a base of another series", []meta.Series{seriesOf("a", []int{3}, 13), seriesOf("b", []int{1})}, plan.Compact{Mode: plan.CompactAll}, "1>3 13 a"},
		{"one image, without a base", []meta.Series{seriesOf("a", []int{1})}, plan.Compact{Mode: plan.CompactNewest, Full: true}, ">1 100 a"},
		{"without a base alone", []meta.Series{a}, plan.Compact{Full: true}, ">3 300 a"},
		{"both", []meta.Series{a}, plan.Compact{Mode: plan.CompactNewest, Full: true}, "1>3 13 a, 2>3 23 a, >3 300 a"},
		{"two series with one newest", []meta.Series{b, a}, plan.Compact{Mode: plan.CompactNewest, Full: true}, "1>3 13 a, 2>3 23 a b, >3 300 a b"},
		{"two targets with one name", []meta.Series{a, other}, plan.Compact{Mode: plan.CompactNewest}, "1>3 13 a, 2>3 23 a"},
	} {
		var all []string
		for _, w := range Compact(c.series, c.policy) {
			day := func(n meta.Name) string {
				if n == (meta.Name{}) {
					return ""
				}
				return strings.TrimLeft(n.Version[8:10], "0")
			}
			if w.File != meta.CompactName(w.Base, w.Target) || w.Target.Prefix != "os" || w.Action != "" {
				t.Errorf("%s: %+v", c.name, w)
			}
			all = append(all, fmt.Sprintf("%s>%s %d %s", day(w.Base), day(w.Target), w.Rival, strings.Join(w.Series, " ")))
		}
		if got := strings.Join(all, ", "); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// compact puts a compact delta into the mirror, without a base if that is "".
func (w *world) compact(base, target string) string {
	var from meta.Name
	r := &state.Record{Sums: sums(7, 98), Target: w.records[target].Sums.BLAKE3, Compact: state.Compact{Memory: 1}}
	if base != "" {
		from, r.Base = name(base), w.records[base].Sums.BLAKE3
	}
	f := meta.CompactName(from, name(target))
	w.mirror[meta.CompactPath(f)] = &fstest.MapFile{Data: []byte("compact")}
	r.Stamp = w.stamp(w.mirror, meta.CompactPath(f))
	w.records[f] = r
	return f
}

// briefCompact is what a plan does about compact deltas and their torrents.
func briefCompact(p plan.Plan) string {
	short := strings.NewReplacer("puavo-os-amxa-buster-", "", "-amd64", "", "2021-04-13-192449", "1", "2021-04-13-193910", "2", "2022-01-17-120001", "3", "2022-01-20-173248", "4", "2022-02-01-120000", "5", ".cdelta", "")
	var all []string
	for _, c := range p.Compact {
		if c.Action != plan.Keep {
			all = append(all, string(c.Action)+" "+c.File)
		}
	}
	for _, t := range p.Torrents {
		if strings.HasSuffix(t.File, ".cdelta") {
			all = append(all, string(t.Action)+" "+t.File+" torrent")
		}
	}
	for _, r := range p.Remove {
		if strings.Contains(r.Path, ".cdelta") {
			verb := "remove "
			if !r.Due.IsZero() {
				verb = "wait "
			} else if !r.Forget {
				verb = "remove the file of "
			}
			all = append(all, verb+strings.TrimPrefix(r.Path, "compact/"))
		}
	}
	for _, path := range p.Unowned {
		all = append(all, "leave "+path)
	}
	return short.Replace(strings.Join(all, ", "))
}

func TestPlanCompact(t *testing.T) {
	of24, full4 := meta.CompactName(name(image2), name(image4)), meta.CompactName(meta.Name{}, name(image4))
	for _, c := range []struct {
		name   string
		change func(w *world, p *plan.Policy)
		want   string
	}{
		{"nothing to do", nil, ""},
		{"none are wanted any more", func(_ *world, p *plan.Policy) { p.Compact = plan.Compact{} }, "wait 1--4, wait 2--4, wait 3--4, wait 4"},
		{"and the grace is over", func(w *world, p *plan.Policy) {
			p.Compact = plan.Compact{}
			w.orphaned(of24, 60)
		}, "wait 1--4, remove 2--4, wait 3--4, wait 4"},
		{"without a base no more", func(_ *world, p *plan.Policy) { p.Compact.Full = false }, "wait 4"},
		{"all", func(_ *world, p *plan.Policy) { p.Compact.Mode = plan.CompactAll }, "make 1--2, make 1--3, make 2--3, make 3--2, make 4--2, make 4--3"},
		{"a new image", func(w *world, _ *plan.Policy) { w.images[image5] = &fstest.MapFile{Data: []byte("5")} },
			"make 1--5, make 2--5, make 3--5, make 4--5, make 5, wait 1--4, wait 2--4, wait 3--4, wait 4"},
		{"an image left", func(w *world, _ *plan.Policy) { delete(w.images, image1) }, "wait 1--4"},
		{"the newest left", func(w *world, _ *plan.Policy) { delete(w.images, image4) }, "make 1--3, make 2--3, make 3, wait 1--4, wait 2--4, wait 3--4, wait 4"},
		{"an image was replaced", func(w *world, _ *plan.Policy) { w.images[image4] = &fstest.MapFile{Data: []byte("another")} },
			"await 1--4, await 2--4, await 3--4, await 4"},
		{"an image was touched", func(w *world, _ *plan.Policy) {
			w.images[image2] = &fstest.MapFile{Data: []byte(image2), ModTime: w.images[image2].ModTime.Add(1)}
			w.mirror[image2] = w.images[image2]
		}, "await 2--4"},
		{"one is missing", func(w *world, _ *plan.Policy) { delete(w.mirror, meta.CompactPath(of24)) }, "make 2--4, wait 2--4"},
		{"one was changed", func(w *world, _ *plan.Policy) { w.mirror[meta.CompactPath(of24)].Data = []byte("x") }, "check 2--4"},
		{"one is of another base", func(w *world, _ *plan.Policy) { w.records[of24].Base[1]++ }, "make 2--4, wait 2--4"},
		{"one was dropped", func(w *world, _ *plan.Policy) {
			delete(w.mirror, meta.CompactPath(of24))
			w.records[of24].Dropped = true
		}, "drop 2--4"},
		{"one was dropped, and one of before is there", func(w *world, _ *plan.Policy) { w.records[of24].Dropped = true }, "drop 2--4, wait 2--4"},
		{"one was dropped for another base", func(w *world, _ *plan.Policy) {
			delete(w.mirror, meta.CompactPath(of24))
			w.records[of24].Dropped = true
			w.records[of24].Base[1]++
		}, "make 2--4, wait 2--4"},
		{"a record is missing", func(w *world, _ *plan.Policy) { delete(w.records, of24); w.listed = []string{of24} }, "check 2--4"},
		{"it is somebody's", func(w *world, _ *plan.Policy) { delete(w.records, of24) }, "make 2--4"},
		{"one that nothing wants is somebody's, and listed", func(w *world, p *plan.Policy) {
			delete(w.records, full4)
			p.Compact.Full, w.listed = false, []string{full4}
		}, "leave compact/4"},
		{"it is somebody's, and adopted", func(w *world, _ *plan.Policy) { delete(w.records, of24); w.adopt = true }, "check 2--4"},
		{"it is damaged", func(w *world, _ *plan.Policy) { w.suspect = []string{meta.CompactPath(of24)} }, "make 2--4, remove 2--4"},
		{"with torrents", func(w *world, _ *plan.Policy) {
			w.torrents = plan.Torrents{Of: plan.TorrentsOfDeltas, Seeds: []string{"https://a"}}
			w.torrent(of24)
			delete(w.mirror, meta.CompactPath(full4))
		}, "make 4, make 1--4 torrent, keep 2--4 torrent, make 3--4 torrent, wait 4"},
		{"it is damaged, with a torrent", func(w *world, _ *plan.Policy) {
			w.torrents = plan.Torrents{Of: plan.TorrentsOfDeltas, Seeds: []string{"https://a"}}
			w.torrent(of24)
			w.suspect = []string{meta.CompactPath(of24)}
		}, "make 2--4, make 1--4 torrent, make 3--4 torrent, make 4 torrent, remove 2--4, remove torrents/2--4.torrent"},
		{"from a base of a series that fails", func(w *world, p *plan.Policy) {
			p.Compact = plan.Compact{Mode: plan.CompactAll}
			w.images[other] = &fstest.MapFile{Data: []byte("x")}
			w.mirror[other] = w.images[other]
			w.records[other] = &state.Record{Stamp: w.stamp(w.images, other), Sums: sums(1, 55), Conf: map[string]json.RawMessage{}, Placed: true}
			w.torrents = plan.Torrents{Of: plan.TorrentsOfDeltas, Seeds: []string{"https://a"}}
			w.torrent(w.compact(other, image4))
			amxa := meta.SeriesConfig{Name: "puavo-os-amxa-buster-amd64", Images: names(image4), Extra: map[meta.Name][]meta.Name{name(image4): names(other)}}
			w.series = []meta.SeriesConfig{amxa, {Name: "puavo-os-free-buster-amd64", Images: names(other, "puavo-os-free-buster-2022-03-01-120000-amd64.img")}}
			w.published = []meta.Series{{Name: "puavo-os-free-buster-amd64", Images: []meta.Image{{Name: name(other)}}}}
		}, "keep puavo-os-free-buster-2022-02-04-140532--4 torrent, wait 1--4, wait 2--4, wait 3--4, wait 4"},
		{"of a series that fails", func(w *world, p *plan.Policy) {
			w.series = []meta.SeriesConfig{{Name: "puavo-os-amxa-buster-amd64", Images: []meta.Name{name(image5)}}}
			p.Compact = plan.Compact{}
		}, ""},
	} {
		w := built()
		for _, base := range []string{"", image1, image2, image3} {
			w.compact(base, image4)
		}
		p := plan.Policy{Targets: 3, Downgrades: true, Grace: time.Minute, Compact: plan.Compact{Mode: plan.CompactNewest, Full: true}}
		if c.change != nil {
			c.change(w, &p)
		}
		got, err := w.plan(p)
		if err != nil {
			t.Fatal(err)
		}
		if words := briefCompact(got); words != c.want {
			t.Errorf("%s:\n%s\nwant\n%s", c.name, words, c.want)
		}
		if !slices.IsSortedFunc(got.Compact, func(a, b plan.CompactDelta) int { return strings.Compare(a.File, b.File) }) {
			t.Errorf("%s: not sorted", c.name)
		}
	}
}

// A file belongs to the series that its name says, and to those whose documents name it.
func TestFilesOfCompact(t *testing.T) {
	s := seriesOf("a", []int{1, 2})
	target := s.Images[1].Name
	odd := meta.CompactName(meta.Name{Prefix: "odd", Version: "2024-01-01-120000", Arch: "arm64"}, target)
	s.Images[1].Compact = []meta.Compact{{Filename: odd}}
	files := make(Files)
	files.Add(meta.SeriesConfig{Name: "a"}, []meta.Series{s})
	for name, want := range map[string]bool{
		odd: true, mirror.TorrentOf(odd): true, meta.CompactName(meta.Name{}, target): true,
		meta.CompactName(s.Images[0].Name, target): true, "odd-2024-01-01-120000-arm64.cdelta": false, "x.cdelta": false,
	} {
		if files.Has(name) != want {
			t.Errorf("%s: %v", name, !want)
		}
	}
}
