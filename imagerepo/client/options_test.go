package client_test

import (
	"context"
	"path/filepath"
	"strings"
	"testing"

	"puavo-image-repository/imagerepo/client"
)

// entries are the functions that take Options.
var entries = map[string]func(context.Context, client.Options) error{
	"Update":  func(ctx context.Context, o client.Options) error { _, err := client.Update(ctx, o); return err },
	"NewPlan": func(ctx context.Context, o client.Options) error { _, err := client.NewPlan(ctx, o); return err },
	"List":    func(ctx context.Context, o client.Options) error { _, err := client.List(ctx, o); return err },
	"Verify":  func(ctx context.Context, o client.Options) error { _, err := client.Verify(ctx, o); return err },
}

// The error for an option that is missing or wrong names it, and nothing is written.
func TestOptions(t *testing.T) {
	for field, change := range map[string]func(o *client.Options){
		"Options.Mirrors":    func(o *client.Options) { o.Mirrors = nil },
		"Options.Dir":        func(o *client.Options) { o.Dir = "" },
		"Options.Rate":       func(o *client.Options) { o.Rate = -1 },
		"Options.Keep":       func(o *client.Options) { o.Keep = -1 },
		"Options.Series":     func(o *client.Options) { o.Series = "../x" },
		"Options.GrubLabels": func(o *client.Options) { o.GrubLabels = true },
	} {
		for name, call := range entries {
			p := newPlace(t, image3)
			before := p.everything()
			o := p.options(access["directory"](t, "all"), "")
			change(&o)
			if err := call(t.Context(), o); err == nil || !strings.Contains(err.Error(), field+":") {
				t.Errorf("%s: %v, want one that names %s", name, err, field)
			}
			if after := p.everything(); len(after) != len(before) {
				t.Errorf("%s: left are %v", name, after)
			}
		}
	}
	if _, err := client.Rollback(t.Context(), newPlace(t).options("none", "")); err == nil || !strings.Contains(err.Error(), "Options.DefaultLink:") {
		t.Errorf("Rollback: %v, want one that names Options.DefaultLink", err)
	}
	for field, change := range map[string]func(o *client.ApplyOptions){
		"ApplyOptions.Base":   func(o *client.ApplyOptions) { o.Base = "" },
		"ApplyOptions.Deltas": func(o *client.ApplyOptions) { o.Deltas = nil },
		"ApplyOptions.Out":    func(o *client.ApplyOptions) { o.Out = "" },
	} {
		o := chain(newPlace(t, image1))
		change(&o)
		if err := client.Apply(t.Context(), o); err == nil || !strings.Contains(err.Error(), field+":") {
			t.Errorf("%v, want one that names %s", err, field)
		}
	}
}

// All but the options that are needed may be left out. Without a Log, what it would
// take is discarded: here that a mirror fails, that an image and a base are wrong, and
// that the statistics cannot be written.
func TestFewOptions(t *testing.T) {
	for name, call := range entries {
		p := newPlace(t)
		for _, im := range []string{image3, image4} {
			p.write(im, flip(imageData(im)))
		}
		err := call(t.Context(), client.Options{
			Mirrors:   []string{filepath.Join(t.TempDir(), "none"), access["http"](t, "all")},
			Dir:       p.dir,
			StatsFile: filepath.Join(p.dir, "none", "stats"),
		})
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if name == "Update" {
			p.want(map[string]string{image3: string(flip(imageData(image3))), image4: string(imageData(image4))})
		}
	}
}
