package imagedir

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"

	"puavo-image-repository/imagerepo/client/internal/digestcache"
	"puavo-image-repository/imagerepo/client/internal/hold"
	"puavo-image-repository/imagerepo/client/internal/loopdev"
	"puavo-image-repository/meta"
)

// loops returns /sys/block with loop devices that have these backing files.
func loops(backing ...string) fs.FS {
	blocks := fstest.MapFS{
		"sda/size":               {Data: []byte("1\n")},
		"loop99/size":            {Data: []byte("0\n")}, // of nothing
		"dm-0/loop/backing_file": {Data: []byte("/images/" + imageA + "\n")},
	}
	for i, b := range backing {
		blocks["loop"+string(rune('0'+i))+"/loop/backing_file"] = &fstest.MapFile{Data: []byte(b + "\n")}
	}
	return blocks
}

func TestPrune(t *testing.T) {
	all := []string{imageA, imageB, imageC, imageD}
	for _, c := range []struct {
		name      string
		files     []string // besides the images
		links     []string // hard links
		symlinks  []string
		loops     []string // with DIR for the directory
		looped    []string // what of it root is told by inode, of one device each
		series    []string
		keep      int
		protected []string
		want      []string // are removed
	}{
		{name: "all but the newest", series: all, keep: 1, want: []string{imageA, imageB, imageC}},
		{name: "in any order", series: []string{imageC, imageA, imageD, imageB, imageA}, keep: 3, want: []string{imageA}},
		{name: "as many as there are", series: all, keep: 4},
		{name: "more than there are", series: all, keep: 5},
		{name: "not there", series: []string{"os-2020-01-01-000000-amd64.img", imageA, imageB}, keep: 2},
		{name: "another series", series: []string{imageA, imageC}, keep: 1, want: []string{imageA}},
		{name: "no series", keep: 1},

		{name: "protected", series: all, keep: 1, protected: []string{imageA, imageC, imageD}, want: []string{imageB}},
		{name: "locked", series: all, keep: 1, files: []string{imageA + ".lock=", imageB + ".tmp.lock="}, want: []string{imageB, imageC}},
		{name: "linked", series: all, keep: 1, links: []string{"ltsp.img=" + imageB, "ltsp-backup.img=" + imageA}, want: []string{imageC}},
		{name: "linked by another name", series: all, keep: 1, links: []string{"mine=" + imageC, previousLink + "x=" + imageB}, want: []string{imageA}},
		{name: "linked by two images", series: []string{imageA, imageD}, keep: 1, links: []string{"os-2021-06-06-000000-amd64.img=" + imageA}, want: []string{imageA}},
		{name: "symbolic links", series: all, keep: 1, symlinks: []string{"ltsp.img=" + imageB, "x=/images/" + imageA, "y=nowhere"}, want: []string{imageC}},
		{name: "a symbolic link with an image's name", series: all, keep: 1, symlinks: []string{"os-2020-01-01-000000-amd64.img=./" + imageC}, want: []string{imageA, imageB}},
		{name: "a copy", series: all, keep: 2, files: []string{"ltsp.img=" + imageA}, want: []string{imageA, imageB}},

		{name: "mounted", series: all, keep: 1, loops: []string{"DIR/" + imageA, "/x", "DIR/" + imageC}, want: []string{imageB}},
		{name: "mounted, and replaced since", series: all, keep: 1, loops: []string{"DIR/" + imageA + " (deleted)"}, want: []string{imageB, imageC}},
		{name: "mounted by another path", series: all, keep: 1, loops: []string{"/other/root/" + imageB}, want: []string{imageA, imageC}},
		{name: "mounted by a link that is gone", series: all, keep: 1, loops: []string{"/other", "/ltsp.img (deleted)"}, looped: []string{"", imageB}, want: []string{imageA, imageC}},
		{name: "mounted by another name", series: all, keep: 1, loops: []string{"OUTSIDE"}, want: []string{imageA, imageB}},
	} {
		dir, outside := t.TempDir(), filepath.Join(t.TempDir(), "name")
		fill(t, dir, all...)
		fill(t, dir, c.files...)
		link(t, dir, c.links...)
		for _, s := range c.symlinks {
			from, to, _ := strings.Cut(s, "=")
			os.Symlink(to, filepath.Join(dir, from))
		}
		if err := os.Link(filepath.Join(dir, imageC), outside); err != nil {
			t.Fatal(err)
		}
		for i := range c.loops {
			c.loops[i] = strings.NewReplacer("DIR", dir, "OUTSIDE", outside).Replace(c.loops[i])
		}
		d := lock(t, dir)
		devices := loopdev.Devices{Blocks: loops(c.loops...)}
		devices.Inode = func(device string) (loopdev.Inode, error) {
			var i int
			if _, err := fmt.Sscanf(device, "loop%d", &i); err != nil || i >= len(c.looped) {
				return loopdev.Inode{}, fs.ErrPermission
			}
			var st syscall.Stat_t
			if err := syscall.Lstat(filepath.Join(dir, c.looped[i]), &st); err != nil {
				return loopdev.Inode{}, err
			}
			return loopdev.Inode{Device: uint64(st.Dev), Number: st.Ino}, nil //nolint:unconvert // it has 32 bits on some machines
		}
		removed, err := d.prune(devices, names(t, c.series...), c.keep, names(t, c.protected...))
		if err != nil || !slices.Equal(removed, names(t, c.want...)) {
			t.Errorf("%s: removed %v, %v, want %v", c.name, removed, err, c.want)
		}
		for _, image := range all {
			if gone := content(dir, image) == ""; gone != slices.Contains(c.want, image) {
				t.Errorf("%s: %s is gone: %v", c.name, image, gone)
			}
		}
	}
}

func TestPruneRefused(t *testing.T) {
	dir := t.TempDir()
	fill(t, dir, imageA, imageB)
	d := lock(t, dir)
	for _, keep := range []int{0, -1} {
		if removed, err := d.prune(noLoops, names(t, imageA, imageB), keep, nil); len(removed) != 0 || err == nil || !strings.Contains(err.Error(), "want 1 or more") {
			t.Errorf("keep %d: removed %v, %v", keep, removed, err)
		}
	}
}

// pin has a file be one that cannot be removed, for which it takes root.
func pin(t *testing.T, path string) {
	t.Helper()
	err := syscall.Mount(path, path, "", syscall.MS_BIND, "")
	if err != nil && os.Getenv("CI") == "" {
		t.Skip(err)
	} else if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Unmount(path, syscall.MNT_DETACH) })
}

// An image that cannot be removed ends it; what was removed before is told.
func TestPruneFails(t *testing.T) {
	dir := t.TempDir()
	fill(t, dir, imageA, imageB, imageC, imageD)
	busy := filepath.Join(dir, imageB)
	pin(t, busy)
	d := lock(t, dir)
	removed, err := d.prune(noLoops, names(t, imageA, imageB, imageC, imageD), 1, nil)
	if err == nil || !strings.Contains(err.Error(), imageB) || !slices.Equal(removed, names(t, imageA)) {
		t.Errorf("removed %v, %v", removed, err)
	}
	if got := list(t, dir); got != imageB+" "+imageC+" "+imageD {
		t.Errorf("left are %s", got)
	}
}

// The real /sys/block can be read, whatever is in it.
func TestPruneReal(t *testing.T) {
	dir := t.TempDir()
	fill(t, dir, imageA, imageB)
	d, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := d.Lock(); err != nil {
		t.Fatal(err)
	}
	if removed, err := d.Prune(names(t, imageA, imageB), 1); err != nil || !slices.Equal(removed, names(t, imageA)) {
		t.Errorf("removed %v, %v", removed, err)
	}
}

func TestSweep(t *testing.T) {
	left := func(image string) []string {
		return []string{image + ".tmp", image + ".tmp.journal", image + ".tmp.journal.new"}
	}
	kept := []string{
		imageA, "ltsp.img", "ltsp.img.tmp", "x.tmp", imageA + ".tmp.journal.old", imageA + ".tmp2", imageA + ".rdiff.tmp", imageA + ".lock.tmp",
		cacheName + ".x", previousLink + "ltsp.img", "a-2021-01-01-000000-.img.tmp",
	}
	for _, c := range []struct {
		name   string
		files  []string // besides what is kept
		wanted []meta.Name
		gone   []string
	}{
		{"nothing", nil, nil, nil},
		{"all", append(left(imageB), left(imageC)...), nil, append(left(imageB), left(imageC)...)},
		{"all but one", append(left(imageB), left(imageC)...), names(t, imageC), left(imageB)},
		{"all but two", append(append(left(imageB), left(imageC)...), left(imageD)...), names(t, imageC, imageB), left(imageD)},
		{"a wanted one that is not there", left(imageB), names(t, imageD), left(imageB)},
		{"locked", append(left(imageB), imageB+".lock"), nil, nil},
		{"locked while it is made", append(left(imageB), imageB+".tmp.lock"), nil, nil},
		{"another one locked", append(left(imageB), imageA+".lock", imageC+".tmp.lock"), nil, left(imageB)},
		{"what is known", []string{digestcache.TmpName}, nil, []string{digestcache.TmpName}},
		{"a hold", []string{hold.FileName, hold.TmpName}, nil, []string{hold.TmpName}},
		{"links", []string{nextLink + "ltsp.img", nextLink + "x"}, nil, []string{nextLink + "ltsp.img", nextLink + "x"}},
	} {
		dir := t.TempDir()
		fill(t, dir, kept...)
		fill(t, dir, c.files...)
		d := lock(t, dir)
		before := strings.Fields(list(t, dir))
		if err := d.Sweep(c.wanted...); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		want := slices.DeleteFunc(before, func(f string) bool { return slices.Contains(c.gone, f) })
		if got := strings.Fields(list(t, dir)); !slices.Equal(got, want) {
			t.Errorf("%s: left are %v, want %v", c.name, got, want)
		}
	}
}

// Only regular files are removed, and one that cannot be does not keep others.
func TestSweepKinds(t *testing.T) {
	dir := t.TempDir()
	fill(t, dir, imageC+".tmp", imageD+".tmp")
	os.Mkdir(filepath.Join(dir, imageA+".tmp"), 0o777)
	os.Symlink("x", filepath.Join(dir, imageB+".tmp"))
	busy := filepath.Join(dir, imageC+".tmp")
	pin(t, busy)
	err := lock(t, dir).Sweep()
	if err == nil || !strings.Contains(err.Error(), imageC) {
		t.Errorf("%v", err)
	}
	if got := list(t, dir); got != imageA+".tmp "+imageB+".tmp "+imageC+".tmp" {
		t.Errorf("left are %s", got)
	}
}
