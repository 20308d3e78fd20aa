// Package state remembers what is known of the files of a mirror, so that
// nothing is read twice and nothing is removed that is not the tool's own.
//
// It is a directory with one small JSON file, a Record, for each file that the
// tool has put into the mirror or is about to put there, named as that file and
// .json. A record is written atomically, and the first one of a file before the
// file itself: so whatever the tool made, a record tells of it, at any instant.
// A record that is missing or damaged costs another look at the file, never a
// wrong answer.
package state

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"strings"
	"syscall"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo/atomicfile"
)

// Stamp tells, without reading it, whether a file is the one it was.
type Stamp struct {
	Size  int64  `json:"size"`  // bytes
	MTime int64  `json:"mtime"` // nanoseconds since 1970
	Inode uint64 `json:"inode"`
}

// StampOf returns the stamp of a file.
func StampOf(info fs.FileInfo) Stamp {
	s := Stamp{Size: info.Size(), MTime: info.ModTime().UnixNano()}
	if sys, ok := info.Sys().(*syscall.Stat_t); ok {
		s.Inode = sys.Ino
	}
	return s
}

// Record is what is known of one file. The zero Record knows nothing but that
// the file is the tool's own.
type Record struct {
	// Stamp is that of the file whose sums are recorded: of an image the source,
	// of a delta the file in the mirror.
	Stamp Stamp `json:"stamp,omitzero"`
	// Sums are the file's digests. Those of a dropped delta are its size alone.
	Sums cksum.Sums `json:"sums,omitzero"`

	// Copy is the stamp of an image's copy in the mirror, where it could not be
	// linked.
	Copy Stamp `json:"copy,omitzero"`
	// Conf is an image's puavo-conf, nil where it was not read.
	Conf map[string]json.RawMessage `json:"conf,omitzero"`

	// Base and Target are the BLAKE3 of what a delta was made of.
	Base   cksum.Digest256 `json:"base,omitzero"`
	Target cksum.Digest256 `json:"target,omitzero"`
	// Dropped says that a delta was too large to be worth having: it had at least
	// Sums.Size bytes, and there is no file.
	Dropped bool `json:"dropped,omitempty"`

	// Unnamed is since when, in seconds since 1970, nothing published names the
	// file; 0 of one that is named.
	Unnamed int64 `json:"unnamed,omitempty"`
}

// Known reports whether the record tells the sums of a file with that stamp.
func (r *Record) Known(s Stamp) bool {
	return r != nil && r.Stamp == s && r.Sums.SHA512 != cksum.Digest512{}
}

// Dir is a directory of records. Its methods can be called concurrently, for
// different names.
type Dir struct {
	root     atomicfile.Dir
	dir, tmp string
}

// New returns the records in dir, with temporary files in tmp. Both need to be
// there before a record is written.
func New(root atomicfile.Dir, dir, tmp string) *Dir { return &Dir{root, dir, tmp} }

const suffix = ".json"

func (d *Dir) path(name string) string { return d.dir + "/" + name + suffix }

// Load reads all records. Those that cannot be read are left out and named in
// damaged.
func (d *Dir) Load() (records map[string]*Record, damaged []string, err error) {
	entries, err := fs.ReadDir(d.root.FS(), d.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, err
	}
	records = make(map[string]*Record, len(entries))
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), suffix)
		if !ok {
			continue
		}
		data, err := d.root.ReadFile(d.path(name))
		r := new(Record)
		if err != nil || json.Unmarshal(data, r) != nil {
			damaged = append(damaged, name)
			continue
		}
		records[name] = r
	}
	return records, damaged, nil
}

// Put writes the record of a file.
func (d *Dir) Put(name string, r *Record) error {
	var data bytes.Buffer
	e := json.NewEncoder(&data)
	e.SetEscapeHTML(false) // so that Conf comes back as it went in
	if err := e.Encode(r); err != nil {
		return err
	}
	_, err := d.root.Replace(d.tmp+"/"+name+suffix, d.path(name), data.Bytes())
	return err
}

// Delete removes the record of a file, if there is one.
func (d *Dir) Delete(name string) error {
	if err := d.root.RemoveAll(d.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
