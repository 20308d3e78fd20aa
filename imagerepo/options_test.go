package imagerepo

import (
	"path/filepath"
	"strings"
	"testing"

	"puavo-image-repository/imagerepo/plan"
)

// The zero value of each option works, but for the two directories, of which the error
// names the field.
func TestZeroOptions(t *testing.T) {
	images := newPlace(t, image3, image4).ImageDir
	mirror := filepath.Join(t.TempDir(), "mirror")
	for _, c := range []struct {
		name    string
		options Options
		deltas  int
		says    string
	}{
		{"nothing", Options{}, 0, "imagerepo.Options: ImageDir and MirrorDir must be given"},
		{"no mirror", Options{ImageDir: images}, 0, "MirrorDir"},
		{"no image directory", Options{MirrorDir: mirror}, 0, "ImageDir"},
		{"the directories", Options{ImageDir: images, MirrorDir: mirror}, 0, ""},
		{"targets alone", Options{ImageDir: images, MirrorDir: mirror, Policy: plan.Policy{Targets: 1}}, 1, ""},
	} {
		_, planErr := MakePlan(t.Context(), c.options)
		_, s, err := Build(t.Context(), c.options)
		for _, err := range []error{planErr, err} {
			if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("%s: %v", c.name, err)
			}
		}
		if s.Made != c.deltas {
			t.Errorf("%s: %+v", c.name, s)
		}
	}
}
