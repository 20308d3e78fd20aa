package client_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"puavo-image-repository/cksum"
	"puavo-image-repository/delta"
	"puavo-image-repository/delta/compact"
	"puavo-image-repository/delta/compact/squashfs"
	"puavo-image-repository/imagerepo/client"
	"puavo-image-repository/meta"
)

const (
	words1 = "puavo-os-words-buster-2022-03-01-000000-amd64.img"
	words2 = "puavo-os-words-buster-2022-03-02-000000-amd64.img"
)

// fromCompact is how a route over one compact delta is called.
func fromCompact(base string) string { return "the compact delta from " + base }

// compactFile is the path of a compact delta in a mirror, "" as base for a full one.
func compactFile(base, target string) string {
	var b meta.Name
	if base != "" {
		b = name(base)
	}
	return meta.CompactPath(meta.CompactName(b, name(target)))
}

// wordsOf returns n bytes of words, always the same, which are a third when compressed.
func wordsOf(n int) []byte {
	r := rand.New(rand.NewPCG(1, 2))
	var all []byte
	for len(all) < n {
		all = fmt.Appendf(all, "%d ", r.IntN(1e6))
	}
	return all[:n]
}

// addCompact makes, of a mirror, another with compact deltas of these pairs of base and
// target, and without its rdiff deltas if these are not kept. Without a base it is a full one.
func addCompact(mirror, as string, keep bool, pairs ...[2]string) {
	dir := mirrorDir(as)
	check(os.CopyFS(dir, os.DirFS(mirror)))
	addCompactTo(dir, keep, pairs...)
}

func addCompactTo(dir string, keep bool, pairs ...[2]string) {
	path := filepath.Join(dir, filepath.FromSlash(meta.SeriesPath(name(pairs[0][1]).Series())))
	s := must(meta.ParseSeries(must(os.ReadFile(path))))
	for i := range s.Images {
		if !keep {
			s.Images[i].Diffs = nil
		}
	}
	for _, p := range pairs {
		im, _ := s.Image(name(p[1]))
		c := makeCompact(dir, p[0], p[1])
		c.URLs = []string{"https://images.example.org/" + compactFile(p[0], p[1])}
		im.Compact = append(im.Compact, c)
	}
	check(os.WriteFile(path, must(s.Encode()), 0o666))
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

// makeCompact makes a compact delta in a mirror, which has the images.
func makeCompact(dir, base, target string) (c meta.Compact) {
	file := filepath.Join(dir, filepath.FromSlash(compactFile(base, target)))
	check(os.MkdirAll(filepath.Dir(file), 0o777))
	image := func(im string) compact.Image {
		if im == "" {
			return compact.Image{}
		}
		data := must(os.ReadFile(filepath.Join(dir, im)))
		return compact.Image{Bytes: data, Blocks: squashfs.Blocks(data)}
	}
	var b bytes.Buffer
	info := must(compact.Encode(context.Background(), &b, image(base), image(target), compact.Options{
		Effort: delta.Fast, Scratch: func() (*os.File, error) {
			f, err := os.CreateTemp("", "")
			os.Remove(f.Name())
			return f, err
		},
	}))
	check(os.WriteFile(file, b.Bytes(), 0o666))
	c = meta.Compact{Filename: filepath.Base(file), Memory: info.Memory, Coded: info.Coded, Unpacked: info.Unpacked}
	c.Sums = must(cksum.Read(context.Background(), &b))
	if base != "" {
		c.Base = name(base)
	}
	return c
}

// By compact deltas comes the same image as by others, over every access to a mirror.
func TestCompactUpdate(t *testing.T) {
	for _, c := range []struct {
		name   string
		mirror string
		have   []string
		image  string
		prefer string
		rate   float64 // that is known
		want   string
		route  string
	}{
		{"the fewest bytes", "compact all", []string{image3}, "", client.PreferTraffic, 0, image4, fromCompact(image3)},
		{"the fewest bytes from the best of several", "compact all", []string{image1, image2, image3}, "", client.PreferTraffic, 0, image4, fromCompact(image3)},
		{"the fewest bytes without a base", "compact all", nil, image4, client.PreferTraffic, 0, image4, "the compact full image"},
		{"a row of both kinds", "compact all", []string{image1}, image3, client.PreferTraffic, 0, image3, "2 deltas in a row from " + image1 + ", 1 of them compact"},
		{"a slow line", "compact all", []string{image3}, "", "", 1000, image4, fromCompact(image3)},
		{"a slow line, by name", "compact all", []string{image3}, "", client.PreferTime, 1000, image4, fromCompact(image3)},
		{"a fast line", "compact all", []string{image3}, "", "", 1e9, image4, from(image3)},
		{"a line that is not known", "compact all", []string{image3}, "", "", 0, image4, from(image3)},
		{"no rdiff delta", "compact huge", []string{huge1}, "", client.PreferTraffic, 0, huge2, fromCompact(huge1)},
		{"two in a row", "compact chain", []string{chain1}, "", "", 1e6, chain3, "2 deltas in a row from " + chain1 + ", all compact"},
		{"downgrades of none", "compact all", []string{image4}, image3, client.PreferTraffic, 0, image3, from(image4)},
	} {
		for way, open := range access {
			t.Run(c.name+"/"+way, func(t *testing.T) {
				p := newPlace(t, c.have...)
				want := p.files()
				if c.rate > 0 {
					p.write(speedFile, fmt.Appendf(nil, `{"rate":%g}`, c.rate))
				}
				o := p.options(open(t, c.mirror), c.image)
				o.Prefer = c.prefer
				plan := must(client.NewPlan(t.Context(), o))
				if first := plan.Candidates[0]; first.Route.String() != c.route || first.Seconds <= 0 || plan.RateKnown != (c.rate > 0) {
					t.Errorf("planned by %s, in %v s at %d, want it by %s", first, first.Seconds, plan.Rate, c.route)
				}
				result, err := client.Update(t.Context(), o)
				if err != nil || result.Image != name(c.want) || result.Route.String() != c.route {
					t.Fatalf("%s by %s, %v; want %s by %s", result.Image, result.Route, err, c.want, c.route)
				}
				want[c.want] = imageText(c.want)
				p.want(want)
				if p.log.Len() > 0 {
					t.Errorf("warnings: %s", &p.log)
				}
			})
		}
	}
}

// Where compact deltas are wrong an rdiff delta is taken, with one line for each.
func TestCompactFaults(t *testing.T) {
	for _, c := range faults {
		t.Run(c.name, func(t *testing.T) {
			p := newPlace(t, image2, image3)
			want := p.files()
			want[image4] = imageText(image4)
			s := newSite(t, "compact all", func(path string) fault {
				if filepath.Ext(path) == ".cdelta" {
					return c.fault
				}
				return nil
			})
			o := p.options(s.URL, "")
			o.Prefer = client.PreferTraffic
			result, err := client.Update(t.Context(), o)
			if err != nil || result.Route.String() != from(image3) {
				t.Errorf("%s, %v", result.Route, err)
			}
			p.want(want)
			if n := strings.Count(p.log.String(), "could not use "+fromCompact(image3)); n != 1 {
				t.Errorf("%d warnings of %s: %s", n, fromCompact(image3), &p.log)
			}
		})
	}
}

// Whatever is wrong with the network, the image is right in the end.
func TestCompactSpoiled(t *testing.T) {
	t.Parallel()
	images := middling()
	mirror := newMirror(t, images)
	addCompactTo(mirror, false, [2]string{middling1, middling2})
	n := newNginx(t, mirror)
	file := compactFile(middling1, middling2)
	for _, c := range spoiled {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			x := newProxy(t, n, only1(file, c.spoil))
			p := newPlace(t)
			p.write(middling1, images[middling1])
			o := hasty(p, x.URL)
			o.Prefer = client.PreferTraffic
			if _, err := client.Update(t.Context(), o); err != nil {
				t.Error(err)
			}
			p.want(asFiles(images))
			by := x.requests(middling2) == 0
			if warned := strings.Contains(p.log.String(), "could not use "+fromCompact(middling1)); by != (c.delta == "") || warned == by {
				t.Errorf("made by the delta: %t: %s", by, &p.log)
			}
			if !c.twice {
				x.wantOnce(file, oneBuffer)
			}
		})
	}
}

// While it is fetched, an rdiff delta is left for a compact one if the line turns out to be
// slow; what was made is kept. That rate is remembered, and the next update begins with the
// compact delta.
func TestCompactIsFaster(t *testing.T) {
	t.Parallel()
	buildMirrors()
	s := newBreakingFor(t, "compact words", dripping(0, 20_000)) // 2 MB a second
	for run, want := range []struct {
		rate   float64 // that is known
		files  []string
		prefer string
	}{
		{1e9, []string{deltaFile(words1, words2), compactFile(words1, words2)}, ""},
		{2e6, []string{compactFile(words1, words2)}, ""},
		{1e9, []string{compactFile(words1, words2)}, client.PreferTraffic},
	} {
		p := newPlace(t, words1)
		p.write(speedFile, fmt.Appendf(nil, `{"rate":%g}`, want.rate))
		before := len(s.asked())
		o := p.options(s.URL, "")
		o.Prefer = want.prefer
		result, err := client.Update(t.Context(), o)
		if err != nil || result.Route.String() != fromCompact(words1) {
			t.Errorf("run %d: %s, %v", run, result.Route, err)
		}
		asked := slices.DeleteFunc(s.asked()[before:], func(path string) bool { return !isPayload(path) })
		if asked = slices.Compact(asked); !slices.Equal(asked, want.files) {
			t.Errorf("run %d asked for %q, want %q", run, asked, want.files)
		}
		p.want(made([]string{words1}, words2))
		var known struct{ Rate float64 }
		if err := json.Unmarshal(must(os.ReadFile(filepath.Join(p.dir, speedFile))), &known); err != nil || known.Rate < 2e5 || known.Rate > 4e6 {
			t.Errorf("run %d: the rate is %v, %v", run, known.Rate, err)
		}
		if p.log.Len() > 0 {
			t.Errorf("run %d: warnings: %s", run, &p.log)
		}
	}
}

// An entry of a format that is not known is as none.
func TestCompactUnknownFormat(t *testing.T) {
	s := newSite(t, "compact all", func(path string) fault {
		if path == series {
			return body(func(b []byte) []byte { return bytes.ReplaceAll(b, []byte(`"format":"1"`), []byte(`"format":"2"`)) })
		}
		return nil
	})
	p := newPlace(t, image3)
	o := p.options(s.URL, "")
	o.Prefer = client.PreferTraffic
	if result, err := client.Update(t.Context(), o); err != nil || result.Route.String() != from(image3) || p.log.Len() > 0 {
		t.Errorf("%s, %v: %s", result.Route, err, &p.log)
	}
}

// A base that the mirror does not list is compared with the digest in the delta.
func TestCompactOtherBase(t *testing.T) {
	s := newSite(t, "compact all", func(path string) fault {
		if path != series {
			return nil
		}
		return func(w http.ResponseWriter, data []byte) {
			all := must(meta.ParseSeries(data))
			all.Images = slices.DeleteFunc(all.Images, func(im meta.Image) bool { return im.Name == name(image3) })
			w.Write(must(all.Encode()))
		}
	})
	for what, c := range map[string]struct {
		data  []byte
		route string
	}{
		"right": {imageData(image3), fromCompact(image3)},
		"wrong": {flip(imageData(image3)), "the compact full image"},
	} {
		p := newPlace(t)
		p.write(image3, c.data)
		o := p.options(s.URL, "")
		o.Prefer = client.PreferTraffic
		if result, err := client.Update(t.Context(), o); err != nil || result.Route.String() != c.route {
			t.Errorf("%s: %s, %v", what, result.Route, err)
		}
		if warned := strings.Contains(p.log.String(), "could not use "+fromCompact(image3)); warned != (what == "wrong") {
			t.Errorf("%s: %s", what, &p.log)
		}
	}
}

// What cannot be preferred is an error that says what can.
func TestPrefer(t *testing.T) {
	p := newPlace(t, image3)
	o := p.options("/none", "")
	o.Prefer = "beauty"
	if _, err := client.Update(t.Context(), o); err == nil || !strings.Contains(err.Error(), "want time or traffic") {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	o = p.options(access["http"](t, "compact all"), "")
	o.Prefer = client.PreferTraffic
	if _, err := client.Update(ctx, o); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if _, err := client.NewPlan(ctx, o); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
