package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"puavo-image-repository/bench/internal/generate"
	"puavo-image-repository/bench/internal/measure"
	"puavo-image-repository/testdata"
)

// The whole of it, over the test images.
func TestRepo(t *testing.T) {
	testdata.Tool(t, "rdiff")
	tmp := t.TempDir()
	var out strings.Builder
	rounds := strconv.Itoa(testdata.Scale(2, 1))
	if err := run(t.Context(), []string{"repo", "--corpus", "../testdata/images", "--rounds", rounds, "--tmp", tmp}, &out, io.Discard); err != nil {
		t.Fatal(err)
	}
	find(t, out.String(),
		`(?m)^    go -C bench run . repo --corpus ../testdata/images --rounds `+rounds+`$`,
		`(?m)^- rdiff \(librsync`,
		`5 images of 1 650 688 bytes, 9 deltas wanted, `+rounds+` rounds. Ours (links|copies) the images`,
		`\| +builder \| time s \| times faster \| CPU s \| times less \| deltas \| delta MB \| ratio \| memory MB \| +ratio \| resident MB \|`,
		`\| predecessor \| +\d+\.\d\d \| +1\.0 \| +\d+\.\d\d \| +1\.0 \| +9 \| +\d\.\d\d \| 1\.000 \| +(-|[\d.]+) \| +(-|1\.000) \| +- \|`,
		`\| +ours \| +\d+\.\d\d \| +\d+\.\d \| +\d+\.\d\d \| +\d+\.\d \| +9 \| +\d\.\d\d \| \d\.\d{3} \| +(-|[\d.]+) \| +(-|[\d.]+) \| +[\d.]+ \|`,
		`\| nothing to do \| +\d+\.\d{3} \| +\d+\.\d{3} \| +(-|[\d.]+) \| +[\d.]+ \| +[\d ]+ \| +0 of 9 \|`,
		`sha256sum -c finds all files of the mirror right, and rdiff patch makes puavo-os-amxa-\S+.img from puavo-os-amxa-\S+.img\.`,
	)
	if left, _ := os.ReadDir(tmp); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestAlone(t *testing.T) {
	testdata.Tool(t, "sha256sum")
	tmp := t.TempDir()
	ours, err := newBuilder(t.Context(), tmp)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ours.idle(t.Context(), testdata.Path("images"), filepath.Join(tmp, "new")); err == nil || !strings.Contains(err.Error(), "something to do") {
		t.Errorf("a mirror that was not made yet: %v", err)
	}
	for _, c := range []struct {
		name      string
		images    generate.Images
		want, not string
	}{
		{"many", generate.Images{Series: 2, Versions: 4, Size: 1 << 20}, `\| one new image \|[^\n]+ 5 of 18 \|`, "dry-run"},
		{"large", generate.Images{Series: 1, Versions: 3, Size: 2 << 20}, `(?s)--dry-run says:\n\n    \S.*series00-2024-01-03`, "one new"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out strings.Builder
			r := &repo{ours: ours, tmp: tmp, rounds: 1, w: &out}
			if err := r.alone(t.Context(), c.name, c.images); err != nil {
				t.Fatal(err)
			}
			find(t, out.String(), `\| +all \|`, `\| nothing to do \|`, `Checked: sha256sum`, `GB/s of targets`, c.want)
			if strings.Contains(out.String(), c.not) {
				t.Errorf("%q in\n%s", c.not, &out)
			}
		})
	}
}

// find looks for regular expressions in a text.
func find(t *testing.T, text string, patterns ...string) {
	t.Helper()
	for _, p := range patterns {
		if !regexp.MustCompile(p).MatchString(text) {
			t.Errorf("no %s in\n%s", p, text)
		}
	}
}

func TestRepoErrors(t *testing.T) {
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range []struct {
		name string
		ctx  context.Context
		args []string
		want string
	}{
		{"no rounds", t.Context(), []string{"repo", "--rounds", "0"}, "1 or more"},
		{"an argument", t.Context(), []string{"repo", "real"}, "flags alone"},
		{"no place to work", t.Context(), []string{"repo", "--tmp", "no/such"}, "no/such"},
		{"cancelled", cancelled, []string{"repo", "--tmp", t.TempDir()}, "context canceled"},
	} {
		if err := run(c.ctx, c.args, io.Discard, io.Discard); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if _, _, err := imagesOf(t.TempDir()); err == nil || !strings.Contains(err.Error(), "0 images") {
		t.Errorf("an empty directory: %v", err)
	}
}

// The pairs are those of the predecessor's own documents.
func TestWanted(t *testing.T) {
	images := testdata.Glob(t, "images/*.img")
	pairs, err := wanted(images)
	if err != nil {
		t.Fatal(err)
	}
	var got, want []string
	for _, p := range pairs {
		got = append(got, p.name)
		base, _, _ := strings.Cut(filepath.Base(p.base), "-amd64.img")
		if !strings.HasPrefix(p.name, base+"--") || p.base == p.target {
			t.Errorf("%s from %s to %s", p.name, p.base, p.target)
		}
	}
	for _, doc := range []string{"amxa", "free"} {
		text := testdata.Read(t, "predecessor/puavo-os-"+doc+"-buster-amd64.json")
		for _, m := range regexp.MustCompile(`"filename":"([^"]+\.rdiff)"`).FindAllSubmatch(text, -1) {
			want = append(want, string(m[1]))
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if _, err := wanted([]string{"dir/other.img"}); err == nil {
		t.Error("a file that is not named like an image")
	}
}

// What the predecessor's commands make is what it made.
func TestPredecessor(t *testing.T) {
	testdata.Tool(t, "rdiff")
	images := testdata.Glob(t, "images/*.img")
	pairs, err := wanted(images)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	b, err := buildPredecessor(t.Context(), images, pairs, dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := complete(b.deltas, pairs, 0); err != nil || b.Seconds <= 0 {
		t.Errorf("%v, %+v", err, b)
	}
	list := testdata.Read(t, "predecessor/CKSUMS")
	for _, image := range images {
		line, err := os.ReadFile(filepath.Join(dir, "checksums", filepath.Base(image)+".cksum"))
		if err != nil || len(line) == 0 || !bytes.Contains(list, line) {
			t.Errorf("%s: %q, %v", image, line, err)
		}
	}
	if sums, _ := filepath.Glob(filepath.Join(dir, "checksums", "*")); len(sums) != 3*(len(images)+len(pairs)) {
		t.Errorf("%d files of digests", len(sums))
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := buildPredecessor(cancelled, images, pairs, t.TempDir()); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestComplete(t *testing.T) {
	pairs := []pair{{name: "a"}, {name: "b"}}
	for _, c := range []struct {
		name    string
		deltas  map[string]int64
		dropped int
		want    string
	}{
		{"all", map[string]int64{"a": 1, "b": 2}, 0, ""},
		{"one dropped", map[string]int64{"b": 2}, 1, ""},
		{"one missing", map[string]int64{"b": 2}, 0, "2 were wanted"},
		{"another", map[string]int64{"a": 1, "c": 2}, 0, "not wanted: c"},
	} {
		if err := complete(c.deltas, pairs, c.dropped); (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// A comparison relates its rounds one by one, and sizes of what both have.
func TestWriteComparison(t *testing.T) {
	builds := func(anonymous int64, deltas map[string]int64, seconds ...float64) (all []built) {
		for _, s := range seconds {
			all = append(all, built{measure.Figures{Seconds: s, CPU: s * s, Anonymous: anonymous}, deltas})
		}
		return all
	}
	theirs := builds(4e6, map[string]int64{"a": 8e6, "b": 9e6}, 10, 30, 20)
	ours := builds(1e6, map[string]int64{"a": 2e6}, 1, 2, 5)
	for _, c := range []struct {
		name         string
		theirs, ours []built
		missing      []string
		want         []string
	}{
		{"both", theirs, ours, nil, []string{
			`predecessor \| +20\.00 \| +1\.0 \| +400\.00 \| +1\.0 \| +2 \| +17\.00 \| 1\.000 \| +4\.0 \| 1\.000 \|`,
			`ours \| +2\.00 \| +10\.0 \| +4\.00 \| +100\.0 \| +1 \| +2\.00 \| 0\.250 \| +1\.0 \| 0\.250 \|`,
			`leaves out 1 deltas`}},
		{"no rdiff", nil, ours, []string{"rdiff"}, []string{`predecessor \| not installed: rdiff \|`, `ours \| +2\.00 \| +- \| +4\.00 \| +- \| +1 \| +2\.00 \| +- \|`}},
		{"memory that was not seen", builds(0, nil, 1), builds(0, nil, 2), nil, []string{`ours \| +2\.00 \| +0\.5 \| +4\.00 \| +0\.2 \| +0 \| +0\.00 \| +- \| +- \| +- \|`}},
	} {
		var out strings.Builder
		r := &repo{missing: c.missing, w: &out}
		if err := r.writeComparison(c.theirs, c.ours); err != nil {
			t.Fatal(err)
		}
		find(t, out.String(), c.want...)
	}
}
