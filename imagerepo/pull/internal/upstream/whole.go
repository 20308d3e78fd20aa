package upstream

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo/internal/mirror"
	"puavo-image-repository/imagerepo/internal/tuf"
	"puavo-image-repository/meta"
)

// collect reads all documents.
func (l *look) collect(ctx context.Context, e *Edition) error {
	e.Documents = make(map[string][]byte)
	sums := make(map[string]cksum.Sums)
	for _, s := range e.Series {
		for _, im := range s.Images {
			sums[im.Name.String()] = im.Sums
			for _, d := range im.Diffs {
				sums[meta.DeltaPath(d.Filename)] = d.Sums
			}
			for _, c := range im.Compact {
				sums[meta.CompactPath(c.Filename)] = c.Sums
			}
		}
	}
	listed := make(map[string]bool)
	for _, list := range mirror.Lists() {
		if err := l.collectList(ctx, list, e, sums, listed); err != nil {
			return err
		}
	}
	for name := range sums {
		if !listed[name] {
			return fmt.Errorf("%w: no %s names %s", errUnsettled, mirror.SHA256, name)
		}
	}
	if err := l.checkIndex(ctx, e); err != nil {
		return err
	}
	if err := checkCKSUMS(e.Documents[mirror.CKSUMS], sums); err != nil {
		return err
	}
	return l.collectTrust(ctx, e)
}

// collectList reads the documents that a list names.
func (l *look) collectList(ctx context.Context, list string, e *Edition, sums map[string]cksum.Sums, listed map[string]bool) error {
	data, err := l.read(ctx, list, meta.MaxDocument)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	lines, err := mirror.ParseList(list, data)
	if err != nil {
		return fmt.Errorf("%w: %s/%s: %w", ErrInput, l.mirror, list, err)
	}
	if e.Documents[list], lines = withoutUnknown(list, data, lines, sums); len(lines) == 0 {
		delete(e.Documents, list)
	}
	for _, line := range lines {
		listed[line.Path] = true
		switch ext := path.Ext(line.Path); ext {
		case ".img", ".rdiff", ".cdelta":
			if sums[line.Path].SHA256 != line.SHA256 {
				return fmt.Errorf("%w: %s and the meta differ about %s", errUnsettled, list, line.Path)
			}
			continue
		}
		data, err := l.read(ctx, line.Path, meta.MaxDocument)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err != nil || sha256.Sum256(data) != line.SHA256 {
			return fmt.Errorf("%w: %s is not what %s says", errUnsettled, line.Path, list)
		}
		e.Documents[line.Path] = data
	}
	return nil
}

// withoutUnknown returns a list without the compact deltas that the meta does not name, and
// their torrents: they have a format that this version does not know, or have just come.
func withoutUnknown(list string, data []byte, lines []cksum.SHA256Line, sums map[string]cksum.Sums) ([]byte, []cksum.SHA256Line) {
	known := slices.DeleteFunc(slices.Clone(lines), func(l cksum.SHA256Line) bool {
		file, _ := mirror.FileOf(path.Base(l.Path))
		_, named := sums[mirror.PathOf(file)]
		return path.Ext(file) == mirror.CompactExt && !named
	})
	if len(known) == len(lines) {
		return data, lines
	}
	return mirror.FormatList(known), known
}

// checkIndex compares index and meta, which may have come as signed copies, with the plain ones.
func (l *look) checkIndex(ctx context.Context, e *Edition) error {
	if e.Documents[mirror.Index] == nil {
		return fmt.Errorf("%w: no %s names %s", errUnsettled, mirror.SHA256, mirror.Index)
	}
	plain := &Edition{}
	read := func(_ context.Context, name string, _ int64) ([]byte, error) {
		if e.Documents[name] == nil {
			return nil, fmt.Errorf("%w: no list names %s", errUnsettled, name)
		}
		return e.Documents[name], nil
	}
	if err := l.readSeries(ctx, read, plain); err != nil {
		return err
	}
	if plain.Digest != e.Digest {
		return fmt.Errorf("%w: the signed documents differ from the plain ones", errUnsettled)
	}
	return nil
}

func checkCKSUMS(data []byte, sums map[string]cksum.Sums) error {
	lines, err := cksum.ParseCKSUMS(bytes.NewReader(data))
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrInput, mirror.CKSUMS, err)
	}
	for _, l := range lines {
		if s := sums[mirror.PathOf(l.Name)]; s.CRC != 0 && (s.CRC != l.CRC || s.Size != l.Size) {
			return fmt.Errorf("%w: %s and the meta differ about %s", errUnsettled, mirror.CKSUMS, l.Name)
		}
	}
	return nil
}

// maxRoots bounds the number of roots, and maxTrust the size of a signed file, in bytes.
const (
	maxRoots = 256
	maxTrust = 16 << 20
)

// collectTrust reads the signed files, if there are any: the roots, the timestamp, and the files
// that they lead to.
func (l *look) collectTrust(ctx context.Context, e *Edition) error {
	newest, err := l.collectRoots(ctx, e)
	if err != nil || newest == nil {
		return err
	}
	read := func(ctx context.Context, name string, most int64) ([]byte, error) {
		data, err := l.read(ctx, name, most)
		if err == nil {
			e.Documents[name] = data
		}
		return data, err
	}
	verified, err := tuf.Verify(ctx, newest, read)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil || verified.Targets["targets"] == nil {
		return fmt.Errorf("%w: its signatures do not verify: %w", errUnsettled, err)
	}
	for name, t := range verified.Targets["targets"].Signed.Targets {
		data, err := read(ctx, tuf.TargetPath(name, t), maxTrust)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err != nil || !bytes.Equal(data, e.Documents[name]) {
			return fmt.Errorf("%w: the signed copy of %s is missing, or differs", errUnsettled, name)
		}
	}
	e.Signed = true
	return nil
}

// collectRoots reads all roots, and returns the newest, nil if there is none.
func (l *look) collectRoots(ctx context.Context, e *Edition) (newest []byte, err error) {
	for n := int64(1); n <= maxRoots; n++ {
		name := tuf.MetadataPath("root", n)
		data, err := l.read(ctx, name, maxTrust)
		if errors.Is(err, fs.ErrNotExist) {
			return newest, nil
		} else if err != nil {
			return nil, err
		}
		e.Documents[name], newest = data, data
	}
	return nil, fmt.Errorf("%w: %s has more than %d roots", ErrInput, l.mirror, maxRoots)
}
