package main

import (
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"puavo-image-repository/bench/internal/files"
	"puavo-image-repository/bench/internal/measure"
	"puavo-image-repository/bench/internal/nginx"
	"puavo-image-repository/cksum"
	"puavo-image-repository/meta"
	"puavo-image-repository/testdata"
)

// The whole of it, over the test images.
func TestClient(t *testing.T) {
	for _, tool := range append([]string{nginx.Command}, installedTools...) {
		testdata.Tool(t, tool)
	}
	tmp := t.TempDir()
	var out strings.Builder
	rounds := strconv.Itoa(testdata.Scale(2, 1))
	if err := run(t.Context(), []string{"client", "--corpus", "../testdata/images", "--rounds", rounds, "--tmp", tmp}, &out, io.Discard); err != nil {
		t.Fatal(err)
	}
	find(t, out.String(),
		`(?m)^    go -C bench run . client --corpus ../testdata/images --rounds `+rounds+`$`,
		`(?m)^- nginx version`, `(?m)^- GNU Wget`, `(?m)^- sha512sum`, `(?m)^- rdiff \(librsync`,
		`## puavo-os-amxa-\S+2021-04-13-192449-amd64.img to puavo-os-amxa-\S+2021-04-13-193910-amd64.img\n\n315 392 to 315 392 bytes, a delta of \d+ \d+, `+rounds+` rounds`,
		`\| +client \| time s \| times faster \| least \| most \| CPU s \| times less \| memory MB \| fetched MB \| read MB \| besides bytes \| written MB \|`,
		`\| +installed \| +\d\.\d\d \| +1\.00 \| +1\.00 \| +1\.00 \| +\d\.\d\d \| +1\.00 \| +(-|[\d.]+) \| +0\.[1-9] \| +\d\.\d \| +[\d ]+ \| +(-|[\d.]+) \|`,
		`\| +ours \| +\d\.\d\d \| +\d+\.\d\d \| +\d+\.\d\d \| +\d+\.\d\d \| +\d\.\d\d \| +\d+\.\d\d \| +(-|[\d.]+) \| +0\.[1-9] \| +\d\.\d \| +[\d ]+ \| +(-|[\d.]+) \|`,
		`\| +ours, known base \| +\d\.\d\d \| +\d+\.\d\d \|`,
		`seconds: wget \d\.\d\d, sha512sum of the delta \d\.\d\d, rdiff patch \d\.\d\d, sha512sum of the image \d\.\d\d, sync \d\.\d\d\.`,
	)
	if n := strings.Count(out.String(), "\n## "); n != 3 {
		t.Errorf("%d pairs in\n%s", n, &out)
	}
	if left, _ := os.ReadDir(tmp); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestClientErrors(t *testing.T) {
	testdata.Tool(t, nginx.Command)
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	empty, tmp := t.TempDir(), t.TempDir()
	for _, c := range []struct {
		name string
		ctx  context.Context
		args []string
		want string
	}{
		{"no rounds", t.Context(), []string{"--rounds", "0"}, "1 round or more"},
		{"an argument", t.Context(), []string{"real"}, "flags alone"},
		{"no such flag", t.Context(), []string{"--fast"}, "not defined"},
		{"no place to work", t.Context(), []string{"--tmp", "no/such"}, "no/such"},
		{"no real corpus", t.Context(), []string{"--dir", empty, "--tmp", tmp}, "bench/corpus.sh"},
		{"no images", t.Context(), []string{"--corpus", empty, "--tmp", tmp}, "0 images"},
		{"cancelled", cancelled, []string{"--corpus", "small", "--tmp", tmp}, "context canceled"},
	} {
		if err := run(c.ctx, append([]string{"client"}, c.args...), io.Discard, io.Discard); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	t.Setenv("PATH", empty)
	if err := run(t.Context(), []string{"client"}, io.Discard, io.Discard); err == nil || !strings.Contains(err.Error(), "nginx-light") {
		t.Errorf("without nginx: %v", err)
	}
	if left, _ := os.ReadDir(tmp); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// Updates go along each series; images of different ones make no pair.
func TestClientCorpus(t *testing.T) {
	dir, pairs, err := clientCorpus(t.Context(), clientOptions{corpus: testdata.Path("images")}, t.TempDir())
	if err != nil || dir != testdata.Path("images") || len(pairs) != 3 {
		t.Fatalf("%s, %d pairs, %v", dir, len(pairs), err)
	}
	for i, p := range pairs {
		if !strings.Contains(p.base, "amxa") || !strings.Contains(p.target, "amxa") || i > 0 && p.base != pairs[i-1].target {
			t.Errorf("from %s to %s", p.base, p.target)
		}
	}
	tmp := t.TempDir()
	dir, pairs, err = clientCorpus(t.Context(), clientOptions{corpus: "small"}, tmp)
	if err != nil || filepath.Dir(dir) != tmp || len(pairs) != 1 {
		t.Fatalf("small: %s, %d pairs, %v", dir, len(pairs), err)
	}
}

// served makes clients with a mirror of the test images.
func served(t *testing.T) (*clients, *update) {
	t.Helper()
	for _, tool := range append([]string{nginx.Command}, installedTools...) {
		testdata.Tool(t, tool)
	}
	tmp := t.TempDir()
	c := &clients{binary: filepath.Join(tmp, "client"), mirror: filepath.Join(tmp, "mirror"), tmp: tmp, rounds: 1, w: io.Discard}
	if err := c.prepare(t.Context(), testdata.Path("images")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.server.Stop)
	images := testdata.Glob(t, "images/*amxa*.img")
	u, found, err := updateOf(pair{base: images[1], target: images[2]}, c.mirror)
	if err != nil || !found {
		t.Fatal(found, err)
	}
	return c, u
}

// What a client leaves is compared, and damage on the way is an error of both.
func TestClientRun(t *testing.T) {
	c, u := served(t)
	all, err := c.contenders(u, filepath.Join(c.tmp, "clients"))
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 3 {
		t.Fatalf("%d clients", len(all))
	}
	for i, k := range slices.Concat(all, all) {
		looked := i < len(all)
		got, err := c.run(t.Context(), u, k, looked)
		if err != nil {
			t.Fatalf("%s: %v", k.name, err)
		}
		if !looked && got.besides+got.Anonymous != 0 {
			t.Errorf("%s was looked at: %+v", k.name, got)
		}
		if got.fetched < u.delta.Sums.Size || got.Seconds <= 0 {
			t.Errorf("%s: %+v", k.name, got)
		}
		if want := k.name == installed; (len(got.stages) == 5) != want {
			t.Errorf("%s: %v", k.name, got.stages)
		}
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.run(cancelled, u, all[0], true); err == nil {
		t.Error("cancelled: no error")
	}
	other := *u
	other.pair.target = u.base
	if _, err := c.run(t.Context(), &other, all[1], false); err == nil || !strings.Contains(err.Error(), " is not ") {
		t.Errorf("another image: %v", err)
	}
	if err := os.Truncate(filepath.Join(c.mirror, u.deltaPath()), 1000); err != nil {
		t.Fatal(err)
	}
	if _, err := c.run(t.Context(), u, all[0], true); err == nil {
		t.Error("a delta cut short: installed.sh does not fail")
	}
}

// A client that is ended takes what it has started with it.
func TestProcessCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	k := &contender{dir: t.TempDir(), command: []string{"sh", "-c", "echo; cat; true"}}
	cmd := k.process(ctx)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd.Stdout = w
	stdin, err := cmd.StdinPipe() // that is not closed
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	if _, err := r.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := io.Copy(io.Discard, r); err != nil { // ends with the last that can write
		t.Error(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Error("no error")
	}
}

// example is an update that no mirror is needed for, of a target of 5000 bytes.
func example(t *testing.T) *update {
	t.Helper()
	name, err := meta.ParseName("puavo-os-a-2024-01-02-120000-amd64.img")
	if err != nil {
		t.Fatal(err)
	}
	return &update{
		pair:   pair{name: "example", base: "dir/puavo-os-a-2024-01-01-120000-amd64.img"},
		target: &meta.Image{File: meta.File{Sums: cksum.Sums{Size: 5000}}, Name: name},
	}
}

// Base and target do not count; of the target, what goes beyond its size does.
func TestBesides(t *testing.T) {
	u := example(t)
	target := u.target.Name.String()
	for _, c := range []struct {
		name     string
		files    map[string]int
		min, max int64
	}{
		{"nothing", nil, 0, 0},
		{"the base", map[string]int{filepath.Base(u.base): 1 << 20}, 0, 0},
		{"a target", map[string]int{target: 5000}, 0, 0},
		{"one in the making", map[string]int{target + ".tmp": 4000}, 0, 0},
		{"one with something behind it", map[string]int{target + ".tmp": 7000}, 2000, 2000},
		{"its journal", map[string]int{target + ".tmp": 4000, target + ".tmp.journal": 10}, 10, 64 << 10},
		{"a delta", map[string]int{"a.rdiff": 1 << 20}, 1 << 20, 1<<20 + 64<<10},
		{"one deeper down", map[string]int{"cache/a.rdiff": 1 << 20}, 1 << 20, 1<<20 + 64<<10},
	} {
		dir := t.TempDir()
		for name, size := range c.files {
			path := filepath.Join(dir, name)
			if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, make([]byte, size), 0o666); err != nil {
				t.Fatal(err)
			}
			exec.Command("sync", path).Run() // what is not on the disk may take no blocks of it yet
		}
		if got := besides(dir, u); got < c.min || got > c.max {
			t.Errorf("%s: %d bytes, want %d to %d", c.name, got, c.min, c.max)
		}
	}
	if got := besides("no/such", u); got != 0 {
		t.Errorf("no directory: %d bytes", got)
	}
}

// A client that knows its base keeps all but the target.
func TestReset(t *testing.T) {
	u := example(t)
	base, target := filepath.Base(u.base), u.target.Name.String()
	for _, c := range []struct {
		knows bool
		want  []string
	}{{false, []string{base}}, {true, []string{"cache", base}}} {
		k := &contender{dir: t.TempDir(), knows: c.knows}
		for _, name := range []string{base, target} {
			if err := os.WriteFile(filepath.Join(k.dir, name), nil, 0o666); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.MkdirAll(filepath.Join(k.dir, "cache", "deep"), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := k.reset(u); err != nil {
			t.Fatal(err)
		}
		var got []string
		entries, _ := os.ReadDir(k.dir)
		for _, e := range entries {
			got = append(got, e.Name())
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("knows %v: %q is left, want %q", c.knows, got, c.want)
		}
	}
	if err := (&contender{dir: "no/such"}).reset(u); err == nil {
		t.Error("no directory, and no error")
	}
}

// The table relates rounds one by one, to the installed client if there is one.
func TestWriteClients(t *testing.T) {
	u := example(t)
	u.base = testdata.Glob(t, "images/*.img")[0]
	rounds := func(seconds ...float64) (all []updated) {
		for _, s := range seconds {
			all = append(all, updated{
				Figures: measure.Figures{Seconds: s, CPU: s / 2, Read: 6e6, Written: 8e6}, fetched: 9e6,
			})
		}
		return all
	}
	looked := func(besides int64) updated {
		return updated{Figures: measure.Figures{Seconds: 100, Anonymous: 7e6}, besides: besides}
	}
	theirs := &contender{name: installed, first: looked(6e6), rounds: rounds(10, 30, 20)}
	for i := range theirs.rounds {
		theirs.rounds[i].stages = []measure.Stage{{Name: "wget", Seconds: float64(i)}, {Name: "sync", Seconds: 5}}
	}
	ours := &contender{name: "ours", first: looked(4096), rounds: rounds(1, 2, 5)}
	for _, c := range []struct {
		name string
		all  []*contender
		want []string
	}{
		{"both", []*contender{theirs, ours}, []string{
			`to 5 000 bytes`, `3 rounds, after them a load of [\d.]+ `,
			`installed \| +20\.00 \| +1\.00 \| +1\.00 \| +1\.00 \| +10\.00 \| +1\.00 \| +7\.0 \| +9\.0 \| +6\.0 \| +6 000 000 \| +8\.0 \|`,
			`ours \| +2\.00 \| +10\.00 \| +4\.00 \| +15\.00 \| +1\.00 \| +10\.00 \| +7\.0 \| +9\.0 \| +6\.0 \| +4 096 \| +8\.0 \|`,
			`seconds: wget 1\.00, sync 5\.00\.`}},
		{"ours alone", []*contender{ours}, []string{`ours \| +2\.00 \| +- \| +- \| +- \| +1\.00 \| +- \|`}},
	} {
		var out strings.Builder
		if err := (&clients{rounds: 3, w: &out}).write(u, c.all); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		find(t, out.String(), c.want...)
	}
}

// Where a link cannot be made, as here to a name that is taken, there is a copy.
func TestLinkOrCopy(t *testing.T) {
	dir := t.TempDir()
	from, taken := filepath.Join(dir, "from"), filepath.Join(dir, "taken")
	for path, text := range map[string]string{from: "text", taken: "longer text"} {
		if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	for _, to := range []string{filepath.Join(dir, "to"), taken} {
		if err := linkOrCopy(from, to); err != nil {
			t.Fatal(err)
		}
		if err := files.Same(from, to); err != nil {
			t.Error(err)
		}
	}
	if err := linkOrCopy(filepath.Join(dir, "none"), filepath.Join(dir, "other")); err == nil {
		t.Error("no file, and no error")
	}
}
