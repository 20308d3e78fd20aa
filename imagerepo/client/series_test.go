package client_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"puavo-image-repository/imagerepo/client"
	"puavo-image-repository/meta"
)

// A series that is named is installed where no image is, and followed where images are.
func TestSeries(t *testing.T) {
	const amxa, free = "puavo-os-amxa-buster-amd64", "puavo-os-free-buster-amd64"
	for _, c := range []struct {
		name   string
		mirror string
		have   []string
		series string
		want   string // the image, "" if there is nothing to be done
		route  string
	}{
		{"first", "all", nil, amxa, image4, fromFull},
		{"first, of a mirror of the predecessor", "predecessor", nil, amxa, image4, fromFull},
		{"first, of a series with a name of its own", "named", nil, "release", image4, fromFull},
		{"an image is there", "all", []string{image3}, amxa, image4, from(image3)},
		{"the newest is there", "all", []string{image4}, amxa, "", ""},
		{"a newer one is there", "early", []string{image4}, amxa, "", ""},
		{"another series is there", "all", []string{image4}, free, other, fromFull},
		{"a newer one of another series is there", "all", []string{other}, amxa, image4, fromFull},
	} {
		for way, open := range access {
			t.Run(c.name+"/"+way, func(t *testing.T) {
				p := newPlace(t, c.have...)
				want := p.files()
				o := p.options(open(t, c.mirror), "")
				o.Series = c.series
				if check, err := client.Check(t.Context(), o); err != nil || check.UpToDate != (c.want == "") {
					t.Errorf("check: %+v, %v", check, err)
				}
				result, err := client.Update(t.Context(), o)
				if err != nil || result.UpToDate != (c.want == "") {
					t.Fatalf("%+v, %v", result, err)
				}
				if c.want != "" {
					want[c.want] = imageText(c.want)
					if result.Image != name(c.want) || result.Route.String() != c.route {
						t.Errorf("%s by %s, want %s by %s", result.Image, result.Route, c.want, c.route)
					}
				}
				p.want(want)
			})
		}
	}
}

// An images directory that does not exist is made for a series, in one that does.
func TestSeriesMakesDir(t *testing.T) {
	for dir, want := range map[string]error{"images": nil, "none/images": fs.ErrNotExist, "file": fs.ErrExist} {
		p := newPlaceIn(t, t.TempDir())
		p.write("file", nil)
		os.Remove(filepath.Join(p.dir, "file"))
		if dir == "file" {
			os.Symlink("nowhere", filepath.Join(p.dir, dir))
		}
		o := p.linked(access["directory"](t, "all"), "")
		o.Dir = filepath.Join(p.dir, dir)
		for _, look := range []func() error{
			func() error { _, err := client.NewPlan(t.Context(), o); return err },
			func() error { _, err := client.Update(t.Context(), o); return err },
		} {
			if err := look(); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s without a series: %v", dir, err)
			}
		}
		o.Series = "puavo-os-amxa-buster-amd64"
		if _, err := client.Update(t.Context(), o); !errors.Is(err, want) {
			t.Errorf("%s: %v", dir, err)
		}
		data, err := os.ReadFile(filepath.Join(o.Dir, defaultLink))
		if (string(data) == imageText(image4)) != (want == nil) {
			t.Errorf("%s: what is in use has %d bytes, %v", dir, len(data), err)
		}
	}
}

// The error for a series that does not exist says which do.
func TestNoSeries(t *testing.T) {
	for mirror, says := range map[string]string{
		"all":         "it has puavo-os-amxa-buster-amd64, puavo-os-free-buster-amd64",
		"predecessor": "not a repository",
	} {
		for way, open := range access {
			p := newPlace(t)
			o := p.options(open(t, mirror), "")
			o.Series = "puavo-os-amxa"
			_, err := client.Update(t.Context(), o)
			if !errors.Is(err, client.ErrNoImage) || !strings.Contains(err.Error(), says) {
				t.Errorf("%s of %s: %v", way, mirror, err)
			}
			p.want(map[string]string{})
		}
	}
}

// What is done is told, and what has come is counted.
func TestTold(t *testing.T) {
	p := newPlace(t, image3)
	s := newSite(t, "all", nil)
	o := p.options(s.URL, "")
	var stages []string
	var last client.Stage
	var fetched []client.File
	o.Stage = func(s client.Stage) {
		if last.Name != s.Name {
			stages = append(stages, s.Name)
		}
		if s.Name == last.Name && s.Done < last.Done || s.Done > s.Total {
			t.Errorf("%+v after %+v", s, last)
		}
		last = s
	}
	o.Fetched = func(f client.File) { fetched = append(fetched, f) }
	result := must(client.Update(t.Context(), o))
	if want := []string{"starting", "checksums_fetch", "image_checksum", "rdiff_fetch", "rdiff_checksum", "image_patch", "image_sync", "finished"}; !slices.Equal(stages, want) || last.Image != image4 {
		t.Errorf("the stages are %q, the last is %+v", stages, last)
	}
	delta := must(os.Stat(filepath.Join(mirrorDir("all"), deltaFile(image3, image4)))).Size()
	if want := (client.File{Mirror: s.URL, Path: deltaFile(image3, image4), Size: delta, Makes: name(image4)}); len(fetched) != 1 || fetched[0] != want {
		t.Errorf("fetched is %+v", fetched)
	}
	document := must(os.Stat(filepath.Join(mirrorDir("all"), series))).Size()
	if result.Fetched != delta+document {
		t.Errorf("%d bytes have come, of %d and %d", result.Fetched, delta, document)
	}
	var none []meta.Name
	if !slices.Equal(result.Removed, none) || !result.Installed {
		t.Errorf("%+v", result)
	}
}
