package trust

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"puavo-image-repository/imagerepo/internal/mirror"
	"puavo-image-repository/imagerepo/internal/tuf"
)

// touch gives all files below tuf this time.
func (p *place) touch(at time.Time) {
	p.t.Helper()
	err := filepath.WalkDir(filepath.Join(p.mirror, "tuf"), func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Chtimes(name, at, at)
	})
	if err != nil {
		p.t.Fatal(err)
	}
}

// The mirror's other packages leave the directory alone in which this one signs.
func TestDir(t *testing.T) {
	if tuf.Dir != mirror.TUF {
		t.Errorf("%s is not %s", tuf.Dir, mirror.TUF)
	}
}

func TestStatus(t *testing.T) {
	p := newPlace(t)
	if got, err := StatusOf(p.mirror, p.now); got != nil || err != nil {
		t.Errorf("not signed: %+v, %v", got, err)
	}
	p.sign()
	p.rotate(Root)
	p.sign()
	p.touch(begin)
	for _, c := range []struct {
		after time.Duration
		soon  string
	}{
		{0, ""},
		{20 * day, ""},
		{20*day + time.Second, "timestamp"},
		{31 * day, "timestamp"},
		{61 * day, "timestamp snapshot targets"},
		{244 * day, "root timestamp snapshot targets"},
		{500 * day, "root timestamp snapshot targets"},
	} {
		got, err := StatusOf(p.mirror, begin.Add(c.after))
		if err != nil || len(got) != 4 {
			t.Fatalf("after %v: %+v, %v", c.after, got, err)
		}
		var soon []string
		for i, s := range got {
			if s.Role != Roles()[i] || !s.Expires.Equal(begin.Add(DefaultLifetime(s.Role))) {
				t.Errorf("after %v: %+v", c.after, s)
			}
			if s.Soon {
				soon = append(soon, s.Role)
			}
		}
		if strings.Join(soon, " ") != c.soon {
			t.Errorf("after %v: soon %v, want %s", c.after, soon, c.soon)
		}
		if got[0].Version != 2 || got[1].Version != begin.Unix() {
			t.Errorf("%+v", got)
		}
	}
	// What is written after it has expired is no better.
	p.touch(begin.Add(40 * day))
	if got, err := StatusOf(p.mirror, begin.Add(40*day)); err != nil || !got[1].Soon || got[2].Soon {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := StatusOf(p.mirror+"2", begin); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no mirror: %v", err)
	}
}

var documentID = regexp.MustCompile(`[0-9a-f]{64}`)

// each does something to the files below tuf that match, which must be some.
func (p *place) each(pattern string, do func(name string) error) {
	p.t.Helper()
	names, err := filepath.Glob(filepath.Join(p.mirror, "tuf", pattern))
	if err != nil || len(names) == 0 {
		p.t.Fatalf("no %s, %v", pattern, err)
	}
	for _, name := range names {
		if err := do(name); err != nil {
			p.t.Fatal(err)
		}
	}
}

// What does not verify is an error that names it, of StatusOf, and a fault, of Verify.
func TestVerify(t *testing.T) {
	p := newPlace(t)
	if faults, err := Verify(t.Context(), p.mirror); len(faults) > 0 || err != nil {
		t.Errorf("not signed: %+v, %v", faults, err)
	}
	p.sign()
	for _, c := range []struct {
		name string
		do   func(p *place)
		want string // paths, ids as x, with ~ for stale ones
	}{
		{"as it was signed", func(*place) {}, ""},
		{"expired", func(p *place) { p.now = p.now.Add(1000 * day) }, ""},
		{"another document", func(p *place) { p.write("meta/a.json", "x") }, "meta/a.json~"},
		{"one less", func(p *place) { os.Remove(filepath.Join(p.mirror, "meta/a.json")) }, "meta/a.json~"},
		{"a copy less", func(p *place) { p.each("targets/*.index.json", os.Remove) }, "tuf/targets/x.index.json"},
		{"another copy", func(p *place) { p.each("targets/meta/*", func(name string) error { return os.Truncate(name, 1) }) },
			"tuf/targets/meta/x.a.json tuf/targets/meta/x.b.c.json"},
		{"no timestamp", func(p *place) { p.each("timestamp.json", os.Remove) }, "tuf"},
		{"another snapshot", func(p *place) { p.each("*.snapshot.json", func(name string) error { return os.Truncate(name, 9) }) }, "tuf"},
		{"no root", func(p *place) { p.each("1.root.json", os.Remove) }, "tuf"},
		{"not the first root", func(p *place) {
			p.each("1.root.json", func(name string) error { return os.Rename(name, filepath.Join(filepath.Dir(name), "2.root.json")) })
		}, "tuf"},
	} {
		other, _ := p.fork(p.newClient())
		c.do(other)
		faults, err := Verify(t.Context(), other.mirror)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		var got []string
		for _, f := range faults {
			s := documentID.ReplaceAllString(f.Path, "x")
			if f.Stale {
				s += "~"
			}
			if f.Detail == "" {
				s += "?"
			}
			got = append(got, s)
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: %+v, want %s", c.name, faults, c.want)
		}
		if _, err := StatusOf(other.mirror, other.now); (err != nil) != (c.want == "tuf") || err != nil && !strings.Contains(fmt.Sprint(err), "json") && !strings.Contains(fmt.Sprint(err), "root") {
			t.Errorf("%s: status: %v", c.name, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Verify(ctx, p.mirror); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if _, err := Verify(t.Context(), p.mirror+"2"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no mirror: %v", err)
	}
}
