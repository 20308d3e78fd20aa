package compacting

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"puavo-image-repository/testdata"
)

// The whole of it, over the test images.
func TestMeasure(t *testing.T) {
	t.Chdir("../..") // where bench runs
	images := testdata.Glob(t, "images/*amxa*.img")
	pairs := []Pair{{"a pair", images[0], images[1]}, {"alone", "", images[1]}}
	var out strings.Builder
	o := Options{Corpus: "small", Pairs: pairs, Only: "^ours", Tmp: t.TempDir(), Log: t.Output()}
	if err := Measure(t.Context(), o, &out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`(?m)^    go -C bench run . compact --corpus small$`,
		`(?m)^## a pair\n\n315 392 to 315 392 bytes.$`, `(?m)^## alone\n\n0 to 315 392 bytes.$`,
		`\| +ours, rdiff \| +0\.\d\d \| 1\.000 \|`, `\| +ours, compact \| +0\.\d\d \| [01]\.\d\d\d \| +\d+\.\d\d \| `,
	} {
		if !regexp.MustCompile(want).MatchString(out.String()) {
			t.Errorf("no %s in\n%s", want, &out)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(o.Tmp, "delta")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestMeasureErrors(t *testing.T) {
	t.Chdir("../..")
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	images := testdata.Glob(t, "images/*amxa*.img")
	for _, c := range []struct {
		name string
		ctx  context.Context
		o    Options
		want error
	}{
		{"cancelled", cancelled, Options{Pairs: []Pair{{"a pair", images[0], images[1]}}}, context.Canceled},
		{"no image", t.Context(), Options{Pairs: []Pair{{"a pair", "none", images[1]}}, Only: "none"}, os.ErrNotExist},
		{"a wrong expression", t.Context(), Options{Only: "("}, nil},
	} {
		c.o.Tmp, c.o.Log = t.TempDir(), t.Output()
		if err := Measure(c.ctx, c.o, new(strings.Builder)); err == nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}
