package client_test

import (
	"log/slog"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"puavo-image-repository/imagerepo"
	"puavo-image-repository/imagerepo/client"
	"puavo-image-repository/imagerepo/plan"
	"puavo-image-repository/meta"
	"puavo-image-repository/testdata"
)

const fromChain = "2 deltas in a row from " + chain1

// Over several deltas in a row an image is made whose images on the way are never
// seen, and where that does not work it is made otherwise.
func TestChain(t *testing.T) {
	first, second := deltaFile(chain1, chain2), deltaFile(chain2, chain3)
	for _, c := range []struct {
		name  string
		bad   func(path string) fault
		disk  int // bytes, 0 for enough
		have  []string
		route string
		asked []string
	}{
		{"two in a row", nil, 0, []string{chain1}, fromChain, []string{first, second}},
		{"one is enough", nil, 0, []string{chain1, chain2}, from(chain2), []string{second}},
		{"the first is missing", only(first, status(http.StatusNotFound)), 0, []string{chain1}, fromFull, []string{first, chain3}},
		{"the second is missing", only(second, status(http.StatusNotFound)), 0, []string{chain1}, fromFull, []string{first, second, chain3}},
		{"the first is wrong", only(first, body(flip)), 0, []string{chain1}, fromFull, []string{first, first, chain3}},
		{"the second is wrong", only(second, body(flip)), 0, []string{chain1}, fromFull, []string{first, second, second, chain3}},
		{"no room for the image on the way", nil, 24 << 20, []string{chain1}, fromFull, []string{chain3}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSite(t, "chain", c.bad)
			p := newPlace(t)
			if c.disk > 0 {
				p.dir = testdata.SmallDisk(t, c.disk)
			}
			for _, image := range c.have {
				p.write(image, imageData(image))
			}
			want := p.files()
			o := p.options(s.URL, "")
			var done, total int64
			o.Progress = func(d, of int64) {
				if _, err := os.Lstat(filepath.Join(p.dir, chain2)); err == nil && !slices.Contains(c.have, chain2) {
					t.Error("an image on the way has its name")
				}
				done, total = d, of
			}
			result, err := client.Update(t.Context(), o)
			if err != nil || result.Route.String() != c.route {
				t.Fatalf("by %s, %v; want it by %s", result.Route, err, c.route)
			}
			want[chain3] = imageText(chain3)
			p.want(want)
			if done != total || total != int64(len(result.Route.Steps)*9<<20) {
				t.Errorf("progress ends with %d of %d", done, total)
			}
			asked := slices.DeleteFunc(s.asked(), func(path string) bool { return strings.HasSuffix(path, ".json") })
			if !slices.Equal(asked, c.asked) {
				t.Errorf("fetched %q, want %q", asked, c.asked)
			}
		})
	}
}

// A plan tells the way that an update goes then, and changes nothing.
func TestPlan(t *testing.T) {
	for _, c := range []struct {
		name   string
		mirror string
		have   []string
		image  string
		link   string
		want   []string // the ways, nil for up to date
	}{
		{"a delta", "all", []string{image3}, "", "", []string{from(image3), fromFull}},
		{"deltas in a row", "chain", []string{chain1}, "", "", []string{fromChain, fromFull}},
		{"no image is there", "all", nil, image4, "", []string{fromFull}},
		{"up to date", "all", []string{image4}, "", "", nil},
		{"newer than the mirror", "early", []string{image4}, "", "", nil},
		{"there, but not the default", "all", []string{image4}, "", defaultLink, []string{}},
		{"older, and named", "all", []string{image4}, image3, "", []string{from(image4), "2 deltas in a row from " + image4, fromFull}},
	} {
		for way, open := range access {
			t.Run(c.name+"/"+way, func(t *testing.T) {
				p := newPlace(t, c.have...)
				o := p.options(open(t, c.mirror), c.image)
				o.DefaultLink = c.link
				before := p.everything()
				plan, err := client.NewPlan(t.Context(), o)
				if err != nil || plan.UpToDate != (c.want == nil) || plan.Disabled || plan.Available <= 0 {
					t.Fatalf("%+v, %v", plan, err)
				}
				var ways []string
				for _, w := range plan.Candidates {
					ways = append(ways, w.String())
					if w.Fetch != w.Bytes() || w.Disk < w.Steps[len(w.Steps)-1].Image.Sums.Size || len(w.Files) != len(w.Steps) {
						t.Errorf("%+v", w)
					}
				}
				if !slices.Equal(ways, c.want) {
					t.Errorf("ways %q, want %q", ways, c.want)
				}
				if !maps.Equal(p.everything(), before) {
					t.Error("the directory was changed")
				}
				result, err := client.Update(t.Context(), o)
				if err != nil || result.UpToDate != plan.UpToDate || result.Image != plan.Image && !plan.UpToDate || len(ways) > 0 && result.Route.String() != ways[0] {
					t.Errorf("then %+v, %v", result, err)
				}
			})
		}
	}
}

// What an earlier run has made counts in a plan.
func TestPlanResumed(t *testing.T) {
	p, s := newPlace(t, huge1), newBreaking(t)
	o := p.options(s.URL, huge2)
	plan := func() client.Candidate { return must(client.NewPlan(t.Context(), o)).Candidates[0] }
	whole := plan()
	s.limit.Store(7 << 20)
	o.Patience.Attempts = 1
	if _, err := client.Update(t.Context(), o); err == nil {
		t.Fatal("it was not cut off")
	}
	if left := plan(); left.Fetch > whole.Fetch-(5<<20) || left.Disk > whole.Disk-(5<<20) || left.Fetch <= 0 || left.Disk <= 0 {
		t.Errorf("%d bytes to fetch and %d of the disk, before %d and %d", left.Fetch, left.Disk, whole.Fetch, whole.Disk)
	}
}

// everything returns all that is in the directory.
func (p *place) everything() map[string]string {
	all := p.files()
	for _, f := range []string{lockFile, ".image_updates_known"} {
		if data, err := os.ReadFile(filepath.Join(p.dir, f)); err == nil {
			all[f] = string(data)
		}
	}
	return all
}

// A list tells which images are there and which the mirror has; to verify them they
// are read.
func TestListAndVerify(t *testing.T) {
	p := newPlace(t, image1, image3, big1)
	p.write(image2, flip(imageData(image2)))
	p.write(image4, imageData(image4)[1:])
	if err := os.Link(filepath.Join(p.dir, image3), filepath.Join(p.dir, defaultLink)); err != nil {
		t.Fatal(err)
	}
	for way, open := range access {
		o := p.options(open(t, "all"), "")
		o.DefaultLink = defaultLink
		tell := func(all []client.Listed, err error) (lines []string) {
			if err != nil {
				t.Fatalf("%s: %v", way, err)
			}
			for _, l := range all {
				line := l.Name.String() + " " + string(l.State)
				for word, holds := range map[string]bool{" there": l.Local, " offered": l.Offered, " default": l.Default} {
					if holds {
						line += word
					}
				}
				words := strings.Fields(line)
				slices.Sort(words[1:])
				lines = append(lines, strings.Join(words, " "))
			}
			return lines
		}
		os.Remove(filepath.Join(p.dir, ".image_updates_known"))
		want := []string{image1 + " offered there", image2 + " offered there", image3 + " default offered there", image4 + " offered there wrong", big1 + " there", other + " offered"}
		if got := tell(client.List(t.Context(), o)); !slices.Equal(got, want) {
			t.Errorf("%s: list %q, want %q", way, got, want)
		}
		want = []string{image1 + " offered right there", image2 + " offered there wrong", image3 + " default offered right there", image4 + " offered there wrong", big1 + " there"}
		if got := tell(client.Verify(t.Context(), o)); !slices.Equal(got, want) {
			t.Errorf("%s: verify %q, want %q", way, got, want)
		}
		want = append(want, other+" offered")
		if got := tell(client.List(t.Context(), o)); !slices.Equal(got, want) {
			t.Errorf("%s: list after verify %q, want %q", way, got, want)
		}
	}
}

// An older image is not made of a series in which all images have got other names.
func TestRenamed(t *testing.T) {
	const inUse, older = "puavo-os-old-buster-2024-01-01-000000-amd64.img", "puavo-os-new-buster-2020-01-01-000000-amd64.img"
	source, mirror := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(source, older), random(1000), 0o666); err != nil {
		t.Fatal(err)
	}
	_, _, err := imagerepo.Build(t.Context(), imagerepo.Options{
		ImageDir: source, MirrorDir: mirror, Jobs: 1, NoSync: true, Log: slog.New(slog.DiscardHandler),
		Config: plan.Config{Series: []meta.SeriesConfig{{Name: name(inUse).Series(), Images: []meta.Name{name(older)}}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	p := newPlace(t)
	p.write(inUse, random(1000))
	want := p.files()
	if result, err := p.update(mirror, ""); err != nil || !result.UpToDate {
		t.Errorf("%+v, %v", result, err)
	}
	if plan, err := client.NewPlan(t.Context(), p.options(mirror, "")); err != nil || !plan.UpToDate {
		t.Errorf("%+v, %v", plan, err)
	}
	p.want(want)
}
