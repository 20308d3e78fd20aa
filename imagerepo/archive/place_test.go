package archive

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"puavo-image-repository/imagerepo/archive/internal/catalog"
	"puavo-image-repository/imagerepo/atomicfile"
)

// place is a directory of images and an archive.
type place struct {
	t             *testing.T
	images, store string
	o             Options
	contents      map[string][]byte // by group and version
	last          map[string][]byte // the newest content of each group
	random        *rand.Rand
	noise         *rand.ChaCha8
	now           time.Time
}

func newPlace(t *testing.T) *place {
	dir := t.TempDir()
	p := &place{
		t: t, images: filepath.Join(dir, "images"), store: filepath.Join(dir, "store"), contents: make(map[string][]byte), last: make(map[string][]byte),
		random: rand.New(rand.NewPCG(1, 2)), noise: rand.NewChaCha8([32]byte{7}), now: time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC),
	}
	p.o = Options{Create: true, NoSync: true, Memory: 128 << 20, Now: func() time.Time { return p.now }}
	p.must(os.Mkdir(p.images, 0o777))
	return p
}

func (p *place) must(errs ...error) {
	p.t.Helper()
	if err := errors.Join(errs...); err != nil {
		p.t.Fatal(err)
	}
}

// versionOf returns the version of a day.
func versionOf(day int) string {
	return time.Date(2024, 1, 1, 12, 0, 0, 0, time.UTC).AddDate(0, 0, day).Format("2006-01-02-150405")
}

// put puts an image into the directory, of a day, a little different from the one before.
func (p *place) put(group string, day int) (version string) {
	p.t.Helper()
	now := slices.Clone(p.last[group])
	if now == nil {
		now = make([]byte, 60<<10)
		p.noise.Read(now)
	}
	for range 8 {
		at := p.random.IntN(len(now) - 2000)
		p.noise.Read(now[at : at+p.random.IntN(400)])
		if cut := p.random.IntN(500); p.random.IntN(2) == 0 {
			now = slices.Delete(now, at, at+cut)
		} else {
			now = slices.Insert(now, p.random.IntN(len(now)), now[at:at+cut]...)
		}
	}
	p.last[group] = now
	return p.write(group, day, now)
}

// write puts an image of this content into the directory.
func (p *place) write(group string, day int, content []byte) (version string) {
	p.t.Helper()
	version = versionOf(day)
	prefix, arch, _ := strings.Cut(group, "-")
	p.must(os.WriteFile(filepath.Join(p.images, prefix+"-"+version+"-"+arch+".img"), content, 0o666))
	p.contents[group+"/"+version] = content
	return version
}

// leave removes all images from the directory.
func (p *place) leave() {
	p.must(os.RemoveAll(p.images), os.Mkdir(p.images, 0o777))
}

// open opens the archive for the time of the test.
func (p *place) open() *Store {
	p.t.Helper()
	s, err := Open(p.store, p.o)
	p.must(err)
	p.t.Cleanup(func() { s.Close() })
	return s
}

// add adds the images of the directory.
func (p *place) add() AddPlan {
	p.t.Helper()
	plan, err := p.open().Add(context.Background(), p.images)
	p.must(err)
	return plan
}

// forms returns how the versions of a group are stored, oldest first, as W, r and c, and behind
// a blank those in the trash.
func (p *place) forms(group string) string {
	p.t.Helper()
	all, err := p.open().List([]string{group})
	p.must(err)
	text := ""
	trash := " "
	for _, v := range all {
		letter := map[catalog.Form]string{catalog.Whole: "W", catalog.Rdiff: "r", catalog.Compact: "c"}[v.Form]
		if v.Due.IsZero() {
			text += letter
		} else {
			trash += letter
		}
	}
	return strings.TrimSpace(text + trash)
}

// check restores all versions that the archive has, and compares them, and finds no file that
// no version has.
func (p *place) check() (versions int) {
	p.t.Helper()
	s := p.open()
	all, err := s.List(nil)
	p.must(err)
	files := map[string]bool{}
	for _, v := range all {
		out := filepath.Join(p.t.TempDir(), "out")
		_, err := s.Restore(context.Background(), v.Group, v.Version, out, false)
		p.must(err)
		got, err := os.ReadFile(out)
		if want := p.contents[v.Group+"/"+v.Version]; err != nil || !bytes.Equal(got, want) || v.Size != int64(len(want)) {
			p.t.Fatalf("%s %s: restored are %d bytes, %v; want %d", v.Group, v.Version, len(got), err, len(want))
		}
		files[v.File] = true
		for _, file := range []string{catalog.File, catalog.Backup, catalog.SumsFile} {
			files[v.Group+"/"+file] = true
		}
	}
	for _, file := range p.tree() {
		if !files[file] {
			p.t.Errorf("%s is an orphan", file)
		}
	}
	r, err := s.Verify(context.Background(), VerifyOptions{Deep: true})
	if err != nil || r.Versions != len(all) {
		p.t.Errorf("%+v, %v", r, err)
	}
	return len(all)
}

// tree returns the files of the archive, but its lock.
func (p *place) tree() (files []string) {
	err := fs.WalkDir(os.DirFS(p.store), ".", func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && path != lockName {
			files = append(files, path)
		}
		return err
	})
	p.must(err)
	return files
}

// observe has see called with each change of the archive, until the test ends.
func (p *place) observe(see func(atomicfile.Change) error) (stop func()) {
	stop = atomicfile.Observe(p.store, see)
	p.t.Cleanup(stop)
	return stop
}
