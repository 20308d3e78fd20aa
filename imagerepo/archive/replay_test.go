package archive

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"puavo-image-repository/imagerepo/archive/internal/catalog"
	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/powercut"
	"puavo-image-repository/testdata"
)

// errDead is the error of all that a dead process would have changed.
var errDead = errors.New("the process is dead")

// fault is what happens to a run from a change on.
type fault struct {
	name string
	// fails returns the error of a change.
	fails func(atomicfile.Kind) error
}

var faults = []fault{
	{"a kill", func(atomicfile.Kind) error { return errDead }},
	{"a full disk", func(kind atomicfile.Kind) error {
		if kind == atomicfile.Create || kind == atomicfile.Write || kind == atomicfile.Mkdir || kind == atomicfile.Link {
			return syscall.ENOSPC
		}
		return nil
	}},
}

// fail calls do, with a fault from the change at on, and reports whether it came to that. Without
// the fault there must be no error.
func (p *place) fail(f fault, at int64, do func() error) (met bool, err error) {
	p.t.Helper()
	var n atomic.Int64
	var failed atomic.Bool
	stop := p.observe(func(c atomicfile.Change) error {
		if n.Add(1) < at {
			return nil
		}
		err := f.fails(c.Kind)
		if err != nil {
			failed.Store(true)
		}
		return err
	})
	err = do()
	stop()
	if err != nil && !failed.Load() {
		p.t.Fatal(err)
	}
	return failed.Load(), err
}

// suffer is fail for what must end with an error then.
func (p *place) suffer(f fault, at int64, do func() error) bool {
	p.t.Helper()
	met, err := p.fail(f, at, do)
	if err == nil && met {
		p.t.Fatalf("%s at change %d, and no error", f.name, at)
	}
	return met
}

// restoreAll restores all versions that the catalog names, and compares them.
func (p *place) restoreAll(when string) {
	p.t.Helper()
	s := p.open()
	all, err := s.List(nil)
	p.must(err)
	for _, v := range all {
		out := filepath.Join(p.t.TempDir(), "out")
		_, err := s.Restore(context.Background(), v.Group, v.Version, out, false)
		if err != nil {
			p.t.Fatalf("%s: %s: %v", when, v.Version, err)
		}
		if got, err := os.ReadFile(out); err != nil || !bytes.Equal(got, p.contents[v.Group+"/"+v.Version]) {
			p.t.Fatalf("%s: %s is wrong, %v", when, v.Version, err)
		}
		p.must(os.Remove(out))
	}
}

func (p *place) addOrFail() error {
	_, err := p.open().Add(context.Background(), p.images)
	return err
}

func (p *place) pruneOrFail() error {
	_, err := p.open().Prune(context.Background(), Policy{Last: 3, Weekly: 4, Monthly: 12}, nil, 3*24*time.Hour)
	return err
}

func (p *place) gcOrFail() error {
	_, err := p.open().GC(context.Background(), false)
	return err
}

// A year of daily images, with kills and full disks: whenever a run ends so, every version that
// the catalog names can be restored; the next run completes it, and nothing is left behind. A
// catalog that is lost can be made again at any time.
func TestYear(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.o.MaxChain = 6
	count := make(map[string]int)
	for day := range testdata.Scale(61, 4) {
		p.put("os-amd64", day*6)
		if day%2 == 1 {
			p.put("os-amd64", day*6-3) // an older one, that comes later
		}
		if day%9 == 3 {
			p.write("copy-amd64", day*6, p.last["os-amd64"])
		}
		for _, run := range []func() error{p.addOrFail, p.pruneOrFail, p.gcOrFail} {
			f := faults[p.random.IntN(len(faults))]
			if p.suffer(f, int64(1+p.random.IntN(20)), run) {
				count[f.name]++
				p.restoreAll(f.name)
			}
			p.must(run())
		}
		p.leave()
		p.now = p.now.Add(6 * 24 * time.Hour)
		if day%7 == 6 {
			p.loseCatalog("os-amd64")
		}
	}
	t.Logf("faults: %v; left are %s", count, p.forms("os-amd64"))
	p.now = p.now.Add(30 * 24 * time.Hour)
	p.must(p.gcOrFail())
	p.check()
	if all := 61; testdata.Scale(all, 0) == all && (count["a kill"] < 50 || count["a full disk"] < 20) {
		t.Errorf("too few faults: %v", count)
	}
}

// loseCatalog removes both copies of the catalog, and makes it again.
func (p *place) loseCatalog(group string) {
	p.t.Helper()
	before := p.forms(group)
	p.must(os.Remove(filepath.Join(p.store, group, catalog.File)), os.Remove(filepath.Join(p.store, group, catalog.Backup)))
	if _, err := p.open().List(nil); !errors.Is(err, ErrDamaged) {
		p.t.Fatalf("without a catalog: %v", err)
	}
	groups, lost, err := p.open().Rebuild(context.Background())
	if err != nil || len(groups) != 1 || len(lost) > 0 {
		p.t.Fatalf("rebuilt are %q, lost %q, %v", groups, lost, err)
	}
	if after := p.forms(group); after != before {
		p.t.Errorf("rebuilt is %s, was %s", after, before)
	}
	p.restoreAll("after the catalog was made again")
}

// At whatever change an add, a prune or a collection dies, or the disk is full, what the
// catalog names can be restored, and without a catalog too.
func TestEveryChange(t *testing.T) {
	t.Parallel()
	for _, f := range faults {
		for _, c := range []struct {
			name   string
			before func(p *place)
			run    func(p *place) error
		}{
			{"the first add", func(p *place) { p.put("os-amd64", 1) }, (*place).addOrFail},
			{"an add", func(p *place) { p.days("os-amd64", 1, 2); p.put("os-amd64", 3) }, (*place).addOrFail},
			{"an insertion", func(p *place) { p.days("os-amd64", 1, 3); p.put("os-amd64", 2) }, (*place).addOrFail},
			{"a prune", func(p *place) {
				p.days("os-amd64", 1, 2, 3, 10, 40)
				p.must(p.open().Protect(context.Background(), "os-amd64", versionOf(1), true))
			}, func(p *place) error {
				_, err := p.open().Prune(context.Background(), Policy{Last: 1}, nil, time.Hour)
				return err
			}},
			{"a collection", func(p *place) {
				p.days("os-amd64", 1, 2, 3)
				p.prune(Policy{Last: 1})
				p.now = p.now.Add(48 * time.Hour)
			}, (*place).gcOrFail},
		} {
			for at := int64(1); ; at += int64(testdata.Scale(1, 11)) {
				p := newPlace(t)
				c.before(p)
				met := p.suffer(f, at, func() error { return c.run(p) })
				p.restoreAll(f.name + " in " + c.name)
				p.survive(f.name + " in " + c.name)
				p.must(c.run(p))
				p.check()
				if !met {
					break
				}
			}
		}
	}
}

// survive makes a copy of the archive, loses its catalogs, and makes them again.
func (p *place) survive(when string) {
	p.t.Helper()
	q := *p
	q.store = filepath.Join(p.t.TempDir(), "copy")
	if _, err := os.Stat(filepath.Join(p.store, private)); err != nil {
		return
	}
	p.must(os.CopyFS(q.store, os.DirFS(p.store)))
	names, err := q.open().names()
	p.must(err)
	for _, name := range names {
		for _, file := range []string{catalog.File, catalog.Backup} {
			if err := os.Remove(filepath.Join(q.store, name, file)); err != nil && !os.IsNotExist(err) {
				p.t.Fatal(err)
			}
		}
	}
	before, err := p.open().List(nil)
	if errors.Is(err, ErrDamaged) {
		return // the first catalog was never written
	}
	p.must(err)
	if _, _, err := q.open().Rebuild(context.Background()); err != nil && len(before) > 0 {
		p.t.Fatalf("%s: %v", when, err)
	}
	after, err := q.open().List(nil)
	if err == nil && len(after) < len(before) {
		p.t.Errorf("%s: of %d versions, %d are in the catalog that was made again", when, len(before), len(after))
	}
	if len(before) > 0 {
		q.restoreAll(when + ", with its catalog made again")
	}
}

// Whenever the power is cut, what the catalog names can be restored, and that is every version
// that was there before, unless it was about to be removed.
func TestPowerCut(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.o.NoSync, p.o.MaxChain = false, 2
	p.days("os-amd64", 1, 2, 3, 4, 5)
	for _, day := range []int{1, 2, 4, 5} {
		p.must(p.open().Protect(t.Context(), "os-amd64", versionOf(day), true))
	}
	p.put("os-amd64", 6)
	n, cuts := 0, 0
	disk := powercut.Watch(t, p.store, func(_ atomicfile.Change, trees func() []powercut.Tree) error {
		if n++; n%testdata.Scale(1, 9) == 0 {
			for _, tree := range trees() {
				cuts++
				p.cut(tree)
			}
		}
		return nil
	})
	for _, run := range []func() error{p.addOrFail, func() error {
		_, err := p.open().Prune(t.Context(), Policy{Last: 1}, nil, time.Hour)
		return err
	}, func() error {
		p.now = p.now.Add(2 * time.Hour)
		return p.gcOrFail()
	}} {
		p.must(run())
	}
	disk.Stop()
	if got := p.forms("os-amd64"); got != "rWrrW" {
		t.Errorf("%s", got)
	}
	t.Logf("%d changes, %d trees", n, cuts)
	p.check()
}

// cut checks what a power cut leaves.
func (p *place) cut(tree powercut.Tree) {
	p.t.Helper()
	q := *p
	q.store = filepath.Join(p.t.TempDir(), "cut")
	p.must(tree.Lay(q.store))
	p.must(os.MkdirAll(filepath.Join(q.store, private), 0o777))
	q.restoreAll("a power cut")
	path, err := q.open().Show("os-amd64", versionOf(1))
	if err != nil || len(path) < 2 {
		p.t.Fatalf("the oldest version: %v", err)
	}
	p.must(os.RemoveAll(q.store))
}
