package route

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo/client/internal/imagedir"
	"puavo-image-repository/meta"
)

func file(size int64) meta.File { return meta.File{Sums: cksum.Sums{Size: size}} }

// testDelta is a delta of a series in a test.
type testDelta struct {
	base, target string
	size         int64
}

// testSeries is a series of these images, all of size, with these deltas.
func testSeries(size int64, images []string, edges []testDelta) *meta.Series {
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

// diskWork is how many bytes of an image cost as much in a test as one byte of a delta.
const diskWork = 64

func costOf(im *meta.Image, fetch int64) float64 {
	return float64(fetch) + float64(im.Sums.Size)/diskWork
}

// ways returns all ways of a series: those of its deltas, and the full images.
func ways(s *meta.Series) (all []Way) {
	for i := range s.Images {
		im := &s.Images[i]
		for j := range im.Diffs {
			all = append(all, Way{Step{Image: im, Diff: &im.Diffs[j]}, costOf(im, im.Diffs[j].Sums.Size)})
		}
		all = append(all, Way{Step{Image: im}, costOf(im, im.Sums.Size)})
	}
	return all
}

func name(s string) meta.Name {
	n, err := meta.ParseName(s)
	if err != nil {
		panic(err)
	}
	return n
}

func local(image string, size int64) imagedir.Image {
	return imagedir.Image{Name: name(image), File: image, Size: size}
}

// tell writes a route as the versions on the way: "full" or the base first.
func tell(r Route) string {
	short := func(n meta.Name) string { return n.Version[len("2021-04-"):] }
	words := []string{"nothing"}
	if r.Base != (imagedir.Image{}) {
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
		edges  []testDelta
		have   []imagedir.Image
		target string
		most   int
		want   string // "" for none
	}{
		{"nothing there", []testDelta{{a, d, 10}}, nil, d, MaxSteps, full(D)},
		{"no deltas", nil, []imagedir.Image{local(a, size)}, d, MaxSteps, full(D)},
		{"one delta", []testDelta{{a, d, 10}}, []imagedir.Image{local(a, size)}, d, MaxSteps, A + " > " + D},
		{"of several the one that is there", []testDelta{{a, d, 10}, {b, d, 20}}, []imagedir.Image{local(b, size), local(c, size)}, d, MaxSteps, B + " > " + D},
		{"by bytes, not by age", []testDelta{{a, d, 15}, {b, d, 10}, {c, d, 20}}, []imagedir.Image{local(a, size), local(b, size), local(c, size)}, d, MaxSteps, B + " > " + D},
		{"two in a row", []testDelta{{a, c, 10}, {c, d, 10}}, []imagedir.Image{local(a, size)}, d, MaxSteps, A + " > " + C + " > " + D},
		{"three in a row", []testDelta{{a, b, 10}, {b, c, 10}, {c, d, 10}, {a, c, 3000}, {b, d, 3000}}, []imagedir.Image{local(a, size)}, d, MaxSteps, A + " > " + B + " > " + C + " > " + D},
		{"a row that saves less than its disk work", []testDelta{{a, c, 10}, {c, d, 10}, {a, d, 1000}}, []imagedir.Image{local(a, size)}, d, MaxSteps, A + " > " + D},
		{"a row that saves more", []testDelta{{a, c, 10}, {c, d, 10}, {a, d, 1021}}, []imagedir.Image{local(a, size)}, d, MaxSteps, A + " > " + C + " > " + D},
		{"of equals the one with fewer steps", []testDelta{{a, c, 10}, {c, d, 10}, {a, d, 1020}}, []imagedir.Image{local(a, size)}, d, MaxSteps, A + " > " + D},
		{"a row limited to one step", []testDelta{{a, c, 10}, {c, d, 10}}, []imagedir.Image{local(a, size)}, d, 1, full(D)},
		{"a row limited to two steps", []testDelta{{a, b, 10}, {b, c, 10}, {c, d, 10}, {a, c, 3000}}, []imagedir.Image{local(a, size)}, d, 2, A + " > " + C + " > " + D},
		{"a delta as large as the image", []testDelta{{a, d, size}}, []imagedir.Image{local(a, size)}, d, MaxSteps, full(D)},
		{"a delta nearly as large", []testDelta{{a, d, size - 1}}, []imagedir.Image{local(a, size)}, d, MaxSteps, A + " > " + D},
		{"a base that the series does not have", []testDelta{{"os-2020-01-01-140532-x.img", d, 10}}, []imagedir.Image{local("os-2020-01-01-140532-x.img", 12345)}, d, MaxSteps, "01-140532 > " + D},
		{"a downgrade that is wanted", []testDelta{{d, b, 10}}, []imagedir.Image{local(d, size)}, b, MaxSteps, D + " > " + B},
		{"a way up and down", []testDelta{{a, d, 10}, {d, b, 10}}, []imagedir.Image{local(a, size)}, b, MaxSteps, A + " > " + D + " > " + B},
		{"made by an earlier run", []testDelta{{a, d, 10}}, []imagedir.Image{local(a, size), {Name: name(d), File: d + ".tmp", Size: size}}, d, MaxSteps, D},
		{"a circle", []testDelta{{a, b, 1}, {b, a, 1}, {b, c, 1}, {c, b, 1}}, []imagedir.Image{local(a, size)}, d, MaxSteps, full(D)},
		{"sizes that overflow", []testDelta{{a, b, math.MaxInt64}, {b, c, math.MaxInt64}, {c, d, math.MaxInt64}}, []imagedir.Image{local(a, size)}, d, MaxSteps, full(D)},
	} {
		series := testSeries(size, images, tt.edges)
		target, _ := series.Image(name(tt.target))
		r, ok := Choose(target.Name, tt.have, ways(series), tt.most)
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
	const image1, image2, image3 = "os-2021-04-01-000000-x.img", "os-2021-04-02-000000-x.img", "os-2021-04-03-000000-x.img"
	series := testSeries(100, []string{image1, image2, image3}, []testDelta{{image1, image2, 10}, {image2, image3, 20}})
	im := func(n string) *meta.Image { i, _ := series.Image(name(n)); return i }
	full := Step{Image: im(image1)}
	first := Step{Image: im(image2), Diff: &im(image2).Diffs[0]}
	second := Step{Image: im(image3), Diff: &im(image3).Diffs[0]}
	small := Step{Image: im(image2), Compact: &meta.Compact{File: file(3), Base: name(image1)}}
	smaller := Step{Image: im(image3), Compact: &meta.Compact{File: file(4), Base: name(image2)}}
	for _, c := range []struct {
		route Route
		bytes int64
		want  string
	}{
		{Route{Base: local(image1, 100)}, 0, "the partial image of an earlier run"},
		{Route{Steps: []Step{full}}, 100, "the full image"},
		{Route{Base: local(image1, 100), Steps: []Step{first}}, 10, "the delta from " + image1},
		{Route{Base: local(image1, 100), Steps: []Step{first, second}}, 30, "2 deltas in a row from " + image1},
		{Route{Base: local(image1, 100), Steps: []Step{small}}, 3, "the compact delta from " + image1},
		{Route{Steps: []Step{{Image: im(image2), Compact: &meta.Compact{File: file(5)}}}}, 5, "the compact full image"},
		{Route{Base: local(image1, 100), Steps: []Step{small, second}}, 23, "2 deltas in a row from " + image1 + ", 1 of them compact"},
		{Route{Base: local(image1, 100), Steps: []Step{small, smaller}}, 7, "2 deltas in a row from " + image1 + ", all compact"},
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
		var edges []testDelta
		for _, b := range images {
			for _, target := range images {
				if b != target && rng.IntN(2) == 0 {
					edges = append(edges, testDelta{b, target, rng.Int64N(3000)})
				}
			}
		}
		series := testSeries(64000, images, edges)
		var have []imagedir.Image
		for _, im := range images[1:] {
			if rng.IntN(4) == 0 {
				have = append(have, local(im, 64000))
			}
		}
		most := rng.IntN(4)
		target := &series.Images[0]
		got, ok := Choose(target.Name, have, ways(series), most)
		want := cheapest(series, target.Name, have, map[meta.Name]bool{}, most)
		if !ok && !math.IsInf(want, 1) || ok && cost(got) != want {
			t.Errorf("seed %d: %s costs %v, want %v", seed, tell(got), cost(got), want)
		}
	}
}

func cost(r Route) (sum float64) {
	for _, s := range r.Steps {
		sum += float64(s.Image.Sums.Size) / 64
	}
	return sum + float64(r.Bytes())
}

// cheapest goes all ways back from an image, none in a circle.
func cheapest(series *meta.Series, image meta.Name, have []imagedir.Image, seen map[meta.Name]bool, most int) float64 {
	if isThere(have, image) {
		return 0
	}
	im, _ := series.Image(image)
	best := math.Inf(1)
	if image == series.Images[0].Name { // the one that is wanted
		best = float64(im.Sums.Size)
	}
	if most == 0 || seen[image] {
		return best + float64(im.Sums.Size)/64
	}
	seen[image] = true
	defer delete(seen, image)
	for _, d := range im.Diffs {
		if !seen[d.Base] {
			best = min(best, float64(d.Sums.Size)+cheapest(series, d.Base, have, seen, most-1))
		}
	}
	return best + float64(im.Sums.Size)/64
}

func isThere(have []imagedir.Image, n meta.Name) bool {
	for _, h := range have {
		if h.Name == n {
			return true
		}
	}
	return false
}

// many returns a series of 500 images with all deltas between them. The shorter the
// jump the cheaper, so each round finds better routes.
func many() (target meta.Name, base imagedir.Image, all []Way) {
	const images = 500
	s := new(meta.Series)
	for i := range images {
		s.Images = append(s.Images, meta.Image{Name: meta.Name{Prefix: "os", Version: fmt.Sprintf("2021-04-01-%06d", i), Arch: "x"}, File: file(1 << 20)})
	}
	for i := range s.Images {
		for j := range s.Images {
			if i != j {
				d := meta.Diff{File: file(int64(i-j) * int64(i-j) << 30), Base: s.Images[j].Name}
				s.Images[i].Diffs = append(s.Images[i].Diffs, d)
			}
		}
	}
	s.Images[images-1].Sums.Size = 1 << 60
	return s.Images[images-1].Name, imagedir.Image{Name: s.Images[0].Name, Size: 1 << 20}, ways(s)
}

// A series with as many steps as it likes is bounded.
func TestMany(t *testing.T) {
	target, base, all := many()
	r, ok := Choose(target, []imagedir.Image{base}, all, MaxSteps)
	if !ok || len(r.Steps) != MaxSteps {
		t.Errorf("%d steps, %v", len(r.Steps), ok)
	}
}

// A choice among 250,000 deltas takes some tens of milliseconds.
func BenchmarkMany(b *testing.B) {
	target, base, all := many()
	for b.Loop() {
		Choose(target, []imagedir.Image{base}, all, MaxSteps)
	}
}
