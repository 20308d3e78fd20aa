package mirror

import (
	"errors"
	"io/fs"
	"maps"
	"path"
	"slices"

	"puavo-image-repository/cksum"
	"puavo-image-repository/delta"
	"puavo-image-repository/imagerepo/internal/state"
	"puavo-image-repository/meta"
)

// Held is what a mirror holds.
type Held struct {
	Records map[string]*state.Record // by the name of the file
	Files   map[string]state.Stamp   // by the path in the mirror
	// Named are the files that the published lists name, so that the tool knows
	// its own even where its records are lost.
	Named map[string]bool
	// Foreign are the folders of the predecessor that are there.
	Foreign []string
}

// Adopt takes for the tool's own what a mirror made by another tool holds: what
// CKSUMS names is anyway, now also the meta, and if all is set whatever has the
// name of an image or a delta.
func (h *Held) Adopt(mirror fs.FS, all bool) {
	for file := range h.Files {
		name := path.Base(file)
		switch {
		case PathOf(name) != file || !IsOurName(name):
		case path.Ext(name) == ".json":
			data, err := fs.ReadFile(mirror, file)
			if _, bad := meta.ParseSeries(data); err == nil && bad == nil {
				h.Named[name] = true
			}
		case all:
			h.Named[name] = true
		}
	}
	for _, dir := range []string{".checksums", ".signatures"} {
		if info, err := fs.Stat(mirror, dir); err == nil && info.IsDir() {
			h.Foreign = append(h.Foreign, dir)
		}
	}
}

// Owned reports whether the file of that name is the tool's own.
func (h Held) Owned(name string) bool { return h.Records[name] != nil || h.Named[name] }

// Placed reports whether the tool put a file of that name into the mirror. The
// record of an image alone does not tell: it may have served as a base only.
func (h Held) Placed(name string) bool {
	record := h.Records[name]
	return h.Named[name] || path.Ext(name) != ".img" || record != nil && record.Unnamed != 0
}

// Own returns the names of the tool's own files, sorted.
func (h Held) Own() []string {
	all := maps.Clone(h.Named)
	for name := range h.Records {
		all[name] = true
	}
	return slices.Sorted(maps.Keys(all))
}

// Signed reports whether there is a signature that can be that of an image of
// size bytes.
func (h Held) Signed(n meta.Name, size int64) bool {
	return h.Files[SignaturePath(n)].Size == delta.SignatureSize(size)
}

// Look finds out what a mirror holds. It reads no images and no deltas.
func Look(mirror fs.FS, records map[string]*state.Record) (Held, error) {
	h := Held{Records: maps.Clone(records), Files: make(map[string]state.Stamp), Named: make(map[string]bool)}
	maps.DeleteFunc(h.Records, func(name string, _ *state.Record) bool { return !IsOurName(name) })
	for _, dir := range []string{".", DeltaDir, MetaDir, signatures} {
		entries, err := fs.ReadDir(mirror, dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return Held{}, err
		}
		for _, e := range entries {
			// A symbolic link is nothing that the tool makes: it is not followed.
			if info, err := e.Info(); err == nil && !info.IsDir() {
				h.Files[path.Join(dir, e.Name())] = state.StampOf(info)
			}
		}
	}
	for _, name := range listed(mirror) {
		h.Named[name] = IsOurName(name)
	}
	maps.DeleteFunc(h.Named, func(_ string, ours bool) bool { return !ours })
	return h, nil
}

// listed returns the names of the files that CKSUMS and index.json name. A list
// that is not there or not as it must be names none.
func listed(mirror fs.FS) (names []string) {
	if f, err := mirror.Open(CKSUMS); err == nil {
		lines, _ := cksum.ParseCKSUMS(f)
		f.Close()
		for _, l := range lines {
			names = append(names, l.Name)
		}
	}
	if data, err := fs.ReadFile(mirror, Index); err == nil {
		ix, _ := meta.ParseIndex(data)
		for _, s := range ix.Series {
			names = append(names, s.Name+".json")
		}
	}
	return names
}
