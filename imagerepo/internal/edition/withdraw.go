package edition

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"maps"
	"path"
	"slices"
	"strings"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/ledger"
	"puavo-image-repository/imagerepo/internal/mirror"
	"puavo-image-repository/imagerepo/internal/published"
	"puavo-image-repository/imagerepo/internal/scratch"
	"puavo-image-repository/imagerepo/internal/store"
	"puavo-image-repository/imagerepo/internal/tuf"
	"puavo-image-repository/meta"
)

// Signer signs the documents of a mirror with versions above the given one; package trust has
// it.
type Signer interface {
	SignAfter(ctx context.Context, mirror atomicfile.Dir, version int64) (changed bool, err error)
}

// withdrawal is what is written before changed files get their names. The lists come first:
// they then name neither changed payload nor a document that is about to change.
type withdrawal struct {
	lists     []document
	documents []document
	signed    *edition // trusted, timestamp and roots alone; nil if it is not signed
}

// all returns what is written, in its order.
func (w withdrawal) all() []document {
	all := slices.Concat(w.lists, w.documents)
	if w.signed != nil {
		all = slices.Concat(all, w.signed.trusted, w.signed.timestamp, w.signed.roots)
	}
	return all
}

// shorten returns the lists of a destination that name one of these files, without them.
func shorten(documents map[string][]byte, gone map[string]bool) (shorter []document) {
	for name, data := range documents {
		if !isList(name) {
			continue
		}
		lines, err := mirror.ParseList(name, data)
		left := slices.DeleteFunc(slices.Clone(lines), func(l cksum.SHA256Line) bool { return gone[l.Path] })
		if err != nil || len(left) < len(lines) {
			shorter = append(shorter, document{name, format(name, left)})
		}
	}
	sortDocuments(shorter)
	return shorter
}

// format returns a list. That of the root keeps the paths that those of earlier versions have.
func format(list string, lines []cksum.SHA256Line) []byte {
	if list == mirror.SHA256 {
		return cksum.AppendSHA256SUMS(nil, lines)
	}
	return mirror.FormatList(lines)
}

// scratchFor is in the name of the directory of withdraw.
const scratchFor = "publish"

// withdraw takes changed payload out of the documents of a destination, in a directory of its
// own for which signing is as for a mirror: with versions above those of the mirror, so that
// no two signed files have one name. sign may be nil.
func withdraw(ctx context.Context, s store.Store, v *Inventory, changed []string, sign Signer, above int64, log *slog.Logger) (w withdrawal, err error) {
	dir, remove, err := scratch.Make(scratchFor)
	if err != nil {
		return w, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	m, err := mirror.Open(dir, true, log)
	if err != nil {
		return w, err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	before, err := lay(ctx, s, v, m.Root, sign != nil)
	if err != nil {
		return w, err
	}
	if err := withdrawFrom(ctx, m, changed); err != nil {
		return w, err
	}
	signed := false
	if sign != nil {
		if signed, err = sign.SignAfter(ctx, m.Root, above); ctx.Err() != nil {
			return w, ctx.Err()
		} else if err != nil {
			signed = false
			log.Warn("what is withdrawn at the destination cannot be signed; until the end of the run, clients with --trust keep what they have", "reason", err)
		}
	}
	return collect(m.Root, before, signed)
}

// lay writes the documents of a destination into a directory, and with signed what its
// timestamp leads to. It returns all that it wrote.
func lay(ctx context.Context, s store.Store, v *Inventory, dir atomicfile.Dir, signed bool) (map[string][]byte, error) {
	all := maps.Clone(v.documents)
	for name := range v.files {
		if !signed || path.Dir(name) != tuf.Dir || all[name] != nil {
			continue
		}
		data, err := read(ctx, s, name, meta.MaxDocument)
		if err != nil {
			return nil, err
		}
		all[name] = data
	}
	for _, folder := range mirror.Folders() { // a list of the root may name files of any
		if err := dir.MkdirAll(folder, 0o777); err != nil {
			return nil, err
		}
	}
	for name, data := range all {
		if err := dir.MkdirAll(path.Dir(name), 0o777); err != nil {
			return nil, err
		}
		if _, err := dir.Replace(mirror.TmpPath("document"), name, data); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// withdrawFrom takes files out of the documents of a directory, its page included.
func withdrawFrom(ctx context.Context, m *mirror.Mirror, files []string) error {
	docs, err := published.Load(m.Root, func(string) bool { return true })
	if err != nil {
		return err
	}
	if _, err := m.Root.Lstat(mirror.Page); err == nil { // none is made where there is none
		known, _, err := ledger.Load(m.State)
		if err != nil {
			return err
		}
		docs.SetPage(published.Page{Ledger: known, Log: slog.New(slog.DiscardHandler)})
	}
	var names []string
	for _, f := range files {
		names = append(names, path.Base(f))
	}
	docs.Withdraw(names...)
	_, err = docs.Write(ctx)
	return err
}

// collect returns what differs in a directory from what was laid into it. Lists are left
// out: they are shortened, so that they name no document that is about to change.
func collect(dir atomicfile.Dir, before map[string][]byte, signed bool) (w withdrawal, err error) {
	e := &edition{}
	err = fs.WalkDir(dir.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case name == mirror.Private:
			return fs.SkipDir
		case !d.Type().IsRegular() || isList(name):
			return nil
		}
		data, err := dir.ReadFile(name, meta.MaxDocument)
		if err != nil || before[name] != nil && bytes.Equal(data, before[name]) {
			return err
		}
		switch doc := (document{name, data}); {
		case !strings.HasPrefix(name, tuf.Dir+"/"):
			w.documents = append(w.documents, doc)
		case name == tuf.MetadataPath("timestamp", 0):
			e.timestamp = append(e.timestamp, doc)
		case isRoot(name):
			e.roots = append(e.roots, doc)
		default:
			e.trusted = append(e.trusted, doc)
		}
		return nil
	})
	sortDocuments(w.documents)
	sortRoots(e.roots)
	if signed {
		w.signed = e
	}
	return w, err
}
