package farming

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"puavo-image-repository/bench/internal/report"
	"puavo-image-repository/testdata"
)

// A series of four images has deltas to three of them, each as large as its change.
func TestJobs(t *testing.T) {
	images, jobs := Repository{Series: 2, Images: 4, Size: 2 * Known[1].Target, Changes: Known}.Jobs()
	if len(images) != 8 || len(jobs) != 18 {
		t.Fatalf("%d images, %d jobs", len(images), len(jobs))
	}
	for _, c := range []struct {
		job          int
		base, target int
		of           Change
	}{{0, 0, 1, Known[2]}, {1, 0, 2, Known[0]}, {3, 1, 2, Known[2]}, {5, 2, 1, Known[1]}, {9, 4, 5, Known[2]}} {
		j, scale := jobs[c.job], images[0]/c.of.Target
		if j.Base != c.base || j.Target != c.target || j.Make != c.of.RDiff.Make*scale || j.Index != c.of.RDiff.Index*scale || j.Bytes != c.of.RDiff.Bytes*scale || j.Compact {
			t.Errorf("job %d: %+v", c.job, j)
		}
	}
	if _, jobs := (Repository{Series: 1, Images: 2, Size: Known[1].Target, Compact: true, Changes: Known}).Jobs(); len(jobs) != 2 || !jobs[1].Compact || jobs[1].Make != Known[1].Compact.Make {
		t.Errorf("compact: %+v", jobs)
	}
}

// The tables have the speed of each number of workers at each rate, and what limits it.
func TestSimulate(t *testing.T) {
	o := Usual
	o.Size, o.Series, o.Workers = 1e9, []int{2}, []int{1, 2, 8}
	var b strings.Builder
	if err := Simulate(t.Context(), o, &b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`(?m)^## Costs$`, `\| +rdiff, large change \| +1467\.1 \|`, `\| compact, three applications more \| +1601\.7 \| +0\.00 \| +292\.65 \|`,
		`(?m)^## rdiff, 2 series\n\n18 deltas\. The builder alone takes 0\.0 hours\.$`, `(?m)^## compact, 2 series\n\n18 deltas\. The builder alone takes 0\.\d hours\.$`,
		`\| +8 \| +\d+\.\d\d \| +\d\.\d\d \| +(end|(link|builder|workers) \d+ %) \| +\d`,
	} {
		if !regexp.MustCompile(want).MatchString(b.String()) {
			t.Errorf("no %s in\n%s", want, &b)
		}
	}
	tables := report.Parse(b.String())
	faster, ok := tables[len(tables)-1].Column("faster at 25 Gbit/s")
	if !ok || len(faster) != 3 || !(faster[0] > 1.2 && faster[2] > 1.5*faster[0]) {
		t.Errorf("compact deltas: %v", faster)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Simulate(cancelled, o, io.Discard); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestLimit(t *testing.T) {
	for want, o := range map[string]Outcome{
		"end": {Link: 0.5, Working: 0.4}, "link 75 %": {Link: 0.75, Working: 0.7}, "workers 98 %": {Link: 0.9, Working: 0.98},
		"builder 60 %": {Checking: 0.6, Link: 0.55},
	} {
		if got := o.limit(); got != want {
			t.Errorf("%+v: %s, want %s", o, got, want)
		}
	}
}

// What deltas of the test images take is measured.
func TestMeasure(t *testing.T) {
	images := testdata.Glob(t, "images/*amxa*.img")
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for name, of := range map[string]func(ctx context.Context, base, target, tmp string) (Cost, error){"rdiff": MeasureRDiff, "compact": MeasureCompact} {
		tmp := t.TempDir()
		c, err := of(t.Context(), images[0], images[1], tmp)
		if err != nil || c.Make <= 0 || c.Check <= 0 || c.Bytes <= 0 || (c.Index > 0) != (name == "rdiff") {
			t.Errorf("%s: %+v, %v", name, c, err)
		}
		if _, err := of(cancelled, images[0], images[1], tmp); !errors.Is(err, context.Canceled) {
			t.Errorf("%s, cancelled: %v", name, err)
		}
		if _, err := of(t.Context(), images[0], filepath.Join(tmp, "none"), tmp); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s, no target: %v", name, err)
		}
		if left, _ := os.ReadDir(tmp); len(left) > 0 {
			t.Errorf("%s: left: %v", name, left)
		}
	}
}

func TestMeasureMoving(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, make([]byte, 32<<20), 0o666); err != nil {
		t.Fatal(err)
	}
	for _, withTLS := range []bool{false, true} {
		m, err := MeasureMoving(t.Context(), file, withTLS, t.TempDir())
		if err != nil || m.Send <= 0 || m.Receive <= 0 || m.Send > 1e-6 || m.Receive > 1e-6 {
			t.Errorf("TLS %v: %+v, %v", withTLS, m, err)
		}
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := MeasureMoving(cancelled, file, false, t.TempDir()); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if _, err := MeasureMoving(t.Context(), filepath.Join(t.TempDir(), "none"), false, t.TempDir()); err == nil {
		t.Error("no file, and no error")
	}
}
