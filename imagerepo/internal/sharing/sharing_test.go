package sharing

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/testdata"
)

const text = "the content of an image"

// write makes a file, and the directory that it is in.
func write(t *testing.T, elem ...string) (path string) {
	t.Helper()
	path = filepath.Join(elem...)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o777), os.WriteFile(path, []byte(text), 0o644)); err != nil {
		t.Fatal(err)
	}
	return path
}

// mkdir makes a directory in which everybody may write.
func mkdir(t *testing.T, elem ...string) (path string) {
	t.Helper()
	path = filepath.Join(elem...)
	if err := errors.Join(os.MkdirAll(path, 0o777), os.Chmod(path, 0o777)); err != nil {
		t.Fatal(err)
	}
	return path
}

// disk makes and mounts a disk on which there is a folder for everybody.
func disk(t *testing.T, kind string) string {
	t.Helper()
	dir := testdata.NewDisk(t, kind).Dir
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	return dir
}

func subvolume(t *testing.T, elem ...string) (path string) {
	t.Helper()
	path = filepath.Join(elem...)
	testdata.Run(t, "btrfs", "-q", "subvolume", "create", path)
	return path
}

// others makes a file of root, of which this is the mode.
func others(t *testing.T, mode fs.FileMode) (file, dir string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	top := testdata.SmallDisk(t, 1<<20)
	file = write(t, top, "images", "file")
	if err := errors.Join(os.Chmod(file, mode), os.Chmod(filepath.Dir(file), 0o755), os.Chmod(filepath.Dir(top), 0o755)); err != nil {
		t.Fatal(err)
	}
	return file, mkdir(t, top, "mirror")
}

// places are files and directories, each with what becomes of them.
var places = []struct {
	name   string
	make   func(t *testing.T) (file, dir string)
	nobody bool // and not root
	want   Way
}{
	{"one directory", func(t *testing.T) (string, string) {
		top := t.TempDir()
		return write(t, top, "images", "file"), mkdir(t, top, "mirror")
	}, false, Link},
	{"a symbolic link within the disk", func(t *testing.T) (string, string) {
		top := t.TempDir()
		os.Symlink(write(t, top, "elsewhere"), filepath.Join(top, "link"))
		return filepath.Join(top, "link"), mkdir(t, top, "mirror")
	}, false, Link},
	{"a symbolic link to another disk", func(t *testing.T) (string, string) {
		top := t.TempDir()
		os.Symlink(write(t, testdata.SmallDisk(t, 1<<20), "elsewhere"), filepath.Join(top, "link"))
		return filepath.Join(top, "link"), mkdir(t, top, "mirror")
	}, false, Copy},
	{"two disks", func(t *testing.T) (string, string) {
		return write(t, t.TempDir(), "file"), mkdir(t, testdata.SmallDisk(t, 1<<20), "mirror")
	}, false, Copy},
	{"two mounts of one disk", func(t *testing.T) (string, string) {
		top := testdata.SmallDisk(t, 1<<20)
		file := write(t, top, "images", "file")
		return filepath.Join(testdata.Bind(t, filepath.Dir(file)), "file"), testdata.Bind(t, mkdir(t, top, "mirror"))
	}, false, Copy},
	{"a mount within a directory", func(t *testing.T) (string, string) {
		top := testdata.SmallDisk(t, 1<<20)
		write(t, top, "images", "file")
		return filepath.Join(testdata.Bind(t, top), "images", "file"), mkdir(t, top, "mirror")
	}, false, Copy},
	{"a squashfs", func(t *testing.T) (string, string) {
		file := write(t, t.TempDir(), "file")
		return filepath.Join(testdata.Squashfs(t, filepath.Dir(file)), "file"), t.TempDir()
	}, false, Copy},
	{"btrfs", func(t *testing.T) (string, string) {
		top := disk(t, "btrfs")
		return write(t, top, "images", "file"), mkdir(t, top, "mirror")
	}, false, Link},
	{"two subvolumes", func(t *testing.T) (string, string) {
		top := disk(t, "btrfs")
		return write(t, subvolume(t, top, "images"), "file"), mkdir(t, top, "mirror")
	}, false, Reflink},
	{"two mounts of subvolumes", func(t *testing.T) (string, string) {
		top := disk(t, "btrfs")
		file := write(t, subvolume(t, top, "images"), "file")
		return filepath.Join(testdata.Bind(t, filepath.Dir(file)), "file"), testdata.Bind(t, subvolume(t, top, "mirror"))
	}, false, Reflink},
	{"two disks with btrfs", func(t *testing.T) (string, string) {
		return write(t, disk(t, "btrfs"), "file"), disk(t, "btrfs")
	}, false, Copy},
	{"two mounts of xfs", func(t *testing.T) (string, string) {
		top := disk(t, "xfs")
		write(t, top, "images", "file")
		return filepath.Join(testdata.Bind(t, top), "images", "file"), mkdir(t, top, "mirror")
	}, false, Reflink},
	{"another's file", func(t *testing.T) (string, string) { return others(t, 0o644) }, true, Copy},
	{"another's file that all may write", func(t *testing.T) (string, string) { return others(t, 0o666) }, true, Link},
	{"another's file with setuid", func(t *testing.T) (string, string) { return others(t, 0o666|fs.ModeSetuid) }, true, Copy},
	{"another's file with setgid", func(t *testing.T) (string, string) { return others(t, 0o676|fs.ModeSetgid) }, true, Copy},
	{"another's file, for root", func(t *testing.T) (string, string) {
		file, dir := others(t, 0o600)
		if err := errors.Join(os.Chown(file, 1, 1), os.Chmod(file, 0o600|fs.ModeSetuid)); err != nil {
			t.Fatal(err)
		}
		return file, dir
	}, false, Link},
	{"his own file", func(t *testing.T) (string, string) {
		file, dir := others(t, 0o400)
		if err := os.Chown(file, 65534, 65534); err != nil {
			t.Fatal(err)
		}
		return file, dir
	}, true, Link},
}

// What is foretold is what is done, and what is done is right.
func TestShare(t *testing.T) {
	for _, p := range places {
		t.Run(p.name, func(t *testing.T) {
			if data, err := os.ReadFile("/proc/sys/fs/protected_hardlinks"); p.nobody && (err != nil || string(data) != "1\n") {
				t.Skip("fs.protected_hardlinks is not set")
			}
			file, dir := p.make(t)
			as := func(do func()) { do() }
			if p.nobody {
				as = testdata.AsNobody
			}
			as(func() { share(t, file, dir, p.want) })
		})
	}
}

// share has a file come into a directory twice.
func share(t *testing.T, file, dir string, want Way) {
	d, err := atomicfile.Open(dir)
	if err != nil {
		t.Error(err)
		return
	}
	defer d.Close()
	if got := Likely(file, dir); got != want {
		t.Errorf("foretold: %v, want %v", got, want)
	}
	if entries, _ := os.ReadDir(dir); len(entries) > 0 {
		t.Errorf("foretelling left %v", entries)
	}
	for range 2 { // the second time there is something
		got, err := Share(d, file, "tmp")
		if err != nil || got.Way != want || (got.NoLink == nil) != (want == Link) {
			t.Errorf("%+v, %v, want %v", got, err, want)
		}
		data, err := d.ReadFile("tmp", 1<<20)
		if there := err == nil; there != (want != Copy) || there && string(data) != text {
			t.Errorf("there is %q, %v", data, err)
		}
	}
	was, _ := os.Stat(file)
	is, err := d.Lstat("tmp")
	if linked := err == nil && os.SameFile(was, is); linked != (want == Link) {
		t.Errorf("linked: %v", linked)
	}
}

// A reflink takes no space: more of them fit than the disk is large.
func TestReflinkTakesNoSpace(t *testing.T) {
	const size = 20 << 20
	top := disk(t, "btrfs") // of 128 MiB
	file := write(t, subvolume(t, top, "images"), "file")
	if err := os.WriteFile(file, make([]byte, size), 0o644); err != nil {
		t.Fatal(err)
	}
	d, err := atomicfile.Open(top)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for _, name := range []string{"a", "b", "c", "d", "e", "f", "g"} {
		if s, err := Share(d, file, name); err != nil || s.Way != Reflink {
			t.Fatalf("%+v, %v", s, err)
		}
		if info, err := d.Lstat(name); err != nil || info.Size() != size || d.Sync(name) != nil {
			t.Errorf("%v, %v", info, err)
		}
	}
}

// What a copy would need too is an error; what a link alone needs is none.
func TestShareFails(t *testing.T) {
	for _, c := range []struct {
		name string
		kind atomicfile.Kind // of the change that fails
		err  error           // that it fails with
		want error           // nil: a copy
	}{
		{"no link", atomicfile.LinkFrom, syscall.EPERM, nil},
		{"too many links", atomicfile.LinkFrom, syscall.EMLINK, nil},
		{"no reflink", atomicfile.Write, syscall.ENOTSUP, nil},
		{"no file can be made", atomicfile.Create, syscall.ENOSPC, syscall.ENOSPC},
		{"what is left stays", atomicfile.Remove, syscall.EROFS, syscall.EROFS},
	} {
		top := t.TempDir()
		file, dir := write(t, top, "images", "file"), mkdir(t, top, "mirror")
		if c.kind == atomicfile.Remove {
			write(t, dir, "tmp")
		}
		stop := atomicfile.Observe(dir, func(next atomicfile.Change) error {
			if next.Kind == c.kind {
				return c.err
			}
			if next.Kind == atomicfile.LinkFrom {
				return syscall.EXDEV
			}
			return nil
		})
		d, err := atomicfile.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		s, err := Share(d, file, "tmp")
		if !errors.Is(err, c.want) || s.Way != Copy || c.want == nil && s.NoLink == nil {
			t.Errorf("%s: %+v, %v", c.name, s, err)
		}
		if _, err := d.Lstat("tmp"); c.want == nil && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: there is something: %v", c.name, err)
		}
		stop()
		if _, err := Share(d, filepath.Join(top, "none"), "tmp"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("no file: %v", err)
		}
		d.Close()
	}
	if Likely(filepath.Join(t.TempDir(), "none"), ".") != Copy || Likely(".", filepath.Join(t.TempDir(), "none")) != Copy {
		t.Error("what is not there is linked")
	}
}

// Where nothing protects the files of others, links to them are foretold.
func TestUnprotected(t *testing.T) {
	before := protected
	t.Cleanup(func() { protected = before })
	file, dir := others(t, 0o644)
	for content, want := range map[string]Way{"0\n": Link, "1\n": Copy, "": Copy} {
		protected = write(t, t.TempDir(), "protected_hardlinks")
		if err := errors.Join(os.WriteFile(protected, []byte(content), 0o644), os.Chmod(filepath.Dir(filepath.Dir(protected)), 0o755)); err != nil {
			t.Fatal(err)
		}
		testdata.AsNobody(func() {
			if got := Likely(file, dir); got != want {
				t.Errorf("%q: %v, want %v", content, got, want)
			}
		})
	}
}

func TestDiskOf(t *testing.T) {
	const mounts = "22 27 0:21 / /proc rw,relatime - proc proc rw\n2 1 254:0 / / rw - ext4 /dev/vda rw\nx\n\n"
	for id, want := range map[uint64]string{22: "0:21", 2: "254:0", 27: "", 0: ""} {
		if got := diskOf(mounts, id); got != want {
			t.Errorf("%d: %q, want %q", id, got, want)
		}
	}
}
