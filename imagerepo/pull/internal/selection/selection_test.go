package selection

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"puavo-image-repository/cksum"
	"puavo-image-repository/meta"
)

// image returns an image of a series, of the given day and size. deltas are the days of bases,
// with the sizes of the deltas.
func image(prefix string, day int, size int64, deltas map[int]int64) meta.Image {
	im := meta.Image{Name: nameOf(prefix, day), File: meta.File{Sums: cksum.Sums{Size: size}}}
	for _, base := range slices.Sorted(maps.Keys(deltas)) {
		b := nameOf(prefix, base)
		im.Diffs = append(im.Diffs, meta.Diff{File: meta.File{Sums: cksum.Sums{Size: deltas[base]}}, Filename: meta.DeltaName(b, im.Name), Base: b})
	}
	return im
}

func nameOf(prefix string, day int) meta.Name {
	return meta.Name{Prefix: prefix, Version: fmt.Sprintf("2024-01-%02d-120000", day), Arch: "amd64"}
}

// compact gives an image compact deltas: from the days of bases, where 0 is none, with their
// sizes.
func compact(im meta.Image, deltas map[int]int64) meta.Image {
	for _, day := range slices.Sorted(maps.Keys(deltas)) {
		var base meta.Name
		if day > 0 {
			base = nameOf(im.Name.Prefix, day)
		}
		im.Compact = append(im.Compact, meta.Compact{File: meta.File{Sums: cksum.Sums{Size: deltas[day]}}, Filename: meta.CompactName(base, im.Name), Base: base})
	}
	return im
}

// withCompact is the first of two, whose newest image has compact deltas.
func withCompact() []meta.Series {
	s := two()[:1]
	s[0].Images[3] = compact(s[0].Images[3], map[int]int64{0: 75, 1: 5, 2: 2, 3: 1})
	return s
}

// two are two series: a has images of the days 1 to 4, b of day 9.
func two() []meta.Series {
	return []meta.Series{
		{Name: "a-amd64", Images: []meta.Image{
			image("a", 1, 100, nil), image("a", 2, 100, map[int]int64{1: 10, 4: 30}),
			image("a", 3, 100, map[int]int64{1: 40, 2: 20, 4: 25}), image("a", 4, 100, map[int]int64{1: 50, 2: 20, 3: 10}),
		}},
		{Name: "b-amd64", Images: []meta.Image{image("b", 9, 200, nil)}},
	}
}

// short describes series: each image by prefix and day, with the days of its bases.
func short(series []meta.Series) string {
	var all []string
	day := func(n meta.Name) string { return strings.TrimLeft(n.Version[8:10], "0") }
	for _, s := range series {
		for _, im := range s.Images {
			text := im.Name.Prefix + day(im.Name)
			for _, d := range im.Diffs {
				text += "<" + day(d.Base)
			}
			for _, c := range im.Compact {
				text += "*"
				if c.Base != (meta.Name{}) {
					text += day(c.Base)
				}
			}
			all = append(all, text)
		}
	}
	return strings.Join(all, " ")
}

func TestChoose(t *testing.T) {
	for _, c := range []struct {
		name   string
		policy Policy
		want   string
	}{
		{"nothing said", Policy{}, "a1 a2 a3 a4 b9"},
		{"all", Policy{Deltas: All}, "a1 a2<1<4 a3<1<2<4 a4<1<2<3 b9"},
		{"a series", Policy{Series: []string{"b-*"}, Deltas: All}, "b9"},
		{"several globs", Policy{Series: []string{"x", "a-*", "b-amd64"}}, "a1 a2 a3 a4 b9"},
		{"no such series", Policy{Series: []string{"x"}}, ""},
		{"newest", Policy{Images: 2, Deltas: All}, "a3<1<2<4 a4<1<2<3 b9"},
		{"more than there are", Policy{Images: 9}, "a1 a2 a3 a4 b9"},
		{"since", Policy{Since: "2024-01-03"}, "a3 a4 b9"},
		{"since a moment later", Policy{Since: "2024-01-03-120001"}, "a4 b9"},
		{"the nearest base", Policy{Deltas: 1}, "a1 a2<1 a3<2 a4<3 b9"},
		{"two bases", Policy{Deltas: 2}, "a1 a2<1<4 a3<1<2 a4<2<3 b9"},
		{"in use", Policy{Images: 1, Uses: Uses{"a-2024-01-02-120000-amd64": 3}}, "a2 a4 b9"},
		{"in use, by version", Policy{Images: 1, Deltas: 1, Uses: Uses{"20240101120000": 3}}, "a1 a4<1<3 b9"},
		{"in use, without deltas", Policy{Images: 1, Uses: Uses{"20240101120000": 3}}, "a1 a4 b9"},
		{"in use by none", Policy{Images: 1, Uses: Uses{"20240101120000": 0}}, "a4 b9"},
	} {
		if got := short(c.policy.Choose(two())); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
	s := two()
	Policy{Images: 1, Deltas: 1}.Choose(s)
	if short(s) != short(two()) {
		t.Error("it changed what it chose from")
	}
	for want, p := range map[bool]Policy{true: {Deltas: All}, false: {Deltas: All, Since: "2024"}} {
		if p.IsWhole() != want || (Policy{Deltas: 3}).IsWhole() || (Policy{Deltas: All, Images: 3}).IsWhole() || (Policy{Deltas: All, Series: []string{"*"}}).IsWhole() {
			t.Errorf("IsWhole of %+v", p)
		}
	}
}

// Compact deltas are chosen as deltas are.
func TestChooseCompact(t *testing.T) {
	for _, c := range []struct {
		name   string
		policy Policy
		want   string
	}{
		{"all", Policy{Deltas: All}, "a1 a2<1<4 a3<1<2<4 a4<1<2<3**1*2*3"},
		{"no deltas", Policy{}, "a1 a2 a3 a4"},
		{"the nearest base", Policy{Deltas: 1}, "a1 a2<1 a3<2 a4<3**3"},
		{"a base in use", Policy{Images: 1, Deltas: 1, Uses: Uses{"20240101120000": 3}}, "a1 a4<1<3**1*3"},
	} {
		if got := short(c.policy.Choose(withCompact())); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// Compact deltas go first, those that no device needs before the others.
func TestFitCompact(t *testing.T) {
	whole := Bytes(withCompact())
	if whole != 400+205+83 {
		t.Fatalf("%d bytes", whole)
	}
	const deltas = "a1 a2<1<4 a3<1<2<4 a4<1<2<3"
	for _, c := range []struct {
		name    string
		uses    Uses
		most    int64
		want    string
		dropped int
	}{
		{"room", nil, whole, deltas + "**1*2*3", 0},
		{"a byte is short", nil, whole - 1, deltas + "*1*2*3", 1},
		{"more", nil, whole - 76, deltas + "*2*3", 2},
		{"used bases stay", Uses{"20240101120000": 1}, whole - 78, deltas + "*1", 3},
		{"bytes for each device", Uses{"20240101120000": 9, "20240102120000": 1, "20240103120000": 1}, whole - 76, deltas + "*1*3", 2},
		{"all of them", nil, whole - 83, deltas, 4},
		{"deltas after them", nil, whole - 84, "a1 a2<1<4 a3<1<2<4 a4<2<3", 5},
		{"an image and all to it", nil, 300, "a2 a3 a4", 13},
	} {
		got, dropped := Fit(withCompact(), c.uses, c.most)
		if short(got) != c.want || len(dropped) != c.dropped {
			t.Errorf("%s: %q and %+v, want %q", c.name, short(got), dropped, c.want)
		}
		n := Bytes(got)
		for _, d := range dropped {
			if n += d.Size; d.Reason == "" || d.File == "" {
				t.Errorf("%s: %+v", c.name, d)
			}
		}
		if n != whole {
			t.Errorf("%s: %d bytes are left and dropped", c.name, n)
		}
	}
}

func TestFit(t *testing.T) {
	whole := Bytes(two())
	if whole != 600+205 {
		t.Fatalf("%d bytes", whole)
	}
	for _, c := range []struct {
		name    string
		uses    Uses
		most    int64
		want    string
		dropped int
	}{
		{"room", nil, whole, "a1 a2<1<4 a3<1<2<4 a4<1<2<3 b9", 0},
		{"a byte is short", nil, whole - 1, "a1 a2<1<4 a3<1<2<4 a4<2<3 b9", 1}, // the largest
		{"used bases stay", Uses{"20240101120000": 1}, whole - 1, "a1 a2<1 a3<1<2<4 a4<1<2<3 b9", 1},
		{"bytes for each device", Uses{"20240101120000": 10, "20240102120000": 1, "20240103120000": 1, "20240104120000": 1}, whole - 1, "a1 a2<1 a3<1<2<4 a4<1<2<3 b9", 1},
		{"all deltas", nil, 600, "a1 a2 a3 a4 b9", 8},
		{"images", nil, 599, "a2 a3 a4 b9", 9},
		{"images in use stay", Uses{"20240101120000": 1}, 599, "a1 a3 a4 b9", 9},
		{"the newest stay", nil, 0, "a4 b9", 11},
		{"no device", nil, 400, "a3 a4 b9", 10},
	} {
		got, dropped := Fit(two(), c.uses, c.most)
		if short(got) != c.want || len(dropped) != c.dropped {
			t.Errorf("%s: %q and %+v, want %q", c.name, short(got), dropped, c.want)
		}
		n := Bytes(got)
		for _, d := range dropped {
			if n += d.Size; d.Reason == "" || d.File == "" {
				t.Errorf("%s: %+v", c.name, d)
			}
		}
		if n != whole {
			t.Errorf("%s: %d bytes are left and dropped", c.name, n)
		}
	}
}

func TestWays(t *testing.T) {
	all := two()[0].Images
	for _, c := range []struct {
		name    string
		missing []meta.Image
		here    string
		want    string
	}{
		{"nothing is missing", nil, "", ""},
		{"one, with its base", all[3:], "a3", "a4<3"},
		{"the delta that comes anyway", all[3:], "a1 a3 a1-4", "a4<1"},
		{"of those the smaller", all[3:], "a1 a2 a3 a1-4 a2-4", "a4<2"},
		{"no base is here", all[3:], "", "a4"},
		{"all of them", all, "", "a1 a2<1 a3<2 a4<3"},
		{"a cycle", all[1:], "", "a2 a3<2 a4<3"},
		{"older ones of a newer", all[1:3], "a4", "a3<4 a2<4"},
		{"a delta as large as the image", []meta.Image{image("a", 4, 10, map[int]int64{3: 10})}, "a3", "a4"},
		{"a delta from itself", []meta.Image{image("a", 4, 10, map[int]int64{4: 1})}, "a4", "a4"},
	} {
		here := func(file string) bool {
			return slices.ContainsFunc(strings.Fields(c.here), func(s string) bool {
				var from, to int
				if n, _ := fmt.Sscanf(s, "a%d-%d", &from, &to); n == 2 {
					return file == meta.DeltaPath(meta.DeltaName(nameOf("a", from), nameOf("a", to)))
				}
				fmt.Sscanf(s, "a%d", &from)
				return file == nameOf("a", from).String()
			})
		}
		series := meta.Series{}
		for _, way := range (Sourcing{Missing: c.missing, Here: here}).Ways() {
			im := meta.Image{Name: way.Image}
			if way.Diff != nil {
				im.Diffs = []meta.Diff{*way.Diff}
			}
			series.Images = append(series.Images, im)
		}
		if got := short([]meta.Series{series}); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestPairs(t *testing.T) {
	all := two()[0].Images
	for _, c := range []struct {
		name           string
		images         []meta.Image
		targets, bases int
		have           string
		want           string
	}{
		{"none", nil, 3, All, "", ""},
		{"one image", all[:1], 3, All, "", ""},
		{"all", all[:3], 3, All, "", "2>1 3>1 1>2 3>2 2>3 1>3"},
		{"the newest", all, 1, All, "", "3>4 2>4 1>4"},
		{"the nearest", all, 2, 1, "", "2>3 3>4"},
		{"the oldest has those that follow", all[:2], 3, 1, "", "2>1 1>2"},
		{"no bases", all, 2, 0, "", ""},
		{"those that are there", all, 1, All, "2>4", "3>4 1>4"},
		{"another prefix", []meta.Image{all[0], image("b", 9, 1, nil)}, 3, All, "", ""},
	} {
		var got []string
		text := func(p Pair) string {
			return strings.TrimLeft(p.Base.Version[8:10], "0") + ">" + strings.TrimLeft(p.Target.Version[8:10], "0")
		}
		for _, p := range Pairs(c.images, c.targets, c.bases, func(p Pair) bool { return text(p) == c.have }) {
			got = append(got, text(p))
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}
