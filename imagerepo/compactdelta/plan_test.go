package compactdelta

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo/internal/state"
	"puavo-image-repository/imagerepo/plan"
	"puavo-image-repository/meta"
)

// published returns an image of a series of which the digest is n, with rdiff deltas of these
// sizes from others.
func publishedImage(file string, n byte, size int64, rdiffs map[string]int64) meta.Image {
	im := meta.Image{Name: name(file), File: meta.File{Sums: cksum.Sums{Size: size, BLAKE3: cksum.Digest256{n}}}}
	for _, base := range []string{image1, image2, image3, image4} {
		if size := rdiffs[base]; size > 0 {
			im.Diffs = append(im.Diffs, meta.Diff{File: meta.File{Sums: cksum.Sums{Size: size}}, Filename: meta.DeltaName(name(base), im.Name), Base: name(base)})
		}
	}
	return im
}

// What is wanted is made, the largest saving first, unless it is there, or was dropped for the
// same images.
func TestPlan(t *testing.T) {
	target := publishedImage(image4, 4, 1000, map[string]int64{image1: 300, image2: 200, image3: 200})
	docs := []meta.Series{{Name: series, Images: []meta.Image{
		publishedImage(image1, 1, 900, nil), publishedImage(image2, 2, 950, nil),
		publishedImage(image3, 3, 980, map[string]int64{image1: 500}), target,
	}}}
	has := func(base string) []meta.Series {
		s, im := docs[0], target
		im.Compact = []meta.Compact{{Filename: compactOf(base, image4), Base: name(base), File: meta.File{Sums: cksum.Sums{Size: 50}}}}
		s.Images = append(append([]meta.Image(nil), s.Images[:3]...), im)
		return []meta.Series{s}
	}
	dropped := func(base, target byte) map[string]*state.Record {
		return map[string]*state.Record{compactOf(image1, image4): {Base: cksum.Digest256{base}, Target: cksum.Digest256{target}, Dropped: true, Sums: cksum.Sums{Size: 280}}}
	}
	twice := append(has(image3), meta.Series{Name: "puavo-os-second-amd64", Images: docs[0].Images})
	newest := plan.Compact{Mode: plan.CompactNewest}
	for _, c := range []struct {
		name    string
		docs    []meta.Series
		records map[string]*state.Record
		policy  plan.Compact
		globs   plan.Globs
		want    string // base, action, size and rival of each
	}{
		{"nothing wanted", docs, nil, plan.Compact{}, nil, ""},
		{"nothing published", nil, nil, newest, nil, ""},
		{"newest", docs, nil, newest, nil, "1 make 0 300, 2 make 0 200, 3 make 0 200"},
		{"with a full one", docs, nil, plan.Compact{Mode: plan.CompactNewest, Full: true}, nil, "1 make 0 300, - make 0 1000, 2 make 0 200, 3 make 0 200"},
		{"a full one", docs, nil, plan.Compact{Full: true}, nil, "- make 0 1000"},
		{"all", docs, nil, plan.Compact{Mode: plan.CompactAll}, nil, "1 make 0 500, 1 make 0 300, 2 make 0 200, 3 make 0 200"},
		{"one is there", has(image1), nil, newest, nil, "2 make 0 200, 3 make 0 200, 1 keep 50 300"},
		{"one was dropped", docs, dropped(1, 4), newest, nil, "2 make 0 200, 3 make 0 200, 1 drop 280 300"},
		{"for another base", docs, dropped(2, 4), newest, nil, "1 make 0 300, 2 make 0 200, 3 make 0 200"},
		{"for another target", docs, dropped(1, 3), newest, nil, "1 make 0 300, 2 make 0 200, 3 make 0 200"},
		{"it was not dropped", docs, map[string]*state.Record{compactOf(image1, image4): {Base: cksum.Digest256{1}, Target: cksum.Digest256{4}}}, newest, nil,
			"1 make 0 300, 2 make 0 200, 3 make 0 200"},
		{"in two series", twice, nil, newest, nil, "1 make 0 300, 2 make 0 200, 3 keep 50 200"},
		{"of one series", twice, nil, newest, plan.Globs{"*second*"}, "1 make 0 300, 2 make 0 200, 3 keep 50 200"},
		{"of no series", twice, nil, newest, plan.Globs{"x*"}, ""},
		{"without rdiff deltas", []meta.Series{{Images: []meta.Image{publishedImage(image1, 1, 900, nil), publishedImage(image4, 4, 1000, nil)}}}, nil, newest, nil, "1 make 0 1000"},
	} {
		wanted, images := decided(c.docs, c.records, c.policy, c.globs)
		p := newPlan(wanted, images, limits{memory: 1 << 30, cores: 2})
		var got []string
		for _, d := range p.Deltas {
			base := "-"
			if !d.isFull() {
				base = fmt.Sprint(d.base.BLAKE3[0])
			}
			got = append(got, fmt.Sprintf("%s %s %d %d", base, d.Action, d.Size, d.Rival))
			if (d.Need != nil) != (d.Action == plan.Make) {
				t.Errorf("%s: %s needs %+v", c.name, d.File, d.Need)
			}
		}
		if s := strings.Join(got, ", "); s != c.want {
			t.Errorf("%s: %s, want %s", c.name, s, c.want)
		}
	}
}

// Memory that is short takes cores first, and then from the index.
func TestNeed(t *testing.T) {
	const gib, mib = 1 << 30, 1 << 20
	for _, c := range []struct {
		name               string
		memory             int64
		cores              int
		base, target, size int64
		rate               float64
		index              int64
		use                int
		most               int64
	}{
		{"enough", 8 * gib, 4, 3 * gib / 2, 3 * gib / 2, 250 * mib, 0, 256 * mib, 4, 48*mib + 768*mib},
		{"large images", 8 * gib, 4, 10 * gib, 10 * gib, gib, 0, 2 * gib, 4, 48*mib + 2*gib + 128*mib},
		{"small images", 8 * gib, 4, mib, mib, 10, 0, 64 * mib, 4, 48*mib + 768*mib},
		{"no base", 8 * gib, 1, 0, gib, gib, 0, 64 * mib, 1, 48*mib + 192*mib},
		{"fewer cores", 700 * mib, 8, gib, gib, mib, 0, 256 * mib, 3, 48*mib + 576*mib},
		{"a smaller index", 700 * mib, 1, 10 * gib, 10 * gib, mib, 0, 512 * mib, 1, 48*mib + 512*mib + 32*mib},
		{"the least", MinMemory(), 8, 10 * gib, 10 * gib, mib, 0, 128 * mib, 1, MinMemory()},
		{"a known rate", gib, 1, gib, gib, 0, gib, 256 * mib, 1, 48*mib + 288*mib},
	} {
		d := Delta{base: cksum.Sums{Size: c.base}, target: cksum.Sums{Size: c.target}}
		d.Rival = c.size
		n := limits{memory: c.memory, cores: c.cores, rate: c.rate}.need(&d)
		if n.index != c.index || n.cores != c.use || n.Memory != c.most || n.Memory > c.memory {
			t.Errorf("%s: index %d, %d cores, %d in all; want %d, %d, %d", c.name, n.index>>20, n.cores, n.Memory>>20, c.index>>20, c.use, c.most>>20)
		}
		want := float64(n.work) / (usualRate * float64(c.use))
		if c.rate > 0 {
			want = float64(n.work) / c.rate
		}
		if n.Seconds != want || n.Scratch < c.base*2+c.target*2+c.size {
			t.Errorf("%s: %v seconds, want %v; %d MiB of scratch", c.name, n.Seconds, want, n.Scratch>>20)
		}
	}
	all := []Delta{{Need: &Need{Seconds: 2, Scratch: 5, Memory: 7}}, {}, {Need: &Need{Seconds: 3, Scratch: 4, Memory: 9}}}
	if e := (limits{free: 11, time: time.Minute}).estimate(all); e != (Estimate{Seconds: 5, Limit: 60, Scratch: 5, Memory: 9, Free: 11}) {
		t.Errorf("%+v", e)
	}
}
