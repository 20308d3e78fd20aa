package archive

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"puavo-image-repository/imagerepo/internal/lockfile"
	"puavo-image-repository/imagerepo/plan"
)

// The newest is whole, the others are deltas, and one between is whole after MaxChain deltas.
func TestAdd(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		chain int
		days  [][]int // that are there at each add
		want  string
	}{
		{"one", 0, [][]int{{1}}, "W"},
		{"at once", 0, [][]int{{1, 2, 3}}, "rrW"},
		{"one after another", 0, [][]int{{1}, {2}, {3}}, "rrW"},
		{"with a whole one between", 2, [][]int{{1, 2, 3, 4, 5, 6, 7}}, "rrWrrWW"},
		{"an older one", 0, [][]int{{1, 3}, {2}}, "rrW"},
		{"the oldest", 0, [][]int{{2, 3}, {1}}, "rrW"},
		{"an older one into a chain that is full", 2, [][]int{{1, 3, 4}, {2}}, "rWrW"},
		{"the same again", 0, [][]int{{1, 2}, {1, 2}}, "rW"},
	} {
		p := newPlace(t)
		p.o.MaxChain = c.chain
		for _, days := range c.days {
			p.leave()
			for _, day := range days {
				if content := p.contents["os-amd64/"+versionOf(day)]; content != nil {
					p.write("os-amd64", day, content)
				} else {
					p.put("os-amd64", day)
				}
			}
			p.add()
		}
		if got := p.forms("os-amd64"); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
		p.check()
	}
}

// What two groups have in common is one file, whole or a delta, and each group goes on by itself.
func TestSame(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.days("os-amd64", 1, 2)
	for _, day := range []int{1, 2} {
		p.write("copy-amd64", day, p.contents["os-amd64/"+versionOf(day)])
	}
	planned, err := p.open().PlanAdd(t.Context(), p.images)
	p.must(err)
	newest := int64(len(p.last["os-amd64"]))
	if len(planned.Add) != 2 || planned.Add[1].Same != "os-amd64/"+versionOf(2) || planned.Saved != newest {
		t.Errorf("planned %+v", planned)
	}
	p.add()
	for _, file := range []string{versionOf(2) + ".img", versionOf(1) + ".rdiff"} {
		a, errA := os.Stat(filepath.Join(p.store, "os-amd64", file))
		b, errB := os.Stat(filepath.Join(p.store, "copy-amd64", file))
		if errA != nil || errB != nil || !os.SameFile(a, b) {
			t.Errorf("%s is two files: %v, %v", file, errA, errB)
		}
	}
	p.days("os-amd64", 3)
	p.prune(Policy{Last: 1})
	p.check()
}

// What an image turns out to be counts, and not what it was planned to be.
func TestSameChanged(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.days("os-amd64", 1)
	s := p.open()
	g, err := s.create(t.Context(), "copy-amd64")
	p.must(err)
	defer g.Close()
	same := Addition{Group: "copy-amd64", Version: versionOf(1), Same: "os-amd64/" + versionOf(1)}
	for content, want := range map[string]bool{"another": false, string(p.last["os-amd64"]): true} {
		_, linked, err := s.bringSame(t.Context(), g, strings.NewReader(content), same, "file", s.meter(0))
		if linked != want || err != nil {
			t.Errorf("%d bytes: %v, %v, want %v", len(content), linked, err, want)
		}
	}
}

// An image is never shared with the directory it comes from.
func TestAddIsNoLink(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.days("os-amd64", 1)
	file := filepath.Join(p.images, "os-"+versionOf(1)+"-amd64.img")
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	p.must(err)
	_, err = f.WriteAt([]byte("overwritten in place"), 0)
	p.must(err, f.Close())
	p.check()
}

// What cannot be added is reported, and the rest is added.
func TestAddErrors(t *testing.T) {
	t.Parallel()
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range []struct {
		name    string
		ctx     context.Context
		prepare func(p *place)
		err     error
		text    string
		want    string // forms
	}{
		{"an empty image", t.Context(), func(p *place) {
			p.must(os.WriteFile(filepath.Join(p.images, "os-"+versionOf(2)+"-amd64.img"), nil, 0o666))
		}, ErrRefused, "is empty", "rW"},
		{"another content of a version", t.Context(), func(p *place) { p.write("os-amd64", 0, []byte("other")) }, ErrRefused, "give the image a new version", "rW"},
		{"no images", t.Context(), func(p *place) { p.leave() }, plan.ErrInput, "no images (files named", "W"},
		{"the archive itself", t.Context(), func(p *place) { p.images = p.store }, nil, "choose another directory", "W"},
		{"too large for the disk", t.Context(), func(p *place) {
			p.must(os.Truncate(filepath.Join(p.images, "os-"+versionOf(1)+"-amd64.img"), 1<<43))
		}, ErrSpace, "make room", "W"},
		{"locked", t.Context(), func(p *place) {
			l, err := lockfile.Acquire(p.store, lockName)
			p.must(err)
			p.t.Cleanup(func() { l.Release() })
		}, ErrLocked, "wait until it has finished", "W"},
		{"cancelled", cancelled, func(*place) {}, context.Canceled, "", "W"},
	} {
		p := newPlace(t)
		p.days("os-amd64", 0)
		p.put("os-amd64", 1)
		c.prepare(p)
		_, err := p.open().Add(c.ctx, p.images)
		if err == nil || c.err != nil && !errors.Is(err, c.err) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v", c.name, err)
		}
		if got := p.forms("os-amd64"); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

func TestOpenErrors(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.put("os-amd64", 1)
	for _, c := range []struct {
		name, path string
		o          Options
		err        error
	}{
		{"a missing directory", p.store, Options{}, ErrStore},
		{"a directory that is none", p.images, Options{}, ErrStore},
		{"a directory that is not empty", p.images, Options{Create: true}, ErrStore},
		{"too little memory", p.store, Options{Create: true, Memory: 1 << 20}, nil},
	} {
		if s, err := Open(c.path, c.o); err == nil || c.err != nil && !errors.Is(err, c.err) {
			t.Errorf("%s: %v, %v", c.name, s, err)
		}
	}
	if _, err := p.open().PlanAdd(t.Context(), p.images); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(p.store); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the plan has made the archive: %v", err)
	}
}

// Compact deltas are stored, restored and re-based as well, also among others.
func TestCompact(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.days("os-amd64", 1, 2)
	p.o.Format, p.o.Memory = Compact, 0
	p.days("os-amd64", 3, 4)
	if got := p.forms("os-amd64"); got != "rccW" {
		t.Errorf("%s", got)
	}
	p.must(p.open().Protect(t.Context(), "os-amd64", versionOf(2), true))
	p.prune(Policy{Last: 1})
	if got := p.forms("os-amd64"); got != "cW rc" {
		t.Errorf("%s", got)
	}
	p.check()
}
