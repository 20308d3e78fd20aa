package imagedir

import (
	"bufio"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/assemble"
	"puavo-image-repository/meta"
	"puavo-image-repository/testdata"
)

// link makes hard links, each told as its name and that of the file.
func link(t testing.TB, dir string, links ...string) {
	t.Helper()
	for _, l := range links {
		newName, old, _ := strings.Cut(l, "=")
		if err := os.Link(filepath.Join(dir, old), filepath.Join(dir, newName)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCheckLink(t *testing.T) {
	dir := t.TempDir()
	fill(t, dir, "file.img")
	os.Mkdir(filepath.Join(dir, "dir.img"), 0o777)
	os.Symlink("file.img", filepath.Join(dir, "other-backup.img"))
	d := open(t, dir)
	for link, want := range map[string]string{
		"ltsp.img": "", "ltsp": "", "file.img": "", "a.b.c": "",
		"": "plain file name", ".": "plain file name", "..": "plain file name", "../ltsp.img": "plain file name", "/ltsp.img": "plain file name",
		"x/ltsp.img": "plain file name", "ltsp.img/": "plain file name", ".ltsp.img": "plain file name", cacheName: "plain file name",
		disableName: "plain file name", imageA: "plain file name", imageA + ".tmp": "plain file name",
		"os-2021-01-01-000000.img": "plain file name", // of which the backup is an image
		"dir.img":                  "move it away", "other.img": "move it away",
	} {
		if err := d.Link(link).Check(); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", link, err, want)
		}
		if err := lock(t, t.TempDir()).Link(link).Set(name(t, imageA)); err == nil {
			t.Errorf("%q is made a link of what is not there", link)
		}
	}
	if err := d.Link("other.img").Check(); !strings.Contains(err.Error(), filepath.Join(dir, "other-backup.img")) {
		t.Errorf("%v does not say which file", err)
	}
}

func TestDefault(t *testing.T) {
	dir := t.TempDir()
	fill(t, dir, imageA, imageB, "copy.img="+imageB, "c.img")
	link(t, dir, "ltsp.img="+imageB, "old.img="+imageA, imageC+".tmp=c.img")
	os.Symlink(imageA, filepath.Join(dir, "symlink.img"))
	os.Symlink(imageA, filepath.Join(dir, imageD))
	d := lock(t, dir)
	if err := d.Digests.Learn(imageC+".tmp", sumsOf("c.img")); err != nil {
		t.Fatal(err)
	}
	for link, want := range map[string]string{
		"ltsp.img": imageB, "old.img": imageA, "copy.img": "", "symlink.img": "", "none.img": "", "c.img": "", "": "", imageA: "", imageD: "", "../ltsp.img": "",
	} {
		n, ok := d.Link(link).Image()
		if ok != (want != "") || ok && n.String() != want || !ok && n != (meta.Name{}) {
			t.Errorf("%q: %v, %v, want %q", link, n, ok, want)
		}
	}
}

func TestSetDefault(t *testing.T) {
	const temporaryBackup = previousLink + "ltsp.img"
	for _, c := range []struct {
		name             string
		links            []string // hard links that are there
		image            string
		deflt, backup    string // what is in the links afterwards
		unchangedDefault bool
	}{
		{"none", nil, imageA, imageA, "", false},
		{"another", []string{"ltsp.img=" + imageA}, imageB, imageB, imageA, false},
		{"another, and a backup", []string{"ltsp.img=" + imageB, "ltsp-backup.img=" + imageA}, imageC, imageC, imageB, false},
		{"the backup", []string{"ltsp.img=" + imageB, "ltsp-backup.img=" + imageA}, imageA, imageA, imageB, false},
		{"the same", []string{"ltsp.img=" + imageB, "ltsp-backup.img=" + imageA}, imageB, imageB, imageA, true},
		{"an unknown file", []string{"ltsp.img=other"}, imageA, imageA, "other", false},
		{"the backup is the same", []string{"ltsp.img=" + imageA, "ltsp-backup.img=" + imageA}, imageB, imageB, imageA, false},
		{"no default, a backup", []string{"ltsp-backup.img=" + imageA}, imageB, imageB, imageA, false},

		// As what was killed leaves it.
		{"begun", []string{"ltsp.img=" + imageB, temporaryBackup + "=" + imageB, "ltsp-backup.img=" + imageA}, imageC, imageC, imageB, false},
		{"begun, and given up", []string{"ltsp.img=" + imageB, temporaryBackup + "=" + imageB, "ltsp-backup.img=" + imageA}, imageB, imageB, imageA, true},
		{"linked", []string{"ltsp.img=" + imageB, nextLink + "ltsp.img=" + imageC, temporaryBackup + "=" + imageB}, imageC, imageC, imageB, false},
		{"swapped", []string{"ltsp.img=" + imageC, temporaryBackup + "=" + imageB, "ltsp-backup.img=" + imageA}, imageC, imageC, imageB, true},
		{"swapped, and the backup the same", []string{"ltsp.img=" + imageC, temporaryBackup + "=" + imageB, "ltsp-backup.img=" + imageB}, imageC, imageC, imageB, true},
	} {
		dir := t.TempDir()
		fill(t, dir, imageA, imageB, imageC, "other")
		link(t, dir, c.links...)
		d := lock(t, dir)
		for range 2 { // the second time nothing is to be done
			if err := d.Link("ltsp.img").Set(name(t, c.image)); err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
			if deflt, backup := content(dir, "ltsp.img"), content(dir, "ltsp-backup.img"); deflt != c.deflt || backup != c.backup {
				t.Errorf("%s: default is %q, backup %q", c.name, deflt, backup)
			}
			if n, ok := d.Link("ltsp.img").Image(); !ok || n.String() != c.image {
				t.Errorf("%s: default is %v, %v", c.name, n, ok)
			}
			if n, ok := d.Link("ltsp.img").Backup(); ok != (c.backup != "" && c.backup != "other") || ok && n.String() != c.backup {
				t.Errorf("%s: backup is %v, %v", c.name, n, ok)
			}
			if got := list(t, dir); strings.Contains(got, ".image_updates") {
				t.Errorf("%s: left are %s", c.name, got)
			}
		}
	}
}

func TestSetDefaultRefused(t *testing.T) {
	dir := t.TempDir()
	fill(t, dir, imageA)
	os.Mkdir(filepath.Join(dir, imageB), 0o777)
	os.Symlink(imageA, filepath.Join(dir, "symlink.img"))
	d := lock(t, dir)
	for _, c := range []struct{ link, image, want string }{
		{"ltsp.img", imageC, "no such file"},
		{"ltsp.img", imageB, "not a regular file"},
		{"symlink.img", imageA, "move it away"},
	} {
		if err := d.Link(c.link).Set(name(t, c.image)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: %v", c, err)
		}
	}
	if got := list(t, dir); got != imageA+" "+imageB+" symlink.img" {
		t.Errorf("left are %s", got)
	}
}

// Where no link can be made, at any of the two that are needed, all stays as it
// was.
func TestLinksRefused(t *testing.T) {
	for call := range 2 {
		for _, refused := range []error{syscall.EPERM, syscall.EOPNOTSUPP, syscall.ENOSYS, syscall.EMLINK, syscall.EXDEV, syscall.ENOSPC, syscall.EIO} {
			dir := t.TempDir()
			fill(t, dir, imageA, imageB, imageC)
			link(t, dir, "ltsp.img="+imageB, "ltsp-backup.img="+imageA)
			before, calls := list(t, dir), 0
			stop := atomicfile.Observe(dir, func(change atomicfile.Change) error {
				if change.Kind != atomicfile.Link {
					return nil
				}
				if calls++; calls > call {
					return &os.LinkError{Op: "linkat", Old: change.Name, New: change.To, Err: refused}
				}
				return nil
			})
			d := lock(t, dir)
			err := d.Link("ltsp.img").Set(name(t, imageC))
			stop()
			hint := refused != syscall.ENOSPC && refused != syscall.EIO
			if !errors.Is(err, refused) || hint != strings.Contains(err.Error(), "a file system with hard links") {
				t.Errorf("link %d, %v: %v", call, refused, err)
			}
			if content(dir, "ltsp.img") != imageB || content(dir, "ltsp-backup.img") != imageA || list(t, dir) != before {
				t.Errorf("link %d, %v: left are %s", call, refused, list(t, dir))
			}
		}
	}
}

// Whoever looks meanwhile finds a whole image in both links.
func TestSwapUnseen(t *testing.T) {
	dir := t.TempDir()
	fill(t, dir, imageA, imageB, imageC)
	link(t, dir, "ltsp.img="+imageB, "ltsp-backup.img="+imageA)
	d, ended := lock(t, dir), make(chan struct{})
	var looking sync.WaitGroup
	looked := make(chan struct{}, 1)
	looking.Go(func() {
		for {
			for _, l := range []string{"ltsp.img", "ltsp-backup.img"} {
				if got := content(dir, l); got != imageA && got != imageB && got != imageC {
					t.Errorf("%s holds %q", l, got)
				}
			}
			select {
			case looked <- struct{}{}:
			case <-ended:
				return
			default:
			}
		}
	})
	for i := range 100 {
		if err := d.Link("ltsp.img").Set(name(t, []string{imageA, imageB, imageC}[i%3])); err != nil {
			t.Error(err)
		}
		<-looked
	}
	close(ended)
	looking.Wait()
}

// The installed tools find the default image by its inode, as the first of all
// other names that end in .img.
func TestInstalledTools(t *testing.T) {
	dir := t.TempDir()
	fill(t, dir, imageA, imageB, imageC)
	d := lock(t, dir)
	for _, image := range []string{imageA, imageB, imageC, imageB, imageA, imageA} {
		if err := d.Link("ltsp.img").Set(name(t, image)); err != nil {
			t.Fatal(err)
		}
		out := testdata.Run(t, "sh", "-c", `cd "$1" && inode=$(stat -c %i ltsp.img) && for f in *.img; do
			[ "$f" = ltsp.img ] || [ "$(stat -c %i "$f")" != "$inode" ] || echo "$f"
		done`, "sh", dir)
		if string(out) != image+"\n" {
			t.Errorf("%s is the default, they find %q", image, out)
		}
	}
}

// What is known of the files whose links and names we change stays known.
func TestKept(t *testing.T) {
	dir := t.TempDir()
	fill(t, dir, imageA, imageB, imageC, imageD+".tmp")
	link(t, dir, "ltsp.img="+imageB, "ltsp-backup.img="+imageA, nextLink+"ltsp.img="+imageC, "other.img="+imageB)
	d := lock(t, dir)
	for _, f := range []string{imageA, imageB, imageC, imageD + ".tmp"} {
		if err := d.Digests.Learn(f, sumsOf(f)); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name   string
		change func() error
		known  []string
	}{
		{"Sweep", func() error { return d.Sweep(name(t, imageD)) }, []string{imageA, imageB, imageC, imageD + ".tmp"}},
		{"SetDefault", func() error { return d.Link("ltsp.img").Set(name(t, imageC)) }, []string{imageA, imageB, imageC, imageD + ".tmp"}},
		{"SetDefault back", func() error { return d.Link("ltsp.img").Set(name(t, imageB)) }, []string{imageA, imageB, imageC, imageD + ".tmp"}},
		{"Prune", func() error {
			_, err := d.prune(noLoops, names(t, imageA, imageB, imageC), 1, nil)
			return err
		}, []string{imageB, imageC, imageD + ".tmp"}},
		{"Install", func() error { return d.Install(name(t, imageD), sumsOf(imageD+".tmp")) }, []string{imageB, imageC, imageD}},
	} {
		if err := c.change(); err != nil {
			t.Fatal(c.name, err)
		}
		for _, d := range []*Dir{d, open(t, dir)} {
			for _, f := range c.known {
				if right, known := d.Digests.Known(f, sumsOf(content(dir, f))); !right || !known {
					t.Errorf("%s: %s is right %v, known %v", c.name, f, right, known)
				}
			}
		}
		if got := cached(t, dir); !slices.Equal(got, c.known) {
			t.Errorf("%s: known are %v, want %v", c.name, got, c.known)
		}
	}
}

// killDir is set for the process that TestKilled kills, to its directory.
const killDir = "IMAGEDIR_TEST_KILL"

// work installs an image, makes it the default, then the one before, and removes
// it, again and again.
func work(t *testing.T, dir string) {
	d := lock(t, dir)
	n := name(t, imageC)
	for {
		fill(t, dir, assemble.PartialName(n)+"=half")
		fill(t, dir, assemble.PartialName(n), assemble.JournalName(n))
		for _, step := range []func() error{
			func() error { return d.Install(n, sumsOf(assemble.PartialName(n))) },
			func() error { return d.Link("ltsp.img").Set(n) },
			func() error { return d.Link("ltsp.img").Set(name(t, imageB)) },
			func() error { return d.Link("ltsp.img").Set(name(t, imageA)) },
			func() error { return os.Remove(filepath.Join(dir, imageC)) },
			func() error { return d.Digests.SetPending(meta.Name{}) },
		} {
			if err := step(); err != nil {
				t.Fatal(err)
			}
		}
		os.Stdout.WriteString("\n")
	}
}

// Whenever a process is killed, whole images are left, and the next one brings to
// an end what it began.
func TestKilled(t *testing.T) {
	if dir := os.Getenv(killDir); dir != "" {
		work(t, dir)
	}
	dir := t.TempDir()
	fill(t, dir, imageA, imageB)
	link(t, dir, "ltsp.img="+imageA, "ltsp-backup.img="+imageB)
	for range testdata.Scale(40, 8) {
		killed(t, dir)
		whole := map[string]bool{imageA: true, imageB: true, imageC + ".tmp": true}
		for _, l := range []string{"ltsp.img", "ltsp-backup.img"} {
			if !whole[content(dir, l)] {
				t.Errorf("%s holds %q", l, content(dir, l))
			}
		}
		d := lock(t, dir)
		switch image := content(dir, imageC); {
		case image != "" && image != imageC+".tmp":
			t.Errorf("the image holds %q", image)
		case image != "" && d.Digests.Pending() != name(t, imageC):
			t.Error("the image has its name and is not pending")
		}
		if right, known := d.Digests.Known(imageC, sumsOf(imageC+".tmp")); known && !right {
			t.Error("the image is known to be wrong")
		}
		before := content(dir, "ltsp.img")
		if err := errors.Join(d.Sweep(), d.Link("ltsp.img").Set(name(t, imageB)), d.Close()); err != nil {
			t.Error(err)
		}
		if got := content(dir, "ltsp-backup.img"); got == imageB || before != imageB && got != before {
			t.Errorf("the default was %q, the backup is %q", before, got)
		}
		if got := list(t, dir); strings.Contains(got, ".image_updates_l") || strings.Contains(got, ".image_updates_b") || strings.Contains(got, ".tmp") {
			t.Errorf("left are %s", got)
		}
	}
}

// killed runs work and kills it at some point.
func killed(t *testing.T, dir string) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestKilled$")
	cmd.Env = append(os.Environ(), killDir+"="+dir)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "\n" {
		t.Errorf("it says %q, %v", line, err)
	}
	time.Sleep(rand.N(5 * time.Millisecond))
	cmd.Process.Kill()
	cmd.Wait()
}
