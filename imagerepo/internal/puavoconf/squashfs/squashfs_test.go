package squashfs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"puavo-image-repository/testdata"
)

// images are those of testdata, all of one tree.
var images = []string{"plain", "gzip", "lzo", "xz", "lz4", "zstd"}

func load(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name+".img"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func open(image []byte) (*Reader, error) {
	return Open(context.Background(), bytes.NewReader(image), int64(len(image)))
}

// limit is the most that is read of a file in these tests.
const limit = 2 << 20

// collect returns what is in all files of an image, by path, of links what is in
// the files that they link to, and of all others the type. Errors of links are
// what is in them; the first other error ends it.
func collect(r *Reader) (map[string]string, error) {
	root, err := r.Find("")
	if err != nil {
		return nil, err
	}
	all := make(map[string]string)
	return all, collectBelow(all, root, "")
}

func collectBelow(all map[string]string, d *File, above string) error {
	entries, err := d.Entries(1 << 16)
	if err != nil {
		return err
	}
	for _, e := range entries {
		path := above + e.Name
		own, err := d.child(e.ref)
		if err != nil {
			return err
		}
		f, err := e.Open()
		if err != nil && own.kind == typeLink && !errors.Is(err, ErrRead) && d.r.ctx.Err() == nil {
			all[path] = "error: " + err.Error()
			continue
		}
		if err != nil {
			return err
		}
		switch {
		case own.IsDir():
			err = collectBelow(all, f, path+"/")
		case f.IsRegular():
			var b []byte
			b, err = f.ReadAll(limit)
			all[path] = string(b)
		default:
			all[path] = fmt.Sprintf("type %d", f.kind)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// numbers is what testdata/make.sh puts into files.
func numbers(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "%d,", i*7919%997)
	}
	return b.String()
}

// tree is what there is in the images of testdata, by [collect].
var tree = sync.OnceValue(func() map[string]string {
	return map[string]string{
		"d/tail":           numbers(30),
		"d/link":           numbers(30),
		"d/up":             numbers(30),
		"d/blocks":         numbers(2200),
		"d/again":          numbers(2200),
		"d/hole":           strings.Repeat("\x00", 9000),
		"d/nothing":        "",
		"d/pipe":           "type 6",
		"d/circle":         `error: too many levels of symbolic links at "circle"`,
		"d/there-and-back": `error: too many levels of symbolic links at "there-and-back"`,
		"d/absolute":       `error: a symbolic link to the absolute path "/d/tail"`,
		"d/broken":         `error: "missing": file does not exist`,
	}
})

// equal compares what collect returns.
func equal(t *testing.T, got, want map[string]string) {
	t.Helper()
	for path := range want {
		if g, ok := got[path]; !ok || g != want[path] {
			t.Errorf("%s: got %d bytes, %.60q, want %d, %.60q", path, len(g), g, len(want[path]), want[path])
		}
	}
	for path := range got {
		if _, ok := want[path]; !ok {
			t.Errorf("%s: got it, but there is none", path)
		}
	}
}

func TestTree(t *testing.T) {
	for _, name := range images {
		t.Run(name, func(t *testing.T) {
			r, err := open(load(t, name))
			if err != nil {
				t.Fatal(err)
			}
			got, err := collect(r)
			if err != nil {
				t.Fatal(err)
			}
			equal(t, got, tree())
			if r.work > Work/100 {
				t.Errorf("%d units of work", r.work)
			}
		})
	}
}

func TestFind(t *testing.T) {
	r, err := open(load(t, "plain"))
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct{ path, want string }{
		{"", "directory"},
		{".", "directory"},
		{"/", "directory"},
		{"..", "directory"},
		{"d", "directory"},
		{"d/", "directory"},
		{"d/..", "directory"},
		{"d/empty/.", "directory"},
		{"../../d//./empty/../tail", numbers(30)},
		{"d/up", numbers(30)},
		{"d/nothing", ""},
		{"tail", `"tail": file does not exist`},
		{"d/tai", `"tai": file does not exist`},
		{"d/tail ", `"tail ": file does not exist`},
		{"d/empty/x", `"x": file does not exist`},
		{"d/broken", `"missing": file does not exist`},
		{"d/tail/", `"tail" is not a directory`},
		{"d/tail/x", `"tail" is not a directory`},
		{"d/link/..", `"tail" is not a directory`},
		{"d/pipe", "not a regular file"},
		{"d/absolute", `a symbolic link to the absolute path "/d/tail"`},
		{"d/circle/x", "too many levels of symbolic links"},
	} {
		t.Run(row.path, func(t *testing.T) {
			got, err := show(r, row.path)
			if err != nil {
				got = err.Error()
			}
			if !strings.HasPrefix(got, row.want) || row.want == "" && got != "" {
				t.Errorf("got %q, want %q", got, row.want)
			}
			if notExist := strings.HasSuffix(row.want, "does not exist"); errors.Is(err, fs.ErrNotExist) != notExist {
				t.Errorf("got %v, want fs.ErrNotExist: %t", err, notExist)
			}
		})
	}
}

// show returns what is in a file, or that it is a directory.
func show(r *Reader, path string) (string, error) {
	f, err := r.Find(path)
	if err != nil {
		return "", err
	}
	if f.IsDir() {
		_, err := f.Entries(1 << 20)
		return "directory", err
	}
	b, err := f.ReadAll(limit)
	return string(b), err
}

// TestLimits reads as much as is allowed, and less.
func TestLimits(t *testing.T) {
	r, err := open(load(t, "plain"))
	if err != nil {
		t.Fatal(err)
	}
	d, err := r.Find("d")
	if err != nil {
		t.Fatal(err)
	}
	f, err := r.Find("d/tail")
	if err != nil {
		t.Fatal(err)
	}
	size := len(numbers(30))
	for _, row := range []struct {
		name string
		read func(limit int) (int, error)
		size int
	}{
		{"file", func(limit int) (int, error) { b, err := f.ReadAll(limit); return len(b), err }, size},
		{"entries", func(limit int) (int, error) { e, err := d.Entries(limit); return len(e), err }, 13},
	} {
		for _, limit := range []int{row.size + 1, row.size, row.size - 1, 0, -1} {
			got, err := row.read(limit)
			if ok := limit >= row.size; ok != (err == nil) || ok != (got == row.size) || !ok && !errors.Is(err, ErrTooLarge) {
				t.Errorf("%s, at most %d: got %d, %v", row.name, limit, got, err)
			}
		}
	}
	if e, err := f.Entries(1); e != nil || err == nil {
		t.Errorf("got the entries %v of a file, %v", e, err)
	}
}

func collectFrom(ctx context.Context, image io.ReaderAt, size int) error {
	r, err := Open(ctx, image, int64(size))
	if err != nil {
		return err
	}
	_, err = collect(r)
	return err
}

// TestReadError has an image fail at each of its reads.
func TestReadError(t *testing.T) {
	image := load(t, "lzo")
	for _, fault := range []error{errors.New("disk on fire"), io.EOF} {
		for at := 0; ; at++ {
			failed := false
			r := &testdata.Failing{ReaderAt: bytes.NewReader(image), At: at, Hook: func() { failed = true }, Err: fault}
			err := collectFrom(context.Background(), r, len(image))
			if !failed && at > 5 && err == nil {
				break
			}
			want := fault
			if fault == io.EOF {
				want = io.ErrUnexpectedEOF
			}
			if !errors.Is(err, ErrRead) || !errors.Is(err, want) {
				t.Fatalf("at %d: got %v, want %v and %v", at, err, ErrRead, want)
			}
		}
	}
}

// TestCancelled ends the context before and during each read, and between them.
func TestCancelled(t *testing.T) {
	image := load(t, "xz")
	for at := 0; ; at++ {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		if at == 0 {
			cancel()
		}
		r := &testdata.Failing{ReaderAt: bytes.NewReader(image), At: at - 1, Hook: cancel}
		err := collectFrom(ctx, r, len(image))
		if at > 5 && ctx.Err() == nil && err == nil {
			break
		}
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("at %d: got %v", at, err)
		}
	}
}

// The first image is closed to anything once the context has ended, even what
// needs no further reading of it.
func TestCancelledLater(t *testing.T) {
	image := load(t, "plain")
	ctx, cancel := context.WithCancel(context.Background())
	r, err := Open(ctx, bytes.NewReader(image), int64(len(image)))
	if err != nil {
		t.Fatal(err)
	}
	d, err := r.Find("d")
	if err != nil {
		t.Fatal(err)
	}
	entries, err := d.Entries(100)
	if err != nil {
		t.Fatal(err)
	}
	hole, err := r.Find("d/hole")
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	_, err1 := r.Find("d")
	_, err2 := d.Entries(100)
	_, err3 := entries[0].Open()
	_, err4 := hole.ReadAll(limit)
	for i, err := range []error{err1, err2, err3, err4} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("call %d: got %v", i+1, err)
		}
	}
}

func TestConcurrent(t *testing.T) {
	var wg sync.WaitGroup
	for _, name := range slices.Repeat(images, 3) {
		image := load(t, name)
		wg.Go(func() {
			r, err := open(image)
			if err != nil {
				t.Error(err)
				return
			}
			got, err := collect(r)
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			equal(t, got, tree())
		})
	}
	wg.Wait()
}
