package imagerepo

import (
	"os"
	"path/filepath"
	"regexp"
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

// What a mirror remembers of its last run can be of another kind, or damaged.
func TestRememberedOfAnotherKind(t *testing.T) {
	p := newPlace(t, image3, image4)
	p.build()
	file := filepath.Join(p.MirrorDir, ".repo/run.json")
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	change := regexp.MustCompile(`"url": "[^"]*"`)
	if err := os.WriteFile(file, change.ReplaceAll(data, []byte(`"url": 7`)), 0o666); err != nil {
		t.Fatal(err)
	}
	want := p.MirrorDir + " has no usable record of how it was built: url is a number, want a string; build it once from its image directory"
	if _, err := Remembered(p.MirrorDir); err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}
