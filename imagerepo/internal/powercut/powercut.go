// Package powercut shows tests what a disk may hold after a power cut.
//
// A Disk watches the changes that are made to a directory through package
// atomicfile, and keeps what POSIX promises of them, which is less than any file
// system in use keeps:
//
//   - the content of a file is what it was when it was last flushed, empty if it
//     never was;
//   - a name of a directory that was changed since the directory was last flushed
//     is what it is now, or what it was at any time since then, whatever became of
//     the other names; but no file that was renamed is lost.
//
// So at each instant there are many Trees that a power cut may leave. Trees returns
// those in which the names are all as they were flushed, all as they are now, each
// one alone as it is now or was in between, and some at random.
package powercut

import (
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"puavo-image-repository/imagerepo/atomicfile"
)

// Tree is what a directory may hold after a power cut: contents of files by their
// paths. A content that is the same in two trees is the same slice.
type Tree map[string]*Content

// Content is the content of a file.
type Content struct{ Data []byte }

// nothing is the content of files that were not flushed.
var nothing = new(Content)

// Disk is what is known of a directory that is being changed. Its methods can be
// called concurrently.
type Disk struct {
	t    testing.TB
	dir  string
	stop func()

	mu      sync.Mutex
	files   map[string][]*file // by path: what the name has been since it was flushed, nil for nothing
	Changes []atomicfile.Change
}

// file is a file or a directory with whatever names it has.
type file struct {
	flushed *Content
	dir     bool
}

// Watch watches a directory, which need not be there yet, until the test ends or
// Stop is called. What is in it counts as flushed. each, which may be nil, is called
// before each change but writes, with a function that returns the trees of that moment; where
// it returns an error, the change fails with that.
func Watch(t testing.TB, dir string, each func(next atomicfile.Change, trees func() []Tree) error) *Disk {
	t.Helper()
	d := &Disk{t: t, dir: dir, files: make(map[string][]*file)}
	d.load()
	d.stop = atomicfile.Observe(dir, func(c atomicfile.Change) error {
		if c.Kind == atomicfile.Write {
			return nil
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		if each != nil {
			if err := each(c, d.trees); err != nil {
				return err
			}
		}
		d.Changes = append(d.Changes, c)
		d.apply(c)
		return nil
	})
	t.Cleanup(d.Stop)
	return d
}

// Stop ends the watching. It can be called again.
func (d *Disk) Stop() { d.stop() }

// load takes what is in the directory for flushed. Names of one file are one file.
func (d *Disk) load() {
	var infos []fs.FileInfo
	var known []*file
	filepath.WalkDir(d.dir, func(p string, e fs.DirEntry, err error) error {
		if err != nil || p == d.dir {
			return nil
		}
		name, _ := filepath.Rel(d.dir, p)
		info, err := os.Stat(p)
		if err != nil {
			return nil
		}
		i := slices.IndexFunc(infos, func(other fs.FileInfo) bool { return os.SameFile(info, other) })
		if i < 0 {
			i = len(infos)
			f := &file{dir: info.IsDir()}
			if !f.dir {
				f.flushed = d.read(name)
			}
			infos, known = append(infos, info), append(known, f)
		}
		d.files[name] = []*file{known[i]}
		return nil
	})
}

// Unflush has all files count as never flushed; their names stay flushed.
func (d *Disk) Unflush() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, was := range d.files {
		if f := was[len(was)-1]; f != nil && !f.dir {
			f.flushed = nil
		}
	}
}

func (d *Disk) read(name string) *Content {
	data, err := os.ReadFile(filepath.Join(d.dir, name))
	if err != nil {
		d.t.Errorf("flushing: %v", err)
	}
	return &Content{data}
}

// apply keeps what a change does, which counts as made.
func (d *Disk) apply(c atomicfile.Change) {
	sub, _ := filepath.Rel(d.dir, c.Dir)
	name, to := path.Join(sub, c.Name), path.Join(sub, c.To)
	switch c.Kind {
	case atomicfile.Create:
		d.set(name, new(file))
	case atomicfile.Mkdir:
		for p := name; p != "."; p = path.Dir(p) {
			if d.now(p) == nil {
				d.set(p, &file{dir: true})
			}
		}
	case atomicfile.Flush:
		if f := d.now(name); f != nil {
			f.flushed = d.read(name)
		}
	case atomicfile.FlushDir:
		for p, was := range d.files {
			if path.Dir(p) == name {
				d.files[p] = was[len(was)-1:]
			}
		}
	case atomicfile.Rename:
		d.set(to, d.now(name))
		d.set(name, nil)
	case atomicfile.Link:
		d.set(to, d.now(name))
	case atomicfile.LinkFrom:
		d.set(to, new(file)) // whoever made it may not have flushed it
	case atomicfile.Remove:
		for p := range d.files {
			if p == name || strings.HasPrefix(p, name+"/") {
				d.set(p, nil)
			}
		}
	}
}

func (d *Disk) set(name string, f *file) {
	if d.files[name] == nil {
		d.files[name] = []*file{nil}
	}
	d.files[name] = append(d.files[name], f)
}

func (d *Disk) now(name string) *file {
	was := d.files[name]
	if len(was) == 0 {
		return nil
	}
	return was[len(was)-1]
}

// Trees returns what a power cut may leave now.
func (d *Disk) Trees() []Tree {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.trees()
}

const atRandom = 3 // trees

func (d *Disk) trees() []Tree {
	first := func(string, int) int { return 0 }
	last := func(_ string, n int) int { return n - 1 }
	all := []Tree{d.tree(first), d.tree(last)}
	for _, name := range slices.Sorted(maps.Keys(d.files)) {
		for i := 1; i < len(d.files[name]); i++ {
			all = append(all, d.tree(func(other string, _ int) int {
				if other == name {
					return i
				}
				return 0
			}))
		}
	}
	if len(all) > 2 {
		for range atRandom {
			all = append(all, d.tree(func(_ string, n int) int { return rand.IntN(n) }))
		}
	}
	return all
}

// tree returns the tree in which each name is what pick chooses.
func (d *Disk) tree(pick func(name string, n int) int) Tree {
	picked := make(map[string]*file, len(d.files))
	for name, was := range d.files {
		if f := was[pick(name, len(was))]; f != nil {
			picked[name] = f
		}
	}
	d.keepRenamed(picked)
	t := make(Tree, len(picked))
	for name, f := range picked {
		if !f.dir && reachable(picked, path.Dir(name)) {
			t[name] = f.flushed
			if f.flushed == nil {
				t[name] = nothing
			}
		}
	}
	return t
}

// keepRenamed gives files that have lost all their names the one that they had when it
// was flushed, if they have one now too.
func (d *Disk) keepRenamed(picked map[string]*file) {
	kept := make(map[*file]bool)
	for _, f := range picked {
		kept[f] = true
	}
	now := make(map[*file]bool)
	for _, was := range d.files {
		now[was[len(was)-1]] = true
	}
	for name, was := range d.files {
		if f := was[0]; f != nil && now[f] && !kept[f] {
			picked[name] = f
		}
	}
}

// reachable reports whether a directory, and those above it, are there.
func reachable(picked map[string]*file, dir string) bool {
	for ; dir != "."; dir = path.Dir(dir) {
		if f := picked[dir]; f == nil || !f.dir {
			return false
		}
	}
	return true
}

// Lay writes a tree into a new directory.
func (t Tree) Lay(dir string) error {
	for name, c := range t {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o777); err != nil {
			return err
		}
		if err := os.WriteFile(p, c.Data, 0o666); err != nil {
			return err
		}
	}
	return nil
}
