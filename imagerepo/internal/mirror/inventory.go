package mirror

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"

	"puavo-image-repository/delta"
	"puavo-image-repository/imagerepo/internal/state"
	"puavo-image-repository/meta"
)

// Inventory is what a mirror holds.
type Inventory struct {
	Records map[string]*state.Record // by the name of the file
	Files   map[string]state.Stamp   // by the path in the mirror
	Listed  map[string]bool          // the names that documents name
	// All says that each image and delta is the tool's own, and each listed document.
	All bool
}

// Owns reports whether the file of that name is the tool's own, by record: what it
// has put into the mirror, or is about to.
func (v Inventory) Owns(name string) bool {
	if v.All && IsOurName(name) && (path.Ext(name) != ".json" || v.Listed[name]) {
		return true
	}
	r := v.Records[name]
	return r != nil && !r.Foreign && (r.Placed || path.Ext(name) != ".img")
}

// Takes reports whether the file of that name is taken over if it proves right: it is
// the tool's own, or a document names it and no record says whose it is.
func (v Inventory) Takes(name string) bool {
	return v.Owns(name) || v.Listed[name] && v.Records[name] == nil
}

// TakesCopy reports whether the file of that name, which is a copy of its image, is taken
// over: whoever put it there, unless a record knows this file as somebody's.
func (v Inventory) TakesCopy(name string) bool {
	record, file := v.Records[name], v.Files[PathOf(name)]
	return v.Owns(name) || record == nil || record.Stamp.Inode != file.Inode && record.Copy.Inode != file.Inode
}

// Has returns the stamp of the file of that name, and whether it is there.
func (v Inventory) Has(name string) (state.Stamp, bool) {
	stamp, ok := v.Files[PathOf(name)]
	return stamp, ok
}

// Names returns the names as the tool gives them of all files that are there or
// of which there is a record, sorted.
func (v Inventory) Names() []string {
	all := make(map[string]bool)
	for name := range v.Records {
		all[name] = true
	}
	for file := range v.Files {
		if name := path.Base(file); PathOf(name) == file && IsOurName(name) {
			all[name] = true
		}
	}
	return slices.Sorted(maps.Keys(all))
}

// Signed reports whether there is a signature that can be that of an image of size bytes,
// by its record. If there is, it is: see package signature for what holds it to the
// content whose sums the record has.
func (v Inventory) Signed(n meta.Name, size int64) bool {
	return v.Files[SignaturePath(n)].Size == delta.SignatureSize(size)
}

// Look finds out what a mirror holds, as records and documents say. It reads
// no images and no deltas.
func Look(mirror fs.FS, records map[string]*state.Record, listed map[string]bool) (Inventory, error) {
	v := Inventory{Records: maps.Clone(records), Files: make(map[string]state.Stamp), Listed: listed}
	maps.DeleteFunc(v.Records, func(name string, _ *state.Record) bool { return !IsOurName(name) })
	for _, dir := range append(Folders(), ".", signatures) {
		entries, err := fs.ReadDir(mirror, dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return Inventory{}, err
		}
		for _, e := range entries {
			// What is no regular file the tool has not made: it is neither followed nor read.
			if info, err := e.Info(); err == nil && info.Mode().IsRegular() {
				v.Files[path.Join(dir, e.Name())] = state.StampOf(info)
			}
		}
	}
	return v, nil
}

// OtherTools returns the folders of the predecessor that are there.
func OtherTools(mirror fs.FS) (folders []string) {
	for _, dir := range []string{".checksums", ".signatures"} {
		if info, err := fs.Stat(mirror, dir); err == nil && info.IsDir() {
			folders = append(folders, dir)
		}
	}
	return folders
}

// ErrForeign is wrapped by the error for a file that is in the way of an image and
// not the tool's own.
var ErrForeign = errors.New("it was not put there by this tool; take it over with --adopt, or move it away")

// Foreign returns the error for a file in the mirror that has the name of an image and
// is neither that nor the tool's own.
func Foreign(file string) error {
	return fmt.Errorf("%s in the mirror is not the image of that name, and %w", PathOf(file), ErrForeign)
}
