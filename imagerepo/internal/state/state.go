// Package state remembers what is known of the files of a mirror, so that
// nothing is read twice and nothing is removed that is not the tool's own.
//
// It is a directory with one small file, a Record, for each file that the tool
// has put into the mirror or is about to put there, named as that file and .json.
// A record is written atomically, and the first one of a file before the file
// itself: so at any instant, whatever the tool made has a record.
//
// # Format
//
// A record is a JSON object on one line. Its last member is a check of all before
// it:
//
//	{"stamp":{"size":6,...},"sums":{...},"check":"<64 hexadecimal digits>"}
//
// The check is the BLAKE3 of the name of the record's file without .json, a
// newline, and the bytes of the record before the comma of its check. A record
// whose check is wrong is damaged: it says nothing. A record without a check is
// that of a version before there was one.
//
// If a record is missing or damaged, the file is read again; the answer is never wrong.
package state

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo/atomicfile"
)

// Record is what is known of one file. That of a delta, a torrent or a meta says that the
// file is the tool's own, that of an image says so if Placed is set.
type Record struct {
	// Stamp is that of the file whose sums are recorded: of an image the source,
	// of a delta or a torrent the file in the mirror.
	Stamp Stamp `json:"stamp,omitzero"`
	// Sums are the file's digests. Those of a dropped delta are its size alone.
	Sums cksum.Sums `json:"sums,omitzero"`
	// Placed says that the tool has put the image of this name into the mirror, or is
	// about to.
	Placed bool `json:"placed,omitempty"`
	// Foreign says that a delta was in the mirror before the tool: it is right, and
	// published, and not the tool's own. A page that is Foreign is not published.
	Foreign bool `json:"foreign,omitempty"`
	// Copy is the stamp of an image's copy in the mirror, where it could not be
	// linked.
	Copy Stamp `json:"copy,omitzero"`
	// Conf is an image's puavo-conf, nil where it was not read.
	Conf map[string]json.RawMessage `json:"conf,omitzero"`
	// Base and Target are the BLAKE3 of what a delta was made of. That of the page for
	// people, index.html, has in Base the one before it. That of a torrent has in Target the
	// file that it is of, and in Base what else it was made of, see package torrents.
	Base   cksum.Digest256 `json:"base,omitzero"`
	Target cksum.Digest256 `json:"target,omitzero"`
	// Dropped says that a delta was too large to be worth having: it had at least
	// Sums.Size bytes, and there is no file.
	Dropped bool `json:"dropped,omitempty"`
	// Compact is what applying a compact delta takes. Base is zero in the record of one that
	// needs no base.
	Compact Compact `json:"compact,omitzero"`
	// Believed says that workers alone have applied a compact delta, in a run that has not ended
	// well: it is published, and the next build applies it.
	Believed bool `json:"believed,omitempty"`
	// Orphaned is since when the file is an orphan, in seconds since 1970: no document
	// names it. 0 says that it is none.
	Orphaned int64 `json:"unnamed,omitempty"`

	// Unchecked says that the record was read and has no check: a version before
	// there was one has written it.
	Unchecked bool `json:"-"`
}

// Compact is what applying a compact delta takes, in bytes, see meta.Compact.
type Compact struct {
	Memory   int64 `json:"memory"`
	Coded    int64 `json:"coded"`
	Unpacked int64 `json:"unpacked"`
}

// Known reports whether the record has the sums of a file with that stamp.
func (r *Record) Known(s Stamp) bool {
	return r.Summed() && r.Stamp == s
}

// Summed reports whether the record has the sums of a file.
func (r *Record) Summed() bool { return r != nil && r.Sums.SHA512 != cksum.Digest512{} }

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

// maxRecord bounds a record, in bytes. The puavo-conf in it has 32 MiB at most.
const maxRecord = 64 << 20

func (d *Dir) path(name string) string { return d.dir + "/" + name + suffix }

// Load reads all records. Those that cannot be read, or are damaged, are left out
// and named in damaged.
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
		data, err := d.root.ReadFile(d.path(name), maxRecord)
		var r *Record
		if err == nil {
			r, err = decode(name, data)
		}
		if err != nil {
			damaged = append(damaged, name)
			continue
		}
		records[name] = r
	}
	return records, damaged, nil
}

// Put writes the record of a file.
func (d *Dir) Put(name string, r *Record) error {
	data, err := encode(name, r)
	if err != nil {
		return err
	}
	_, err = d.root.Replace(d.tmp+"/"+name+suffix, d.path(name), data)
	return err
}

// Delete removes the record of a file, if there is one.
func (d *Dir) Delete(name string) error { return d.root.RemoveAll(d.path(name)) }

// What stands before and after a check, and how long all three are.
const (
	checkHead = `"check":"`
	checkTail = "\"}\n"
	checkLen  = len(checkHead) + 2*len(cksum.Digest256{}) + len(checkTail)
)

// encode returns a record with its check.
func encode(name string, r *Record) ([]byte, error) {
	var data bytes.Buffer
	e := json.NewEncoder(&data)
	e.SetEscapeHTML(false) // so that Conf comes back as it went in
	if err := e.Encode(r); err != nil {
		return nil, err
	}
	body := bytes.TrimSuffix(data.Bytes(), []byte("}\n"))
	comma := ","
	if len(body) == 1 {
		comma = ""
	}
	return fmt.Appendf(nil, "%s%s%s%s%s", body, comma, checkHead, checkOf(name, body), checkTail), nil
}

func checkOf(name string, body []byte) cksum.Digest256 {
	h := cksum.NewBLAKE3()
	h.Write([]byte(name + "\n"))
	h.Write(body)
	return cksum.Digest256(h.Sum(nil))
}

var errDamaged = errors.New("its check is wrong")

// decode returns a record whose check is right, or that has none.
func decode(name string, data []byte) (*Record, error) {
	at := len(data) - checkLen
	if at < 1 || !bytes.HasPrefix(data[at:], []byte(checkHead)) {
		return decodeUnchecked(data)
	}
	body := bytes.TrimSuffix(data[:at], []byte(","))
	want := fmt.Sprintf("%s%s%s", checkHead, checkOf(name, body), checkTail)
	if string(data[at:]) != want {
		return nil, errDamaged
	}
	r := new(Record)
	return r, json.Unmarshal(data, r)
}

// decodeUnchecked returns a record of a version before there was a check. Members
// that those did not have are a damaged check.
func decodeUnchecked(data []byte) (*Record, error) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	r := &Record{Unchecked: true}
	return r, d.Decode(r)
}
