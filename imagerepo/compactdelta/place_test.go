package compactdelta

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"puavo-image-repository/cksum"
	"puavo-image-repository/delta/compact"
	"puavo-image-repository/imagerepo"
	"puavo-image-repository/imagerepo/internal/compacts"
	"puavo-image-repository/imagerepo/internal/mirror"
	"puavo-image-repository/imagerepo/internal/mirrortest"
	"puavo-image-repository/imagerepo/plan"
	"puavo-image-repository/meta"
	"puavo-image-repository/testdata"
)

const (
	image1 = "puavo-os-test-buster-2021-04-13-192449-amd64.img"
	image2 = "puavo-os-test-buster-2021-04-13-193910-amd64.img"
	image3 = "puavo-os-test-buster-2022-01-17-120001-amd64.img"
	image4 = "puavo-os-test-buster-2022-01-20-173248-amd64.img"
	series = "puavo-os-test-buster-amd64"
)

// name returns the name of an image.
func name(file string) meta.Name {
	n, err := meta.ParseName(file)
	if err != nil {
		panic(err)
	}
	return n
}

// compactOf returns the name of the compact delta between two images.
func compactOf(base, target string) string { return meta.CompactName(name(base), name(target)) }

// words returns n bytes that pack well.
func words(seed uint64, n int) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	var all []byte
	for len(all) < n {
		all = fmt.Appendf(all, "%x word ", r.IntN(5000))
	}
	return all[:n]
}

// contents are what the images have: each other words at its start, all the same after that.
// But those of image2 do not pack.
func contents(image string) []byte {
	own := map[string]uint64{image1: 1, image2: 2, image3: 3, image4: 4}[image]
	start := words(own, 1000+3000*int(own))
	if image == image2 {
		r := rand.New(rand.NewPCG(7, 7))
		for i := range start {
			start[i] = byte(r.Uint32())
		}
	}
	return append(start, words(9, 30_000)...)
}

// real is what makes compact deltas where a test does not have another: compact.Encode, which
// remembers what was made.
func real(ctx context.Context, w io.Writer, base, target compact.Image, o compact.Options) (compact.Info, error) {
	type result struct {
		bytes []byte
		info  compact.Info
	}
	key := [2]string{string(base.Bytes), string(target.Bytes)}
	if ctx.Err() != nil {
		return compact.Info{}, ctx.Err()
	}
	if r, ok := remembered.Load(key); ok {
		_, err := w.Write(r.(result).bytes)
		return r.(result).info, err
	}
	var b bytes.Buffer
	info, err := compact.Encode(ctx, io.MultiWriter(w, &b), base, target, o)
	if err == nil {
		remembered.Store(key, result{b.Bytes(), info})
	}
	return info, err
}

var remembered sync.Map

// encodeBy has a test make compact deltas in another way. Such tests do not run in parallel.
func encodeBy(t *testing.T, by func(ctx context.Context, w io.Writer, base, target compact.Image, o compact.Options) (compact.Info, error)) {
	encode = by
	t.Cleanup(func() { encode = real })
}

// place is an image directory and its mirror.
type place struct {
	t      testing.TB
	log    bytes.Buffer
	images string
	Options
}

// newPlace returns one whose mirror is built.
func newPlace(t testing.TB, images ...string) *place {
	t.Helper()
	return newPlaceIn(t, t.TempDir(), images...)
}

func newPlaceIn(t testing.TB, dir string, images ...string) *place {
	t.Helper()
	p := &place{t: t, images: filepath.Join(dir, "images")}
	p.Log = slog.New(slog.NewTextHandler(&p.log, &slog.HandlerOptions{Level: slog.LevelWarn}))
	p.MirrorDir, p.URL, p.NoSync = filepath.Join(dir, "mirror"), "https://images.example.org", true
	p.Policy = plan.Policy{Targets: 3, Downgrades: true, Compact: plan.Compact{Mode: plan.CompactNewest}}
	if err := os.Mkdir(p.images, 0o777); err != nil {
		t.Fatal(err)
	}
	for _, im := range images {
		p.write(im, contents(im))
	}
	p.build()
	return p
}

// write replaces an image.
func (p *place) write(file string, data []byte) {
	p.t.Helper()
	os.Remove(filepath.Join(p.images, file))
	if err := os.WriteFile(filepath.Join(p.images, file), data, 0o666); err != nil {
		p.t.Fatal(err)
	}
}

// build builds the mirror.
func (p *place) build() imagerepo.Summary {
	p.t.Helper()
	_, s, err := imagerepo.Build(context.Background(), p.buildOptions())
	if err != nil {
		p.t.Fatal(err)
	}
	return s
}

// tryBuild builds the mirror, and may fail.
func (p *place) tryBuild() error {
	_, _, err := imagerepo.Build(context.Background(), p.buildOptions())
	return err
}

func (p *place) buildOptions() imagerepo.Options {
	return imagerepo.Options{
		ImageDir: p.images, MirrorDir: p.MirrorDir, URL: p.URL, Policy: p.Policy, Torrents: p.Torrents, Jobs: 2, Sign: p.Sign,
		Root: p.Root, NoPage: p.NoPage, BestBefore: p.BestBefore, NoSync: p.NoSync,
	}
}

// run makes compact deltas, which must succeed.
func (p *place) run() Summary {
	p.t.Helper()
	_, s, err := Run(p.t.Context(), p.Options)
	if err != nil {
		p.t.Fatal(err)
	}
	p.valid()
	return s
}

// actions returns what became of those that were to be made, such as "make drop".
func actions(s Summary) string {
	var all []string
	for _, d := range s.Deltas {
		all = append(all, string(d.Action))
	}
	return strings.Join(all, " ")
}

// published returns the compact deltas that the documents name.
func (p *place) published() (all []meta.Compact) {
	p.t.Helper()
	docs, err := filepath.Glob(filepath.Join(p.MirrorDir, "meta", "*.json"))
	if err != nil {
		p.t.Fatal(err)
	}
	for _, doc := range docs {
		data, err := os.ReadFile(doc)
		if err != nil {
			p.t.Fatal(err)
		}
		s, err := meta.ParseSeries(data)
		if err != nil {
			p.t.Fatal(err)
		}
		for _, im := range s.Images {
			p.same(im.Name.String(), im.Sums)
			for _, d := range im.Diffs {
				p.same(meta.DeltaPath(d.Filename), d.Sums)
			}
			for _, c := range im.Compact {
				p.same(meta.CompactPath(c.Filename), c.Sums)
				p.makes(c, im)
			}
			all = append(all, im.Compact...)
		}
	}
	return all
}

// valid checks what a client may rely on at any instant: what the meta names is there, with its
// digests, and the compact deltas make their images.
func (p *place) valid() {
	p.t.Helper()
	p.published()
}

func (p *place) read(file string) []byte {
	p.t.Helper()
	data, err := os.ReadFile(filepath.Join(p.MirrorDir, file))
	if err != nil {
		p.t.Errorf("the meta names what is not there: %v", err)
	}
	return data
}

func (p *place) same(file string, want cksum.Sums) {
	p.t.Helper()
	h := cksum.New()
	h.Write(p.read(file))
	if h.Sums() != want {
		p.t.Errorf("%s is not what the meta says", file)
	}
}

// makes checks that a compact delta makes its image.
func (p *place) makes(c meta.Compact, im meta.Image) {
	p.t.Helper()
	images := compacts.Images{Target: im.Sums}
	if c.Base != (meta.Name{}) {
		base := p.read(c.Base.String())
		h := cksum.New()
		h.Write(base)
		images.Base, images.From = h.Sums(), bytes.NewReader(base)
	}
	if _, err := compacts.Apply(context.Background(), bytes.NewReader(p.read(meta.CompactPath(c.Filename))), images, io.Discard); err != nil {
		p.t.Errorf("%s: %v", c.Filename, err)
	}
}

// tree returns the public files of the mirror with their digests.
func (p *place) tree() string {
	p.t.Helper()
	var b strings.Builder
	all := mirrortest.Tree(p.t, p.MirrorDir)
	for _, file := range slices.Sorted(maps.Keys(all)) {
		fmt.Fprintf(&b, "%s %d %x\n", file, len(all[file]), sha256.Sum256([]byte(all[file])))
	}
	return b.String()
}

// left returns the temporary files that are there.
func (p *place) left() (all []string) {
	for _, dir := range []string{".", mirror.Private, path.Dir(mirror.TmpPath("x"))} {
		entries, err := os.ReadDir(filepath.Join(p.MirrorDir, dir))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			p.t.Fatal(err)
		}
		for _, e := range entries {
			if dir == path.Dir(mirror.TmpPath("x")) || strings.HasPrefix(e.Name(), ".scratch") {
				all = append(all, path.Join(dir, e.Name()))
			}
		}
	}
	return all
}

// pick returns how often a test does something: all of it where COMPACT_FAULTS is set, as
// .ci/long does.
func pick(all, usual, short int) int {
	if os.Getenv("COMPACT_FAULTS") != "" {
		return all
	}
	return testdata.Scale(usual, short)
}
