// Package storetest tests whether a destination is a store.Store.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"puavo-image-repository/imagerepo/internal/store"
)

// Test tests stores that open makes. Each is a new destination, without files. open sees
// to it that it is closed.
func Test(t *testing.T, open func(t *testing.T) store.Store) {
	for _, c := range []struct {
		name string
		test func(*testing.T, store.Store)
	}{
		{"documents", testDocuments},
		{"create", testCreate},
		{"replace", testReplace},
		{"missing", testMissing},
		{"list", testList},
		{"stage", testStage},
		{"stage twice the same bytes", testSameBytes},
		{"stage interrupted", testInterrupted},
		{"stage changed", testChanged},
		{"sweep", testSweep},
		{"cancelled", testCancelled},
		{"names", testNames},
		{"now", testNow},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.test(t, open(t))
		})
	}
}

// ok fails the test for an error.
func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// want fails the test if what a store has under a name is not this.
func want(t *testing.T, s store.Store, name, data string) {
	t.Helper()
	r, err := s.Open(t.Context(), name)
	ok(t, err)
	defer r.Close()
	got, err := io.ReadAll(r)
	ok(t, err)
	if string(got) != data {
		t.Errorf("%s holds %d bytes, want %d, or other bytes", name, len(got), len(data))
	}
	if f, err := s.Stat(t.Context(), name); err != nil || f.Name != name || f.Size != int64(len(data)) {
		t.Errorf("stat of %s: %+v, %v", name, f, err)
	}
}

// names returns what List returns, a file a line.
func names(t *testing.T, s store.Store) string {
	t.Helper()
	files, err := s.List(t.Context())
	ok(t, err)
	var all []string
	for _, f := range files {
		all = append(all, fmt.Sprintf("%s %d", f.Name, f.Size))
	}
	return strings.Join(all, "\n")
}

func testDocuments(t *testing.T, s store.Store) {
	long := strings.Repeat("x", 300<<10)
	for _, data := range []string{"one", "two, longer", "", long, "3"} {
		for _, name := range []string{"index.json", "meta/a.json", "a/b/c/d", ".published.json"} {
			ok(t, s.Write(t.Context(), name, []byte(data)))
			want(t, s, name, data)
		}
	}
	ok(t, s.Remove(t.Context(), "index.json"))
	if _, err := s.Stat(t.Context(), "index.json"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after it was removed: %v", err)
	}
	want(t, s, "meta/a.json", "3")
}

func testCreate(t *testing.T, s store.Store) {
	ok(t, s.Create(t.Context(), ".publish-lock.json", []byte("mine")))
	for range 2 {
		if err := s.Create(t.Context(), ".publish-lock.json", []byte("of another")); !errors.Is(err, fs.ErrExist) {
			t.Errorf("the second: %v", err)
		}
	}
	want(t, s, ".publish-lock.json", "mine")
	ok(t, s.Remove(t.Context(), ".publish-lock.json"))
	ok(t, s.Create(t.Context(), ".publish-lock.json", []byte("of another")))
	want(t, s, ".publish-lock.json", "of another")
	ok(t, s.Write(t.Context(), "new/file", []byte("written")))
	if err := s.Create(t.Context(), "new/file", nil); !errors.Is(err, fs.ErrExist) {
		t.Errorf("of what was written: %v", err)
	}
	ok(t, s.Create(t.Context(), "other/file", []byte("in a new folder")))
	want(t, s, "other/file", "in a new folder")
}

// Replace writes only in the place of the content that it was given.
func testReplace(t *testing.T, s store.Store) {
	ok(t, s.Write(t.Context(), "folder/file", []byte("old")))
	for _, other := range []string{"", "ol", "older", "odd"} {
		if err := s.Replace(t.Context(), "folder/file", []byte(other), []byte("new")); !errors.Is(err, store.ErrOther) || !strings.Contains(err.Error(), "folder/file") {
			t.Errorf("in the place of %q: %v", other, err)
		}
	}
	want(t, s, "folder/file", "old")
	for _, data := range []string{"new, longer", "", "old"} {
		r, err := s.Open(t.Context(), "folder/file")
		ok(t, err)
		now, err := io.ReadAll(r)
		ok(t, errors.Join(err, r.Close(), s.Replace(t.Context(), "folder/file", now, []byte(data))))
		want(t, s, "folder/file", data)
	}
	for _, name := range []string{"folder/none", "none/none"} {
		if err := s.Replace(t.Context(), name, nil, nil); !errors.Is(err, store.ErrOther) {
			t.Errorf("of %s, which is missing: %v", name, err)
		}
		if _, err := s.Stat(t.Context(), name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("it made %s", name)
		}
	}
}

func testMissing(t *testing.T, s store.Store) {
	ok(t, s.Write(t.Context(), "folder/file", []byte("text")))
	for _, name := range []string{"none", "none/none", "folder/none"} {
		if _, err := s.Stat(t.Context(), name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("stat of %s: %v", name, err)
		}
		if err := readAll(t.Context(), s, name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("open of %s: %v", name, err)
		}
		if err := s.Remove(t.Context(), name); err != nil {
			t.Errorf("remove of %s: %v", name, err)
		}
	}
	if err := s.Release(t.Context(), NewContent(t, "none.img", 10).Content); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("release of what was not staged: %v", err)
	}
}

// readAll returns the error of Open, or that of reading.
func readAll(ctx context.Context, s store.Store, name string) error {
	r, err := s.Open(ctx, name)
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = io.Copy(io.Discard, r)
	return err
}

func testList(t *testing.T, s store.Store) {
	if got := names(t, s); got != "" {
		t.Errorf("of a new destination: %s", got)
	}
	for _, name := range []string{"b", "a/b", "a-b", "a/a", ".published.json"} {
		ok(t, s.Write(t.Context(), name, []byte(name)))
	}
	ok(t, s.Stage(t.Context(), NewContent(t, "a.img", 10).Content))
	if got, want := names(t, s), ".published.json 15\na-b 3\na/a 3\na/b 3\nb 1"; got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
}

func testStage(t *testing.T, s store.Store) {
	sizes := []int{0, 1, length}
	if !testing.Short() {
		sizes = append(sizes, 8<<20, 8<<20+1)
	}
	for _, size := range sizes {
		c := NewContent(t, "folder/a.img", size)
		before := names(t, s)
		ok(t, s.Stage(t.Context(), c.Content))
		if now := names(t, s); now != before {
			t.Errorf("%d bytes: before its release it lists %s", size, now)
		}
		if c.sent.Load() != int64(size) || c.found.Load() != 0 {
			t.Errorf("%d bytes: %d sent, %d found", size, c.sent.Load(), c.found.Load())
		}
		ok(t, s.Release(t.Context(), c.Content)) // in place of the one before
		want(t, s, "folder/a.img", c.data)
	}
}

// Two files with the same bytes are two files.
func testSameBytes(t *testing.T, s store.Store) {
	a, b := NewContent(t, "a.img", 100_000), NewContent(t, "folder/b.img", 100_000)
	ok(t, s.Stage(t.Context(), a.Content))
	ok(t, s.Stage(t.Context(), b.Content))
	ok(t, s.Release(t.Context(), a.Content))
	ok(t, s.Release(t.Context(), b.Content))
	want(t, s, "a.img", a.data)
	want(t, s, "folder/b.img", b.data)
}

// An interrupted Stage continues.
func testInterrupted(t *testing.T, s store.Store) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	c := NewContent(t, "a.img", length)
	var seen atomic.Int64
	c.Done = func(n int64, sent bool) {
		if seen.Add(n) > length*3/4 {
			cancel()
		}
	}
	if err := s.Stage(ctx, c.Content); !errors.Is(err, context.Canceled) {
		t.Fatalf("cancelled: %v", err)
	}
	again := NewContent(t, "a.img", length)
	ok(t, s.Stage(t.Context(), again.Content))
	sent, found := again.sent.Load(), again.found.Load()
	if sent+found != length || found < length/4 {
		t.Errorf("of %d bytes %d were sent, %d found", length, sent, found)
	}
	ok(t, s.Release(t.Context(), again.Content))
	want(t, s, "a.img", again.data)
}

// A file that is not what the documents say is not published, and leaves nothing.
func testChanged(t *testing.T, s store.Store) {
	for name, change := range map[string]func(data string) string{
		"first byte": func(data string) string { return "x" + data[1:] },
		"last byte":  func(data string) string { return data[:len(data)-1] + "x" },
		"longer":     func(data string) string { return data + "x" },
		"shorter":    func(data string) string { return data[:len(data)-1] },
		"empty":      func(data string) string { return "" },
	} {
		size := 100_000
		if name == "last byte" {
			size = length
		}
		c := NewContent(t, name, size)
		c.write(t, change(c.data))
		if err := s.Stage(t.Context(), c.Content); !errors.Is(err, store.ErrChanged) {
			t.Errorf("%s: %v", name, err)
		}
		if err := s.Release(t.Context(), c.Content); err == nil {
			t.Errorf("%s: it was released", name)
		}
		c.write(t, c.data)
		c.sent.Store(0)
		ok(t, s.Stage(t.Context(), c.Content))
		if c.Sent() != int64(size) {
			t.Errorf("%s: after it, %d bytes of %d were sent", name, c.Sent(), size)
		}
	}
}

// Sweep leaves what it must keep, and all files.
func testSweep(t *testing.T, s store.Store) {
	ok(t, s.Sweep(t.Context(), nil)) // of nothing
	ok(t, s.Write(t.Context(), "file", []byte("text")))
	kept := NewContent(t, "kept.img", 100_000)
	ok(t, s.Stage(t.Context(), kept.Content))
	ok(t, s.Sweep(t.Context(), []store.Content{NewContent(t, "other.img", 100_000).Content, kept.Content}))
	ok(t, s.Release(t.Context(), kept.Content))
	want(t, s, "kept.img", kept.data)
	want(t, s, "file", "text")
}

// A context that has ended ends every method.
func testCancelled(t *testing.T, s store.Store) {
	ok(t, s.Write(t.Context(), "file", []byte("old")))
	staged := NewContent(t, "a.img", 10)
	ok(t, s.Stage(t.Context(), staged.Content))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for name, err := range map[string]error{
		"list":    second(s.List(ctx)),
		"stat":    second(s.Stat(ctx, "file")),
		"open":    readAll(ctx, s, "file"),
		"write":   s.Write(ctx, "file", []byte("new")),
		"create":  s.Create(ctx, "other", nil),
		"replace": s.Replace(ctx, "file", []byte("old"), []byte("new")),
		"remove":  s.Remove(ctx, "file"),
		"stage":   s.Stage(ctx, NewContent(t, "b.img", 10).Content),
		"release": s.Release(ctx, staged.Content),
		"sweep":   s.Sweep(ctx, nil),
		"now":     second(s.Now(ctx)),
	} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
	}
	want(t, s, "file", "old") // and the store can be used
	if got := names(t, s); got != "file 3" {
		t.Errorf("there are %s", got)
	}
}

func second[T any](_ T, err error) error { return err }

// A name that leads out of the destination, or aside, is refused.
func testNames(t *testing.T, s store.Store) {
	for _, name := range []string{"", ".", "..", "../a", "/a", "a/../../b", "a//b", "a/", store.Aside, store.Aside + "/a", ".ssh/config", "a\x00b"} {
		c := NewContent(t, name, 10)
		for method, err := range map[string]error{
			"stat":    second(s.Stat(t.Context(), name)),
			"open":    readAll(t.Context(), s, name),
			"write":   s.Write(t.Context(), name, nil),
			"create":  s.Create(t.Context(), name, nil),
			"replace": s.Replace(t.Context(), name, nil, nil),
			"remove":  s.Remove(t.Context(), name),
			"stage":   s.Stage(t.Context(), c.Content),
			"release": s.Release(t.Context(), c.Content),
		} {
			if !errors.Is(err, fs.ErrInvalid) {
				t.Errorf("%s of %q: %v", method, name, err)
			}
		}
	}
}

func testNow(t *testing.T, s store.Store) {
	ok(t, s.Write(t.Context(), "file", nil))
	now, err := s.Now(t.Context())
	ok(t, err)
	f, err := s.Stat(t.Context(), "file")
	ok(t, err)
	if d := now.Sub(f.Modified); d < -2*time.Second || d > time.Minute || time.Since(now).Abs() > time.Hour {
		t.Errorf("it is %v, and a new file is of %v", now, f.Modified)
	}
}
