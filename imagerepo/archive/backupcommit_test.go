package archive

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/powercut"
	"puavo-image-repository/testdata"
)

// pair is a guest with two disks.
type pair struct {
	*place
	disks  [2]string
	states map[string][]byte // by group and version
	had    []string          // versions that both disks have
	noLogs bool              // what became of logs is not known
}

func newPair(t *testing.T) *pair {
	p := newPlace(t)
	p.now = time.Date(2024, 1, 20, 0, 0, 0, 0, time.UTC) // when logs of failed backups are kept still
	return &pair{p, [2]string{filepath.Join(p.images, "vda.img"), filepath.Join(p.images, "vdb.img")}, make(map[string][]byte), nil, false}
}

// change writes to the disks, and remembers what their version of a day will be.
func (p *pair) change(day int) {
	p.t.Helper()
	for i, file := range p.disks {
		content, err := os.ReadFile(file)
		if err != nil {
			content = make([]byte, mib+300000)
			p.noise.Read(content)
		}
		p.noise.Read(content[day*7000%mib:][:2000])
		p.must(os.WriteFile(file, content, 0o666))
		p.states[fmt.Sprintf("web/vd%c/%s", 'a'+i, versionOf(day))] = content
	}
}

func (p *pair) backup(day int) error {
	p.t.Helper()
	s, err := Open(p.store, p.o)
	p.must(err)
	defer s.Close()
	_, err = s.Backup(context.Background(), BackupOptions{Guest: "web", Disks: p.disks[:], Version: versionOf(day)})
	return err
}

// versions restores all versions that the catalogs name, and returns which these are.
func (p *pair) versions(when string) (named [2][]string) {
	p.t.Helper()
	s, err := Open(p.store, p.o)
	p.must(err)
	defer s.Close()
	all, err := s.List(nil)
	p.must(err)
	out := filepath.Join(p.t.TempDir(), "out")
	for _, v := range all {
		_, err := s.Restore(context.Background(), v.Group, v.Version, out, true)
		if err != nil {
			p.t.Fatalf("%s: %v", when, err)
		}
		if got, err := os.ReadFile(out); err != nil || !bytes.Equal(got, p.states[v.Group+"/"+v.Version]) {
			p.t.Fatalf("%s: %s %s is wrong, %v", when, v.Group, v.Version, err)
		}
		disk := int(v.Group[len(v.Group)-1] - 'a')
		named[disk] = append(named[disk], v.Version)
	}
	p.must(os.RemoveAll(out))
	return named
}

// settles checks that both disks have the version of a day or none has, and all those before, once
// the next command has changed the archive, and that this has left nothing. It reports whether they have it.
func (p *pair) settles(when string, day int) (has bool) {
	p.t.Helper()
	now := p.versions(when)
	p.must(p.gcOrFail())
	next := p.versions(when + ", then a collection")
	with := append(slices.Clone(p.had), versionOf(day))
	has = slices.Equal(next[0], with)
	for i := range next {
		if !slices.Equal(next[i], next[0]) || !has && !slices.Equal(next[i], p.had) || len(next[i]) < len(now[i]) {
			p.t.Fatalf("%s: a disk has %v, then %v", when, now, next)
		}
	}
	for _, file := range p.tree() {
		name := filepath.Base(file)
		failed := has && strings.Contains(file, versionOf(day)+".failed")
		if strings.Contains(name, ".part") || strings.Contains(name, ".new") || name == ".pending.json" || failed {
			p.t.Fatalf("%s: %s is left", when, file)
		}
	}
	if _, err := os.Stat(filepath.Join(p.store, "web", versionOf(day), "log")); (err == nil) != has && !p.noLogs {
		p.t.Fatalf("%s: the log: %v", when, err)
	}
	if has {
		p.had = with
	}
	return has
}

// once returns a fault that one change meets.
func once() fault {
	met := false
	return fault{"one error", func(atomicfile.Kind) error {
		if met {
			return nil
		}
		met = true
		return syscall.EIO
	}}
}

// At whatever change a backup of two disks dies, the disk is full, or one change fails: what the
// catalogs name restores, and no disk gets a version that the other does not get.
func TestBackupEveryChange(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		fault func() fault
		first bool
	}{
		{func() fault { return faults[0] }, true}, {func() fault { return faults[0] }, false},
		{func() fault { return faults[1] }, true}, {func() fault { return faults[1] }, false},
		{once, false},
	} {
		base, day := newPair(t), 1
		base.change(1)
		if !c.first {
			base.must(base.backup(1))
			base.settles("the first", 1)
			day = 2
			base.change(2)
		}
		at := 1
		for met := true; met; at += testdata.Scale(1, 29) {
			p := base.copy()
			f := c.fault()
			met, _ = p.fail(f, int64(at), func() error { return p.backup(day) })
			when := fmt.Sprintf("%s at change %d of backup %d", f.name, at, day)
			p.settles(when, day)
			p.change(day + 1)
			p.must(p.backup(day + 1))
			p.completes(when, day+1)
			p.must(os.RemoveAll(p.store), os.RemoveAll(p.images))
		}
		t.Logf("%s, backup %d: %d changes", c.fault().name, day, at)
	}
}

// completes checks that both disks have the version of a day, and all restore.
func (p *pair) completes(when string, day int) {
	p.t.Helper()
	for _, named := range p.versions(when + ", then a backup") {
		if named[len(named)-1] != versionOf(day) {
			p.t.Fatalf("%s: then a backup: %v", when, named)
		}
	}
	s := p.open()
	if _, err := s.Verify(p.t.Context(), VerifyOptions{}); err != nil {
		p.t.Fatalf("%s: %v", when, err)
	}
}

// copy returns a copy of the guest and its archive.
func (p *pair) copy() *pair {
	p.t.Helper()
	q, place := *p, *p.place
	q.place = &place
	q.states = maps.Clone(p.states)
	q.store = filepath.Join(p.t.TempDir(), "store")
	q.images = filepath.Join(p.t.TempDir(), "images")
	q.must(os.CopyFS(q.images, os.DirFS(p.images)))
	if _, err := os.Stat(p.store); err == nil {
		q.must(os.CopyFS(q.store, os.DirFS(p.store)))
	}
	for i, file := range p.disks {
		q.disks[i] = filepath.Join(q.images, filepath.Base(file))
	}
	return &q
}

// Whenever the power is cut, what the catalogs name restores, and the disks get the same versions.
func TestBackupPowerCut(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.o.NoSync = false
	p.change(1)
	p.must(p.backup(1))
	p.settles("the first", 1)
	p.change(2)
	n, cuts := 0, 0
	disk := powercut.Watch(t, p.store, func(_ atomicfile.Change, trees func() []powercut.Tree) error {
		if n++; n%testdata.Scale(1, 31) == 0 {
			for _, tree := range trees() {
				cuts++
				p.cutPower(tree, fmt.Sprintf("a power cut before change %d", n))
			}
		}
		return nil
	})
	p.must(p.backup(2))
	disk.Stop()
	t.Logf("%d changes, %d trees", n, cuts)
	if !p.settles("without a power cut", 2) {
		t.Error("the version is missing")
	}
}

// cutPower checks what a power cut leaves.
func (p *pair) cutPower(tree powercut.Tree, when string) {
	p.t.Helper()
	q, place := *p, *p.place
	q.place = &place
	q.o.NoSync, q.noLogs = true, true // package powercut does not follow directories that are renamed
	q.store = filepath.Join(p.t.TempDir(), "cut")
	q.must(tree.Lay(q.store), os.MkdirAll(filepath.Join(q.store, private), 0o777))
	q.settles(when, 2)
	q.must(os.RemoveAll(q.store))
}

// What was decided on and cannot be completed is dropped if no disk has it, and no longer waited
// for if one has.
func TestBackupGone(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		at   func(c atomicfile.Change) bool // from where the process is dead
		harm func(p *pair)
		want [2]int
		log  string
	}{
		{"nothing is lost", isRename("web/vda", "catalog.json.new"), func(*pair) {}, [2]int{2, 2}, "web/" + versionOf(2) + "/log"},
		{"a disk is lost before one is named", isRename("web/vda", "catalog.json.new"), func(p *pair) {
			p.must(os.RemoveAll(filepath.Join(p.store, "web/vda", versionOf(2)+".img.part")), os.RemoveAll(filepath.Join(p.store, "web/vda", versionOf(2)+".img.new")))
		}, [2]int{1, 1}, "web/" + versionOf(2) + ".failed/log"},
		{"the second disk is lost", isRename("web/vdb", "catalog.json.new"), func(p *pair) {
			p.must(os.RemoveAll(filepath.Join(p.store, "web/vdb", versionOf(2)+".img.part")), os.RemoveAll(filepath.Join(p.store, "web/vdb", versionOf(2)+".img.new")))
		}, [2]int{2, 1}, "web/" + versionOf(2) + "/log"},
		{"the list is garbage", isRename("web/vda", "catalog.json.new"), func(p *pair) {
			p.must(os.WriteFile(filepath.Join(p.store, "web/.pending.json"), []byte("{}"), 0o666))
		}, [2]int{1, 1}, "web/" + versionOf(2) + "/log"},
	} {
		p := newPair(t)
		p.change(1)
		p.must(p.backup(1))
		p.change(2)
		dead := false
		stop := p.observe(func(change atomicfile.Change) error {
			if dead = dead || c.at(change); dead {
				return errDead
			}
			return nil
		})
		err := p.backup(2)
		stop()
		if err == nil || !dead {
			t.Fatalf("%s: %v", c.name, err)
		}
		c.harm(p)
		p.must(p.gcOrFail())
		named := p.versions(c.name)
		if got := [2]int{len(named[0]), len(named[1])}; got != c.want {
			t.Errorf("%s: %v versions, want %v", c.name, got, c.want)
		}
		if _, err := os.Stat(filepath.Join(p.store, c.log)); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		p.change(3)
		err = p.backup(3)
		if garbage := strings.Contains(c.name, "garbage"); (err == nil) == garbage || garbage && !strings.Contains(err.Error(), "remove it") {
			t.Errorf("%s: %v", c.name, err)
		}
		p.versions(c.name)
	}
}

// isRename returns what recognizes a rename in a directory.
func isRename(dir, name string) func(atomicfile.Change) bool {
	return func(c atomicfile.Change) bool {
		return c.Kind == atomicfile.Rename && strings.HasSuffix(c.Dir, dir) && c.Name == name
	}
}

// A backup that is cancelled leaves no version, but once a disk has its version, all get theirs.
func TestBackupCancelled(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		at   func(atomicfile.Change) bool
		has  bool
	}{
		{"while the disks are read", func(c atomicfile.Change) bool {
			return c.Kind == atomicfile.Create && strings.HasSuffix(c.Name, ".img.part")
		}, false},
		{"when it is decided", func(c atomicfile.Change) bool { return c.Kind == atomicfile.Rename && c.To == ".pending.json" }, false},
		{"when a disk has the version", isRename("web/vda", "catalog.json.new"), true},
	} {
		p := newPair(t)
		p.change(1)
		p.must(p.backup(1))
		p.settles("the first", 1)
		p.change(2)
		ctx, cancel := context.WithCancel(t.Context())
		stop := p.observe(func(change atomicfile.Change) error {
			if c.at(change) {
				cancel()
			}
			return nil
		})
		s := p.open()
		_, err := s.Backup(ctx, BackupOptions{Guest: "web", Disks: p.disks[:], Version: versionOf(2)})
		stop()
		if (err == nil) != c.has || ctx.Err() == nil {
			t.Errorf("cancelled %s: %v", c.name, err)
		}
		if has := p.settles("cancelled "+c.name, 2); has != c.has {
			t.Errorf("cancelled %s: there is the version: %v", c.name, has)
		}
	}
}
