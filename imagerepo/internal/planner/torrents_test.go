package planner

import (
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"puavo-image-repository/imagerepo/internal/mirror"
	"puavo-image-repository/imagerepo/internal/state"
	"puavo-image-repository/imagerepo/internal/torrents"
	"puavo-image-repository/imagerepo/plan"
	"puavo-image-repository/meta"
)

var ofAll = plan.Torrents{Of: plan.TorrentsOfAll, Seeds: []string{"https://a"}}

// torrent puts the torrent of a file into the mirror, as w.torrents wants it.
func (w *world) torrent(file string) {
	name := mirror.TorrentOf(file)
	w.mirror[mirror.PathOf(name)] = &fstest.MapFile{Data: []byte("torrent")}
	w.records[name] = &state.Record{
		Stamp: w.stamp(w.mirror, mirror.PathOf(name)), Sums: sums(7, 77), Target: w.records[file].Sums.BLAKE3, Base: torrents.DigestOf(w.torrents),
	}
}

// briefTorrents is what a plan does about torrents.
func briefTorrents(p plan.Plan) string {
	short := strings.NewReplacer("puavo-os-amxa-buster-", "", "-amd64", "", "2021-04-13-192449", "1", "2021-04-13-193910", "2", "2022-01-17-120001", "3", "2022-01-20-173248", "4", "2022-02-01-120000", "5")
	var all []string
	for _, t := range p.Torrents {
		if t.Read {
			all = append(all, "read "+t.File)
		} else if t.Action != plan.Keep {
			all = append(all, string(t.Action)+" "+t.File)
		}
	}
	for _, r := range p.Remove {
		if strings.HasSuffix(r.Path, ".torrent") {
			verb := "remove "
			if !r.Due.IsZero() {
				verb = r.Due.Sub(now).String() + " "
			}
			all = append(all, verb+strings.TrimPrefix(r.Path, "torrents/"))
		}
	}
	for _, path := range p.Unowned {
		all = append(all, "leave "+path)
	}
	return short.Replace(strings.Join(all, ", "))
}

func TestTorrents(t *testing.T) {
	policy := plan.Policy{Targets: 1, Downgrades: true, Grace: time.Minute}
	delta14 := meta.DeltaName(name(image1), name(image4))
	for _, c := range []struct {
		name   string
		change func(w *world)
		want   string
	}{
		{"all are right", func(*world) {}, ""},
		{"none, and there were some", func(w *world) { w.torrents = plan.Torrents{} },
			"1m0s 1--4.rdiff.torrent, 1m0s 1.img.torrent, 1m0s 2--4.rdiff.torrent, 1m0s 2.img.torrent, 1m0s 3--4.rdiff.torrent, 1m0s 3.img.torrent, 1m0s 4.img.torrent"},
		{"deltas alone", func(w *world) { w.torrents.Of = plan.TorrentsOfDeltas }, "1m0s 1.img.torrent, 1m0s 2.img.torrent, 1m0s 3.img.torrent, 1m0s 4.img.torrent"},
		{"another seed", func(w *world) { w.torrents.Seeds = []string{"https://b"} },
			"make 1--4.rdiff, make 1.img, make 2--4.rdiff, make 2.img, make 3--4.rdiff, make 3.img, make 4.img"},
		{"one is gone", func(w *world) { delete(w.mirror, mirror.PathOf(mirror.TorrentOf(image2))) }, "read 2.img"},
		{"one has no record", func(w *world) { delete(w.records, mirror.TorrentOf(delta14)) }, "read 1--4.rdiff"},
		{"a new image", func(w *world) { w.images[image5] = &fstest.MapFile{Data: []byte("5")} },
			"make 1--5.rdiff, make 2--5.rdiff, make 3--5.rdiff, make 4--5.rdiff, make 5.img, 1m0s 1--4.rdiff.torrent, 1m0s 2--4.rdiff.torrent, 1m0s 3--4.rdiff.torrent"},
		{"an image left", func(w *world) { delete(w.images, image1) }, "1m0s 1--4.rdiff.torrent, 1m0s 1.img.torrent"},
		{"an image left before", func(w *world) {
			delete(w.images, image1)
			w.orphaned(image1, 40)
			w.orphaned(mirror.TorrentOf(image1), 39)
			w.orphaned(delta14, 59)
		}, "1s 1--4.rdiff.torrent, 20s 1.img.torrent"},
		{"an image goes, and its torrent became an orphan later", func(w *world) {
			delete(w.images, image1)
			w.orphaned(image1, 60)
			w.orphaned(mirror.TorrentOf(image1), 10)
		}, "1m0s 1--4.rdiff.torrent, remove 1.img.torrent"},
		{"somebody's", func(w *world) {
			w.torrents.Of = plan.TorrentsOfDeltas
			for _, file := range []string{image1, image2, image3, image4} {
				delete(w.records, mirror.TorrentOf(file))
			}
		}, ""},
		{"of a series that fails", func(w *world) {
			w.series = []meta.SeriesConfig{{Name: "puavo-os-amxa-buster-amd64", Images: []meta.Name{name(image5)}}}
			w.torrents = plan.Torrents{}
		}, ""},
		{"an overwritten delta", func(w *world) { w.mirror[meta.DeltaPath(delta14)].Data = make([]byte, 11) }, "make 1--4.rdiff"},
		{"an image that was touched", func(w *world) { w.images[image4].ModTime = now }, ""},
	} {
		w := built()
		w.torrents = ofAll
		for _, file := range []string{image1, image2, image3, image4} {
			w.torrent(file)
			if file != image4 {
				w.torrent(meta.DeltaName(name(file), name(image4)))
			}
		}
		c.change(w)
		p, err := w.plan(policy)
		if err != nil {
			t.Fatal(err)
		}
		if got := briefTorrents(p); got != c.want {
			t.Errorf("%s:\n%s\nwant\n%s", c.name, got, c.want)
		}
		if !slices.IsSortedFunc(p.Torrents, func(a, b plan.Torrent) int { return strings.Compare(a.File, b.File) }) {
			t.Errorf("%s: not sorted", c.name)
		}
		var read, work int64
		for _, f := range p.Torrents {
			if f.Read {
				read += f.Size
			}
		}
		without := p
		without.Torrents = nil
		work = Work(p, 1) - Work(without, 1)
		if read > 0 != (work > 0) || Remaining(p)-Remaining(without) != read {
			t.Errorf("%s: %d bytes to read are %d units of work", c.name, read, work)
		}
	}
}
