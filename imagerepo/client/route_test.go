package client_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo/client"
	"puavo-image-repository/meta"
)

func file(size int64) meta.File { return meta.File{Sums: cksum.Sums{Size: size}} }

// edge is a delta of a series in a test.
type edge struct {
	base, target string
	size         int64
}

// testSeries is a series of these images, all of size, with these deltas.
func testSeries(size int64, images []string, edges []edge) *meta.Series {
	s := new(meta.Series)
	for _, im := range images {
		m := meta.Image{Name: name(im), File: file(size)}
		for _, e := range edges {
			if e.target == im {
				m.Diffs = append(m.Diffs, meta.Diff{File: file(e.size), Base: name(e.base), Filename: meta.DeltaName(name(e.base), m.Name)})
			}
		}
		s.Images = append(s.Images, m)
	}
	return s
}

func local(image string, size int64) client.LocalImage {
	return client.LocalImage{Name: name(image), File: image, Size: size}
}

// tell writes a route as the versions on the way: "full" or the base first.
func tell(r client.Route) string {
	short := func(n meta.Name) string { return n.Version[len("2021-04-"):] }
	words := []string{"nothing"}
	if r.Base != (client.LocalImage{}) {
		words[0] = short(r.Base.Name)
	}
	for _, s := range r.Steps {
		word := short(s.Image.Name)
		if s.Diff == nil {
			word = "full " + word
		}
		words = append(words, word)
	}
	return strings.Join(words, " > ")
}

func TestChooseRoute(t *testing.T) {
	const size = 64000 // so that the disk work of a step is 1000
	const a, b, c, d = "os-2021-04-01-000000-x.img", "os-2021-04-02-000000-x.img", "os-2021-04-03-000000-x.img", "os-2021-04-04-000000-x.img"
	images := []string{a, b, c, d}
	full := func(n string) string { return "nothing > full " + n }
	const A, B, C, D = "01-000000", "02-000000", "03-000000", "04-000000"
	for _, tt := range []struct {
		name   string
		edges  []edge
		have   []client.LocalImage
		target string
		limits client.Limits
		want   string // "" for none
	}{
		{"nothing there", []edge{{a, d, 10}}, nil, d, client.Limits{}, full(D)},
		{"no deltas", nil, []client.LocalImage{local(a, size)}, d, client.Limits{}, full(D)},
		{"one delta", []edge{{a, d, 10}}, []client.LocalImage{local(a, size)}, d, client.Limits{}, A + " > " + D},
		{"of several the one that is there", []edge{{a, d, 10}, {b, d, 20}}, []client.LocalImage{local(b, size), local(c, size)}, d, client.Limits{}, B + " > " + D},
		{"by bytes, not by age", []edge{{a, d, 15}, {b, d, 10}, {c, d, 20}}, []client.LocalImage{local(a, size), local(b, size), local(c, size)}, d, client.Limits{}, B + " > " + D},
		{"two in a row", []edge{{a, c, 10}, {c, d, 10}}, []client.LocalImage{local(a, size)}, d, client.Limits{}, A + " > " + C + " > " + D},
		{"three in a row", []edge{{a, b, 10}, {b, c, 10}, {c, d, 10}, {a, c, 3000}, {b, d, 3000}}, []client.LocalImage{local(a, size)}, d, client.Limits{}, A + " > " + B + " > " + C + " > " + D},
		{"a row that saves less than its disk work", []edge{{a, c, 10}, {c, d, 10}, {a, d, 1000}}, []client.LocalImage{local(a, size)}, d, client.Limits{}, A + " > " + D},
		{"a row that saves more", []edge{{a, c, 10}, {c, d, 10}, {a, d, 1021}}, []client.LocalImage{local(a, size)}, d, client.Limits{}, A + " > " + C + " > " + D},
		{"of equals the one with fewer steps", []edge{{a, c, 10}, {c, d, 10}, {a, d, 1020}}, []client.LocalImage{local(a, size)}, d, client.Limits{}, A + " > " + D},
		{"a row limited to one step", []edge{{a, c, 10}, {c, d, 10}}, []client.LocalImage{local(a, size)}, d, client.Limits{Steps: 1}, full(D)},
		{"a row limited to two steps", []edge{{a, b, 10}, {b, c, 10}, {c, d, 10}, {a, c, 3000}}, []client.LocalImage{local(a, size)}, d, client.Limits{Steps: 2}, A + " > " + C + " > " + D},
		{"a delta as large as the image", []edge{{a, d, size}}, []client.LocalImage{local(a, size)}, d, client.Limits{}, full(D)},
		{"a delta nearly as large", []edge{{a, d, size - 1}}, []client.LocalImage{local(a, size)}, d, client.Limits{}, A + " > " + D},
		{"a base of another size", []edge{{a, d, 10}, {b, d, 20}}, []client.LocalImage{local(a, size+1), local(b, 0)}, d, client.Limits{}, full(D)},
		{"a base that the series does not have", []edge{{other, d, 10}}, []client.LocalImage{local(other, 12345)}, d, client.Limits{Downgrades: true}, "04-140532 > " + D},
		{"a delta that failed", []edge{{a, d, 10}, {b, d, 20}}, []client.LocalImage{local(a, size), local(b, size)}, d,
			client.Limits{Failed: map[string]bool{deltaFile(a, d): true}}, B + " > " + D},
		{"the full image failed", nil, nil, d, client.Limits{Failed: map[string]bool{d: true}}, ""},
		{"the full image failed, and there is no base", []edge{{a, d, 10}}, nil, d, client.Limits{Failed: map[string]bool{d: true}}, ""},
		{"all failed", []edge{{a, d, 10}}, []client.LocalImage{local(a, size)}, d, client.Limits{Failed: map[string]bool{d: true, deltaFile(a, d): true}}, ""},
		{"a downgrade", []edge{{d, b, 10}}, []client.LocalImage{local(d, size)}, b, client.Limits{}, full(B)},
		{"a downgrade that is wanted", []edge{{d, b, 10}}, []client.LocalImage{local(d, size)}, b, client.Limits{Downgrades: true}, D + " > " + B},
		{"a way up and down", []edge{{a, d, 10}, {d, b, 10}}, []client.LocalImage{local(a, size)}, b, client.Limits{Downgrades: true}, A + " > " + D + " > " + B},
		{"made by an earlier run", []edge{{a, d, 10}}, []client.LocalImage{local(a, size), {Name: name(d), File: d + ".tmp", Size: size}}, d, client.Limits{}, D},
		{"a circle", []edge{{a, b, 1}, {b, a, 1}, {b, c, 1}, {c, b, 1}}, []client.LocalImage{local(a, size)}, d, client.Limits{Downgrades: true}, full(D)},
		{"sizes that overflow", []edge{{a, b, math.MaxInt64}, {b, c, math.MaxInt64}, {c, d, math.MaxInt64}}, []client.LocalImage{local(a, size)}, d, client.Limits{}, full(D)},
	} {
		series := testSeries(size, images, tt.edges)
		target, _ := series.Image(name(tt.target))
		r, ok := client.ChooseRoute(series, target, tt.have, tt.limits)
		got := ""
		if ok {
			got = tell(r)
		}
		if got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

// The words for a route are those of messages.
func TestRouteString(t *testing.T) {
	series := testSeries(100, []string{image1, image2, image3}, []edge{{image1, image2, 10}, {image2, image3, 20}})
	im := func(n string) *meta.Image { i, _ := series.Image(name(n)); return i }
	full := client.Step{Image: im(image1)}
	first := client.Step{Image: im(image2), Diff: &im(image2).Diffs[0]}
	second := client.Step{Image: im(image3), Diff: &im(image3).Diffs[0]}
	for _, c := range []struct {
		route client.Route
		bytes int64
		want  string
	}{
		{client.Route{Base: local(image1, 100)}, 0, "what an earlier run has made"},
		{client.Route{Steps: []client.Step{full}}, 100, fromFull},
		{client.Route{Base: local(image1, 100), Steps: []client.Step{first}}, 10, "the delta from " + image1},
		{client.Route{Base: local(image1, 100), Steps: []client.Step{first, second}}, 30, "2 deltas in a row from " + image1},
	} {
		if got := c.route.String(); got != c.want || c.route.Bytes() != c.bytes {
			t.Errorf("%q of %d bytes, want %q of %d", got, c.route.Bytes(), c.want, c.bytes)
		}
	}
}

// No way is cheaper than the one that is chosen: all are tried on small series.
func TestChooseRouteIsCheapest(t *testing.T) {
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 1))
		var images []string
		for i := range 2 + rng.IntN(4) {
			images = append(images, fmt.Sprintf("os-2021-04-0%d-000000-x.img", i+1))
		}
		var edges []edge
		for _, b := range images {
			for _, target := range images {
				if b != target && rng.IntN(2) == 0 {
					edges = append(edges, edge{b, target, rng.Int64N(3000)})
				}
			}
		}
		series := testSeries(64000, images, edges)
		var have []client.LocalImage
		for _, im := range images[1:] {
			if rng.IntN(4) == 0 {
				have = append(have, local(im, 64000))
			}
		}
		limits := client.Limits{Downgrades: rng.IntN(2) == 0, Steps: rng.IntN(4)}
		target := &series.Images[0]
		got, ok := client.ChooseRoute(series, target, have, limits)
		want := cheapest(series, target.Name, have, limits, map[meta.Name]bool{}, len(images))
		if !ok && !math.IsInf(want, 1) || ok && cost(got) != want {
			t.Errorf("seed %d: %s costs %v, want %v", seed, tell(got), cost(got), want)
		}
	}
}

func cost(r client.Route) (sum float64) {
	for _, s := range r.Steps {
		sum += float64(s.Image.Sums.Size) / 64
	}
	return sum + float64(r.Bytes())
}

// cheapest goes all ways back from an image, none in a circle.
func cheapest(series *meta.Series, image meta.Name, have []client.LocalImage, l client.Limits, seen map[meta.Name]bool, steps int) float64 {
	if l.Steps > 0 {
		steps = min(steps, l.Steps)
	}
	for _, h := range have {
		if h.Name == image {
			return 0
		}
	}
	if steps == 0 || seen[image] {
		return math.Inf(1)
	}
	seen[image] = true
	defer delete(seen, image)
	im, _ := series.Image(image)
	best := math.Inf(1)
	if image == series.Images[0].Name { // the one that is wanted
		best = float64(im.Sums.Size)
	}
	for _, d := range im.Diffs {
		if l.Downgrades || d.Base.Version <= im.Name.Version {
			next := l
			next.Steps = steps - 1
			if steps-1 > 0 || isThere(have, d.Base) {
				best = min(best, float64(d.Sums.Size)+cheapest(series, d.Base, have, next, seen, max(steps-1, 0)))
			}
		}
	}
	return best + float64(im.Sums.Size)/64
}

func isThere(have []client.LocalImage, n meta.Name) bool {
	for _, h := range have {
		if h.Name == n {
			return true
		}
	}
	return false
}
