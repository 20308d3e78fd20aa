package planner

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"puavo-image-repository/imagerepo/internal/source"
	"puavo-image-repository/imagerepo/plan"
	"puavo-image-repository/meta"
)

// The images that most tests here speak of, oldest first.
const (
	image1 = "puavo-os-amxa-buster-2021-04-13-192449-amd64.img"
	image2 = "puavo-os-amxa-buster-2021-04-13-193910-amd64.img"
	image3 = "puavo-os-amxa-buster-2022-01-17-120001-amd64.img"
	image4 = "puavo-os-amxa-buster-2022-01-20-173248-amd64.img"
	other  = "puavo-os-free-buster-2022-02-04-140532-amd64.img"
)

func name(s string) meta.Name {
	n, err := meta.ParseName(s)
	if err != nil {
		panic(err)
	}
	return n
}

func names(list ...string) []meta.Name {
	var all []meta.Name
	for _, s := range list {
		all = append(all, name(s))
	}
	return all
}

// files returns a directory of files with their names as content.
func files(list ...string) fstest.MapFS {
	dir := make(fstest.MapFS)
	for _, f := range list {
		dir[f] = &fstest.MapFile{Data: []byte(f)}
	}
	return dir
}

var usual = plan.Policy{Targets: 3, Downgrades: true, MaxRatio: 0.9}

func TestGroupSeries(t *testing.T) {
	found, err := source.Scan(files(image1, image2, image3, other, "other-os-2021-04-13-192449-amd64.img"))
	if err != nil {
		t.Fatal(err)
	}
	series := func(s ...meta.SeriesConfig) []meta.SeriesConfig { return s }
	for _, c := range []struct {
		name   string
		config plan.Config
		want   string // name: number of images, …
		err    error
	}{
		{"scanned", plan.Config{}, "other-os-amd64:1 puavo-os-amxa-buster-amd64:3 puavo-os-free-buster-amd64:1", nil},
		{"named", plan.Config{Series: series(meta.SeriesConfig{Name: "b", Images: names(image1)}, meta.SeriesConfig{Name: "a", Images: names(image1, other)})}, "a:2 b:1", nil},
		{"named but empty", plan.Config{Series: series(meta.SeriesConfig{Name: "a"})}, "a:0", nil},
		{"empty ones ignored", plan.Config{ScanRest: true, Series: series(meta.SeriesConfig{Name: "a"}, meta.SeriesConfig{Name: "b", Images: names(image1)})}, "b:1", nil},
		{"only empty ones", plan.Config{ScanRest: true, Series: series(meta.SeriesConfig{Name: "a"})}, "other-os-amd64:1 puavo-os-amxa-buster-amd64:3 puavo-os-free-buster-amd64:1", nil},
		{"a missing image", plan.Config{Series: series(meta.SeriesConfig{Name: "a", Images: names(image4)})}, "", plan.ErrConfig},
		{"a missing base", plan.Config{Series: series(meta.SeriesConfig{Name: "a", Images: names(image1), Extra: map[meta.Name][]meta.Name{name(image1): names(image4)}})}, "", plan.ErrConfig},
		{"a base for an image of no concern", plan.Config{Series: series(meta.SeriesConfig{Name: "a", Images: names(image1), Extra: map[meta.Name][]meta.Name{name(image4): names(image4)}})}, "a:1", nil},
		{"one version twice", plan.Config{Series: series(meta.SeriesConfig{Name: "a", Images: names("other-os-2021-04-13-192449-amd64.img", image1)})}, "", plan.ErrInput},
	} {
		got := Group(found, c.config)
		var err error
		for _, s := range got {
			err = errors.Join(err, checkSeries(s, func(n meta.Name, _ string) error {
				if _, usable := found.Images[n]; !usable {
					return plan.ErrConfig
				}
				return nil
			}))
		}
		if c.err != nil {
			got = nil
		}
		var text []string
		for _, s := range got {
			text = append(text, s.Name+":"+string(rune('0'+len(s.Images))))
			if !slices.IsSortedFunc(s.Images, meta.Name.Compare) {
				t.Errorf("%s: images %v", c.name, s.Images)
			}
		}
		if strings.Join(text, " ") != c.want || !errors.Is(err, c.err) {
			t.Errorf("%s: %v, %v", c.name, text, err)
		}
	}
}
