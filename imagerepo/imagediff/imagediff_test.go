package imagediff

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"puavo-image-repository/testdata"
)

// fixtures are small images, one of each compression.
var fixtures = []string{"gzip", "lzo", "xz", "lz4", "zstd"}

// fixture returns the image of a compression.
func fixture(t testing.TB, compression string) []byte {
	t.Helper()
	data, err := os.ReadFile("../internal/puavoconf/squashfs/testdata/" + compression + ".img")
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// otherImage returns an image of another tree.
func otherImage(t testing.TB) []byte {
	t.Helper()
	return testdata.Read(t, "compression/puavo-os-xz-buster-2022-02-04-140532-amd64.img")
}

// put writes an image to a file.
func put(t testing.TB, data []byte) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(file, data, 0o666); err != nil {
		t.Fatal(err)
	}
	return file
}

// patched returns an image with another number at an offset.
func patched(data []byte, at int, number uint16) []byte {
	data = bytes.Clone(data)
	binary.LittleEndian.PutUint16(data[at:], number)
	return data
}

// What cannot be compared says which image and why; it is corrupt input unless it could not
// be opened or read, or nobody waits for it any more.
func TestErrors(t *testing.T) {
	good := fixture(t, "gzip")
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o666); err != nil {
		t.Fatal(err)
	}
	full := errors.New("no room for the report")
	for _, c := range []struct {
		name   string
		ctx    context.Context
		file   string
		report error
		is     error // that it wraps
		says   string
	}{
		{"missing", t.Context(), filepath.Join(dir, "missing"), nil, fs.ErrNotExist, "missing"},
		{"a directory", t.Context(), dir, nil, nil, "not a regular file"},
		{"a pipe", t.Context(), pipe, nil, nil, "not a regular file"},
		{"empty", t.Context(), put(t, nil), nil, ErrImage, "not a squashfs"},
		{"text", t.Context(), put(t, bytes.Repeat([]byte("text"), 999)), nil, ErrImage, "not a squashfs"},
		{"cut off", t.Context(), put(t, good[:len(good)/2]), nil, ErrImage, "cut off"},
		{"lzma", t.Context(), put(t, patched(good, 20, 2)), nil, ErrImage, "compressed with lzma, which is not supported"},
		{"an unknown compression", t.Context(), put(t, patched(good, 20, 7)), nil, ErrImage, "compression number 7"},
		{"no IDs", t.Context(), put(t, patched(good, 26, 0)), nil, ErrImage, "ID 0 of 0"},
		{"the inodes are elsewhere", t.Context(), put(t, patched(good, 64, 96)), nil, ErrImage, "damaged"},
		{"cancelled", ended, put(t, good), nil, context.Canceled, ""},
		{"the report fails", t.Context(), put(t, otherImage(t)), full, full, ""},
	} {
		for i := range 2 {
			files := [2]string{put(t, good), put(t, good)}
			files[i] = c.file
			testdata.Promptly(t, c.name, func() {
				_, err := Compare(c.ctx, files[0], files[1], func(Change) error { return c.report })
				if err == nil || c.is != nil && !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.says) || errors.Is(err, ErrImage) != (c.is == ErrImage) {
					t.Errorf("%s: %v", c.name, err)
				}
				if c.is == ErrImage && !strings.Contains(err.Error(), c.file) {
					t.Errorf("%s: the image is not named: %v", c.name, err)
				}
			})
		}
	}
	// While it works, too.
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	n := 0
	_, err := Compare(ctx, put(t, good), put(t, otherImage(t)), func(Change) error { n++; cancel(); return nil })
	if !errors.Is(err, context.Canceled) || n != 1 {
		t.Errorf("%v after %d changes", err, n)
	}
}

// Sums count each change once in each directory that it is in, down to a depth.
func TestSums(t *testing.T) {
	old, now := &File{Type: "file", Size: 10}, &File{Type: "file", Size: 12}
	changes := []Change{
		{"/", Changed, []string{Mode}, &File{Type: "directory"}, &File{Type: "directory"}},
		{"/a", Added, nil, nil, &File{Type: "directory"}},
		{"/a/b", Added, nil, nil, now},
		{"/a/b/c/d", Removed, nil, old, nil},
		{"/a/b-", Changed, []string{Content, Mode}, old, now},
		{"/a-/x", Changed, []string{Owner}, old, now},
		{"/z/y", Changed, []string{Type}, old, &File{Type: "link"}},
	}
	all := Sum{Added: 2, AddedBytes: 12, Removed: 1, RemovedBytes: 10, Changed: 4, OldBytes: 20, NewBytes: 12}
	a := Sum{Added: 1, AddedBytes: 12, Removed: 1, RemovedBytes: 10, Changed: 1, OldBytes: 10, NewBytes: 12}
	for depth, want := range [][]DirectorySum{
		{{"/", all}},
		{{"/", all}, {"/a", a}, {"/a-", Sum{Changed: 1}}, {"/z", Sum{Changed: 1, OldBytes: 10}}},
		{{"/", all}, {"/a", a}, {"/a/b", Sum{Removed: 1, RemovedBytes: 10}}, {"/a-", Sum{Changed: 1}}, {"/z", Sum{Changed: 1, OldBytes: 10}}},
	} {
		d := Directories{Depth: depth}
		var total Sum
		for _, c := range changes {
			d.Add(c)
			total.Add(c)
		}
		if got := d.All(); !slices.Equal(got, want) || total != all {
			t.Errorf("depth %d: %+v, total %+v", depth, got, total)
		}
	}
	if got := new(Directories).All(); len(got) != 0 {
		t.Errorf("no changes: %+v", got)
	}
}

// FuzzCompare compares what may be an image with a good one and with itself, in which
// nothing changes.
func FuzzCompare(f *testing.F) {
	for i, name := range fixtures {
		f.Add(fixture(f, name), uint8(i))
		f.Add(otherImage(f), uint8(i))
	}
	f.Fuzz(func(t *testing.T, data []byte, other uint8) {
		const work = 32 << 20
		use := func(data []byte) *image {
			i := &image{path: "image"}
			if i.use(t.Context(), bytes.NewReader(data), int64(len(data)), work) != nil {
				return nil
			}
			return i
		}
		if use(data) == nil {
			return
		}
		good := fixture(t, fixtures[int(other)%len(fixtures)])
		var err error
		n := testdata.Allocated(func() {
			_, err = compare(t.Context(), use(good), use(data), func(c Change) error {
				if !strings.HasPrefix(c.Path, "/") || strings.Contains(c.Path, "/../") || c.Old == nil && c.New == nil {
					t.Errorf("%+v", c)
				}
				return nil
			})
		})
		if n > 4*work {
			t.Errorf("%d bytes of memory, %v", n, err)
		}
		if err != nil && !errors.Is(err, ErrImage) {
			t.Error(err)
		}
		_, err = compare(t.Context(), use(data), use(data), func(c Change) error {
			t.Errorf("changed to itself: %+v", c)
			return nil
		})
		if err != nil && !errors.Is(err, ErrImage) {
			t.Error(err)
		}
	})
}
