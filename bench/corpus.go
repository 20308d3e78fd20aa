package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

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
	return warm([]string{p.base, p.target})
}

// warm reads files, so that all peers find them in the page cache, as far as it
// holds them.
func warm(paths []string) error {
	for _, path := range paths {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, f)
		f.Close()
		if err != nil {
			return err
		}
	}
	return nil
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
		return realPairs(o.dir)
	default:
		images, err := filepath.Glob(filepath.Join(o.corpus, "*.img"))
		if err != nil || len(images) < 2 {
			return nil, fmt.Errorf("%s has %d images, want two or more", o.corpus, len(images))
		}
		return chain(images), nil
	}
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
	images, err := filepath.Glob(filepath.Join(top, "testdata/images/*amxa*.img"))
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

// generated returns a pair that is made when it is used: incompressible bytes, of
// which about a third changes in pieces of all lengths, moves, or is new.
func generated(tmp, name string, size int64) pair {
	p := pair{name: name, base: filepath.Join(tmp, "base"), target: filepath.Join(tmp, "target")}
	p.make = func() error { return generate(p.base, p.target, size) }
	return p
}

// generate writes base and target together, block by block.
func generate(base, target string, size int64) error {
	b, err := os.Create(base)
	if err != nil {
		return err
	}
	defer b.Close()
	t, err := os.Create(target)
	if err != nil {
		return err
	}
	defer t.Close()
	bw, tw := bufio.NewWriterSize(b, 1<<20), bufio.NewWriterSize(t, 1<<20)
	noise := rand.NewChaCha8([32]byte([]byte(strings.Repeat("rs\x02\x36", 8))))
	r := rand.New(noise)
	block, fresh := make([]byte, 1<<20), make([]byte, 1<<20)
	for done := int64(0); done < size; done += int64(len(block)) {
		noise.Read(block)
		bw.Write(block)
		switch r.IntN(6) {
		case 0: // new
			noise.Read(fresh)
			tw.Write(fresh[:r.IntN(len(fresh))])
		case 1: // changed in many places
			for at := 0; at < len(block); at += 16 + r.IntN(4096) {
				block[at]++
			}
			tw.Write(block)
		default:
			tw.Write(block)
		}
	}
	if err := bw.Flush(); err != nil {
		return err
	}
	return tw.Flush()
}

// clientCorpus returns a directory of images, and the updates that are measured.
func clientCorpus(ctx context.Context, o clientOptions, tmp string) (dir string, pairs []pair, err error) {
	switch o.corpus {
	case "real":
		pairs, err = realPairs(o.dir)
		return o.dir, pairs, err
	case "small":
		dir = filepath.Join(tmp, "images")
		if err := (shape{series: 1, versions: 2, size: 64 << 20}).generate(ctx, dir); err != nil {
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

// shape tells of a generated directory of images.
type shape struct {
	series, versions int
	size             int64 // about that of each image
}

// generate makes a directory of images of incompressible bytes. They are the same
// each time.
func (s shape) generate(ctx context.Context, dir string) error {
	if err := os.Mkdir(dir, 0o777); err != nil {
		return err
	}
	noise := rand.NewChaCha8([32]byte([]byte(strings.Repeat("rs\x02\x36", 8))))
	for i := range s.series {
		before := ""
		for v := range s.versions {
			if err := ctx.Err(); err != nil {
				return err
			}
			version := time.Date(2024, 1, 1+v, 12, 0, 0, 0, time.UTC).Format("2006-01-02-150405")
			path := filepath.Join(dir, fmt.Sprintf("puavo-os-series%02d-%s-amd64.img", i, version))
			if err := s.create(path, before, noise); err != nil {
				return err
			}
			before = path
		}
	}
	return nil
}

// create writes an image, as a change of the one before it if there is one.
func (s shape) create(path, before string, noise *rand.ChaCha8) error {
	r := io.LimitReader(noise, s.size)
	if before != "" {
		f, err := os.Open(before)
		if err != nil {
			return err
		}
		defer f.Close()
		r = f
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	w := bufio.NewWriterSize(f, 1<<20)
	if err := change(w, bufio.NewReaderSize(r, 1<<20), noise); err != nil {
		return err
	}
	return w.Flush()
}

// change copies, and replaces about a tenth: stretches of up to 32 KiB with new
// ones of another length.
func change(w io.Writer, r *bufio.Reader, noise *rand.ChaCha8) error {
	const stretch = 32 << 10
	random := rand.New(noise)
	for {
		if _, err := io.CopyN(w, r, random.Int64N(9*stretch)); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		if _, err := io.CopyN(w, noise, random.Int64N(stretch)); err != nil {
			return err
		}
		if _, err := r.Discard(random.IntN(stretch)); err != nil && err != io.EOF {
			return err
		}
	}
}
