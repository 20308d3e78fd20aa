// Package record has the file .published.json of a destination: what was put there, by
// whom nothing else may be removed.
//
//	{
//	  "files": {
//	    "rdiffs/a.rdiff": {
//	      "size": 12, "sha256": "…",              what the file holds, if that is known
//	      "orphaned": 1700000000,                 since when no document names it
//	      "next": {"size": 34, "sha256": "…"}     what is being sent under its name
//	    }
//	  },
//	  "rate": 1250000                             bytes a second, of the last run that sent much
//	}
//
// A name is entered before its file is sent, so that what a broken run has left is
// known to be the tool's own. Unknown keys are skipped.
package record

import (
	"encoding/json"
	"fmt"
	"strings"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo/internal/store"
	"puavo-image-repository/meta/untrusted"
)

// Name is the name of the file, and Most bounds it, in bytes.
const (
	Name = ".published.json"
	Most = 64 << 20
)

// Record is what a destination holds of ours.
type Record struct {
	Files map[string]Entry `json:"files"` // by their names at the destination
	Rate  float64          `json:"rate,omitempty"`
}

// Content is what a file holds. The zero Content is unknown.
type Content struct {
	Size   int64           `json:"size"`
	SHA256 cksum.Digest256 `json:"sha256"`
}

// Entry is what is known of a file.
type Entry struct {
	Content
	Orphaned int64    `json:"orphaned,omitempty"` // seconds since 1970; 0: a document names it
	Next     *Content `json:"next,omitempty"`
}

// Parse parses the file. A name that no published file can have is an error.
func Parse(data []byte) (Record, error) {
	r := Record{}
	if err := json.Unmarshal(data, &r); err != nil {
		return Record{}, err
	}
	if r.Files == nil {
		r.Files = make(map[string]Entry)
	}
	for name, e := range r.Files {
		if !Valid(name) {
			return Record{}, fmt.Errorf("%s is not the name of a published file", untrusted.Quote(name))
		}
		if e.Size < 0 || e.Next != nil && e.Next.Size < 0 || e.Orphaned < 0 {
			return Record{}, fmt.Errorf("%s has a negative number", untrusted.Quote(name))
		}
	}
	if !(r.Rate >= 1) { // no run is as slow as that
		r.Rate = 0
	}
	return r, nil
}

// Valid reports whether a published file can have this name: one that a store takes, none of
// its own, and without characters that would have to be escaped.
func Valid(name string) bool {
	return store.CheckName(name) == nil && !strings.HasPrefix(name, ".") && untrusted.Show(name) == name
}

// Encode returns the file. Same record, same bytes.
func (r Record) Encode() ([]byte, error) {
	data, err := json.MarshalIndent(r, "", " ")
	return append(data, '\n'), err
}
