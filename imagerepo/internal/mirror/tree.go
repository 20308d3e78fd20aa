// Package mirror is the tree of a mirror: where things lie in it, which of them
// are the tool's own, and the lock under which it is changed. The documentation
// of package imagerepo lists the tree.
//
// # The lock
//
// Whoever changes a mirror holds its lock, .repo/lock, see package lockfile: a build, a
// repair and a renewal of signatures, from the first change to the last. A build and a
// repair end at once if another holds it, and say who and since when; a renewal, which
// is short and runs by itself every day, waits ten minutes. Whatever only looks takes
// no lock: status, verify, a dry run, a server, an upload. So it may see the mirror
// between two documents, and looks again if that matters. Work that takes long and
// changes nothing that is published is done without the lock, which is then held only
// to publish the result: compact deltas are made so, with .repo/making.lock held. Files for
// that have no names, see Scratch, since who takes the lock empties .repo/tmp.
package mirror

import (
	"path"
	"strings"
	"time"

	"puavo-image-repository/meta"
)

// Where things lie in a mirror.
const (
	Index      = "index.json"
	Page       = "index.html" // the same for people, see package page
	CKSUMS     = "CKSUMS"
	SHA256     = "SHA256SUMS" // of the root, and the name of those of the folders, see Lists
	DeltaDir   = "rdiffs"
	CompactDir = "compact"
	MetaDir    = "meta"
	TorrentDir = "torrents"
	TUF        = "tuf"   // signed metadata, see package trust
	Private    = ".repo" // what is in it is not to be uploaded
	Pulled     = ".pull" // what package pull keeps in a copy, which no build may change
	Lock       = Private + "/lock"
	StateDir   = Private + "/state"
	signatures = Private + "/signatures"
	tmp        = Private + "/tmp"
)

// BestBefore is what the name of a file in the root begins with that says until when the
// mirror may be believed, see package published; a date follows.
const BestBefore = "BEST-BEFORE-"

// IsBestBefore reports whether a file of that name says until when the mirror may be believed.
func IsBestBefore(name string) bool {
	day, ok := strings.CutPrefix(name, BestBefore)
	_, err := time.Parse(time.DateOnly, day)
	return ok && err == nil
}

// TmpPath returns where a file of that name is written, before it gets its place.
func TmpPath(name string) string { return tmp + "/" + name }

// SignaturePath returns where the signature of an image lies.
func SignaturePath(n meta.Name) string { return signatures + "/" + n.String() + ".sig" }

// torrentExt is what the name of a torrent has after that of its file.
const torrentExt = ".torrent"

// CompactExt is what the name of a compact delta ends with, see meta.CompactName.
const CompactExt = ".cdelta"

// TorrentOf returns the name of the torrent of the image or delta of that name.
func TorrentOf(file string) string { return file + torrentExt }

// FileOf returns the name of the image or delta that a torrent of that name is of, and
// whether it is the name of a torrent.
func FileOf(torrent string) (file string, ok bool) { return strings.CutSuffix(torrent, torrentExt) }

// PathOf returns where the image, the delta of either format, the torrent or the meta of that
// name lies.
func PathOf(name string) string {
	switch path.Ext(name) {
	case ".rdiff":
		return meta.DeltaPath(name)
	case CompactExt:
		return meta.CompactPath(name)
	case torrentExt:
		return TorrentDir + "/" + name
	case ".json":
		return MetaDir + "/" + name
	default:
		return name
	}
}

// IsOurName reports whether the tool may have given a file that name.
func IsOurName(name string) bool {
	var err error
	switch path.Ext(name) {
	case ".img":
		_, err = meta.ParseOldName(name)
	case ".rdiff":
		_, _, err = meta.ParseOldDeltaName(name)
	case CompactExt:
		_, _, err = meta.ParseCompactName(name)
	case torrentExt:
		file, _ := FileOf(name)
		ext := path.Ext(file)
		return (ext == ".img" || ext == ".rdiff" || ext == CompactExt) && IsOurName(file)
	case ".json":
		_, err = meta.ParseSeriesName(name[:len(name)-len(".json")])
	default:
		return false
	}
	return err == nil
}
