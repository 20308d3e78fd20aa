package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"puavo-image-repository/bench/internal/build"
	"puavo-image-repository/bench/internal/files"
	"puavo-image-repository/bench/internal/generate"
	"puavo-image-repository/meta"
)

// pair is a base and a target. make, if any, makes them before they are used.
type pair struct {
	name         string
	base, target string
	make         func() error
}

func (p pair) prepare() error {
	if p.make != nil {
		if err := p.make(); err != nil {
			return err
		}
	}
	return files.Warm([]string{p.base, p.target})
}

// useMemory fills memory with a file that it removes again. The host of a virtual
// machine takes memory back that is free for some seconds, and to get it again takes
// longer than all that a client does.
func useMemory(ctx context.Context, path string, size int64) error {
	defer os.Remove(path)
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	piece := make([]byte, 1<<20)
	for ; size > 0 && ctx.Err() == nil; size -= int64(len(piece)) {
		if _, err := f.Write(piece); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// remove removes what was made.
func (p pair) remove() {
	if p.make != nil {
		os.Remove(p.base)
		os.Remove(p.target)
	}
}

// corpus returns the pairs of a corpus.
func corpus(o options, tmp string) ([]pair, error) {
	switch o.corpus {
	case "small":
		return small(tmp)
	case "growth":
		return growth(tmp, o.growth), nil
	case "real":
		return realPairs(cmp.Or(o.dir, realDir))
	case "raw":
		return namedPairs(cmp.Or(o.dir, rawDir), "raw.sh", rawNames)
	case "repacked":
		return namedPairs(cmp.Or(o.dir, repackedDir), "repack.sh", repackedNames)
	default:
		images, err := filepath.Glob(filepath.Join(o.corpus, "*.img"))
		if err != nil || len(images) < 2 {
			return nil, fmt.Errorf("%s has %d images, want two or more", o.corpus, len(images))
		}
		return chain(images), nil
	}
}

// realDir, rawDir and repackedDir are where the corpora of corpus.sh, raw.sh and repack.sh
// are, if it is not said otherwise.
const (
	realDir     = "/var/tmp/corpus"
	rawDir      = "/var/tmp/raw"
	repackedDir = "/var/tmp/repacked"
)

// named are pairs by the prefix of their images.
type named []struct{ prefix, name string }

// rawNames are the names of the pairs of raw.sh, in the order in which they are
// compared, by the prefix of their images.
var rawNames = named{
	{"ext4", "ext4: files replaced, added and removed in place"},
	{"iso", "iso: two states of a tree as ISO 9660"},
	{"records", "records: a table of 16 bytes each, in long runs"},
	{"disk", "disk: sparse, nearly all of it zeros"},
}

// repackedNames are the names of the pairs of repack.sh.
var repackedNames = named{
	{"xz", "xz: a part of the large change as squashfs with xz"},
	{"disk", "disk: the large change in an ext4 that is updated in place"},
}

// namedPairs returns the pairs that a script made in a directory.
func namedPairs(dir, script string, names named) (pairs []pair, err error) {
	for _, r := range names {
		images, err := filepath.Glob(filepath.Join(dir, r.prefix+"-*.img"))
		if err != nil || len(images) != 2 {
			return nil, fmt.Errorf("%s has %d images of %s, want the two that bench/%s %s makes", dir, len(images), r.prefix, script, dir)
		}
		slices.Sort(images)
		pairs = append(pairs, pair{name: r.name, base: images[0], target: images[1]})
	}
	return pairs, nil
}

// chain pairs each image with the one before it.
func chain(images []string) (pairs []pair) {
	for i := range images[1:] {
		pairs = append(pairs, pair{name: filepath.Base(images[i]) + " to " + filepath.Base(images[i+1]), base: images[i], target: images[i+1]})
	}
	return pairs
}

// realPairs returns a large change, a release to its security updates, and a small
// one, an image without three applications from one with them.
func realPairs(dir string) ([]pair, error) {
	images, err := filepath.Glob(filepath.Join(dir, "*.img"))
	if err != nil || len(images) != 3 {
		return nil, fmt.Errorf("%s has %d images, want the three of bench/corpus.sh %s", dir, len(images), dir)
	}
	slices.Sort(images)
	a, b, c := images[0], images[1], images[2]
	return []pair{
		{name: "large change: a release to its security updates", base: a, target: b},
		{name: "small change: three applications fewer", base: c, target: b},
	}, nil
}

// small returns pairs of the test images and generated ones.
func small(tmp string) ([]pair, error) {
	images, err := filepath.Glob(filepath.Join(build.Top, "testdata/images/*amxa*.img"))
	if err != nil || len(images) == 0 {
		return nil, fmt.Errorf("no test images in ../testdata; run it in bench, as go -C bench run . does")
	}
	pairs := chain(images)
	return append(pairs, generated(tmp, "generated, 64 MB", 64<<20)), nil
}

// growth returns generated pairs of 1 GB, 2 GB and so on.
func growth(tmp string, largest int) (pairs []pair) {
	for gb := 1; gb <= largest; gb *= 2 {
		pairs = append(pairs, generated(tmp, fmt.Sprintf("generated, %d GB", gb), int64(gb)*1e9))
	}
	return pairs
}

// generated returns a pair that is made when it is used.
func generated(tmp, name string, size int64) pair {
	p := pair{name: name, base: filepath.Join(tmp, "base"), target: filepath.Join(tmp, "target")}
	p.make = func() error { return generate.Pair(p.base, p.target, size) }
	return p
}

// wanted returns the deltas of a repository, in the predecessor's order and with
// the names of their files: to the three newest images of each series, from all
// others of it.
func wanted(images []string) (pairs []pair, err error) {
	series := make(map[string][]meta.Name)
	paths := make(map[meta.Name]string)
	var order []string
	for _, path := range images {
		name, err := meta.ParseName(filepath.Base(path))
		if err != nil {
			return nil, err
		}
		if series[name.Series()] == nil {
			order = append(order, name.Series())
		}
		series[name.Series()] = append(series[name.Series()], name)
		paths[name] = path
	}
	for _, s := range order {
		names := slices.SortedFunc(slices.Values(series[s]), meta.Name.Compare)
		for _, target := range names[max(len(names)-3, 0):] {
			for _, base := range names {
				if base != target {
					pairs = append(pairs, pair{name: meta.DeltaName(base, target), base: paths[base], target: paths[target]})
				}
			}
		}
	}
	return pairs, nil
}

// clientCorpus returns a directory of images, and the updates that are measured.
func clientCorpus(ctx context.Context, o clientOptions, tmp string) (dir string, pairs []pair, err error) {
	switch o.corpus {
	case "real":
		pairs, err = realPairs(o.dir)
		return o.dir, pairs, err
	case "small":
		dir = filepath.Join(tmp, "images")
		if err := (generate.Images{Series: 1, Versions: 2, Size: 64 << 20}).Write(ctx, dir); err != nil {
			return "", nil, err
		}
	default:
		dir = o.corpus
	}
	images, all, err := imagesOf(dir)
	if err != nil {
		return "", nil, err
	}
	for _, p := range chain(images) {
		if slices.ContainsFunc(all, func(d pair) bool { return d.base == p.base && d.target == p.target }) {
			pairs = append(pairs, p)
		}
	}
	return dir, pairs, nil
}

// update makes a target from a base, both as the mirror's meta has them.
type update struct {
	pair
	series string // path of the meta
	target *meta.Image
	delta  meta.Diff
}

// updateOf finds a pair in a mirror, if that has a delta of it.
func updateOf(p pair, mirror string) (u *update, found bool, err error) {
	from, fromErr := meta.ParseName(filepath.Base(p.base))
	to, toErr := meta.ParseName(filepath.Base(p.target))
	if err := errors.Join(fromErr, toErr); err != nil {
		return nil, false, err
	}
	u = &update{pair: p, series: meta.SeriesPath(to.Series())}
	text, err := os.ReadFile(filepath.Join(mirror, u.series))
	if err != nil {
		return nil, false, err
	}
	series, err := meta.ParseSeries(text)
	if err != nil {
		return nil, false, err
	}
	if u.target, found = series.Image(to); found {
		u.delta, found = u.target.Diff(from)
	}
	return u, found, nil
}

// deltaPath is where the delta lies in the mirror.
func (u *update) deltaPath() string { return meta.DeltaPath(u.delta.Filename) }

// linkOrCopy gives a file another name, or a copy of it where it cannot have one.
func linkOrCopy(from, to string) error {
	if os.Link(from, to) == nil {
		return nil
	}
	r, err := os.Open(from)
	if err != nil {
		return err
	}
	defer r.Close()
	w, err := os.Create(to)
	if err != nil {
		return err
	}
	defer w.Close()
	_, err = io.Copy(w, r)
	return err
}
