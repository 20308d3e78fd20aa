package edition

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"sync"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo/internal/edition/record"
	"puavo-image-repository/imagerepo/internal/mirror"
	"puavo-image-repository/imagerepo/internal/pool"
	"puavo-image-repository/imagerepo/internal/store"
	"puavo-image-repository/imagerepo/internal/tuf"
	"puavo-image-repository/meta"
	"puavo-image-repository/meta/untrusted"
)

// Verify says how a run finds out what the files are that a destination already has.
type Verify string

// The ways, from the fastest to the slowest. Only ByReading reads a file that the record has,
// and that has the size of the record.
const (
	ByName    Verify = "none" // a file that the record lacks is what its name says
	BySize    Verify = "size" // likewise, if it has the right size
	ByReading Verify = "read" // each file is read and its digest compared
)

// ParseVerify returns the Verify of that name.
func ParseVerify(s string) (Verify, error) {
	switch v := Verify(s); v {
	case ByName, BySize, ByReading:
		return v, nil
	}
	return "", fmt.Errorf("%q, want none, size or read", s)
}

// Inventory is what a destination holds.
type Inventory struct {
	files     map[string]store.File
	record    record.Record
	documents map[string][]byte          // those that clients read, the timestamp and the roots
	digests   map[string]record.Content  // of payload that was read
	listed    map[string]cksum.Digest256 // what its lists say of files
	series    []meta.Series
}

// Look finds out what a destination holds. It reads the documents, and payload as far as how
// says, jobs files at a time.
func Look(ctx context.Context, s store.Store, how Verify, jobs int) (*Inventory, error) {
	v := &Inventory{files: make(map[string]store.File), documents: make(map[string][]byte), digests: make(map[string]record.Content), listed: make(map[string]cksum.Digest256)}
	all, err := s.List(ctx)
	if err != nil {
		return nil, err
	}
	for _, f := range all {
		v.files[f.Name] = f
	}
	if v.record, err = readRecord(ctx, s); err != nil {
		return nil, err
	}
	for _, f := range all {
		if !isDocument(f.Name) {
			continue
		}
		if v.documents[f.Name], err = read(ctx, s, f.Name, meta.MaxDocument); err != nil {
			return nil, err
		}
	}
	v.parse()
	return v, v.readPayload(ctx, s, how, jobs)
}

// parse parses the documents: what is malformed says nothing. Without an index, as the
// predecessor left it, all meta counts; with one, what it names, since other meta waits for
// its removal.
func (v *Inventory) parse() {
	named := make(map[string]bool)
	index, noIndex := meta.ParseIndex(v.documents[mirror.Index])
	for _, entry := range index.Series {
		named[entry.Meta] = true
	}
	for name, data := range v.documents {
		if isList(name) {
			lines, _ := mirror.ParseList(name, data)
			for _, l := range lines {
				v.listed[l.Path] = l.SHA256
			}
		} else if path.Dir(name) == mirror.MetaDir && (named[name] || noIndex != nil) {
			if s, err := meta.ParseSeries(data); err == nil {
				v.series = append(v.series, s)
			}
		}
	}
}

// readRecord reads the record of a destination, an empty one where there is none.
func readRecord(ctx context.Context, s store.Store) (record.Record, error) {
	data, err := read(ctx, s, record.Name, record.Most)
	if errors.Is(err, fs.ErrNotExist) {
		return record.Record{Files: make(map[string]record.Entry)}, nil
	} else if err != nil {
		return record.Record{}, err
	}
	r, err := record.Parse(data)
	if err != nil {
		return r, fmt.Errorf("%s: %s is damaged: %w; remove it, and what is there is compared by its size, see --verify", s, record.Name, untrusted.Error(err))
	}
	return r, nil
}

// isDocument reports whether a file at a destination is one that the next edition may change
// or withdraw something from.
func isDocument(name string) bool {
	switch {
	case !record.Valid(name):
		return false
	case name == mirror.CKSUMS, name == mirror.Index, name == mirror.Page, slices.Contains(mirror.Lists(), name):
		return true
	case path.Dir(name) == mirror.MetaDir:
		return path.Ext(name) == ".json"
	}
	return name == tuf.MetadataPath("timestamp", 0) || isRoot(name)
}

// read returns a file of a destination.
func read(ctx context.Context, s store.Store, name string, most int64) ([]byte, error) {
	f, err := s.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := untrusted.ReadAll(f, most)
	if err != nil {
		return nil, fmt.Errorf("%s: %s: %w", s, untrusted.Show(name), err)
	}
	return data, ctx.Err()
}

// held returns what a file at a destination holds, and whether there is one. The zero
// Content is unknown. wanted is what it should hold.
func (v *Inventory) held(name string, wanted record.Content, how Verify) (record.Content, bool) {
	f, exists := v.files[name]
	if !exists {
		return record.Content{}, false
	}
	if data, ok := v.documents[name]; ok {
		return document{name, data}.content(), true
	}
	if content, ok := v.digests[name]; ok {
		return content, true
	}
	e, recorded := v.record.Files[name]
	switch {
	case recorded && e.Next != nil && f.Size == e.Next.Size:
		return *e.Next, true
	case recorded && f.Size == e.Size:
		return e.Content, true
	case recorded || !isPayload(name):
	case v.listed[name] != (cksum.Digest256{}): // clients believe that
		return record.Content{Size: f.Size, SHA256: v.listed[name]}, true
	case how == ByName || f.Size == wanted.Size:
		return wanted, true
	}
	return record.Content{}, true
}

// digest reads a file of a destination.
func digest(ctx context.Context, s store.Store, name string) (record.Content, error) {
	f, err := s.Open(ctx, name)
	if err != nil {
		return record.Content{}, err
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(h, f)
	if err != nil {
		return record.Content{}, fmt.Errorf("%s: reading %s: %w", s, untrusted.Show(name), err)
	}
	return record.Content{Size: n, SHA256: [32]byte(h.Sum(nil))}, ctx.Err()
}

// newestRoot returns the newest root of these files, nil for none.
func newestRoot(documents map[string][]byte) (newest []byte) {
	version := int64(0)
	for name, data := range documents {
		if n := tuf.RootVersion(path.Base(name)); isRoot(name) && n > version {
			version, newest = n, data
		}
	}
	return newest
}

// readPayload reads the payload of a destination that must be read to know what it is: all
// of it, or what a broken run was replacing by a file of the same size.
func (v *Inventory) readPayload(ctx context.Context, s store.Store, how Verify, jobs int) error {
	var names []string
	for name, f := range v.files {
		e := v.record.Files[name]
		replaced := e.Next != nil && e.Size == e.Next.Size && f.Size == e.Size
		if isPayload(name) && record.Valid(name) && (how == ByReading || replaced) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	var mu sync.Mutex
	return pool.Each(ctx, jobs, names, func(ctx context.Context, name string) error {
		content, err := digest(ctx, s, name)
		mu.Lock()
		defer mu.Unlock()
		v.digests[name] = content
		return err
	})
}
