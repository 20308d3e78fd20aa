package audit

import (
	"bytes"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo"
	"puavo-image-repository/imagerepo/internal/mirror"
	"puavo-image-repository/imagerepo/internal/state"
	"puavo-image-repository/imagerepo/plan"
	"puavo-image-repository/meta"
	"puavo-image-repository/testdata"
)

const (
	older  = "puavo-os-amxa-buster-2022-01-17-120001-amd64.img"
	newer  = "puavo-os-amxa-buster-2022-01-20-173248-amd64.img"
	free   = "puavo-os-free-buster-2022-02-04-140532-amd64.img"
	absent = "puavo-os-amxa-buster-2021-04-13-192449-amd64.img"

	up   = "rdiffs/puavo-os-amxa-buster-2022-01-17-120001--2022-01-20-173248-amd64.rdiff"
	down = "rdiffs/puavo-os-amxa-buster-2022-01-20-173248--2022-01-17-120001-amd64.rdiff"

	amxa    = "puavo-os-amxa-buster-amd64"
	amxaDoc = "meta/" + amxa + ".json"
	freeDoc = "meta/puavo-os-free-buster-amd64.json"
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

var began = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// builds is where the mirror is built of which the tests take copies.
var builds string

func TestMain(m *testing.M) {
	remove := testdata.InMemory()
	builds = must(os.MkdirTemp("", "audit"))
	code := m.Run()
	os.RemoveAll(builds)
	remove()
	os.Exit(code)
}

// build builds a mirror of the older, the newer and the free image.
func build(dir string) (mirrorDir string) {
	images := filepath.Join(dir, "images")
	check(os.Mkdir(images, 0o777))
	for _, im := range []string{older, newer, free} {
		check(os.WriteFile(filepath.Join(images, im), must(os.ReadFile(testdata.Path("images/"+im))), 0o666))
	}
	check(buildFrom(images, filepath.Join(dir, "mirror")))
	return filepath.Join(dir, "mirror")
}

// buildFrom builds a mirror from a directory of images.
func buildFrom(images, mirrorDir string) error {
	_, _, err := imagerepo.Build(noContext, imagerepo.Options{
		ImageDir: images, MirrorDir: mirrorDir, URL: "https://images.example.org", Jobs: 2, AllowRemoval: true,
		Policy: plan.Policy{Targets: 3, Downgrades: true, MaxRatio: 0.9}, Log: slog.New(slog.DiscardHandler),
	})
	return err
}

var built = sync.OnceValue(func() string { return build(builds) })

// place is a copy of a built mirror, with records as if it were built there.
type place struct {
	t   testing.TB
	dir string
}

func newPlace(t testing.TB) place { return copyOf(t, built()) }

// copyOf returns a copy of a mirror.
func copyOf(t testing.TB, dir string) place {
	p := place{t, filepath.Join(t.TempDir(), "mirror")}
	check(os.CopyFS(p.dir, os.DirFS(dir)))
	p.run(mirror.Run{Began: began, Seconds: 1.5, Success: began.Add(time.Minute)})
	p.records(func(name string, r *state.Record) {
		if r.Sums.SHA512 != (cksum.Digest512{}) {
			r.Stamp = state.StampOf(must(os.Lstat(p.path(mirror.PathOf(name)))))
		}
	})
	return p
}

func (p place) path(name string) string { return filepath.Join(p.dir, filepath.FromSlash(name)) }

func (p place) read(name string) []byte { return must(os.ReadFile(p.path(name))) }

// records changes the records.
func (p place) records(change func(name string, r *state.Record)) {
	m := must(mirror.View(p.dir))
	defer m.Close()
	records, _, err := m.State.Load()
	check(err)
	for name, r := range records {
		change(name, r)
		check(m.State.Put(name, r))
	}
}

// record makes a record.
func (p place) record(name string, r state.Record) {
	m := must(mirror.View(p.dir))
	defer m.Close()
	check(m.State.Put(name, &r))
}

// run makes the mirror remember a run.
func (p place) run(r mirror.Run) {
	m := must(mirror.View(p.dir))
	defer m.Close()
	check(m.PutRun(r))
}

// write writes a file, in place if it is there, at a time unlike any record's.
func (p place) write(name string, data []byte) {
	check(os.MkdirAll(filepath.Dir(p.path(name)), 0o777))
	check(os.WriteFile(p.path(name), data, 0o666))
	then := time.Date(2020, 1, 2, 3, 4, 5, 6, time.UTC)
	check(os.Chtimes(p.path(name), then, then))
}

// rot changes a bit of a file, and nothing that its stamp tells.
func (p place) rot(name string) {
	then := must(os.Stat(p.path(name))).ModTime()
	p.write(name, flip(p.read(name)))
	check(os.Chtimes(p.path(name), then, then))
}

func flip(data []byte) []byte {
	data = slices.Clone(data)
	data[len(data)/2] ^= 1
	return data
}

func (p place) remove(name string) { check(os.RemoveAll(p.path(name))) }

// replace replaces texts in a file that must have them. The lists do not know.
func (p place) replace(name string, oldnew ...string) {
	text := string(p.read(name))
	for i := 0; i < len(oldnew); i += 2 {
		if !strings.Contains(text, oldnew[i]) {
			p.t.Fatalf("no %q in %s", oldnew[i], name)
		}
		text = strings.ReplaceAll(text, oldnew[i], oldnew[i+1])
	}
	p.write(name, []byte(text))
}

// series returns what a document says.
func (p place) series(doc string) meta.Series { return must(meta.ParseSeries(p.read(doc))) }

// publish writes the document of a series.
func (p place) publish(doc string, s meta.Series) { p.write(doc, must(s.Encode())) }

// relist makes each SHA256SUMS again for what it names and what is added, and is there.
func (p place) relist(added ...string) {
	for _, list := range mirror.Lists() {
		if _, err := os.Stat(p.path(list)); err != nil {
			continue
		}
		lines := must(mirror.ParseList(list, p.read(list)))
		for _, name := range added {
			if mirror.ListOf(name) == list {
				lines = append(lines, cksum.SHA256Line{Path: name})
			}
		}
		lines = slices.DeleteFunc(lines, func(l cksum.SHA256Line) bool {
			_, err := os.Stat(p.path(l.Path))
			return err != nil
		})
		for i := range lines {
			lines[i].SHA256 = sumsOf(p.read(lines[i].Path)).SHA256
		}
		p.write(list, mirror.FormatList(lines))
	}
}

// oneList makes the lists one, as those of the version before.
func (p place) oneList() {
	var all []cksum.SHA256Line
	for _, list := range mirror.Lists() {
		if !p.has(list) {
			continue
		}
		all = append(all, must(mirror.ParseList(list, p.read(list)))...)
		p.remove(list)
	}
	p.write(mirror.SHA256, cksum.AppendSHA256SUMS(nil, all))
}

// putDelta puts a delta into the mirror and its digests into all documents.
func (p place) putDelta(name string, data []byte) {
	sums := sumsOf(data)
	p.write(name, data)
	s := p.series(amxaDoc)
	for i := range s.Images {
		for j := range s.Images[i].Diffs {
			if d := &s.Images[i].Diffs[j]; meta.DeltaPath(d.Filename) == name {
				d.Sums = sums
			}
		}
	}
	p.publish(amxaDoc, s)
	p.recksum()
}

// recksum makes CKSUMS again, and with it each SHA256SUMS.
func (p place) recksum() {
	lines := must(cksum.ParseCKSUMS(bytes.NewReader(p.read("CKSUMS"))))
	for i, l := range lines {
		s := sumsOf(p.read(mirror.PathOf(l.Name)))
		lines[i].CRC, lines[i].Size = s.CRC, s.Size
	}
	p.write("CKSUMS", cksum.AppendCKSUMS(nil, lines))
	p.relist()
}

func sumsOf(data []byte) cksum.Sums {
	h := cksum.New()
	h.Write(data)
	return h.Sums()
}

// verify verifies the mirror, which must not change by it.
func (p place) verify(deep bool) Report {
	p.t.Helper()
	before := p.tree()
	r, err := Verify(p.t.Context(), Options{MirrorDir: p.dir, Deep: deep, Jobs: 2})
	if err != nil {
		p.t.Fatal(err)
	}
	if after := p.tree(); after != before {
		p.t.Errorf("Verify changed the mirror from\n%s\nto\n%s", before, after)
	}
	return r
}

// tree returns all that is in the mirror, with its times.
func (p place) tree() string {
	var b strings.Builder
	check(fs.WalkDir(os.DirFS(p.dir), ".", func(path string, d fs.DirEntry, err error) error {
		check(err)
		info := must(d.Info())
		fmt.Fprintln(&b, path, info.Mode(), info.Size(), info.ModTime())
		return nil
	}))
	return b.String()
}

// expect compares findings with those that are wanted: problem, path, and what
// stands in the detail.
func expect(t *testing.T, got []Finding, want [][3]string) {
	t.Helper()
	ok := len(got) == len(want)
	for i := 0; ok && i < len(got); i++ {
		g, w := got[i], want[i]
		ok = string(g.Problem) == w[0] && g.Path == w[1] && strings.Contains(g.Detail, w[2])
	}
	if !ok {
		t.Errorf("got\n%q\nwant\n%q", got, want)
	}
}
