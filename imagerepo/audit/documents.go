package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/mirror"
	"puavo-image-repository/meta"
)

// errTooLarge is the error for a document that is none by its size.
var errTooLarge = fmt.Errorf("it has more than %d bytes", meta.MaxDocument)

// open opens a mirror to look at it.
func open(dir string) (*mirror.Mirror, error) {
	if dir == "" {
		return nil, errors.New("audit: MirrorDir must be given")
	}
	m, err := mirror.View(dir)
	if err != nil {
		return nil, fmt.Errorf("the mirror: %w; check the path", err)
	}
	metas, err := allMeta(m.Root)
	there := err != nil || len(metas) > 0
	for _, name := range []string{mirror.Index, mirror.CKSUMS, mirror.SHA256} {
		_, err := m.Root.Lstat(name)
		there = there || !errors.Is(err, fs.ErrNotExist)
	}
	if !there {
		m.Close()
		return nil, fmt.Errorf("%s: %w; give the directory that was built", dir, ErrNoMirror)
	}
	return m, nil
}

// allMeta returns the paths of the files of meta/ that have the name of a series.
func allMeta(root atomicfile.Dir) (paths []string, err error) {
	entries, err := fs.ReadDir(root.FS(), mirror.MetaDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for _, e := range entries {
		if p := mirror.MetaDir + "/" + e.Name(); isMeta(p) {
			paths = append(paths, p)
		}
	}
	return paths, err
}

// isMeta reports whether the meta of a series could be at a path of the mirror.
func isMeta(p string) bool {
	_, ours := ourName(p)
	return ours && path.Ext(p) == ".json"
}

// ourName returns the name of the file at a path of the mirror, and whether the
// tool may have given it that name and that place.
func ourName(p string) (name string, ours bool) {
	name = path.Base(p)
	return name, mirror.IsOurName(name) && mirror.PathOf(name) == p
}

// noFile says why what has the name of a file is none. It is an fs.ErrNotExist.
type noFile string

func (e noFile) Error() string { return string(e) }

func (noFile) Is(target error) bool { return target == fs.ErrNotExist }

// openFile opens a file of the mirror. What is no regular file is a noFile.
func openFile(root atomicfile.Dir, name string) (*os.File, error) {
	if _, err := statFile(root, name); err != nil {
		return nil, err
	}
	return root.Open(name)
}

// statFile looks at a file of the mirror, with errors as openFile's.
func statFile(root atomicfile.Dir, name string) (fs.FileInfo, error) {
	info, err := root.Lstat(name)
	switch {
	case errors.Is(err, syscall.ENOTDIR):
		return nil, noFile(path.Dir(name) + " is no directory")
	case err != nil || info.Mode().IsRegular():
		return info, err
	case info.IsDir():
		return nil, noFile("it is a directory")
	case info.Mode()&fs.ModeSymlink != 0:
		return nil, noFile("it is a symbolic link")
	default:
		return nil, noFile("it is no regular file")
	}
}

// readDocument returns the content of a document, with errors as openFile's.
func readDocument(root atomicfile.Dir, name string) ([]byte, error) {
	f, err := openFile(root, name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, meta.MaxDocument+1))
	if err == nil && len(data) > meta.MaxDocument {
		return nil, errTooLarge
	}
	return data, err
}

// readDocuments reads and parses the documents, and records what they say.
func (v *verifier) readDocuments(ctx context.Context) error {
	v.readDocument(mirror.Index, func(data []byte) error {
		index, err := meta.ParseIndex(data)
		return keep(&v.index, index, err)
	})
	v.readDocument(mirror.CKSUMS, func(data []byte) error {
		lines, err := cksum.ParseCKSUMS(bytes.NewReader(data))
		return keep(&v.cksums, list[cksum.Line]{lines}, err)
	})
	v.readDocument(mirror.SHA256, func(data []byte) error {
		lines, err := cksum.ParseSHA256SUMS(bytes.NewReader(data))
		return keep(&v.sha256, list[cksum.SHA256Line]{lines}, err)
	})
	metas := v.published()
	for _, p := range metas {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		v.readDocument(p, func(data []byte) error {
			s, err := meta.ParseSeries(data)
			if err == nil {
				v.series[p] = &s
			}
			return err
		})
	}
	v.unknownMeta = len(v.series) < len(metas)
	v.unknown = v.unknown || v.unknownMeta
	v.recordClaims()
	return nil
}

// keep puts what was parsed into place unless there was an error, and returns
// that.
func keep[T any](place **T, parsed T, err error) error {
	if err == nil {
		*place = &parsed
	}
	return err
}

// readDocument reads and parses a document. That it is missing is reported where
// another document names it, and that it cannot be read where it is digested.
func (v *verifier) readDocument(name string, parse func([]byte) error) {
	v.mark(name)
	data, err := readDocument(v.mirror.Root, name)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	f := v.file(name)
	f.document, f.data = true, data
	if err == nil {
		err = parse(data)
	} else if err != errTooLarge {
		f.err = err
	}
	if err == nil {
		return
	}
	v.unknown = true
	if f.err == nil {
		v.found.add(name, Malformed, strings.TrimPrefix(err.Error(), "cksum: "))
	}
}

// published returns the paths of the published meta, sorted.
func (v *verifier) published() []string {
	paths := make(map[string]bool)
	if v.sha256 != nil {
		for _, l := range v.sha256.lines {
			if isMeta(l.Path) {
				paths[l.Path] = true
			}
		}
	}
	if v.index != nil {
		for _, e := range v.index.Series {
			paths[e.Meta] = true
		}
		return slices.Sorted(maps.Keys(paths))
	}
	v.mark(mirror.MetaDir)
	all, err := allMeta(v.mirror.Root)
	if err != nil {
		v.unknown, v.unknownMeta = true, true
	}
	for _, p := range all {
		paths[p] = true
	}
	return slices.Sorted(maps.Keys(paths))
}

// recordClaims records what the documents say of each file.
func (v *verifier) recordClaims() {
	for _, p := range slices.Sorted(maps.Keys(v.series)) {
		for _, im := range v.series[p].Images {
			v.claim(im.Name.String(), p, given(im.Sums))
			for _, d := range im.Diffs {
				v.claim(meta.DeltaPath(d.Filename), p, given(d.Sums))
			}
		}
	}
	if v.cksums != nil {
		for _, l := range v.cksums.lines {
			sums := valuesOf(cksum.Sums{Size: l.Size, CRC: l.CRC})
			v.claim(mirror.PathOf(l.Name), mirror.CKSUMS, values{size: sums[size], crc: sums[crc]})
		}
	}
	if v.sha256 != nil {
		for _, l := range v.sha256.lines {
			v.claim(l.Path, mirror.SHA256, values{sha256: l.SHA256.String()})
		}
	}
	if v.index != nil {
		for _, e := range v.index.Series {
			v.claim(e.Meta, mirror.Index, values{})
		}
	}
}

// file returns what is known of a file.
func (v *verifier) file(p string) *file {
	if v.files[p] == nil {
		v.files[p] = &file{path: p}
	}
	return v.files[p]
}

func (v *verifier) claim(p, from string, vs values) {
	f := v.file(p)
	f.claims = append(f.claims, claim{from, vs})
}
