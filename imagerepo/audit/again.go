package audit

import (
	"os"
	"sync"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/state"

	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"puavo-image-repository/imagerepo/internal/lockfile"
	"puavo-image-repository/imagerepo/internal/mirror"
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
	for cached := newCache(); ; pauses = pauses[1:] {
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

// mark records the stamp of a document that is about to be read, or of a
// directory that is about to be listed.
func (v *verifier) mark(name string) { v.marks[name] = stampAt(v.mirror.Root, name) }

// markSigned marks all signed metadata. What is new there changes its directory.
func (v *verifier) markSigned(ctx context.Context) error {
	v.mark(mirror.TUF)
	return fs.WalkDir(v.mirror.Root.FS(), mirror.TUF, func(p string, _ fs.DirEntry, err error) error {
		if err != nil {
			return nil // it is marked, and verifying it will say why it cannot be read
		}
		v.mark(p)
		return ctx.Err()
	})
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
	for p, s := range v.marks {
		if stampAt(v.mirror.Root, p) != s && (c.document == "" || p < c.document) {
			c.document = p
		}
	}
	return c
}

// uncertain reports whether something was found that may come of a change.
func (v *verifier) uncertain() bool { return v.signed || v.report.Damaged() > 0 }

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
		v.add(mirror.Lock, Note, "a run is in progress, by "+c.run+", and what is found may come of that; look again when it has ended")
	case c.run == "" && c.document != "":
		v.add(c.document, Note, "it was changed while the mirror was read, and what is found may come of that; look again when nothing changes the mirror")
	}
	v.addOrphans(c)
	slices.SortFunc(v.report.Findings, func(a, b Finding) int {
		return cmp.Or(strings.Compare(a.Path, b.Path), cmp.Compare(a.Problem, b.Problem), strings.Compare(a.Detail, b.Detail))
	})
	return v.report
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
			v.add(p, Orphan, nothingNames)
		}
	}
	if left > 0 && c.run != "" {
		v.add(mirror.Lock, Note, fmt.Sprintf("a run is in progress, by %s; files that nothing names are left out (%d)", c.run, left))
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

// cache is what one Verify has found out by reading, so that what is as it was is
// not read again by its next look.
type cache struct {
	mu    sync.Mutex
	sums  map[state.Stamp]cksum.Sums
	tries map[[3]state.Stamp]result // of delta, base and target
}

// result is what a delta makes.
type result struct {
	digest cksum.Digest256
	err    error // of the delta's format
}

func newCache() *cache {
	return &cache{sums: make(map[state.Stamp]cksum.Sums), tries: make(map[[3]state.Stamp]result)}
}

func (m *cache) sumsOf(s state.Stamp) (sums cksum.Sums, known bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	sums, known = m.sums[s]
	return sums, known
}

func (m *cache) putSums(s state.Stamp, sums cksum.Sums) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sums[s] = sums
}

func (m *cache) resultOf(t *trial) (r result, known bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r, known = m.tries[t.stamps()]
	return r, known
}

func (m *cache) putResult(t *trial, r result) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.tries[t.stamps()] = r
}
