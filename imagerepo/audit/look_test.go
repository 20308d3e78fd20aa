package audit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"puavo-image-repository/imagerepo/internal/lockfile"
	"puavo-image-repository/imagerepo/internal/mirror"
	"puavo-image-repository/testdata"
)

// soon are pauses for tests.
var soon = slices.Repeat([]time.Duration{time.Millisecond}, 7)

// A run of the builder that begins at any point of a verification, and makes a step
// with each of its steps, or all at once and unseen, is no damage.
func TestBesideSteps(t *testing.T) {
	t.Parallel()
	for _, goals := range [][]string{
		{"all", "without older"},
		{"all", "without free"},
		{"without older", "all"},
		{"without free", "all"},
		{"all", "without newer", "newer replaced"},
	} {
		for _, locks := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, lock %v", strings.Join(goals, " to "), locks), func(t *testing.T) {
				t.Parallel()
				point := 0
				for newRun(t, locks, goals[0], goals[1:]...).beside(point) {
					point += testdata.Scale(3, 15)
				}
				if point < 30 {
					t.Errorf("it has %d points only", point)
				}
			})
		}
	}
}

// beside verifies the mirror, begins the run at a point of that, and reports whether
// it came to the point.
func (r *run) beside(point int) (begun bool) {
	calls := 0
	tick := func() {
		if calls++; calls <= point {
			return
		}
		if begun = true; r.locks {
			r.step()
		} else {
			r.finish()
		}
	}
	o := Options{MirrorDir: r.dir, Deep: true, Jobs: 1, Progress: func(int64, int64) { tick() }}
	report, err := verify(watched{r.t.Context(), tick}, o, soon)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, f := range report.Findings {
		if f.Problem != Note {
			r.t.Errorf("begun at point %d: %+v", point, f)
		}
	}
	r.finish()
	return begun
}

// looks counts the looks at a mirror and what is read in each.
type looks struct {
	n    int
	work []int64 // in bytes
}

// count is for Options.Signed, which is called at the end of each look.
func (l *looks) count(context.Context) ([]Finding, error) {
	l.n++
	return nil, nil
}

func (l *looks) progress(_, total int64) {
	for len(l.work) <= l.n {
		l.work = append(l.work, 0)
	}
	l.work[l.n] = total
}

// What a look finds is looked at again only where it may have come of a run.
func TestAgain(t *testing.T) {
	held := func(p place) *lockfile.Lock {
		lock := must(lockfile.Acquire(p.dir, mirror.Lock))
		p.t.Cleanup(func() { lock.Release() })
		return lock
	}
	image := must(os.ReadFile(filepath.Join(built(), newer)))
	damaged := [3]string{"damaged", up, "sha256"}
	busy := [3]string{"note", ".repo/lock", "a run is in progress, by process "}
	for _, c := range []struct {
		name string
		// begin is done before the first look, and what it returns, if anything, at
		// the end of each.
		begin func(p place) (end func(look int))
		looks int
		want  [][3]string
	}{
		{"nothing", func(place) func(int) { return nil }, 1, nil},
		{"nothing, and a run", func(p place) func(int) { held(p); return nil }, 1, nil},
		{"damage", func(p place) func(int) { p.rot(up); return nil }, 1, [][3]string{damaged}},
		{"damage, and a run", func(p place) func(int) { held(p); p.rot(up); return nil }, len(soon) + 1,
			[][3]string{busy, damaged}},
		{"damage, and a run that ends", func(p place) func(int) {
			lock := held(p)
			p.rot(up)
			return func(look int) {
				if look == 2 {
					check(lock.Release())
				}
			}
		}, 2, [][3]string{damaged}},
		{"documents that do not agree, and a run that ends", func(p place) func(int) {
			lock, sums := held(p), p.read("CKSUMS")
			p.replace("CKSUMS", says(crc, image), "7")
			return func(look int) {
				if look == 3 {
					p.put("CKSUMS", sums)
					check(lock.Release())
				}
			}
		}, 4, nil},
		{"documents that do not agree", func(p place) func(int) { p.replace("CKSUMS", says(crc, image), "7"); p.relist(); return nil }, 1,
			[][3]string{{"inconsistent", newer, "7 in CKSUMS"}}},
		{"a document that changes, and damage", func(p place) func(int) {
			p.rot(up)
			return func(look int) {
				if look < 3 {
					p.put(freeDoc, p.read(freeDoc))
				}
			}
		}, 3, [][3]string{damaged}},
		{"a document that changes all the time, and damage", func(p place) func(int) {
			p.rot(up)
			return func(int) { p.put("index.json", p.read("index.json")) }
		}, len(soon) + 1, [][3]string{{"note", "index.json", "it changed during the check"}, damaged}},
		{"a document that changes all the time", func(p place) func(int) {
			return func(int) { p.put("index.json", p.read("index.json")) }
		}, 1, nil},
		{"a new file, and a run", func(p place) func(int) { held(p); p.write(absent, nil); p.write("mine", nil); return nil }, 1,
			[][3]string{{"note", ".repo/lock", "; orphans are not listed (1)"}, {"orphan", "mine", "no document names it"}}},
		{"a new day, and a run", func(p place) func(int) { held(p); p.write("BEST-BEFORE-2027-01-01", nil); return nil }, 1,
			[][3]string{{"note", ".repo/lock", "; orphans are not listed (1)"}}},
		{"a new day", func(p place) func(int) { p.write("BEST-BEFORE-2027-01-01", nil); return nil }, 1, [][3]string{{"orphan", "BEST-BEFORE-2027-01-01", "no document names it"}}},
		{"a new file", func(p place) func(int) { p.write(absent, nil); return nil }, 1, [][3]string{{"orphan", absent, ""}}},
		{"a new file that goes", func(p place) func(int) {
			p.write(absent, nil)
			return func(int) { p.remove(absent) }
		}, 1, nil},
		{"a new file, and a document that changes", func(p place) func(int) {
			p.write(absent, nil)
			return func(look int) {
				if look == 1 {
					p.put("index.json", p.read("index.json"))
				}
			}
		}, 2, [][3]string{{"orphan", absent, ""}}},
		{"signed metadata that changes, and damage", func(p place) func(int) {
			p.write("tuf/targets/1.json", nil)
			p.rot(up)
			return func(look int) {
				if look == 1 {
					p.put("tuf/targets/2.json", nil)
				}
			}
		}, 2, [][3]string{damaged}},
		{"the first signed metadata, and damage", func(p place) func(int) {
			p.rot(up)
			return func(int) { p.put("tuf/timestamp.json", nil) }
		}, len(soon) + 1, [][3]string{damaged, {"note", "tuf", "it changed during the check"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPlace(t)
			p.putDelta(up, literal(image)) // so that it takes some reading
			p.remove(".repo/state/" + filepath.Base(up) + ".json")
			var l looks
			end := c.begin(p)
			r, err := verify(t.Context(), Options{MirrorDir: p.dir, Deep: true, Jobs: 1, Progress: l.progress,
				Signed: func(context.Context) ([]Finding, error) {
					l.n++
					if end != nil {
						end(l.n)
					}
					return nil, nil
				},
			}, soon)
			if err != nil {
				t.Fatal(err)
			}
			expect(t, r.Findings, c.want)
			if l.n != c.looks {
				t.Errorf("%d looks, want %d", l.n, c.looks)
			}
			if r.Files != 13 {
				t.Errorf("%d files", r.Files)
			}
			// After the first look no more than documents are read.
			for i, work := range l.work {
				if i == 0 && work < 1_500_000 || i > 0 && work > 100_000 {
					t.Errorf("look %d is %d bytes of work", i+1, work)
				}
			}
		})
	}
}

// What is found of signed metadata is looked at again as the rest is.
func TestSigned(t *testing.T) {
	fault := Finding{"tuf", Damaged, "not signed"}
	stale := Finding{amxaDoc, Note, "another"}
	broken := errors.New("broken")
	for _, c := range []struct {
		name   string
		locked bool
		finds  [][]Finding // look by look, the last one from then on
		err    error
		looks  int
		want   [][3]string
	}{
		{"nothing", true, [][]Finding{nil}, nil, 1, nil},
		{"a fault", false, [][]Finding{{fault}, nil}, nil, 1, [][3]string{{"damaged", "tuf", "not signed"}}},
		{"a fault of a moment, and a run", true, [][]Finding{{fault, stale}, {stale}, nil}, nil, 3, nil},
		{"a fault, and a run", true, [][]Finding{{fault}}, nil, len(soon) + 1, [][3]string{{"note", ".repo/lock", "verify again"}, {"damaged", "tuf", ""}}},
		{"an error", true, [][]Finding{{fault}}, broken, 1, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, n := newPlace(t), 0
			if c.locked {
				lock := must(lockfile.Acquire(p.dir, mirror.Lock))
				defer lock.Release()
			}
			r, err := verify(t.Context(), Options{MirrorDir: p.dir, Signed: func(context.Context) ([]Finding, error) {
				n++
				return c.finds[min(n, len(c.finds))-1], c.err
			}}, soon)
			if !errors.Is(err, c.err) || n != c.looks {
				t.Errorf("%v after %d looks, want %v after %d", err, n, c.err, c.looks)
			}
			expect(t, r.Findings, c.want)
		})
	}
}

// A verification that is cancelled while it waits ends.
func TestCancelledWait(t *testing.T) {
	p := newPlace(t)
	p.rot(up)
	lock := must(lockfile.Acquire(p.dir, mirror.Lock))
	defer lock.Release()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, err := verify(ctx, Options{MirrorDir: p.dir, Signed: func(context.Context) ([]Finding, error) {
		time.AfterFunc(10*time.Millisecond, cancel)
		return nil, nil
	}}, []time.Duration{time.Hour})
	if !errors.Is(err, context.Canceled) || r.Findings != nil {
		t.Errorf("%+v, %v", r, err)
	}
}

// Verify beside runs that follow each other, and add, replace and remove images,
// finds no damage.
func TestBesideBuilds(t *testing.T) {
	dir := t.TempDir()
	one, other, mirrorDir := filepath.Join(dir, "one"), filepath.Join(dir, "other"), filepath.Join(dir, "mirror")
	linkImages(one, older, newer, free)
	linkImages(other, older)
	check(os.WriteFile(filepath.Join(other, newer), must(os.ReadFile(filepath.Join(one, free))), 0o666))
	check(buildFrom(one, mirrorDir))
	var ended atomic.Bool
	var runs sync.WaitGroup
	runs.Go(func() {
		for i := 0; !ended.Load(); i++ {
			if err := buildFrom([]string{other, one}[i%2], mirrorDir); err != nil {
				t.Error(err)
			}
		}
	})
	defer runs.Wait()
	defer ended.Store(true)
	n, l := 0, looks{}
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); n++ {
		r, err := Verify(t.Context(), Options{MirrorDir: mirrorDir, Deep: true, Jobs: 2, Signed: l.count})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := StatusOf(mirrorDir); err != nil {
			t.Error(err)
		}
		for _, f := range r.Findings {
			if f.Damage() || f.Problem == Orphan || strings.Contains(f.Detail, "verify again") {
				t.Errorf("%+v", f)
			}
		}
	}
	t.Logf("%d verifications of %d looks", n, l.n)
}

// Marks say what changed since they were put.
func TestMarks(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(p place)
		want   string
	}{
		{"nothing", func(place) {}, ""},
		{"a document is touched", func(p place) { p.write("b", p.read("b")) }, "b"},
		{"a document is replaced", func(p place) { p.put("b", p.read("b")) }, "b"},
		{"a document is gone", func(p place) { p.remove("b") }, "b"},
		{"one that was missing", func(p place) { p.write("none", nil) }, "none"},
		{"several: the first", func(p place) { p.write("none", nil); p.remove("b"); p.remove("a") }, "a"},
		{"one that is not marked", func(p place) { p.write("other", nil) }, ""},
		{"one in a tree", func(p place) { p.write("tree/x/y", []byte("new")) }, "tree/x/y"},
		{"a new one in a tree", func(p place) { p.write("tree/x/z", nil) }, "tree/x"},
		{"a tree that was missing", func(p place) { p.write("no tree/x", nil) }, "no tree"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := place{t, t.TempDir()}
			for _, name := range []string{"a", "b", "tree/x/y", ".repo/tmp/x"} {
				check(os.MkdirAll(filepath.Dir(p.path(name)), 0o777))
				check(os.WriteFile(p.path(name), nil, 0o666))
			}
			m := newMarks(p.view().Root)
			for _, name := range []string{"a", "b", "none"} {
				m.put(name)
			}
			check(errors.Join(m.putTree(t.Context(), "tree"), m.putTree(t.Context(), "no tree")))
			if err := m.putTree(ended(t), "tree"); !errors.Is(err, context.Canceled) {
				t.Errorf("cancelled: %v", err)
			}
			c.change(p)
			if got := m.changed(); got != c.want {
				t.Errorf("%q changed, want %q", got, c.want)
			}
		})
	}
}

func TestWorthAgain(t *testing.T) {
	for _, c := range []struct {
		name            string
		change          change
		uncertain, want bool
	}{
		{"nothing", change{}, false, false},
		{"damage that nothing explains", change{}, true, false},
		{"damage, and a run", change{run: "x"}, true, true},
		{"orphans, and a run", change{run: "x"}, false, false},
		{"orphans, a run, and a document", change{"x", "y"}, false, false},
		{"damage, and a document", change{document: "y"}, true, true},
		{"orphans, and a document", change{document: "y"}, false, true},
	} {
		if got := c.change.worthAgain(c.uncertain); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

// The zero cache is empty, and many can use one.
func TestCache(t *testing.T) {
	var c cache[int, string]
	if v, known := c.get(1); known || v != "" {
		t.Errorf("the empty cache has %q", v)
	}
	var users sync.WaitGroup
	for i := range 20 {
		users.Go(func() {
			c.put(i, fmt.Sprint("old ", i))
			c.put(i, fmt.Sprint("new ", i))
			c.get(i + 1)
		})
	}
	users.Wait()
	for i := range 20 {
		if v, known := c.get(i); !known || v != fmt.Sprint("new ", i) {
			t.Errorf("%d: %q, %v", i, v, known)
		}
	}
}
