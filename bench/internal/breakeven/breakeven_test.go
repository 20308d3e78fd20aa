package breakeven

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"puavo-image-repository/bench/internal/build"
	"puavo-image-repository/bench/internal/nginx"
	"puavo-image-repository/testdata"
)

const (
	image1 = "puavo-os-amxa-buster-2022-01-17-120001-amd64.img"
	image2 = "puavo-os-amxa-buster-2022-01-20-173248-amd64.img"
)

// path returns the path of a copy of a test image. Another name for the image itself would change
// it for the tests of other packages, which run concurrently.
func path(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(testdata.Glob(t, "images/"+name)[0])
	p := filepath.Join(t.TempDir(), name)
	if err := errors.Join(err, os.WriteFile(p, data, 0o666)); err != nil {
		t.Fatal(err)
	}
	return p
}

// options returns options with the programs, which are built.
func options(t *testing.T) Options {
	testdata.Tool(t, nginx.Command)
	dir := t.TempDir()
	o := Options{
		Corpus: "test", Rates: []int{40, 0}, Cores: 2, Client: filepath.Join(dir, "puavo-update-image"), Rdiff: filepath.Join(dir, "rdiff"),
		Deltas: filepath.Join(dir, "deltas"), Tmp: dir, Log: io.Discard,
	}
	for _, command := range []string{o.Client, o.Rdiff} {
		if err := build.Go(t.Context(), filepath.Join("../..", build.Top), "build", "-o", command, "./cmd/"+filepath.Base(command)); err != nil {
			t.Fatal(err)
		}
	}
	return o
}

// The whole of it, over the test images, with a base and without.
func TestMeasure(t *testing.T) {
	o := options(t)
	link := filepath.Join(o.Tmp, "link")
	if err := os.Symlink(path(t, image1), link); err != nil {
		t.Fatal(err)
	}
	o.Pairs = []Pair{
		{"a day", link, path(t, image2)},
		{"alone", "", path(t, image2)},
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Measure(cancelled, o, io.Discard); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	var b strings.Builder
	if err := Measure(t.Context(), o, &b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`## a day`, `\| +40 \| +rdiff \| .* \| +the delta \|`, `\| +40 \| +compact \| .* \| +the compact delta \|`, `\| +40 \| +next \| `,
		`\| unlimited \| +first \| `, `## alone`, `\| +40 \| +rdiff \| .* \| +the full image \|`, `\| +40 \| +compact \| .* \| +the compact full image \|`,
	} {
		if !regexp.MustCompile(`(?m)^ *` + want).MatchString(b.String()) {
			t.Errorf("nothing of %s in\n%s", want, &b)
		}
	}
}

func TestYear(t *testing.T) {
	o := options(t)
	testdata.Tool(t, "rdiff")
	s := School{Images: []string{path(t, image1), path(t, image2)}, Releases: 4, Laptops: 10, Rate: 10}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Year(cancelled, o, s, io.Discard); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	var b strings.Builder
	if err := Year(t.Context(), o, s, &b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`10 laptops behind a line of 10 Mbit/s get 4 releases, of 2 images in turn: 3 updates each\.`,
		`\| +rdiff -b 128, as installed \| .* \| +1\.00 \|`, `\| +ours, rdiff \| .* \| +0\.\d\d \|`, `\| +ours, compact \| .* \| +0\.\d\d \|`,
	} {
		if !regexp.MustCompile(`(?m)^ *` + want).MatchString(b.String()) {
			t.Errorf("nothing of %s in\n%s", want, &b)
		}
	}
}

// Each image is followed by the next, the last by the first.
func TestUpdates(t *testing.T) {
	for releases, want := range map[int][]int{1: {0, 0, 0}, 2: {1, 0, 0}, 5: {2, 1, 1}, 26: {9, 8, 8}} {
		if got := (School{Images: make([]string, 3), Releases: releases}).updates(); !slices.Equal(got, want) {
			t.Errorf("%d releases: %v, want %v", releases, got, want)
		}
	}
}

func TestParseRates(t *testing.T) {
	for text, want := range map[string][]int{"2,10, 0": {2, 10, 0}, "": nil, "x": nil, "-1": nil} {
		if got, err := ParseRates(text); !slices.Equal(got, want) || (err == nil) != (want != nil) {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
}
