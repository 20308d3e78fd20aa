package publish

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/edition/record"
	"puavo-image-repository/imagerepo/internal/lease"
	"puavo-image-repository/imagerepo/internal/mirror"
	"puavo-image-repository/imagerepo/internal/mirrortest"
	"puavo-image-repository/testdata"
)

// filled fills the destination as rsync does.
func (p *place) filled() {
	p.T.Helper()
	p.Must(exec.Command("cp", "-a", p.Mirror, p.Dest).Run())
	p.Must(os.RemoveAll(filepath.Join(p.Dest, ".repo")))
}

// The documents that rsync has sent say what the files are: an image is sent if another one of
// the same size has replaced it.
func TestFilledByRsync(t *testing.T) {
	p := newPlace(t, image1, image2, image3)
	p.build()
	p.filled()
	if pl, _ := p.publish(p.options()); !pl.Nothing() {
		t.Errorf("the same mirror: %+v", pl)
	}
	p.remove("dest/.published.json")
	p.Replace(image3)
	p.build()
	pl, _ := p.publish(p.options())
	if len(pl.Changed) == 0 || pl.Changed[0].Name != image3 {
		t.Errorf("an image was replaced: %+v", pl)
	}
	if err := mirrortest.Holds(p.Dest); err != nil {
		t.Error(err)
	}
}

// A destination of the predecessor has no index: its meta says which images it has.
func TestFilledByPredecessor(t *testing.T) {
	p := newPlace(t, image1, image2, image3, other)
	p.build()
	p.filled()
	for _, name := range []string{"index.json", "index.html", "SHA256SUMS", "rdiffs/SHA256SUMS", "meta/SHA256SUMS"} {
		p.remove("dest/" + name)
	}
	p.Leave(other, image3, image2)
	p.build()
	if _, _, err := Run(t.Context(), p.options()); !errors.Is(err, ErrMirror) || !strings.Contains(err.Error(), "3 of the 4 images") {
		t.Errorf("most images would go: %v", err)
	}
}

// Somebody's own page is not replaced.
func TestForeignPage(t *testing.T) {
	p := newPlace(t, image1, image2)
	p.build()
	p.Write("dest/index.html", "somebody's own page")
	if _, _, err := Run(t.Context(), p.options()); !errors.Is(err, ErrMirror) || !strings.Contains(err.Error(), "--no-page") {
		t.Error(err)
	}
	if got := string(p.Read("dest/index.html")); got != "somebody's own page" || p.Has("index.json") {
		t.Errorf("the page is %.40q", got)
	}
}

// A folder that is a link is refused: what is below it would not be seen.
func TestLinkedFolder(t *testing.T) {
	p := newPlace(t, image1, image2)
	p.build()
	p.Must(os.MkdirAll(filepath.Join(p.Dest, "deltas"), 0o777))
	p.Must(os.Symlink("deltas", filepath.Join(p.Dest, "rdiffs")))
	p.Must(os.Symlink("deltas", filepath.Join(p.Dest, "others")))
	if _, _, err := Run(t.Context(), p.options()); err == nil || !strings.Contains(err.Error(), "rdiffs is a symbolic link") {
		t.Error(err)
	}
}

// What other runs have left aside is removed before it fills the disk, and even if nothing is
// sent.
func TestLeftAside(t *testing.T) {
	p := newPlace(t, image1, image2)
	p.build()
	size := 0
	for _, data := range mirrortest.Tree(t, p.Mirror) {
		size += (len(data) + 4095) / 4096 * 4096
	}
	p.Dest = filepath.Join(testdata.SmallDisk(t, size+200<<10), "dest")
	left := filepath.Join(p.Dest, ".publish", strings.Repeat("0a", 32)+"-0011223344556677")
	for _, what := range []string{"a first publication", "nothing to do"} {
		p.Must(os.MkdirAll(filepath.Dir(left), 0o777))
		p.Must(os.WriteFile(left, make([]byte, 150<<10), 0o666))
		if _, _, err := Run(t.Context(), p.options()); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if _, err := os.Stat(left); err == nil {
			t.Errorf("%s: it is still there", what)
		}
	}
}

// A file that comes back stops being an orphan before a document names it again.
func TestComesBack(t *testing.T) {
	p := newPlace(t, image1, image2, image3)
	p.build()
	p.publish(p.options())
	p.Leave(image3)
	p.build()
	p.publish(p.options())
	p.Put(image3, testdata.Read(t, "images/"+image3))
	p.build()
	orphaned := func() int64 {
		var r record.Record
		p.Must(json.Unmarshal(p.Read("dest/.published.json"), &r))
		return r.Files[image3].Orphaned
	}
	if orphaned() == 0 {
		t.Fatal("it is not an orphan")
	}
	defer atomicfile.Observe(p.Dest, func(c atomicfile.Change) error {
		if c.Kind == atomicfile.Rename && c.To == "meta/"+series+".json" && orphaned() != 0 {
			t.Error("it is named, and still an orphan")
		}
		return nil
	})()
	p.publish(p.options())
}

// A run that loses its lock ends before clients see anything of it.
func TestLosesLock(t *testing.T) {
	p := newPlace(t, image1, image2)
	p.build()
	o := p.options()
	o.lease = lease.Times{Renew: time.Hour, Stale: 2 * time.Hour}
	o.Sent = func(string, int64) { p.Write("dest/.publishing.json", `{"holder": "host x, process 1", "id": "x"}`) }
	if _, _, err := Run(t.Context(), o); !errors.Is(err, lease.ErrLost) || !strings.Contains(err.Error(), "host x, process 1") {
		t.Error(err)
	}
	if p.Has("index.json") || !p.Has(".publishing.json") {
		t.Error("it went on, or removed the lock of another")
	}
}

// A plan makes nothing at a server, and needs no keys.
func TestMakePlanAtServer(t *testing.T) {
	s := newSFTP(t).(sftpServer)
	p := newPlace(t, image1, image2)
	p.CopyKeys()
	p.build()
	o := p.options()
	var dir string
	o.Destination, dir = s.place("new", s.Port)
	o.KnownHosts, o.KeyFile = s.KnownHosts, s.KeyFile
	if pl, err := MakePlan(t.Context(), o); err != nil || len(pl.New) == 0 {
		t.Errorf("%+v: %v", pl, err)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("it made the folder")
	}
	o = p.options()
	p.publish(o)
	p.later()
	if pl, err := MakePlan(t.Context(), o); err != nil || pl.Nothing() {
		t.Errorf("signed later: %+v: %v", pl, err)
	}
}

// A run signs what was built without the keys, if it has them; otherwise it refuses that.
func TestSignsChanges(t *testing.T) {
	p := newPlace(t, image1, image2, image3)
	p.CopyKeys()
	p.build()
	p.publish(p.options())
	keys := p.Keys
	p.Keys = nil
	p.Put(image4, testdata.Read(t, "images/"+image4))
	p.build()
	o := p.options()
	if _, _, err := Run(t.Context(), o); !errors.Is(err, ErrMirror) || !strings.Contains(err.Error(), "give --sign-keys") {
		t.Errorf("without the keys: %v", err)
	}
	o.Sign = keys
	p.publish(o)
	if got, err := p.Update(p.Dest, p.root()); err != nil || got != image4 {
		t.Errorf("a client that verifies has %q: %v", got, err)
	}
}

// A plan does not wait for a build.
func TestMakePlanMeanwhile(t *testing.T) {
	p := newPlace(t, image1, image2)
	p.build()
	m, err := mirror.Open(p.Mirror, true, slog.New(slog.DiscardHandler))
	p.Must(err)
	defer m.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := MakePlan(ctx, p.options()); err != nil {
		t.Error(err)
	}
}

// An image that a broken run has withdrawn still counts as one of the destination.
func TestWithdrawnCounts(t *testing.T) {
	p := newPlace(t, image1, image2, image3, other)
	p.build()
	p.publish(p.options())
	p.Replace(other)
	p.build()
	stop := atomicfile.Observe(p.Dest, func(c atomicfile.Change) error {
		if c.Kind == atomicfile.Rename && c.To == other {
			return errors.New("the run ends here")
		}
		return nil
	})
	if _, _, err := Run(t.Context(), p.options()); err == nil {
		t.Fatal("the run did not end")
	}
	stop()
	p.Leave(other)
	p.build()
	if _, _, err := Run(t.Context(), p.options()); !errors.Is(err, ErrMirror) || !strings.Contains(err.Error(), other) {
		t.Errorf("a series is gone: %v", err)
	}
}

// A destination of an earlier version has one list, which names the files of the folders too,
// and no record. It is taken over, and is right at every instant.
func TestOldDestination(t *testing.T) {
	p := newPlace(t, image1, image2, image3)
	p.build()
	p.publish(p.options())
	var all []cksum.SHA256Line
	for _, list := range mirror.Lists() {
		data, err := os.ReadFile(filepath.Join(p.Dest, list))
		if err != nil {
			continue // of a folder without files
		}
		lines, err := mirror.ParseList(list, data)
		p.Must(err)
		p.remove("dest/" + list)
		all = append(all, lines...)
	}
	p.Write("dest/SHA256SUMS", string(cksum.AppendSHA256SUMS(nil, all)))
	p.remove("dest/.published.json")
	data := p.Read("images/" + image3)
	p.Put(image3, append(data, make([]byte, 4096)...))
	p.build()
	changes, _ := p.child(p.CopyDest("whole"), "", 0)
	for _, at := range points(changes, testdata.Short(testdata.Scale(30, 6), 2)) {
		dest := p.CopyDest("killed")
		p.child(dest, "", at)
		p.served(dest, fmt.Sprint("killed at ", at))
		os.RemoveAll(dest)
	}
}

// A slash at the end of a path means nothing.
func TestTrailingSlash(t *testing.T) {
	s := newSFTP(t).(sftpServer)
	p := newPlace(t, image1, image2)
	p.build()
	o := p.options()
	o.Destination, _ = s.place("new", s.Port)
	o.Destination += "/"
	o.KnownHosts, o.KeyFile = s.KnownHosts, s.KeyFile
	p.publish(o)
}
