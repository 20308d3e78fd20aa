package powercut

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"puavo-image-repository/imagerepo/atomicfile"
)

// said returns the trees, each as text, sorted and each once.
func said(trees []Tree) []string {
	all := make(map[string]bool)
	for _, t := range trees {
		var files []string
		for _, name := range slices.Sorted(maps.Keys(t)) {
			files = append(files, fmt.Sprintf("%s=%s", name, t[name].Data))
		}
		all[strings.Join(files, " ")] = true
	}
	return slices.Sorted(maps.Keys(all))
}

// What a power cut leaves is what was flushed, and of what was not, anything.
func TestTrees(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(d atomicfile.Dir) error
		want []string
	}{
		{"nothing", func(atomicfile.Dir) error { return nil }, []string{"old=old"}},
		{"written as it should be", func(d atomicfile.Dir) error { _, err := d.Replace("tmp", "old", []byte("new")); return err },
			[]string{"old=new"}},
		{"not flushed", func(d atomicfile.Dir) error {
			d.NoSync = true
			_, err := d.Replace("tmp", "old", []byte("new"))
			return err
		}, []string{"old=", "old= tmp=", "old=old", "old=old tmp="}},
		{"directory not flushed", func(d atomicfile.Dir) error {
			f, err := d.Begin("tmp", "")
			if err != nil {
				return err
			}
			f.Write([]byte("new"))
			return errors.Join(f.Sync(), f.Keep(), d.Rename("tmp", "old"))
		}, []string{"old=new", "old=new tmp=new", "old=old", "old=old tmp=new"}},
		{"removed", func(d atomicfile.Dir) error { return d.Remove("old") }, []string{"", "old=old"}},
		{"removed and flushed", func(d atomicfile.Dir) error { return errors.Join(d.Remove("old"), d.SyncDir(".")) }, []string{""}},
		{"linked", func(d atomicfile.Dir) error { return d.Link("old", "new") }, []string{"new=old old=old", "old=old"}},
		{"linked from elsewhere", func(d atomicfile.Dir) error {
			return errors.Join(d.LinkFrom(filepath.Join(d.Name(), "old"), "new"), d.SyncDir("."))
		}, []string{"new= old=old"}},
		{"linked from elsewhere and flushed", func(d atomicfile.Dir) error {
			return errors.Join(d.LinkFrom(filepath.Join(d.Name(), "old"), "new"), d.SyncDir("."), d.Sync("new"))
		}, []string{"new=old old=old"}},
		{"in a new directory", func(d atomicfile.Dir) error {
			_, err := d.Replace("tmp", "old", []byte("new"))
			return errors.Join(err, d.MkdirAll("a/b", 0o777), d.Rename("old", "a/b/file"), d.SyncDir("a/b"), d.SyncDir("a"))
		}, []string{"", "a/b/file=new", "a/b/file=new old=new", "old=new"}},
	} {
		dir := t.TempDir()
		os.WriteFile(filepath.Join(dir, "old"), []byte("old"), 0o666)
		disk := Watch(t, dir, nil)
		d, err := atomicfile.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.do(d); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		d.Close()
		var trees []Tree
		for range 20 { // some are random
			trees = append(trees, disk.Trees()...)
		}
		if got := said(trees); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// Each change is seen before it is made, and a tree can be laid.
func TestWatch(t *testing.T) {
	dir := t.TempDir()
	os.WriteFile(filepath.Join(dir, "old"), []byte("old"), 0o666)
	os.Link(filepath.Join(dir, "old"), filepath.Join(dir, "link"))
	var seen []string
	disk := Watch(t, dir, func(next atomicfile.Change, trees func() []Tree) error {
		seen = append(seen, next.String()+": "+strings.Join(said(trees()), ", "))
		return nil
	})
	disk.Unflush()
	d, _ := atomicfile.Open(dir)
	defer d.Close()
	if err := errors.Join(d.Sync("old"), d.Remove("link")); err != nil {
		t.Fatal(err)
	}
	disk.Stop()
	d.Close()
	want := []string{"flush old: link= old=", "remove link: link=old old=old"}
	if !slices.Equal(seen, want) || len(disk.Changes) != len(want) {
		t.Errorf("seen %q, want %q", seen, want)
	}
	laid := t.TempDir()
	if err := (Tree{"a/b": &Content{[]byte("text")}}).Lay(laid); err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(filepath.Join(laid, "a/b")); string(data) != "text" {
		t.Errorf("laid %q, %v", data, err)
	}
}
