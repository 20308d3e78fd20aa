package mirror

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo/atomicfile"
)

// Folders returns the folders whose published files have a SHA256SUMS of their own. Those of
// the compact deltas and of the torrents are there only once a mirror has had some.
func Folders() []string { return []string{DeltaDir, CompactDir, MetaDir, TorrentDir} }

// SyncFolders flushes the root and the folders that are there.
func SyncFolders(root atomicfile.Dir) error {
	for _, folder := range append(Folders(), ".") {
		if _, err := root.Lstat(folder); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err := root.SyncDir(folder); err != nil {
			return err
		}
	}
	return nil
}

// Lists returns the paths of all SHA256SUMS that a mirror can have, in the order in which
// they are written: that of the root comes last. A folder without published files has none:
// sha256sum(1) refuses an empty list.
func Lists() (lists []string) {
	for _, folder := range Folders() {
		lists = append(lists, folder+"/"+SHA256)
	}
	return append(lists, SHA256)
}

// ListOf returns the path of the SHA256SUMS that names the file at a path.
func ListOf(p string) string { return path.Join(path.Dir(p), SHA256) }

// ParseList returns the lines of the SHA256SUMS at a path of the mirror, with the paths that
// their files have in the mirror. In the list of a folder, a name with a slash is an error.
// That of the root may have such names: in a mirror of an earlier version it is the only
// list, and names the files of the folders too.
func ParseList(list string, content []byte) ([]cksum.SHA256Line, error) {
	lines, err := cksum.ParseSHA256SUMS(bytes.NewReader(content))
	if list == SHA256 || err != nil {
		return lines, err
	}
	for i, l := range lines {
		if strings.Contains(l.Path, "/") {
			return nil, fmt.Errorf("%q has a slash; the list of a folder names files of this folder alone", l.Path)
		}
		lines[i].Path = path.Join(path.Dir(list), l.Path)
	}
	return lines, nil
}

// FormatList returns a SHA256SUMS of files of one folder, which are given by their paths in
// the mirror.
func FormatList(lines []cksum.SHA256Line) []byte {
	named := make([]cksum.SHA256Line, len(lines))
	for i, l := range lines {
		named[i] = cksum.SHA256Line{SHA256: l.SHA256, Path: path.Base(l.Path)}
	}
	return cksum.AppendSHA256SUMS(nil, named)
}
