package imagedir

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo/internal/assemble"
	"puavo-image-repository/imagerepo/internal/lockfile"
	"puavo-image-repository/meta"
)

func TestOpen(t *testing.T) {
	dir := t.TempDir()
	if _, err := Open(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "none") {
		t.Errorf("a directory that is not there: %v", err)
	}
	fill(t, dir, imageA)
	if _, err := Open(filepath.Join(dir, imageA)); err == nil {
		t.Error("a file is opened")
	}
	d := open(t, dir)
	if d.Disabled() {
		t.Error("disabled")
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("opening leaves %v", entries)
	}
	for _, make := range []func(string, fs.FileMode) error{
		func(p string, m fs.FileMode) error { return os.WriteFile(p, nil, m) },
		os.Mkdir,
		func(p string, _ fs.FileMode) error { return os.Symlink("nowhere", p) },
	} {
		p := filepath.Join(dir, disableName)
		if err := make(p, 0o777); err != nil || !d.Disabled() {
			t.Errorf("not disabled, %v", err)
		}
		os.Remove(p)
	}
}

func TestLock(t *testing.T) {
	dir := t.TempDir()
	fill(t, dir, imageA)
	first, second := open(t, dir), open(t, dir)
	if err := first.Lock(); err != nil {
		t.Fatal(err)
	}
	if err := second.Lock(); !errors.Is(err, lockfile.ErrHeld) || !strings.Contains(err.Error(), dir) {
		t.Errorf("while another holds it: %v", err)
	}
	// What another did until now is known, and what was found out without the lock.
	if err := first.Digests.SetPending(name(t, imageA)); err != nil {
		t.Fatal(err)
	}
	if err := second.Digests.Check(t.Context(), imageA, sumsOf(imageA), nil); err != nil {
		t.Fatal(err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if err := second.Lock(); err != nil {
		t.Fatal(err)
	}
	if second.Digests.Pending() != name(t, imageA) {
		t.Errorf("pending is %v", second.Digests.Pending())
	}
	if right, known := second.Digests.Known(imageA, sumsOf(imageA)); !right || !known {
		t.Errorf("right %v, known %v", right, known)
	}
}

// Without the lock nothing is written.
func TestUnlocked(t *testing.T) {
	dir := t.TempDir()
	fill(t, dir, imageA, imageB, imageC+".tmp", imageC+".tmp.journal", "ltsp.img")
	d, before := open(t, dir), list(t, dir)
	_, pruneErr := d.Prune(names(t, imageA, imageB), 1)
	for what, err := range map[string]error{
		"SetPending": d.Digests.SetPending(name(t, imageA)),
		"Install":    d.Install(name(t, imageC), sumsOf(imageC+".tmp")),
		"SetDefault": d.Link("ltsp.img").Set(name(t, imageA)),
		"Prune":      pruneErr,
		"Sweep":      d.Sweep(),
	} {
		if err == nil || !strings.Contains(err.Error(), "lock is not held") {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := d.Digests.Check(t.Context(), imageA, sumsOf(imageA), nil); err != nil {
		t.Error(err)
	}
	if err := d.Digests.Learn(imageB, sumsOf(imageB)); err != nil {
		t.Error(err)
	}
	if entries, _ := os.ReadDir(dir); list(t, dir) != before || len(entries) != 5 {
		t.Errorf("left is %v", entries)
	}
	if d.Digests.Pending() != (meta.Name{}) {
		t.Errorf("pending is %s", d.Digests.Pending())
	}
}

func TestSplit(t *testing.T) {
	for file, want := range map[string]string{
		imageA: "", imageA + ".tmp": ".tmp", imageA + ".tmp.journal": ".tmp.journal", imageA + ".tmp.journal.new": ".tmp.journal.new",
		"a.tmp-2021-01-01-000000-amd64.img": "", "a.tmp-2021-01-01-000000-amd64.img.tmp": ".tmp",
	} {
		if n, suffix, ok := split(file); !ok || suffix != want || n.String()+suffix != file {
			t.Errorf("%s: %s, %q, %v", file, n, suffix, ok)
		}
	}
	for _, file := range []string{
		"", ".tmp", "ltsp.img", "ltsp.img.tmp", imageA + ".lock", imageA + ".tmp.lock", imageA + ".tmp.journal.old", imageA + ".tmp.tmp",
		imageA + ".journal", "../" + imageA, "x/" + imageA + ".tmp", imageA + "\n", " " + imageA, strings.ToUpper(imageA),
	} {
		if n, suffix, ok := split(file); ok {
			t.Errorf("%q is %s and %q", file, n, suffix)
		}
	}
	n := name(t, imageA)
	if assemble.PartialName(n) != imageA+".tmp" || assemble.JournalName(n) != imageA+".tmp.journal" {
		t.Errorf("%s, %s", assemble.PartialName(n), assemble.JournalName(n))
	}
}

func TestImages(t *testing.T) {
	for _, c := range []struct {
		name        string
		files, dirs []string
		learn       []string
		want        []string
	}{
		{"empty", nil, nil, nil, nil},
		{"oldest first", []string{imageC, "a-2021-06-06-000000-amd64.img", imageA}, nil, nil, []string{imageA, "a-2021-06-06-000000-amd64.img", imageC}},
		{"other names", []string{"ltsp.img", "x.img", imageA + ".lock", imageA + "~", "." + imageA}, nil, nil, nil},
		{"directories", nil, []string{imageA, imageB + ".tmp"}, nil, nil},
		{"half made", []string{imageA, imageB + ".tmp", imageB + ".tmp.journal"}, nil, nil, []string{imageA}},
		{"complete", []string{imageC, imageB + ".tmp", imageB + ".tmp.journal"}, nil, []string{imageB + ".tmp"}, []string{imageB + ".tmp", imageC}},
		{"complete, and there", []string{imageB, imageB + ".tmp"}, nil, []string{imageB + ".tmp"}, []string{imageB}},
		{"complete, and no image there", []string{imageB + ".tmp"}, []string{imageB}, []string{imageB + ".tmp"}, nil},
	} {
		dir := t.TempDir()
		fill(t, dir, c.files...)
		for _, sub := range c.dirs {
			os.Mkdir(filepath.Join(dir, sub), 0o777)
		}
		d := lock(t, dir)
		for _, f := range c.learn {
			if err := d.Digests.Learn(f, sumsOf(f)); err != nil {
				t.Fatal(err)
			}
		}
		images, err := d.Images()
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		var got []string
		for _, im := range images {
			got = append(got, im.File)
			if im.Size != int64(len(im.File)) || !strings.HasPrefix(im.File, im.Name.String()) {
				t.Errorf("%s: %+v", c.name, im)
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, got, c.want)
		}
	}
}

// A temporary file that was complete and is written to is complete no more.
func TestImageMadeAnew(t *testing.T) {
	dir := t.TempDir()
	fill(t, dir, imageA+".tmp")
	d := lock(t, dir)
	if err := d.Digests.Learn(imageA+".tmp", sumsOf(imageA+".tmp")); err != nil {
		t.Fatal(err)
	}
	fill(t, dir, imageA+".tmp=beginning")
	if images, err := d.Images(); len(images) != 0 || err != nil {
		t.Errorf("%v, %v", images, err)
	}
}

func TestInstall(t *testing.T) {
	for _, there := range []bool{false, true} {
		dir := t.TempDir()
		fill(t, dir, imageA+".tmp", imageA+".tmp.journal", imageA+".tmp.journal.new", imageB)
		if there { // and wrong
			fill(t, dir, imageA+"=wrong")
		}
		d := lock(t, dir)
		sums := sumsOf(imageA + ".tmp")
		if err := d.Install(name(t, imageA), sums); err != nil {
			t.Fatal(err)
		}
		if got := list(t, dir); got != imageA+" "+imageB {
			t.Errorf("left are %s", got)
		}
		if content(dir, imageA) != imageA+".tmp" {
			t.Errorf("the image holds %q", content(dir, imageA))
		}
		again := open(t, dir)
		if right, known := again.Digests.Known(imageA, sums); !right || !known {
			t.Errorf("right %v, known %v", right, known)
		}
		if again.Digests.Pending() != name(t, imageA) {
			t.Errorf("pending is %v", again.Digests.Pending())
		}
		if files := cached(t, dir); !slices.Equal(files, []string{imageA}) {
			t.Errorf("known are %v", files)
		}
	}
}

// Where installing fails, what was made and its journal stay.
func TestInstallFails(t *testing.T) {
	const tmp, journal = imageA + ".tmp", imageA + ".tmp.journal"
	n, right := name(t, imageA), sumsOf(tmp)
	onDisk := func(t *testing.T) string {
		dir := t.TempDir()
		fill(t, dir, tmp, journal)
		return dir
	}
	for _, c := range []struct {
		name string
		dir  func(t *testing.T) string
		sums cksum.Sums
		want string // what the error says
	}{
		{"another size", onDisk, cksum.Sums{Size: 1, SHA512: right.SHA512}, "want 1"},
		{"no digest", onDisk, cksum.Sums{Size: right.Size}, "no digest to record"},
		{"a directory has the name", func(t *testing.T) string {
			dir := onDisk(t)
			os.MkdirAll(filepath.Join(dir, imageA, "x"), 0o777)
			return dir
		}, right, "exists"},
		{"full", func(t *testing.T) string { return fullDisk(t, tmp, journal) }, right, "no space"},
	} {
		dir := c.dir(t)
		d := lock(t, dir)
		if err := d.Install(n, c.sums); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
		if content(dir, tmp) != tmp || content(dir, journal) != journal || content(dir, imageA) != "" {
			t.Errorf("%s: left are %s", c.name, list(t, dir))
		}
		if c.name == "full" {
			if got := open(t, dir).Digests.Pending(); got != (meta.Name{}) || d.Digests.Pending() != got {
				t.Errorf("%s: pending is %v here and %v on the disk", c.name, d.Digests.Pending(), got)
			}
		}
	}
	d := lock(t, t.TempDir())
	if err := d.Install(n, right); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("nothing to install: %v", err)
	}
}
