package group

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo/archive/internal/catalog"
	"puavo-image-repository/imagerepo/archive/internal/content"
)

// Commit switches to another catalog, whose new files are complete, flushed, and named with
// ".new". After an error the one before or the other holds; the next change completes it.
func (g *Group) Commit(ctx context.Context, next *catalog.Catalog) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	files := next.Files()
	next.Obsolete = nil
	for file := range g.C.Files() {
		if !files[file] {
			next.Obsolete = append(next.Obsolete, file)
		}
	}
	for _, file := range g.C.Obsolete {
		if _, err := g.Dir.Lstat(file); err == nil && !files[file] && !slices.Contains(next.Obsolete, file) {
			next.Obsolete = append(next.Obsolete, file)
		}
	}
	slices.Sort(next.Obsolete)
	if err := errors.Join(g.Dir.SyncDir("."), g.list(next)); err != nil {
		return err
	}
	if err := catalog.Save(g.Dir, next); err != nil {
		return err
	}
	g.C = next
	return g.Settle(ctx)
}

// list writes SHA256SUMS, with the versions that were there before too, and BLAKE3SUMS, if there
// are versions of disks.
func (g *Group) list(next *catalog.Catalog) error {
	sums, others := make(map[string]cksum.Digest256), make(map[string]cksum.Digest256)
	add := func(v *catalog.Version) {
		if v.SHA256 != (cksum.Digest256{}) {
			sums[v.Version] = v.SHA256
		} else {
			others[v.Version] = v.BLAKE3
		}
	}
	for _, c := range []*catalog.Catalog{g.C, next} {
		for i := range c.Versions {
			add(&c.Versions[i])
		}
		for i := range c.Trash {
			add(&c.Trash[i].Version)
		}
	}
	if len(others) > 0 {
		if err := g.writeSums(catalog.BLAKE3File, others); err != nil {
			return err
		}
	}
	if len(sums) == 0 {
		return nil
	}
	return g.writeSums(catalog.SumsFile, sums)
}

// writeSums writes a list of digests by versions. Both kinds have the same form.
func (g *Group) writeSums(file string, sums map[string]cksum.Digest256) error {
	var lines []cksum.SHA256Line
	for version, sum := range sums {
		lines = append(lines, cksum.SHA256Line{SHA256: sum, Path: version + ".img"})
	}
	_, err := g.Dir.Replace(file+catalog.New, file, cksum.AppendSHA256SUMS(nil, lines))
	return err
}

// Settle completes what the catalog says: files get their names, what was pruned goes to the
// trash, and what is obsolete, or was never named, is removed. It can be repeated.
func (g *Group) Settle(ctx context.Context) error {
	if err := g.moveToTrash(); err != nil {
		return err
	}
	entries, err := fs.ReadDir(g.Dir.FS(), ".")
	if err != nil {
		return err
	}
	changed := false
	for _, e := range entries {
		if name, isNew := strings.CutSuffix(e.Name(), catalog.New); isNew && isOurs(name) {
			changed = true
			if err := g.settleNew(ctx, name); err != nil {
				return err
			}
		}
	}
	files := g.C.Files()
	for _, file := range g.C.Obsolete {
		if _, err := g.Dir.Lstat(file); files[file] || errors.Is(err, fs.ErrNotExist) {
			continue
		}
		changed = true
		if err := g.Dir.Remove(file); err != nil {
			return err
		}
	}
	if changed {
		return g.Dir.SyncDir(".")
	}
	return nil
}

// isOurs reports whether a file has a name that this package gives.
func isOurs(name string) bool {
	_, _, isVersion := catalog.ParseFile(name)
	return isVersion || name == catalog.File || name == catalog.Backup || name == catalog.SumsFile || name == catalog.BLAKE3File
}

// settleNew gives a file its name, or removes it if it is not what the catalog means by that.
func (g *Group) settleNew(ctx context.Context, name string) error {
	version, _, _ := catalog.ParseFile(name)
	if i := g.C.Index(version); i >= 0 && g.C.Versions[i].File() == name {
		step := catalog.Step{Version: g.C.Versions[i], File: name}
		found, err := content.Locate(ctx, g.Dir, step)
		if err != nil {
			return err
		}
		if found != name {
			return g.Dir.Rename(found, name)
		}
	}
	return g.Dir.Remove(name + catalog.New)
}

// makeTrash makes the directory of the trash, which is there for good before a file is.
func (g *Group) makeTrash() error {
	if _, err := g.Dir.Lstat(catalog.Trash); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return errors.Join(g.Dir.MkdirAll(catalog.Trash, 0o777), g.Dir.SyncDir("."))
}

// moveToTrash moves the files of what was pruned.
func (g *Group) moveToTrash() error {
	moved := false
	for i := range g.C.Trash {
		p := &g.C.Trash[i]
		if _, err := g.Dir.Lstat(p.File()); !errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err := g.makeTrash(); err != nil {
			return err
		}
		err := g.Dir.Rename(p.Version.File(), p.File())
		if errors.Is(err, fs.ErrNotExist) {
			err = g.Dir.Rename(p.Version.File()+catalog.New, p.File())
		}
		if errors.Is(err, fs.ErrNotExist) {
			continue // it is lost, as verify reports
		} else if err != nil {
			return err
		}
		moved = true
	}
	if moved {
		return errors.Join(g.Dir.SyncDir(catalog.Trash), g.Dir.SyncDir("."))
	}
	return nil
}
