package mirrortest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo/internal/mirror"
	"puavo-image-repository/meta"
)

// Holds returns what is wrong in a directory that is published: each digest that a document
// has must be that of the file, and each torrent has its file.
func Holds(dir string) error {
	var errs []error
	for _, list := range mirror.Lists() {
		data, err := os.ReadFile(filepath.Join(dir, list))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		lines, err := mirror.ParseList(list, data)
		errs = append(errs, err)
		for _, l := range lines {
			errs = append(errs, is(dir, l.Path, l.SHA256, list))
		}
	}
	torrents, _ := filepath.Glob(filepath.Join(dir, "torrents", "*.torrent"))
	for _, t := range torrents {
		file, _ := mirror.FileOf(filepath.Base(t))
		if _, err := os.Stat(filepath.Join(dir, mirror.PathOf(file))); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", t, err))
		}
	}
	errs = append(errs, cksumsHold(dir))
	index, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return errors.Join(errs...)
	}
	ix, err := meta.ParseIndex(index)
	errs = append(errs, err)
	for _, e := range ix.Series {
		errs = append(errs, seriesHolds(dir, e.Meta))
	}
	return errors.Join(errs...)
}

func cksumsHold(dir string) error {
	data, _ := os.ReadFile(filepath.Join(dir, "CKSUMS"))
	lines, err := cksum.ParseCKSUMS(bytes.NewReader(data))
	errs := []error{err}
	for _, l := range lines {
		file := l.Name
		if path.Ext(file) == ".rdiff" {
			file = meta.DeltaPath(file)
		}
		content, err := os.ReadFile(filepath.Join(dir, file))
		sums, _ := cksum.Read(context.Background(), bytes.NewReader(content))
		if err != nil || sums.CRC != l.CRC || sums.Size != l.Size {
			errs = append(errs, err, fmt.Errorf("%s is not what CKSUMS says", file))
		}
	}
	return errors.Join(errs...)
}

func seriesHolds(dir, doc string) error {
	data, err := os.ReadFile(filepath.Join(dir, doc))
	if err != nil {
		return fmt.Errorf("index.json: %w", err)
	}
	s, err := meta.ParseSeries(data)
	errs := []error{err}
	for _, im := range s.Images {
		errs = append(errs, is(dir, im.Name.String(), im.Sums.SHA256, doc))
		for _, d := range im.Diffs {
			errs = append(errs, is(dir, meta.DeltaPath(d.Filename), d.Sums.SHA256, doc))
		}
		for _, c := range im.Compact {
			errs = append(errs, is(dir, meta.CompactPath(c.Filename), c.Sums.SHA256, doc))
		}
	}
	return errors.Join(errs...)
}

func is(dir, name string, want cksum.Digest256, list string) error {
	data, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return fmt.Errorf("%s names what is not there: %w", list, err)
	}
	if sha256.Sum256(data) != want {
		return fmt.Errorf("%s is not what %s says", name, list)
	}
	return nil
}
