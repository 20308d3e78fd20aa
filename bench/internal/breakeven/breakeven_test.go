package breakeven

import (
	"context"
	"errors"
	"io"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"puavo-image-repository/bench/internal/build"
	"puavo-image-repository/bench/internal/nginx"
	"puavo-image-repository/testdata"
)

// The whole of it, over the test images, with a base and without.
func TestMeasure(t *testing.T) {
	testdata.Tool(t, nginx.Command)
	path := func(name string) string {
		p, err := filepath.Abs(filepath.Join("../..", build.Top, "testdata/images", name))
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	dir := t.TempDir()
	o := Options{
		Corpus: "test", Rates: []int{40, 0}, Cores: 2, Client: filepath.Join(dir, "puavo-update-image"), Rdiff: filepath.Join(dir, "rdiff"),
		Deltas: filepath.Join(dir, "deltas"), Tmp: dir, Log: io.Discard,
		Pairs: []Pair{
			{"a day", path("puavo-os-amxa-buster-2022-01-17-120001-amd64.img"), path("puavo-os-amxa-buster-2022-01-20-173248-amd64.img")},
			{"alone", "", path("puavo-os-amxa-buster-2022-01-20-173248-amd64.img")},
		},
	}
	for _, command := range []string{o.Client, o.Rdiff} {
		if err := build.Go(t.Context(), filepath.Join("../..", build.Top), "build", "-o", command, "./cmd/"+filepath.Base(command)); err != nil {
			t.Fatal(err)
		}
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

func TestParseRates(t *testing.T) {
	for text, want := range map[string][]int{"2,10, 0": {2, 10, 0}, "": nil, "x": nil, "-1": nil} {
		if got, err := ParseRates(text); !slices.Equal(got, want) || (err == nil) != (want != nil) {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
}
