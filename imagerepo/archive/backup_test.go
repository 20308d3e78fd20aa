package archive

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"puavo-image-repository/cksum"
	"puavo-image-repository/testdata"
)

// vm is a guest with one disk, and all its states that were backed up.
type vm struct {
	*place
	disk   string // as Backup takes it
	states map[string][]byte
}

func newVM(t *testing.T) *vm {
	p := newPlace(t)
	return &vm{p, "vda=" + filepath.Join(p.images, "disk.img"), make(map[string][]byte)}
}

// backup backs up the disk, which now has this content, and checks the version's digest.
func (v *vm) backup(day int, content []byte) BackupDisk {
	v.t.Helper()
	r, err := v.try(day)
	v.must(err)
	v.states[versionOf(day)] = slices.Clone(content)
	return r.Disks[0]
}

func (v *vm) try(day int) (BackupPlan, error) {
	v.t.Helper()
	s, err := Open(v.store, v.o)
	v.must(err)
	defer s.Close()
	return s.Backup(v.t.Context(), BackupOptions{Guest: "web", Disks: []string{v.disk}, Version: versionOf(day)})
}

// raw writes the content of a raw disk.
func (v *vm) raw(content []byte) {
	v.t.Helper()
	v.must(os.WriteFile(filepath.Join(v.images, "disk.img"), content, 0o666))
}

// restoresAll restores all versions that the archive names, which are these, and no others.
func (v *vm) restoresAll() {
	v.t.Helper()
	s, err := Open(v.store, v.o)
	v.must(err)
	defer s.Close()
	all, err := s.List(nil)
	v.must(err)
	out := filepath.Join(v.t.TempDir(), "out")
	for _, x := range all {
		_, err := s.Restore(v.t.Context(), "web/vda", x.Version, out, true)
		v.must(err)
		got, err := os.ReadFile(out)
		v.must(err)
		if want := v.states[x.Version]; !bytes.Equal(got, want) {
			v.t.Errorf("%s has another content, of %d bytes, want %d", x.Version, len(got), len(want))
		}
		h := cksum.NewBLAKE3()
		h.Write(got)
		if cksum.Digest256(h.Sum(nil)) != x.BLAKE3 {
			v.t.Errorf("%s: its BLAKE3 is not %s", x.Version, x.BLAKE3)
		}
	}
	if len(all) != len(v.states) {
		v.t.Errorf("%d versions, want %d", len(all), len(v.states))
	}
	_, err = s.Verify(v.t.Context(), VerifyOptions{})
	v.must(err)
	_, err = s.Verify(v.t.Context(), VerifyOptions{Deep: true})
	v.must(err)
}

const mib = 1 << 20

// random returns bytes that cannot be compressed.
func (v *vm) bytes(n int) []byte {
	b := make([]byte, n)
	v.noise.Read(b)
	return b
}

// A raw disk is read in full; its versions are deltas of what changed. The middle one is pruned,
// the catalog is made again, and all restore.
func TestBackupRaw(t *testing.T) {
	t.Parallel()
	v := newVM(t)
	content := v.bytes(6*mib + 4096)
	clear(content[2*mib : 4*mib])
	for day := range 6 {
		switch day {
		case 0:
		case 3: // it grows
			content = append(content, v.bytes(2*mib)...)
		case 4: // it shrinks
			content = content[:5*mib]
		default:
			v.noise.Read(content[day*700000:][:300000])
		}
		v.raw(content)
		r := v.backup(day, content)
		if (r.Full == "") || (day == 0) != (r.Parent == "") || day > 0 && r.Changed > 3*mib {
			t.Errorf("day %d: %+v", day, r)
		}
	}
	v.restoresAll()
	s, err := Open(v.store, v.o)
	v.must(err)
	defer s.Close()
	v.must(s.Protect(t.Context(), "web/vda", versionOf(0), true), s.Protect(t.Context(), "web/vda", versionOf(1), true))
	_, err = s.Prune(t.Context(), Policy{Last: 3}, nil, 0)
	v.must(err)
	_, err = s.GC(t.Context(), false)
	v.must(err)
	delete(v.states, versionOf(2))
	v.restoresAll()
	v.must(os.Remove(filepath.Join(v.store, "web/vda/catalog.json")), os.Remove(filepath.Join(v.store, "web/vda/catalog.json.bak")))
	if names, lost, err := s.Rebuild(t.Context()); err != nil || !slices.Equal(names, []string{"web/vda"}) || len(lost) > 0 {
		t.Errorf("rebuilt %v, lost %v, %v", names, lost, err)
	}
	v.restoresAll()
	v.raw(content)
	v.backup(7, content)
	v.restoresAll()
	for _, gone := range []string{"web/" + versionOf(2), "web/vda/" + versionOf(5) + ".pieces"} {
		if _, err := os.Stat(filepath.Join(v.store, gone)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", gone, err)
		}
	}
	for _, there := range []string{"web/" + versionOf(1) + "/log", "web/vda/" + versionOf(7) + ".pieces"} {
		if _, err := os.Stat(filepath.Join(v.store, there)); err != nil {
			t.Error(err)
		}
	}
}

// Files are kept with the version, and images cannot take the name of a guest.
func TestBackupAttached(t *testing.T) {
	t.Parallel()
	v := newVM(t)
	v.raw(v.bytes(mib))
	file := filepath.Join(v.t.TempDir(), "guest.conf")
	v.must(os.WriteFile(file, []byte("memory 4g\n"), 0o666))
	s, err := Open(v.store, v.o)
	v.must(err)
	defer s.Close()
	_, err = s.Backup(t.Context(), BackupOptions{Guest: "web", Disks: []string{v.disk}, Version: versionOf(0), Attach: []string{file}})
	v.must(err)
	got, err := os.ReadFile(filepath.Join(v.store, "web", versionOf(0), "guest.conf"))
	if err != nil || string(got) != "memory 4g\n" {
		t.Errorf("%q, %v", got, err)
	}
	log, err := os.ReadFile(filepath.Join(v.store, "web", versionOf(0), "log"))
	if err != nil || !strings.Contains(string(log), "it is the first version") {
		t.Errorf("%s, %v", log, err)
	}
	// While a catalog is damaged it is not known what belongs to no version.
	catalogs := filepath.Join(v.store, "web", "vda", "catalog.json")
	v.must(os.Rename(catalogs, catalogs+"x"), os.Remove(catalogs+".bak"))
	_, err = s.Backup(t.Context(), BackupOptions{Guest: "web", Disks: []string{v.disk}, Version: versionOf(1)})
	if !errors.Is(err, ErrDamaged) {
		t.Errorf("without a catalog: %v", err)
	}
	if path, err := s.Show("web/vda", versionOf(0)); !errors.Is(err, ErrDamaged) {
		t.Errorf("without a catalog: %+v, %v", path, err)
	}
	v.must(os.Rename(catalogs+"x", catalogs))
	path, err := s.Show("web/vda", versionOf(0))
	if want := []string{"web/" + versionOf(0) + "/guest.conf", "web/" + versionOf(0) + "/log"}; err != nil || !slices.Equal(path[0].Attached, want) {
		t.Errorf("attached are %+v, %v", path, err)
	}
}

// The name of a guest stands for its disks, where that makes sense.
func TestBackupGroups(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	for day := 1; day < 4; day++ {
		p.change(day)
		p.must(p.backup(day))
		p.settles("added", day)
	}
	s := p.open()
	p.must(s.Protect(t.Context(), "web", versionOf(1), true), s.Note(t.Context(), "web", versionOf(1), "x"), s.Note(t.Context(), "web/vdb", versionOf(1), "y"))
	all, err := s.List([]string{"web"})
	p.must(err)
	var notes []string
	for _, v := range all {
		if v.Protected {
			notes = append(notes, v.Group+v.Note)
		}
	}
	if len(all) != 6 || !slices.Equal(notes, []string{"web/vdax", "web/vdby"}) {
		t.Errorf("%d versions, protected are %q", len(all), notes)
	}
	if disk, err := s.List([]string{"web/vdb"}); err != nil || len(disk) != 3 {
		t.Errorf("%d versions of a disk, %v", len(disk), err)
	}
	plan, err := s.PlanPrune(t.Context(), Policy{Last: 1}, []string{"web"}, 0)
	if err != nil || plan.Remove != 2 || len(plan.Groups) != 2 {
		t.Errorf("%+v, %v", plan, err)
	}
	_, errShow := s.Show("web", versionOf(1))
	_, errDiff := s.Diff(t.Context(), "web/vda", versionOf(1), versionOf(2), nil)
	_, errRestore := s.Restore(t.Context(), "web", versionOf(1), filepath.Join(t.TempDir(), "out"), false)
	_, errList := s.List([]string{"mail"})
	for want, err := range map[string]error{
		"give one of them: web/vda, web/vdb": errShow, "web/vda, web/vdb": errRestore, "files are not compared": errDiff, "not in the archive": errList,
		"version \"" + versionOf(9) + "\" of web is not in the archive": s.Protect(t.Context(), "web", versionOf(9), true),
		"the group mail is not in the archive":                          s.Note(t.Context(), "mail", versionOf(1), "x"),
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

// After an error there is the log, and the archive is as it was.
func TestBackupErrors(t *testing.T) {
	t.Parallel()
	v := newVM(t)
	content := v.bytes(3 * mib)
	v.raw(content)
	v.backup(5, content)
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	qcow := filepath.Join(v.images, "other.img")
	v.must(os.WriteFile(qcow, []byte("QFI\xfb and more"), 0o666))
	for _, c := range []struct {
		name string
		ctx  context.Context
		o    BackupOptions
		log  bool
		want string
	}{
		{"cancelled", cancelled, BackupOptions{Guest: "web", Disks: []string{v.disk}}, true, "context canceled"},
		{"no disk", t.Context(), BackupOptions{Guest: "web"}, false, "no disk"},
		{"a bad guest", t.Context(), BackupOptions{Guest: "../web", Disks: []string{v.disk}}, false, "name of a guest"},
		{"a guest with a slash", t.Context(), BackupOptions{Guest: "web/vda", Disks: []string{v.disk}}, false, "name of a guest"},
		{"a bad version", t.Context(), BackupOptions{Guest: "web", Disks: []string{v.disk}, Version: "today"}, false, "not a version"},
		{"an older version", t.Context(), BackupOptions{Guest: "web", Disks: []string{v.disk}, Version: versionOf(4)}, true, "not older"},
		{"two of one name", t.Context(), BackupOptions{Guest: "web", Disks: []string{v.disk, v.disk}}, false, "two disks"},
		{"the name of a version", t.Context(), BackupOptions{Guest: "web", Disks: []string{"trash=" + qcow}}, false, "cannot have the name"},
		{"no file", t.Context(), BackupOptions{Guest: "web", Disks: []string{qcow + "x"}}, true, "no such file"},
		{"a directory", t.Context(), BackupOptions{Guest: "web", Disks: []string{"d=" + v.images}}, true, "directory"},
		{"qcow2 without its name", t.Context(), BackupOptions{Guest: "web", Disks: []string{qcow}}, true, "qcow2:"},
		{"no attached file", t.Context(), BackupOptions{Guest: "web", Disks: []string{v.disk}, Attach: []string{qcow + "x"}}, true, "attaching"},
		{"a log that is attached", t.Context(), BackupOptions{Guest: "web", Disks: []string{v.disk}, Attach: []string{"/x/log"}}, false, "attached"},
		{"the second disk fails", t.Context(), BackupOptions{Guest: "web", Disks: []string{v.disk, "vdb=/dev/null"}}, true, "not backed up"},
	} {
		if c.o.Version == "" {
			c.o.Version = versionOf(6)
		}
		s, err := Open(v.store, v.o)
		v.must(err)
		_, err = s.Backup(c.ctx, c.o)
		s.Close()
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
		failed := filepath.Join(v.store, "web", c.o.Version+".failed")
		if _, err := os.Stat(failed + "/log"); (err == nil) != c.log {
			t.Errorf("%s: the log: %v", c.name, err)
		}
		v.must(os.RemoveAll(failed))
		got, err := filepath.Glob(v.store + "/web/*/*")
		v.must(err)
		if len(got) != 6 { // log, image, its sums, BLAKE3SUMS, catalogs
			t.Errorf("%s: left %v", c.name, got)
		}
	}
	v.restoresAll()
	if _, err := os.Stat("/usr/bin/qemu-img"); err == nil {
		v.refusesBacking()
	}
}

// refusesBacking checks that a qcow2 file that rests on another is not read.
func (v *vm) refusesBacking() {
	v.t.Helper()
	file := filepath.Join(v.images, "b.qcow2")
	testdata.Run(v.t, "qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", "/etc/passwd", file)
	s, err := Open(v.store, v.o)
	v.must(err)
	defer s.Close()
	_, err = s.PlanBackup(v.t.Context(), BackupOptions{Guest: "web", Disks: []string{file}, Version: versionOf(9)})
	if !errors.Is(err, ErrDisk) || !strings.Contains(err.Error(), "/etc/passwd") {
		v.t.Errorf("a backing file: %v", err)
	}
}

// What a run that was killed has left, the next ends.
func TestBackupAfterKill(t *testing.T) {
	t.Parallel()
	v := newVM(t)
	content := v.bytes(3 * mib)
	v.raw(content)
	v.backup(1, content)
	for name, text := range map[string]string{
		"vda/" + versionOf(2) + ".img.part": "x", "vda/" + versionOf(1) + ".rdiff.part": "x", "vda/" + versionOf(2) + ".pieces.part": "x",
		versionOf(2) + ".part/log": "killed\n", versionOf(2) + ".part/guest.conf": "x", versionOf(3) + "/log": "killed later\n", versionOf(3) + "/guest.conf": "x",
	} {
		file := filepath.Join(v.store, "web", name)
		v.must(os.MkdirAll(filepath.Dir(file), 0o777), os.WriteFile(file, []byte(text), 0o666))
	}
	v.backup(4, content)
	v.restoresAll()
	var left []string
	v.must(filepath.WalkDir(filepath.Join(v.store, "web"), func(path string, d fs.DirEntry, err error) error {
		if rel, _ := filepath.Rel(v.store, path); err == nil && !d.IsDir() {
			left = append(left, rel)
		}
		return err
	}))
	want := []string{"web/.lock", "web/" + versionOf(1) + "/log", "web/" + versionOf(2) + ".failed/log", "web/" + versionOf(3) + ".failed/log", "web/" + versionOf(4) + "/log",
		"web/vda/" + versionOf(1) + ".rdiff", "web/vda/" + versionOf(4) + ".img", "web/vda/" + versionOf(4) + ".pieces", "web/vda/BLAKE3SUMS", "web/vda/catalog.json", "web/vda/catalog.json.bak"}
	if !slices.Equal(left, want) {
		t.Errorf("left %v\nwant %v", left, want)
	}
}

// guest is a qcow2 disk with an ext4 file system, whose writes a bitmap records.
type guestDisk struct {
	*vm
	file string
	size string
}

func newGuest(t *testing.T, size string) *guestDisk {
	for _, tool := range []string{"qemu-img", "qemu-io", "qemu-nbd", "nbdinfo", "nbdcopy", "mkfs.ext4", "debugfs", "e2fsck"} {
		testdata.Tool(t, tool)
	}
	v := newVM(t)
	g := &guestDisk{v, filepath.Join(v.images, "disk.qcow2"), size}
	v.disk = "vda=" + g.file
	testdata.Run(t, "qemu-img", "create", "-q", "-f", "qcow2", g.file, size)
	raw := filepath.Join(v.images, "ext4")
	testdata.Run(t, "truncate", "-s", size, raw)
	testdata.Run(t, "mkfs.ext4", "-q", raw)
	g.copyIn(raw)
	return g
}

// copyIn writes what differs of a raw file to the disk, through qemu-nbd, as a guest writes: so
// that its bitmaps record it.
func (g *guestDisk) copyIn(raw string) {
	g.t.Helper()
	now, err := os.ReadFile(raw)
	g.must(err)
	old := g.content()
	dir, err := os.MkdirTemp("", "g")
	g.must(err)
	defer os.RemoveAll(dir)
	socket := filepath.Join(dir, "s")
	cmd := exec.Command("qemu-nbd", "--socket="+socket, "--format=qcow2", g.file)
	g.must(cmd.Start())
	for range 2000 {
		if _, err := os.Stat(socket); err == nil {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	args := []string{"-f", "raw", "nbd+unix:///?socket=" + socket}
	const block = 64 << 10
	for off := 0; off < len(now); off += block {
		part := now[off:min(off+block, len(now))]
		if off < len(old) && bytes.Equal(part, old[off:min(off+block, len(old))]) {
			continue
		}
		file := filepath.Join(dir, "b"+strconv.Itoa(off))
		g.must(os.WriteFile(file, part, 0o666))
		args = append(args, "-c", "write -s "+file+" "+strconv.Itoa(off)+" "+strconv.Itoa(len(part)))
	}
	testdata.Run(g.t, "qemu-io", append(args, "-c", "flush")...)
	g.must(cmd.Wait()) // it ends with its connection
}

// content returns what is on the disk, as nbdcopy reads it.
func (g *guestDisk) content() []byte {
	g.t.Helper()
	out := filepath.Join(g.t.TempDir(), "raw")
	testdata.Run(g.t, "nbdcopy", "--", "[", "qemu-nbd", "-r", "-f", "qcow2", g.file, "]", out)
	b, err := os.ReadFile(out)
	g.must(err)
	return b
}

// round writes a file system's worth of changes, and backs up: the next bitmap begins at the
// point in time, and that of the version before goes if the backup succeeded.
func (g *guestDisk) round(day int) BackupDisk {
	g.t.Helper()
	bitmap := func(do string, day int) {
		testdata.Run(g.t, "qemu-img", "bitmap", do, g.file, "puavo-"+versionOf(day))
	}
	bitmap("--add", day)
	r := g.backup(day, g.content())
	if day > 0 {
		bitmap("--remove", day-1)
	}
	return r
}

// change changes files of the file system.
func (g *guestDisk) change(day int) {
	g.t.Helper()
	raw := filepath.Join(g.t.TempDir(), "raw")
	g.must(os.WriteFile(raw, g.content(), 0o666))
	file := filepath.Join(g.t.TempDir(), "file")
	g.must(os.WriteFile(file, g.bytes(50000+g.random.IntN(400000)), 0o666))
	commands := []string{"write " + file + " f" + strconv.Itoa(day)}
	if day > 3 {
		commands = append(commands, "rm f"+strconv.Itoa(day-3))
	}
	for _, c := range commands {
		testdata.Run(g.t, "debugfs", "-w", "-R", c, raw)
	}
	g.copyIn(raw)
}

// A file system is written to in rounds, with a persistent bitmap; each version restores, is
// sound, and was read only where it changed. A middle one is pruned.
func TestBackupGuest(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it runs QEMU's tools many times")
	}
	rounds := testdata.Scale(10, 3)
	g := newGuest(t, "24M")
	var increments, full int64
	for day := range rounds {
		if day > 0 {
			g.change(day)
		}
		r := g.round(day)
		if day == 0 {
			full = r.Read
			continue
		}
		increments += r.Read
		if r.Full != "" || r.Bitmap != "puavo-"+versionOf(day-1) || r.Read >= r.Size {
			t.Errorf("round %d: %+v", day, r)
		}
	}
	t.Logf("full: %d bytes read; %d increments: %d", full, rounds-1, increments)
	g.restoresAll()
	g.sound()
	g.prune(versionOf(rounds / 2))
	g.restoresAll()
	g.resized(rounds)
}

// prune removes a version in the middle.
func (v *vm) prune(version string) {
	v.t.Helper()
	s, err := Open(v.store, v.o)
	v.must(err)
	defer s.Close()
	for other := range v.states {
		if other != version {
			v.must(s.Protect(v.t.Context(), "web/vda", other, true))
		}
	}
	p, err := s.Prune(v.t.Context(), Policy{Last: 1}, nil, 0)
	v.must(err)
	if p.Remove != 1 {
		v.t.Errorf("%d versions are pruned", p.Remove)
	}
	_, err = s.GC(v.t.Context(), false)
	v.must(err)
	delete(v.states, version)
}

// sound checks the file systems of all versions.
func (g *guestDisk) sound() {
	g.t.Helper()
	for version, content := range g.states {
		file := filepath.Join(g.t.TempDir(), "fs")
		g.must(os.WriteFile(file, content, 0o666))
		if out, err := exec.Command("e2fsck", "-fn", file).CombinedOutput(); err != nil {
			g.t.Errorf("%s: %v: %s", version, err, out)
		}
	}
}

// resized lets the disk grow and shrink, takes wrong bitmaps, and loses the version before.
func (g *guestDisk) resized(day int) {
	g.t.Helper()
	g.change(day)
	testdata.Run(g.t, "qemu-img", "resize", "-q", "-f", "qcow2", g.file, "+3M")
	if r := g.round(day); r.Full != "" || r.Read >= r.Size {
		g.t.Errorf("grown: %+v", r)
	}
	for _, args := range [][]string{{"bitmap", "--remove", g.file, "puavo-" + versionOf(day)}, {"resize", "-q", "--shrink", "-f", "qcow2", g.file, "-3M"}} {
		testdata.Run(g.t, "qemu-img", args...)
	}
	r := g.backup(day+1, g.content())
	if !strings.Contains(r.Full, "no bitmap puavo-"+versionOf(day)) {
		g.t.Errorf("shrunk, without a bitmap: %+v", r)
	}
	// A bitmap of the right name that began later misses changes.
	g.change(day + 2)
	testdata.Run(g.t, "qemu-img", "bitmap", "--add", g.file, "puavo-"+versionOf(day+1))
	g.change(day + 3)
	if r := g.backup(day+2, g.content()); !strings.Contains(r.Full, "misses changes") {
		g.t.Logf("a wrong bitmap: %+v", r) // whether a piece was compared is chance
	}
	g.must(os.Remove(filepath.Join(g.store, "web/vda", versionOf(day+2)+".img")))
	testdata.Run(g.t, "qemu-img", "bitmap", "--add", g.file, "puavo-"+versionOf(day+2))
	if r := g.backup(day+3, g.content()); !strings.Contains(r.Full, "missing or damaged") || r.Parent != "" {
		g.t.Errorf("a missing parent: %+v", r)
	}
}
