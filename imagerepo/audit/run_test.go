package audit

import (
	"bytes"
	"context"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"puavo-image-repository/imagerepo/internal/lockfile"
	"puavo-image-repository/imagerepo/internal/mirror"
	"puavo-image-repository/testdata"
)

// goals are the mirrors that runs in tests make, by the images that they have.
var goals = sync.OnceValue(func() map[string]string {
	all := map[string]string{"all": built()}
	for name, images := range map[string][]string{
		"without older": {newer, free}, "without newer": {older, free}, "without free": {older, newer}, "newer replaced": {older, free},
	} {
		dir := filepath.Join(builds, name)
		check(os.Mkdir(dir, 0o777))
		linkImages(filepath.Join(dir, "images"), images...)
		if name == "newer replaced" {
			check(os.WriteFile(filepath.Join(dir, "images", newer), must(os.ReadFile(testdata.Path("images/"+free))), 0o666))
		}
		check(buildFrom(filepath.Join(dir, "images"), filepath.Join(dir, "mirror")))
		all[name] = filepath.Join(dir, "mirror")
	}
	return all
})

// linkImages makes a directory of some of the images that the mirrors are built of.
func linkImages(dir string, images ...string) {
	built()
	check(os.Mkdir(dir, 0o777))
	for _, im := range images {
		check(os.Link(filepath.Join(builds, "images", im), filepath.Join(dir, im)))
	}
}

// newRun returns a run on a new mirror that makes of one goal the others, one after
// the other. Its files are links to those of the goals.
func newRun(t testing.TB, locks bool, from string, to ...string) *run {
	r := &run{place: place{t, filepath.Join(t.TempDir(), "mirror")}, locks: locks}
	check(os.CopyFS(r.path(mirror.Private), os.DirFS(filepath.Join(goals()[from], mirror.Private))))
	r.goals = []string{goals()[from]}
	for len(r.goals) > 0 && r.advance(r.goals[0]) {
	}
	r.goals = nil
	for _, name := range to {
		r.goals = append(r.goals, goals()[name])
	}
	return r
}

// run is a run of the builder that makes one step at a time. It makes of its
// mirror the goals one after the other.
type run struct {
	place
	goals []string
	locks bool
	lock  *lockfile.Lock
	ended bool
}

// step makes the next step.
func (r *run) step() {
	switch {
	case r.ended:
	case r.locks && r.lock == nil:
		r.lock = must(lockfile.Acquire(r.dir, mirror.Lock))
	case len(r.goals) == 0:
		r.ended = true
		if r.locks {
			check(r.lock.Release())
		}
	case !r.advance(r.goals[0]):
		r.goals = r.goals[1:]
		r.step()
	}
}

// finish makes all steps.
func (r *run) finish() {
	for !r.ended {
		r.step()
	}
}

// advance does one thing that is to be done to make another mirror of this one, in
// the order of the builder, and reports whether there was any.
func (p place) advance(to string) bool {
	goal := place{p.t, to}
	payload, documents := goal.published()
	for _, name := range slices.Concat(payload, documents) {
		if !p.same(name, goal) {
			p.link(name, goal)
			return true
		}
	}
	for _, list := range mirror.Lists() {
		if p.has(list) && !goal.has(list) {
			p.remove(list)
			return true
		}
	}
	have, metas := p.published()
	for _, name := range slices.Concat(have, metas) {
		if !slices.Contains(payload, name) && !slices.Contains(documents, name) {
			p.remove(name)
			return true
		}
	}
	return false
}

// published returns the files of the mirror, documents in the order in which they
// are published.
func (p place) published() (payload, documents []string) {
	check(fs.WalkDir(os.DirFS(p.dir), ".", func(name string, d fs.DirEntry, err error) error {
		check(err)
		switch {
		case name == mirror.Private:
			return fs.SkipDir
		case d.IsDir():
		case path.Ext(name) == ".img" || path.Ext(name) == ".rdiff":
			payload = append(payload, name)
		case isMeta(name):
			documents = append(documents, name)
		}
		return nil
	}))
	documents = append(documents, mirror.Page, mirror.Index, mirror.CKSUMS)
	for _, list := range mirror.Lists() {
		if p.has(list) {
			documents = append(documents, list)
		}
	}
	return payload, documents
}

// has reports whether something has a name in the mirror.
func (p place) has(name string) bool {
	_, err := os.Lstat(p.path(name))
	return err == nil
}

// same reports whether a file is there as in another mirror.
func (p place) same(name string, other place) bool {
	info, err := os.Stat(p.path(name))
	return err == nil && (os.SameFile(info, must(os.Stat(other.path(name)))) || bytes.Equal(p.read(name), other.read(name)))
}

// link puts a file of another mirror into its place.
func (p place) link(name string, other place) {
	tmp := p.path(".repo/tmp/link")
	check(os.Link(other.path(name), tmp))
	check(os.MkdirAll(filepath.Dir(p.path(name)), 0o777))
	check(os.Rename(tmp, p.path(name)))
}

// put puts a file into its place as a whole.
func (p place) put(name string, data []byte) {
	tmp := p.path(".repo/tmp/put")
	check(os.WriteFile(tmp, data, 0o666))
	check(os.MkdirAll(filepath.Dir(p.path(name)), 0o777))
	check(os.Rename(tmp, p.path(name)))
}

// watched is a context that does something whenever Verify asks for its end, as
// it does between any two steps.
type watched struct {
	context.Context
	do func()
}

func (w watched) Err() error {
	w.do()
	return w.Context.Err()
}
