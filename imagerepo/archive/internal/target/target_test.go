package target

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo/archive/internal/content"
	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/lockfile"
	"puavo-image-repository/testdata"
)

// source returns some content, and it as what is written.
func source(size int) ([]byte, Source) {
	data := make([]byte, size)
	rand.NewChaCha8([32]byte{1}).Read(data)
	h := cksum.NewBLAKE3()
	h.Write(data)
	return data, Source{bytes.NewReader(data), int64(size), cksum.Digest256(h.Sum(nil)), func(int64) {}}
}

// names returns what is in a directory.
func names(t *testing.T, dir string) (all []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

func TestWriteFile(t *testing.T) {
	data, from := source(2<<20 + 100)
	wrong := from
	wrong.BLAKE3[0] ^= 1
	short := from
	short.ReaderAt = bytes.NewReader(data[:1<<20+5])
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range []struct {
		name    string
		ctx     context.Context
		from    Source
		part    []byte
		resumed int64
		left    string // in the directory
		err     error
	}{
		{"all", t.Context(), from, nil, 0, "out", nil},
		{"a part", t.Context(), from, data[:1<<20+9], 1 << 20, "out", nil},
		{"a long part", t.Context(), from, append(slices.Clone(data), 1), 2<<20 + 100, "out", nil},
		{"another part", t.Context(), from, make([]byte, 2<<20), 0, "out", nil},
		{"a wrong digest", t.Context(), wrong, nil, 0, "", content.ErrWrong},
		{"too short", t.Context(), short, nil, 0, "", content.ErrWrong},
		{"cancelled", cancelled, from, data[:100], 0, "out.restoring", context.Canceled},
	} {
		dir := t.TempDir()
		if c.part != nil {
			if err := os.WriteFile(dir+"/out.restoring", c.part, 0o666); err != nil {
				t.Fatal(err)
			}
		}
		target, err := Open(dir+"/out", false, true)
		if err != nil {
			t.Fatal(err)
		}
		resumed, err := target.Write(c.ctx, c.from)
		target.Close()
		got, _ := os.ReadFile(dir + "/out")
		if !errors.Is(err, c.err) || resumed != c.resumed || (err == nil) != bytes.Equal(got, data) || strings.Join(names(t, dir), " ") != c.left {
			t.Errorf("%s: %d resumed, %d bytes, left %q, %v", c.name, resumed, len(got), names(t, dir), err)
		}
	}
}

// A write that fails leaves the part, and the next goes on there.
func TestWriteFails(t *testing.T) {
	data, from := source(3 << 20)
	dir := t.TempDir()
	broken := errors.New("broken")
	n := 0
	stop := atomicfile.Observe(dir, func(c atomicfile.Change) error {
		if n++; c.Kind == atomicfile.Write && n > 3 {
			return broken
		}
		return nil
	})
	for _, want := range []error{broken, nil} {
		target, err := Open(dir+"/out", false, true)
		if err != nil {
			t.Fatal(err)
		}
		resumed, err := target.Write(t.Context(), from)
		if !errors.Is(err, want) || err == nil && (resumed < 1<<20 || target.Used() > 0) || err != nil && target.Used() < 1<<20 {
			t.Errorf("%d resumed, %v", resumed, err)
		}
		target.Close()
		stop()
	}
	if got, err := os.ReadFile(dir + "/out"); err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

func TestOpen(t *testing.T) {
	dir := t.TempDir()
	if err := errors.Join(os.WriteFile(dir+"/file", nil, 0o666), os.Symlink("file", dir+"/link"), os.Symlink("new", dir+"/dangling"), exec.Command("mkfifo", dir+"/pipe").Run()); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name      string
		path      string
		overwrite bool
		want      string
	}{
		{"new", "out", false, ""},
		{"a file", "file", true, ""},
		{"a file that stays", "file", false, "--overwrite"},
		{"a link that stays", "link", false, "--overwrite"},
		{"a link", "link", true, ""},
		{"a link to nothing", "dangling", false, ""},
		{"a directory", ".", true, "neither a regular file nor a block device"},
		{"a pipe", "pipe", true, "neither a regular file nor a block device"},
		{"no directory", "missing/out", true, "no such file"},
	} {
		target, err := Open(filepath.Join(dir, c.path), c.overwrite, false)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
		if err == nil {
			if target.IsDevice() {
				t.Errorf("%s: a device", c.name)
			}
			target.Close()
		}
	}
}

// One writes to a file at a time, and what was restored meanwhile is not overwritten.
func TestLock(t *testing.T) {
	path := t.TempDir() + "/out"
	var targets [2]*Target
	for i := range targets {
		var err error
		if targets[i], err = Open(path, false, true); err != nil {
			t.Fatal(err)
		}
		defer targets[i].Close()
	}
	unlock, err := targets[0].Lock()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := targets[1].Lock(); !errors.Is(err, lockfile.ErrHeld) {
		t.Errorf("locked twice: %v", err)
	}
	_, from := source(10)
	if _, err := targets[0].Write(t.Context(), from); err != nil {
		t.Fatal(err)
	}
	unlock()
	if _, err := targets[1].Lock(); !errors.Is(err, fs.ErrExist) {
		t.Errorf("restored meanwhile: %v", err)
	}
	if got := names(t, filepath.Dir(path)); !slices.Equal(got, []string{"out"}) {
		t.Errorf("left are %q", got)
	}
}

// A device gets what it lacks, and nobody else has it open meanwhile.
func TestDevice(t *testing.T) {
	data, from := source(1<<20 + 512)
	file := filepath.Join(t.TempDir(), "disk")
	if err := errors.Join(os.WriteFile(file, data[:1<<20], 0o666), os.Truncate(file, 2<<20)); err != nil {
		t.Fatal(err)
	}
	device := testdata.Loop(t, file)
	if _, err := Open(device, false, false); !errors.Is(err, fs.ErrExist) {
		t.Errorf("without --overwrite: %v", err)
	}
	target, err := Open(device, true, false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(device, true, false); err == nil || !strings.Contains(err.Error(), "otherwise in use") {
		t.Errorf("opened twice: %v", err)
	}
	size, err := target.DeviceSize()
	if err != nil || size != 2<<20 || !target.IsDevice() {
		t.Errorf("%d bytes, %v", size, err)
	}
	unlock, err := target.Lock()
	if err != nil {
		t.Fatal(err)
	}
	resumed, err := target.Write(t.Context(), from)
	unlock()
	target.Close()
	if got, readErr := os.ReadFile(device); err != nil || readErr != nil || resumed != 1<<20 || !bytes.HasPrefix(got, data) {
		t.Errorf("%d resumed, %v, %v", resumed, err, readErr)
	}
}
