package audit

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/lockfile"
	"puavo-image-repository/imagerepo/internal/mirror"
	"puavo-image-repository/imagerepo/internal/state"
)

// pauses are those before each further look, 3 seconds in all.
var pauses = []time.Duration{
	25 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond, 200 * time.Millisecond,
	400 * time.Millisecond, 800 * time.Millisecond, 1600 * time.Millisecond,
}

// verify looks at a mirror until what it finds did not come of a change, and after
// each of the pauses at most once.
func verify(ctx context.Context, o Options, pauses []time.Duration) (Report, error) {
	m, err := open(o.MirrorDir)
	if err != nil {
		return Report{}, err
	}
	defer m.Close()
	for cached := new(caches); ; pauses = pauses[1:] {
		v := newVerifier(o, m, cached)
		if err := v.look(ctx); err != nil {
			return Report{}, err
		}
		c := v.change()
		if len(pauses) == 0 || !v.worthAgain(c) {
			return v.conclude(c), nil
		}
		if err := wait(ctx, pauses[0]); err != nil {
			return Report{}, err
		}
	}
}

func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// marks are the stamps of documents and directories before they were read.
type marks struct {
	root   atomicfile.Dir
	stamps map[string]state.Stamp
}

func newMarks(root atomicfile.Dir) marks { return marks{root, make(map[string]state.Stamp)} }

// put marks a document that is about to be read, or a directory that is about to be
// listed. It may be missing.
func (m marks) put(name string) { m.stamps[name] = stampAt(m.root, name) }

// putTree marks a directory and all that is in it. What is new there changes it.
func (m marks) putTree(ctx context.Context, dir string) error {
	m.put(dir)
	return fs.WalkDir(m.root.FS(), dir, func(p string, _ fs.DirEntry, err error) error {
		if err != nil {
			return nil // it is marked; whoever reads it says why that fails
		}
		m.put(p)
		return ctx.Err()
	})
}

// changed returns the first path, by name, that is no longer as it was marked, "" if all
// are.
func (m marks) changed() string {
	for _, p := range slices.Sorted(maps.Keys(m.stamps)) {
		if stampAt(m.root, p) != m.stamps[p] {
			return p
		}
	}
	return ""
}

// change is what findings may have come of.
type change struct {
	run      string // who changes the mirror, "" if nobody does
	document string // one that is not as it was when it was read, "" if all are
}

// change returns what happens to the mirror, if there are findings that it matters to.
func (v *verifier) change() (c change) {
	if !v.uncertain() && len(v.orphans) == 0 {
		return c
	}
	// In this order: a run that has ended by now has changed its documents before.
	c.run, _ = lockfile.Holder(v.mirror.Dir, mirror.Lock)
	c.document = v.marks.changed()
	return c
}

// uncertain reports whether something was found that may come of a change.
func (v *verifier) uncertain() bool { return v.signed || v.found.damaged() }

// worthAgain reports whether another look can find less.
func (v *verifier) worthAgain(c change) bool {
	if c.run != "" {
		return v.uncertain()
	}
	return c.document != ""
}

// conclude returns the report of the last look.
func (v *verifier) conclude(c change) Report {
	switch {
	case c.run != "" && v.uncertain():
		v.found.add(mirror.Lock, Note, "a run is in progress, by "+c.run+", and what is found may come of that; look again when it has ended")
	case c.run == "" && c.document != "":
		v.found.add(c.document, Note, "it was changed while the mirror was read, and what is found may come of that; look again when nothing changes the mirror")
	}
	v.addOrphans(c)
	return v.found.sorted()
}

// addOrphans reports the orphans with names as the tool gives them that still exist. A
// run in progress has just made them, or is about to remove them.
func (v *verifier) addOrphans(c change) {
	left := 0
	for _, p := range v.orphans {
		if _, err := v.mirror.Root.Lstat(p); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if left++; c.run == "" {
			v.found.add(p, Orphan, nothingNames)
		}
	}
	if left > 0 && c.run != "" {
		v.found.add(mirror.Lock, Note, fmt.Sprintf("a run is in progress, by %s; files that nothing names are left out (%d)", c.run, left))
	}
}

// stampAt returns the stamp of what has a name, the zero Stamp if nothing has.
func stampAt(root atomicfile.Dir, name string) state.Stamp {
	info, err := root.Lstat(name)
	if err != nil {
		return state.Stamp{}
	}
	return state.StampOf(info)
}

// unchanged reports whether an open file is the one with that stamp, as it was.
func unchanged(f *os.File, s state.Stamp) bool {
	info, err := f.Stat()
	return err == nil && state.StampOf(info) == s
}

// caches keep what one Verify computes from files, so that its further looks do not
// read again what has not changed.
type caches struct {
	digests cache[state.Stamp, cksum.Sums]
	results cache[[3]state.Stamp, result] // by the stamps of delta, base and target
}

// result is what a delta makes.
type result struct {
	digest cksum.Digest256
	err    error // of the delta's format
}

// cache keeps values by the stamps of the files that they were computed from. The zero
// cache is empty. Its methods can be called concurrently.
type cache[K comparable, V any] struct {
	mu     sync.Mutex
	values map[K]V
}

func (c *cache[K, V]) get(key K) (value V, known bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	value, known = c.values[key]
	return value, known
}

func (c *cache[K, V]) put(key K, value V) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.values == nil {
		c.values = make(map[K]V)
	}
	c.values[key] = value
}
