package group

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo/archive/internal/catalog"
	"puavo-image-repository/imagerepo/atomicfile"
)

const (
	v1 = "2024-01-01-120000"
	v2 = "2024-01-02-120000"
	v3 = "2024-01-03-120000"
)

// store is an archive with one group.
type store struct {
	*testing.T
	path string
	dir  atomicfile.Dir
}

func newStore(t *testing.T) *store {
	s := &store{T: t, path: t.TempDir()}
	s.reopen()
	return s
}

// reopen opens the archive as another process does.
func (s *store) reopen() {
	s.Helper()
	dir, err := atomicfile.Open(s.path)
	s.must(err)
	s.Cleanup(func() { dir.Close() })
	dir.NoSync = true
	s.dir = dir
}

func (s *store) must(errs ...error) {
	s.Helper()
	if err := errors.Join(errs...); err != nil {
		s.Fatal(err)
	}
}

func (s *store) put(name, text string) {
	s.Helper()
	s.must(os.WriteFile(filepath.Join(s.path, "os-amd64", name), []byte(text), 0o666))
}

// files returns the files of the group that are named as those of versions.
func (s *store) files() (names []string) {
	s.Helper()
	s.must(filepath.WalkDir(filepath.Join(s.path, "os-amd64"), func(path string, d fs.DirEntry, err error) error {
		if rel, _ := filepath.Rel(filepath.Join(s.path, "os-amd64"), path); err == nil && !d.IsDir() && strings.HasPrefix(d.Name(), "2024") {
			names = append(names, rel)
		}
		return err
	}))
	return names
}

func digest(text string) cksum.Digest256 {
	h := cksum.NewBLAKE3()
	h.Write([]byte(text))
	return cksum.Digest256(h.Sum(nil))
}

// version returns a version whose content is its name, whole or as a delta, which is any text.
func version(v, parent string) catalog.Version {
	made := catalog.Version{Version: v, Name: "os-" + v + "-amd64.img", Size: int64(len(v)), BLAKE3: digest(v), SHA256: digest(v), Added: time.Unix(1e9, 0).UTC()}
	made.Stored = catalog.Stored{Form: catalog.Whole, Size: made.Size, BLAKE3: made.BLAKE3}
	if parent != "" {
		made.Stored = catalog.Stored{Form: catalog.Rdiff, Size: int64(len(v + "-" + parent)), BLAKE3: digest(v + "-" + parent), Commands: 1, Parent: parent}
	}
	return made
}

// first makes a group with one version, and a second from it.
func (s *store) first() *Group {
	s.Helper()
	g, err := Create(s.Context(), s.dir, "os-amd64")
	s.must(err)
	s.Cleanup(g.Close)
	s.put(v1+".img.new", v1)
	s.must(g.Commit(s.Context(), &catalog.Catalog{Group: "os-amd64", Versions: []catalog.Version{version(v1, "")}}))
	return g
}

// second returns the catalog of a second version, whose files it makes.
func (s *store) second(g *Group) *catalog.Catalog {
	s.Helper()
	s.put(v2+".img.new", v2)
	s.put(v1+".rdiff.new", v1+"-"+v2)
	next := g.C.Clone()
	next.Versions = []catalog.Version{version(v1, v2), version(v2, "")}
	return next
}

// third returns the catalog of a third version, with the second in the trash.
func (s *store) third(g *Group) *catalog.Catalog {
	s.Helper()
	s.put(v3+".img.new", v3)
	s.put(v2+".rdiff.new", v2+"-"+v3)
	s.put(v1+".rdiff.new", v1+"-"+v3)
	next := g.C.Clone()
	next.Versions = []catalog.Version{version(v1, v3), version(v3, "")}
	next.Trash = []catalog.Pruned{{Version: version(v2, v3), Pruned: time.Unix(2e9, 0).UTC(), Due: time.Unix(3e9, 0).UTC()}}
	return next
}

var (
	firstFiles  = []string{v1 + ".img"}
	secondFiles = []string{v1 + ".rdiff", v2 + ".img"}
	thirdFiles  = []string{v1 + ".rdiff", v3 + ".img", "trash/" + v2 + "--" + v3 + ".rdiff"}
)

// A commit that fails at any change has the catalog before or the next, and whoever changes the
// group then completes it.
func TestCommit(t *testing.T) {
	dead := errors.New("dead")
	for at := 1; ; at++ {
		s := newStore(t)
		g := s.first()
		s.must(g.Commit(t.Context(), s.second(g)))
		if got := s.files(); !slices.Equal(got, secondFiles) {
			t.Fatalf("the second: %q", got)
		}
		n := 0
		stop := atomicfile.Observe(s.path, func(atomicfile.Change) error {
			if n++; n >= at {
				return dead
			}
			return nil
		})
		s.reopen()
		g, err := Change(t.Context(), s.dir, "os-amd64")
		s.must(err)
		err = g.Commit(t.Context(), s.third(g))
		stop()
		g.Close()
		if (err == nil) != (n < at) {
			t.Fatalf("at change %d: %v", at, err)
		}
		s.reopen()
		again, openErr := Change(t.Context(), s.dir, "os-amd64")
		s.must(openErr)
		want := secondFiles
		if again.C.Newest().Version == v3 {
			want = thirdFiles
		}
		if got := s.files(); !slices.Equal(got, want) {
			t.Fatalf("dead at change %d: the files are %q, want %q", at, got, want)
		}
		if strange, err := again.Strangers(); err != nil || len(strange) > 0 {
			t.Errorf("dead at change %d: strangers %q, %v", at, strange, err)
		}
		again.Close()
		if err == nil {
			if at < 10 {
				t.Errorf("a commit has %d changes", n)
			}
			return
		}
	}
}

func TestCommitCancelled(t *testing.T) {
	s := newStore(t)
	g := s.first()
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if err := g.Commit(cancelled, s.second(g)); !errors.Is(err, context.Canceled) || g.C.Newest().Version != v1 {
		t.Errorf("%v, %+v", err, g.C)
	}
	if err := g.Settle(t.Context()); err != nil || !slices.Equal(s.files(), firstFiles) {
		t.Errorf("%v, %q", err, s.files())
	}
}

func TestOpen(t *testing.T) {
	for _, c := range []struct {
		name  string
		harm  func(s *store)
		is    bool
		err   error
		wrong []string
	}{
		{"right", func(*store) {}, true, nil, nil},
		{"no group", func(s *store) { s.must(os.RemoveAll(s.path + "/os-amd64")) }, false, fs.ErrNotExist, nil},
		{"no versions", func(s *store) {
			s.must(os.RemoveAll(s.path+"/os-amd64"), os.Mkdir(s.path+"/os-amd64", 0o777), os.WriteFile(s.path+"/os-amd64/notes", nil, 0o666))
		}, false, catalog.ErrDamaged, nil},
		{"no backup", func(s *store) { s.must(os.Remove(s.path + "/os-amd64/catalog.json.bak")) }, true, nil, []string{catalog.Backup}},
		{"one damaged", func(s *store) { s.put(catalog.File, "{}") }, true, nil, []string{catalog.File}},
		{"both damaged", func(s *store) { s.put(catalog.File, "{}"); s.put(catalog.Backup, "") }, true, catalog.ErrDamaged, nil},
		{"none", func(s *store) {
			s.must(os.Remove(s.path+"/os-amd64/catalog.json"), os.Remove(s.path+"/os-amd64/catalog.json.bak"))
		}, true, catalog.ErrDamaged, nil},
	} {
		s := newStore(t)
		s.first()
		c.harm(s)
		if got := Is(s.dir, "os-amd64"); got != c.is {
			t.Errorf("%s: a group: %v", c.name, got)
		}
		g, err := Open(s.dir, "os-amd64")
		if !errors.Is(err, c.err) || err == nil && !slices.Equal(g.Wrong, c.wrong) {
			t.Errorf("%s: %+v, %v", c.name, g, err)
			continue
		}
		if err != nil {
			continue
		}
		g.Close()
		if g, err = Change(t.Context(), s.dir, "os-amd64"); err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		g.Close()
		if g, err = Open(s.dir, "os-amd64"); err != nil || len(g.Wrong) > 0 {
			t.Errorf("%s: then %+v, %v", c.name, g, err)
		}
		g.Close()
	}
}

func TestPath(t *testing.T) {
	s := newStore(t)
	g := s.first()
	s.must(g.Commit(t.Context(), s.second(g)))
	s.must(g.Commit(t.Context(), s.third(g)))
	for version, want := range map[string]string{v1: v3 + ".img " + v1 + ".rdiff", v2: v3 + ".img trash/" + v2 + "--" + v3 + ".rdiff", v3: v3 + ".img"} {
		steps, err := g.Path(version)
		var files []string
		for _, step := range steps {
			files = append(files, step.File)
		}
		if err != nil || strings.Join(files, " ") != want {
			t.Errorf("%s: %q, %v", version, files, err)
		}
	}
	for version, hint := range map[string]string{"2024-01-03-120001": "did you mean " + v3, "x": "it has 2, from " + v1 + " to " + v3} {
		if _, err := g.Path(version); !errors.Is(err, ErrUnknown) || !strings.Contains(err.Error(), hint) {
			t.Errorf("%s: %v", version, err)
		}
	}
	if got := g.All(); !slices.Equal(got, []string{v1, v3, v2}) {
		t.Errorf("all are %q", got)
	}
	for version, want := range map[string][]string{v1: {v1}, v2: {v2}, v3: {v1, v3, v2}} {
		if got := g.Hurt(version); !reflect.DeepEqual(got, want) {
			t.Errorf("without %s, these are hurt: %q", version, got)
		}
	}
	s.put(v2+".img", "")
	s.put("trash/"+v1+".img", "")
	if got, err := g.Strangers(); err != nil || !slices.Equal(got, []string{v2 + ".img", "trash/" + v1 + ".img"}) {
		t.Errorf("strangers are %q, %v", got, err)
	}
}
