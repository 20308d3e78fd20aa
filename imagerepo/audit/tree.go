package audit

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"
	"time"

	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/mirror"
	"puavo-image-repository/imagerepo/internal/store"
	"puavo-image-repository/meta"
	"puavo-image-repository/meta/untrusted"
)

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

// torrentOf returns the path of the image or delta whose torrent could be at a path of the
// mirror, and whether one could.
func torrentOf(p string) (of string, ok bool) {
	name, ours := ourName(p)
	file, isTorrent := mirror.FileOf(name)
	return mirror.PathOf(file), ours && isTorrent
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
		return nil, noFile(path.Dir(name) + " is not a directory")
	case err != nil || info.Mode().IsRegular():
		return info, err
	default:
		return nil, noFile("it is " + atomicfile.Describe(info.Mode()))
	}
}

// readDocument returns the content of a document, with errors as openFile's.
func readDocument(root atomicfile.Dir, name string) ([]byte, error) {
	f, err := openFile(root, name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return untrusted.ReadAll(f, meta.MaxDocument)
}

// orphanSearch looks for files that no document names.
type orphanSearch struct {
	files   files   // the documents that exist, and what they name
	all     bool    // whether the documents name all that is published
	listed  bool    // whether the root's SHA256SUMS, which alone names the page, could be parsed
	records records // say which orphans wait for their removal
	found   *findings
	ours    []string // those with names as the tool gives them
}

const nothingNames = "no document names it"

// findOrphans reports what no document names. It returns those orphans that have names
// as the tool gives them: a run in progress may just have made them.
func findOrphans(ctx context.Context, root atomicfile.Dir, d *documents, all files, r records, found *findings) ([]string, error) {
	s := &orphanSearch{files: all, all: d.complete(), listed: d.parsed(mirror.SHA256), records: r, found: found}
	err := fs.WalkDir(root.FS(), ".", func(p string, e fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return s.visit(p, e, err)
	})
	return s.ours, err
}

// visit is an fs.WalkDirFunc.
func (s *orphanSearch) visit(p string, e fs.DirEntry, err error) error {
	switch {
	case err != nil && p == ".":
		return fmt.Errorf("the mirror: %w", err)
	case errors.Is(err, fs.ErrNotExist):
		return nil // it was removed just now
	case err != nil:
		// Files in it that documents name are reported by themselves.
		s.found.add(p, Note, "cannot be read: "+err.Error())
		return fs.SkipDir
	case e.IsDir():
		return s.enter(p)
	case p != mirror.Private && s.files[p] == nil && !ofPublisher(p):
		s.orphan(p)
	}
	return nil
}

// ofPublisher reports whether a file is what a publisher leaves at its destination.
func ofPublisher(p string) bool { return strings.HasPrefix(p, store.Aside) }

// enter skips directories in which no orphans are looked for: signed metadata is for
// package trust.
func (s *orphanSearch) enter(p string) error {
	switch p {
	case mirror.Private, mirror.TUF, store.Aside:
		return fs.SkipDir
	case ".checksums", ".signatures":
		s.found.add(p, Note, "a directory of the old rake task, no longer used")
		return fs.SkipDir
	}
	return nil
}

// orphan reports an orphan, or keeps it for the end of the look.
func (s *orphanSearch) orphan(p string) {
	record := s.records.of(p)
	_, ours := ourName(p)
	switch {
	case record != nil && record.Orphaned != 0:
		since := time.Unix(record.Orphaned, 0).UTC().Format(time.DateTime)
		s.found.add(p, Waiting, "no document names it since "+since+" UTC; it will be removed after the grace period")
	case p == mirror.Page && !s.listed:
	case !ours && !mirror.IsBestBefore(p):
		s.found.add(p, Orphan, nothingNames)
	case s.all:
		s.ours = append(s.ours, p)
	}
}
