package audit

import (
	"cmp"
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
	"puavo-image-repository/imagerepo/internal/meter"
	"puavo-image-repository/imagerepo/internal/mirror"
	"puavo-image-repository/imagerepo/internal/state"
	"puavo-image-repository/meta"
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
		l, err := lookAt(ctx, m, o, cached)
		if err != nil {
			return Report{}, err
		}
		c := l.changeOf(m)
		if len(pauses) == 0 || !c.worthAgain(l.uncertain()) {
			return l.conclude(m.Root, c), nil
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

// look is what one look at a mirror has found.
type look struct {
	found   *findings
	marks   marks
	orphans []string // with names as the tool gives them, not yet reported
	signed  bool     // something was found in the signed metadata
}

// lookAt looks at all of a mirror once.
func lookAt(ctx context.Context, m *mirror.Mirror, o Options, cached *caches) (*look, error) {
	l := &look{found: newFindings(), marks: newMarks(m.Root)}
	records := loadRecords(m.State, l.found)
	if err := l.marks.putTree(ctx, mirror.TUF); err != nil {
		return nil, err
	}
	docs, err := readDocuments(ctx, m.Root, l.marks)
	if err != nil {
		return nil, err
	}
	all := docs.files()
	compareDocuments(docs, all, l.found)
	if l.orphans, err = findOrphans(ctx, m.Root, docs, all, records, l.found); err != nil {
		return nil, err
	}
	check := &checker{m.Root, records, cached, l.found}
	apply := &applier{m.Root, &cached.results, l.found}
	if err := checkContents(ctx, o, check, apply, docs.series, all); err != nil {
		return nil, err
	}
	l.signed, err = verifySigned(ctx, o.Signed, l.found)
	return l, cmp.Or(ctx.Err(), err)
}

// checkContents checks the files and torrents, and with Deep applies the deltas.
func checkContents(ctx context.Context, o Options, check *checker, apply *applier, series map[string]*meta.Series, all files) error {
	contents, unread, err := check.statAll(ctx, all)
	if err != nil {
		return err
	}
	var trials []*trial
	if o.Deep {
		trials = planTrials(series, contents)
	}
	offers := check.offers(contents, o.Deep)
	toRead := bytesOf(unread) * meter.Digest
	toApply := apply.bytesOf(trials) * meter.Apply
	total := toRead + toApply + check.bytesOf(offers)*meter.Pieces
	work := meter.New(total, o.Progress)
	work.Tell(o.tell)
	if err := check.readAll(ctx, o.Jobs, unread, work); err != nil {
		return err
	}
	catchUp(work, toRead)
	if err := apply.applyAll(ctx, o.Jobs, trials, work); err != nil {
		return err
	}
	catchUp(work, toRead+toApply)
	if err := check.checkTorrents(ctx, o.Jobs, offers, work); err != nil {
		return err
	}
	catchUp(work, total)
	return nil
}

// catchUp counts as done what was left out of the first n units of work.
func catchUp(work *meter.Meter, n int64) { work.Add(max(0, n-work.Done())) }

// verifySigned verifies the signed metadata, if Options.Signed is given, and reports
// whether that found something.
func verifySigned(ctx context.Context, signed func(context.Context) ([]Finding, error), found *findings) (some bool, err error) {
	if signed == nil {
		return false, nil
	}
	more, err := signed(ctx)
	found.addAll(more)
	return len(more) > 0, err
}

// change is what findings may have come of.
type change struct {
	run      string // who changes the mirror, "" if nobody does
	document string // one that is not as it was when it was read, "" if all are
}

// changeOf returns what changes the mirror or has changed it since, if there are findings
// that it matters to.
func (l *look) changeOf(m *mirror.Mirror) (c change) {
	if !l.uncertain() && len(l.orphans) == 0 {
		return c
	}
	// In this order: a run that has ended by now has changed its documents before.
	c.run, _ = lockfile.Holder(m.Dir, mirror.Lock)
	c.document = l.marks.changed()
	return c
}

// uncertain reports whether something was found that may come of a change.
func (l *look) uncertain() bool { return l.signed || l.found.damaged() }

// worthAgain reports whether another look can find less.
func (c change) worthAgain(uncertain bool) bool {
	if c.run != "" {
		return uncertain
	}
	return c.document != ""
}

// conclude returns the report of the last look.
func (l *look) conclude(root atomicfile.Dir, c change) Report {
	switch {
	case c.run != "" && l.uncertain():
		l.found.add(mirror.Lock, Note, "a run is in progress, by "+c.run+", which may explain these findings; verify again when it has ended")
	case c.run == "" && c.document != "":
		l.found.add(c.document, Note, "it changed during the check, which may explain these findings; verify again when nothing changes the mirror")
	}
	l.addOrphans(root, c.run)
	return l.found.sorted()
}

// addOrphans reports the orphans with names as the tool gives them that still exist. A
// run in progress has just made them, or is about to remove them.
func (l *look) addOrphans(root atomicfile.Dir, run string) {
	left := 0
	for _, p := range l.orphans {
		if _, err := root.Lstat(p); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if left++; run == "" {
			l.found.add(p, Orphan, nothingNames)
		}
	}
	if left > 0 && run != "" {
		l.found.add(mirror.Lock, Note, fmt.Sprintf("a run is in progress, by %s; orphans are not listed (%d)", run, left))
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
	pieces  cache[[2]state.Stamp, string] // by the stamps of torrent and file: what is wrong, "" if nothing is
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
