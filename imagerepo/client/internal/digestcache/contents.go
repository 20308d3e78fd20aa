package digestcache

import (
	"cmp"
	"encoding/json"
	"io/fs"
	"maps"
	"strings"
	"syscall"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/assemble"
	"puavo-image-repository/meta"
)

// contents is what the file holds.
type contents struct {
	Files   map[string]entry `json:"files,omitempty"`
	Pending meta.Name        `json:"pending,omitzero"`
}

// entry is what is known of one file. Its digests were computed of the content.
type entry struct {
	stamp
	SHA512 cksum.Digest512 `json:"sha512,omitzero"`
	SHA256 cksum.Digest256 `json:"sha256,omitzero"`
	BLAKE3 cksum.Digest256 `json:"blake3,omitzero"`
	Wrong  bool            `json:"wrong,omitempty"` // as the last document that it was compared with says
}

func newEntry(info fs.FileInfo, s cksum.Sums) entry {
	return entry{stamp: stampOf(info), SHA512: s.SHA512, SHA256: s.SHA256, BLAKE3: s.BLAKE3}
}

// sums returns the digests.
func (e entry) sums() cksum.Sums {
	return cksum.Sums{SHA512: e.SHA512, SHA256: e.SHA256, BLAKE3: e.BLAKE3}
}

// stamp tells, without reading it, whether a file was changed.
type stamp struct {
	Size  int64  `json:"size"`
	MTime int64  `json:"mtime"`
	CTime int64  `json:"ctime"`
	Inode uint64 `json:"inode"`
}

func stampOf(info fs.FileInfo) stamp {
	s := stamp{Size: info.Size(), MTime: info.ModTime().UnixNano()}
	if sys, ok := info.Sys().(*syscall.Stat_t); ok {
		s.CTime, s.Inode = sys.Ctim.Nano(), sys.Ino
	}
	return s
}

// parse parses the file. What is damaged is left out, and so is a BLAKE3 next to a
// SHA-512: earlier versions computed the one alone, and took the other from the meta.
// Every meta has a SHA-512 to compare.
func parse(data []byte) contents {
	var k contents
	if json.Unmarshal(data, &k) != nil {
		k = contents{}
	}
	if k.Files == nil {
		k.Files = make(map[string]entry)
	}
	maps.DeleteFunc(k.Files, func(file string, e entry) bool { return !isCacheable(file) || e.isEmpty() })
	for file, e := range k.Files {
		if (e.SHA512 != cksum.Digest512{}) {
			e.BLAKE3 = cksum.Digest256{}
			k.Files[file] = e
		}
	}
	return k
}

// isCacheable reports whether a file is an image or a partial image, by its name.
func isCacheable(file string) bool {
	_, err := meta.ParseOldName(strings.TrimSuffix(file, assemble.PartialSuffix))
	return err == nil
}

func (e entry) isEmpty() bool { return e.sums() == cksum.Sums{} }

// entry returns what is known of a file, if it was not changed since.
func (k contents) entry(file string, info fs.FileInfo) (entry, bool) {
	e, ok := k.Files[file]
	return e, ok && info.Mode().IsRegular() && e.stamp == stampOf(info)
}

// valid returns the entries of the files that exist and were not changed.
func (k contents) valid(dir atomicfile.Dir) map[string]entry {
	files := make(map[string]entry, len(k.Files))
	for file := range k.Files {
		if info, err := dir.Lstat(file); err == nil {
			if e, ok := k.entry(file, info); ok {
				files[file] = e
			}
		}
	}
	return files
}

// present returns the entries of the files that exist, those that were changed since too:
// Recheck compares them with what they were.
func (k contents) present(dir atomicfile.Dir) map[string]entry {
	files := make(map[string]entry, len(k.Files))
	for file, e := range k.Files {
		if info, err := dir.Lstat(file); err == nil && info.Mode().IsRegular() {
			files[file] = e
		}
	}
	return files
}

// restamp takes over an entry of a file whose name or number of links we have
// changed since, which changes its ctime and nothing else.
func (k contents) restamp(dir atomicfile.Dir, file string, was entry) {
	info, err := dir.Lstat(file)
	if err != nil || !info.Mode().IsRegular() {
		return
	}
	now := stampOf(info)
	was.CTime = now.CTime
	if was.stamp == now {
		k.Files[file] = was
	}
}

// add adds to what is known of a file.
func (k contents) add(file string, e entry) {
	if !isCacheable(file) {
		return
	}
	if old := k.Files[file]; old.stamp == e.stamp {
		e.SHA512 = cmp.Or(e.SHA512, old.SHA512)
		e.SHA256 = cmp.Or(e.SHA256, old.SHA256)
		e.BLAKE3 = cmp.Or(e.BLAKE3, old.BLAKE3)
	}
	k.Files[file] = e
}
