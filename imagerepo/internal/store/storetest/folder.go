package storetest

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"puavo-image-repository/imagerepo/internal/store"
	"puavo-image-repository/testdata"
)

// TestFolder tests stores that publish to a folder of this machine. open returns one that
// publishes to root, and sees to it that it is closed.
func TestFolder(t *testing.T, open func(t *testing.T, root string) store.Store) {
	for name, test := range map[string]func(*testing.T, func(*testing.T, string) store.Store){
		"odd files": testOdd, "sweep": testLeft, "full disk": testFull, "in the way": testInTheWay,
	} {
		t.Run(name, func(t *testing.T) { test(t, open) })
	}
}

// List leaves out what is not a regular file, and names that no published file can have.
func testOdd(t *testing.T, open func(*testing.T, string) store.Store) {
	root := t.TempDir()
	s := open(t, root)
	ok(t, s.Write(t.Context(), "folder/file", nil))
	ok(t, errors.Join(
		os.Symlink("folder", filepath.Join(root, "link")),
		os.Symlink("folder/file", filepath.Join(root, "folder", "link")),
		syscall.Mkfifo(filepath.Join(root, "pipe"), 0o666),
		os.Mkdir(filepath.Join(root, ".hidden"), 0o777),
		os.WriteFile(filepath.Join(root, ".hidden", "file"), nil, 0o666),
		os.WriteFile(filepath.Join(root, ".htaccess"), nil, 0o666),
		os.Mkdir(filepath.Join(root, "empty"), 0o777),
	))
	if got := names(t, s); got != "folder/file 0" {
		t.Errorf("it lists %s", got)
	}
	for _, name := range []string{"pipe", "folder/link", "folder"} {
		if _, err := s.Stat(t.Context(), name); err == nil {
			t.Errorf("stat of %s succeeds", name)
		}
		if err := readAll(t.Context(), s, name); err == nil {
			t.Errorf("open of %s succeeds", name)
		}
	}
}

// Sweep removes what nobody needs.
func testLeft(t *testing.T, open func(*testing.T, string) store.Store) {
	root := t.TempDir()
	s := open(t, root)
	kept, other := NewContent(t, "kept.img", 10), NewContent(t, "other.img", 10)
	ok(t, errors.Join(s.Stage(t.Context(), kept.Content), s.Stage(t.Context(), other.Content)))
	for name, age := range map[string]time.Duration{"tmp-old": 2 * time.Hour, "tmp-young": time.Minute, "foreign": 0} {
		path := filepath.Join(root, store.Aside, name)
		ok(t, os.WriteFile(path, nil, 0o666))
		ok(t, os.Chtimes(path, time.Time{}, time.Now().Add(-age)))
	}
	ok(t, s.Sweep(t.Context(), []store.Content{kept.Content}))
	entries, err := os.ReadDir(filepath.Join(root, store.Aside))
	ok(t, err)
	var left []string
	for _, e := range entries {
		left = append(left, strings.TrimSuffix(e.Name(), ".sums"))
	}
	slices.Sort(left)
	want := []string{filepath.Base(kept.Staged()), "tmp-young"}
	slices.Sort(want)
	if left = slices.Compact(left); !slices.Equal(left, want) {
		t.Errorf("left are %q, want %q", left, want)
	}
}

// On a full disk, published files stay, the error says that it is full, and Stage continues when
// it has space.
func testFull(t *testing.T, open func(*testing.T, string) store.Store) {
	root := testdata.SmallDisk(t, 44<<20)
	s := open(t, root)
	ok(t, s.Write(t.Context(), "file", []byte("old")))
	filler := filepath.Join(root, "filler")
	ok(t, os.WriteFile(filler, make([]byte, 30<<20), 0o666))
	c := NewContent(t, "a.img", length)
	err := s.Stage(t.Context(), c.Content)
	if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), root) {
		t.Errorf("stage: %v", err)
	}
	if err := s.Write(t.Context(), "file", make([]byte, 10<<20)); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("write: %v", err)
	}
	want(t, s, "file", "old")
	ok(t, os.Remove(filler))
	c.sent.Store(0)
	ok(t, s.Stage(t.Context(), c.Content))
	if c.Sent() > length-8<<20 {
		t.Errorf("%d bytes were sent again", c.Sent())
	}
	ok(t, s.Release(t.Context(), c.Content))
	want(t, s, "a.img", c.data)
}

// A file in the place of a folder, and the reverse, are errors and stay.
func testInTheWay(t *testing.T, open func(*testing.T, string) store.Store) {
	root := t.TempDir()
	s := open(t, root)
	ok(t, os.Mkdir(filepath.Join(root, "folder"), 0o777))
	ok(t, os.WriteFile(filepath.Join(root, "folder", "file"), []byte("old"), 0o666))
	inFile, isFolder := NewContent(t, "folder/file/a.img", 10), NewContent(t, "folder", 10)
	ok(t, errors.Join(s.Stage(t.Context(), inFile.Content), s.Stage(t.Context(), isFolder.Content)))
	for what, err := range map[string]error{
		"write in a file":     s.Write(t.Context(), "folder/file/a", nil),
		"write to a folder":   s.Write(t.Context(), "folder", nil),
		"create in a file":    s.Create(t.Context(), "folder/file/a", nil),
		"create of a folder":  s.Create(t.Context(), "folder", nil),
		"release in a file":   s.Release(t.Context(), inFile.Content),
		"release of a folder": s.Release(t.Context(), isFolder.Content),
		"remove of a folder":  s.Remove(t.Context(), "folder"),
	} {
		if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, fs.ErrInvalid) {
			t.Errorf("%s: %v", what, err)
		}
	}
	want(t, s, "folder/file", "old")
	entries, _ := filepath.Glob(filepath.Join(root, store.Aside, "tmp-*"))
	if len(entries) > 0 {
		t.Errorf("left are %q", entries)
	}
}
