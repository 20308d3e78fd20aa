package archive

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/lockfile"
	"puavo-image-repository/testdata"
)

// A version is restored whatever is at its path, if it may be, and what an earlier run has left
// of it is used.
func TestRestore(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	for day := range 4 {
		base := make([]byte, 3<<20)
		if day > 0 {
			base = bytes.Clone(p.last["os-amd64"])
		}
		p.noise.Read(base[day<<18 : day<<18+300<<10])
		p.last["os-amd64"] = base
		p.write("os-amd64", day, base)
	}
	p.add()
	version := versionOf(1)
	want := p.contents["os-amd64/"+version]
	other := bytes.Clone(want)
	other[2<<20+5] ^= 1
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range []struct {
		name      string
		ctx       context.Context
		before    []byte // at the path
		partial   []byte
		overwrite bool
		resumed   int64
		err       error
	}{
		{"nothing there", t.Context(), nil, nil, false, 0, nil},
		{"a file there", t.Context(), []byte("x"), nil, false, 0, fs.ErrExist},
		{"a file to overwrite", t.Context(), []byte("x"), nil, true, 0, nil},
		{"a part", t.Context(), nil, want[:2<<20+100], false, 2 << 20, nil},
		{"all of it", t.Context(), nil, want, false, 3 << 20, nil},
		{"more than all of it", t.Context(), nil, append(bytes.Clone(want), 1, 2, 3), false, 3 << 20, nil},
		{"a part that is wrong", t.Context(), nil, other, false, 2 << 20, nil},
		{"a part of another", t.Context(), nil, []byte("another"), false, 0, nil},
		{"cancelled", cancelled, nil, want[:100], false, 0, context.Canceled},
	} {
		out := filepath.Join(t.TempDir(), "out.img")
		for path, data := range map[string][]byte{out: c.before, out + ".restoring": c.partial} {
			if data != nil {
				p.must(os.WriteFile(path, data, 0o666))
			}
		}
		r, err := p.open().Restore(c.ctx, "os-amd64", version, out, c.overwrite)
		got, _ := os.ReadFile(out)
		if !errors.Is(err, c.err) || err == nil && (!bytes.Equal(got, want) || r.Resumed != c.resumed) || err != nil && !bytes.Equal(got, c.before) {
			t.Errorf("%s: %d bytes, %+v, %v", c.name, len(got), r, err)
		}
		if _, left := os.Lstat(out + ".restoring"); (left == nil) != (errors.Is(err, context.Canceled) && c.partial != nil) {
			t.Errorf("%s: the partial file: %v", c.name, left)
		}
	}
}

// What cannot be restored leaves nothing behind.
func TestRestoreErrors(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.days("os-amd64", 1, 2)
	dir := t.TempDir()
	flip := func(file string) func() {
		return func() {
			path := filepath.Join(p.store, "os-amd64", file)
			data, err := os.ReadFile(path)
			data[len(data)/2] ^= 1
			p.must(err, os.WriteFile(path, data, 0o666))
		}
	}
	for _, c := range []struct {
		name                string
		before              func()
		group, version, out string
		err                 error
		text                string
	}{
		{"no such group", nil, "os-arm64", versionOf(1), "out", ErrUnknown, "did you mean os-amd64"},
		{"no such version", nil, "os-amd64", "2024-01-02-120001", "out", ErrUnknown, "did you mean 2024-01-02-120000"},
		{"no such directory", nil, "os-amd64", versionOf(1), "missing/out", fs.ErrNotExist, ""},
		{"a directory", nil, "os-amd64", versionOf(1), ".", nil, "neither a regular file nor a block device"},
		{"a character device", nil, "os-amd64", versionOf(1), "/dev/null", nil, "neither a regular file nor a block device"},
		{"a damaged image", flip(versionOf(2) + ".img"), "os-amd64", versionOf(2), "out", ErrWrong, "BLAKE3"},
	} {
		if c.before != nil {
			c.before()
		}
		out := c.out
		if !filepath.IsAbs(out) {
			out = filepath.Join(dir, out)
		}
		_, err := p.open().Restore(t.Context(), c.group, c.version, out, true)
		left, _ := os.ReadDir(dir)
		if err == nil || c.err != nil && !errors.Is(err, c.err) || !strings.Contains(err.Error(), c.text) || len(left) > 0 {
			t.Errorf("%s: %v, %v", c.name, err, left)
		}
	}
	if _, err := p.open().Verify(t.Context(), VerifyOptions{}); !errors.Is(err, ErrWrong) {
		t.Errorf("verify: %v", err)
	}
}

// Of several restores to one file at a time one writes, and the others are refused: what
// appears is a version that was asked for, whole.
func TestRestoreTwice(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.days("os-amd64", 1, 2, 3, 4)
	dir := t.TempDir()
	out := filepath.Join(dir, "out")
	for round := range testdata.Scale(50, 5) {
		var work errgroup.Group
		var done [4]error
		for i := range done {
			s := p.open()
			work.Go(func() error {
				_, done[i] = s.Restore(t.Context(), "os-amd64", versionOf(i+1), out, round%2 == 0)
				return nil
			})
		}
		work.Wait()
		got, err := os.ReadFile(out)
		p.must(err)
		written := 0
		for i, err := range done {
			if err == nil && bytes.Equal(got, p.contents["os-amd64/"+versionOf(i+1)]) {
				written++
			} else if err != nil && !errors.Is(err, ErrLocked) && !errors.Is(err, fs.ErrExist) {
				t.Errorf("round %d, version %d: %v", round, i+1, err)
			}
		}
		if written != 1 {
			t.Errorf("round %d: the file is that of %d restores; %v", round, written, done)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
			t.Errorf("round %d: left are %v, %v", round, left, err)
		}
		p.must(os.Remove(out))
	}
	l, err := lockfile.Acquire(dir, "out.restoring.lock")
	p.must(err)
	p.must(os.WriteFile(out+".restoring", []byte("of another"), 0o666))
	_, err = p.open().Restore(t.Context(), "os-amd64", versionOf(1), out, true)
	left, _ := os.ReadFile(out + ".restoring")
	if !errors.Is(err, ErrLocked) || string(left) != "of another" {
		t.Errorf("while another restores: %v, its file is %q", err, left)
	}
	p.must(l.Release())
	if _, err := p.open().Restore(t.Context(), "os-amd64", versionOf(1), out, true); err != nil {
		t.Errorf("after another has restored: %v", err)
	}
}

// A device that nobody uses gets what it lacks.
func TestRestoreDevice(t *testing.T) {
	p := newPlace(t)
	p.days("os-amd64", 1, 2)
	want := p.contents["os-amd64/"+versionOf(1)]
	for _, c := range []struct {
		name      string
		size      int64
		overwrite bool
		err       error
	}{
		{"large enough", 1 << 20, true, nil},
		{"not meant", 1 << 20, false, fs.ErrExist},
		{"too small", 4096, true, ErrSpace},
	} {
		device := loop(t, c.size)
		for _, resumed := range []int64{0, int64(len(want))} {
			r, err := p.open().Restore(t.Context(), "os-amd64", versionOf(1), device, c.overwrite)
			if !errors.Is(err, c.err) || err == nil && (r.Resumed != resumed || !r.Device) {
				t.Errorf("%s: %+v, %v", c.name, r, err)
			}
		}
		if got, err := os.ReadFile(device); c.err == nil && (err != nil || !bytes.HasPrefix(got, want)) {
			t.Errorf("%s: the device has something else, %v", c.name, err)
		}
	}
	device := loop(t, 1<<20)
	first, err := os.OpenFile(device, os.O_RDWR|unix.O_EXCL, 0)
	p.must(err)
	if _, err := p.open().Restore(t.Context(), "os-amd64", versionOf(1), device, true); err == nil || !strings.Contains(err.Error(), "otherwise in use") {
		t.Errorf("a device that another restore writes to: %v", err)
	}
	first.Close()
	disk := testdata.NewDisk(t, "ext4")
	mounts, err := os.ReadFile("/proc/mounts")
	p.must(err)
	for line := range strings.Lines(string(mounts)) {
		if fields := strings.Fields(line); fields[1] == disk.Dir {
			if _, err := p.open().Restore(t.Context(), "os-amd64", versionOf(1), fields[0], true); err == nil || !strings.Contains(err.Error(), "unmount it") {
				t.Errorf("a mounted device: %v", err)
			}
			return
		}
	}
	t.Errorf("%s is not mounted", disk.Dir)
}

// loop returns a block device of size bytes.
func loop(t *testing.T, size int64) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "disk")
	if err := errors.Join(os.WriteFile(file, nil, 0o666), os.Truncate(file, size)); err != nil {
		t.Fatal(err)
	}
	return testdata.Loop(t, file)
}

// What is read stays what it was when it was opened, and a group that changes meanwhile is
// opened again.
func TestReadWhileChanging(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.days("os-amd64", 1, 2, 3)
	reader := p.open()
	p.put("os-amd64", 4)
	n := 0
	p.observe(func(c atomicfile.Change) error {
		n++
		for _, day := range []int{1, 2, 3} {
			out := filepath.Join(t.TempDir(), "out")
			if _, err := reader.Restore(t.Context(), "os-amd64", versionOf(day), out, false); err != nil {
				t.Errorf("before change %d, %v: %v", n, c, err)
			}
		}
		return nil
	})
	p.add()
	if n < 10 {
		t.Errorf("%d changes", n)
	}
}
