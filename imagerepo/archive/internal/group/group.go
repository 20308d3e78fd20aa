// Package group is a group of an archive: a directory with the files of its versions, and the
// catalog that says what they are.
//
// A change makes new files under names that end in ".new", complete and flushed, and then
// commits another catalog:
//
//	new files -> directory flushed -> SHA256SUMS -> catalog.json -> catalog.json.bak
//	          -> files get their names, what was pruned is moved, what is obsolete removed
//
// From when the first copy of the catalog is replaced it counts, and what is left of the change
// can be done by whoever changes the group next: Settle does so. Before that, what was made is of
// no version, and Settle removes it.
package group

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"puavo-image-repository/imagerepo/archive/internal/catalog"
	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/meta/untrusted"
)

// ErrUnknown is wrapped by the error for a version that a group lacks.
var ErrUnknown = errors.New("not in the archive")

// Group is an open group. It is not for concurrent use.
type Group struct {
	Dir  atomicfile.Dir
	Name string
	C    *catalog.Catalog
	// Wrong are the copies of the catalog that are damaged, missing or behind.
	Wrong []string
}

// Is reports whether a directory of an archive holds versions, or a catalog.
func Is(store atomicfile.Dir, name string) bool {
	entries, _ := fs.ReadDir(store.FS(), name)
	for _, e := range entries {
		if _, _, ok := catalog.ParseFile(e.Name()); ok || e.Name() == catalog.File || e.Name() == catalog.Backup {
			return true
		}
	}
	return false
}

// Open opens a group of an archive to read it. The error wraps catalog.ErrDamaged if no right
// catalog is left. Whoever calls it calls Close.
func Open(store atomicfile.Dir, name string) (*Group, error) {
	dir, err := store.Sub(name)
	if err != nil {
		return nil, err
	}
	c, wrong, err := catalog.Load(dir, name)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("group %s: %w: it has versions, but no catalog", name, catalog.ErrDamaged)
	}
	if err != nil {
		dir.Close()
		return nil, err
	}
	return &Group{dir, name, c, wrong}, nil
}

// Change opens a group to change it, and completes what a run that died has begun. The archive
// is locked. Whoever calls it calls Close.
func Change(ctx context.Context, store atomicfile.Dir, name string) (*Group, error) {
	g, err := Open(store, name)
	if err != nil {
		return nil, err
	}
	if len(g.Wrong) > 0 {
		err = catalog.Save(g.Dir, g.C)
	}
	if err == nil {
		err = g.Settle(ctx)
	}
	if err != nil {
		g.Close()
		return nil, err
	}
	return g, nil
}

// Create makes a group without versions, to change it. The archive is locked. Whoever calls it
// calls Close.
func Create(ctx context.Context, store atomicfile.Dir, name string) (*Group, error) {
	if err := errors.Join(store.MkdirAll(name, 0o777), store.SyncDir(".")); err != nil {
		return nil, err
	}
	dir, err := store.Sub(name)
	if err != nil {
		return nil, err
	}
	g := &Group{Dir: dir, Name: name, C: &catalog.Catalog{Group: name}}
	if err := g.Settle(ctx); err != nil {
		g.Close()
		return nil, err
	}
	return g, nil
}

// Close ends the use of the group.
func (g *Group) Close() { g.Dir.Close() }

// Path returns what makes a version. The error wraps ErrUnknown if the group lacks it.
func (g *Group) Path(version string) ([]catalog.Step, error) {
	if _, ok := g.C.Find(version); ok {
		return g.C.Path(version)
	}
	var all []string
	for _, v := range g.C.Versions {
		all = append(all, v.Version)
	}
	hint := fmt.Sprintf("; it has %d, from %s to %s", len(all), all[0], all[len(all)-1])
	if near := untrusted.Nearest(version, all); near != "" {
		hint = "; did you mean " + near + "?"
	}
	return nil, fmt.Errorf("version %s of %s is %w%s", untrusted.Quote(version), g.Name, ErrUnknown, hint)
}

// All returns all versions, oldest first, those in the trash last.
func (g *Group) All() (versions []string) {
	for _, v := range g.C.Versions {
		versions = append(versions, v.Version)
	}
	for _, p := range g.C.Trash {
		versions = append(versions, p.Version.Version)
	}
	return versions
}

// Hurt returns the versions that are made through another, and that itself.
func (g *Group) Hurt(version string) (hurt []string) {
	for _, v := range g.All() {
		steps, _ := g.C.Path(v)
		for _, step := range steps {
			if step.Version.Version == version {
				hurt = append(hurt, v)
			}
		}
	}
	return hurt
}

// Strangers returns the files that are named as those of versions, and that no version has.
func (g *Group) Strangers() (names []string, err error) {
	files := g.C.Files()
	for _, dir := range []string{".", catalog.Trash} {
		entries, err := fs.ReadDir(g.Dir.FS(), dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return nil, err
		}
		for _, e := range entries {
			file := e.Name()
			if dir != "." {
				file = dir + "/" + file
			}
			if _, _, ok := catalog.ParseFile(file); ok && !files[file] {
				names = append(names, file)
			}
		}
	}
	return names, nil
}
