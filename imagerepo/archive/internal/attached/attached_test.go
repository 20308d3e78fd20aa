package attached

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"puavo-image-repository/imagerepo/atomicfile"
)

const (
	v1 = "2024-01-01-120000"
	v2 = "2024-01-02-120000"
	v3 = "2024-01-03-120000"
)

func now() time.Time { return time.Date(2024, 3, 1, 12, 0, 0, 0, time.UTC) }

// open returns a directory of a guest.
func open(t *testing.T) (dir atomicfile.Dir, path string) {
	t.Helper()
	path = t.TempDir()
	dir, err := atomicfile.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dir.Close() })
	return dir, path
}

// tree returns the files of a directory.
func tree(t *testing.T, path string) (files []string) {
	t.Helper()
	err := filepath.WalkDir(path, func(file string, d fs.DirEntry, err error) error {
		if rel, _ := filepath.Rel(path, file); err == nil && !d.IsDir() {
			files = append(files, rel)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// put writes files, by their names.
func put(t *testing.T, path string, files ...string) {
	t.Helper()
	for _, name := range files {
		file := filepath.Join(path, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o777), os.WriteFile(file, []byte(name+"\n"), 0o666)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCheck(t *testing.T) {
	many := make([]string, maxFiles+1)
	for i := range many {
		many[i] = fmt.Sprint("f", i)
	}
	for _, c := range []struct {
		name  string
		files []string
		ok    bool
	}{
		{"none", nil, true},
		{"two", []string{"/etc/guest.conf", "firewall.conf"}, true},
		{"as many as can be", many[1:], true},
		{"too many", many, false},
		{"the log", []string{"/x/log"}, false},
		{"hidden", []string{".conf"}, false},
		{"two of a name", []string{"a/conf", "b/conf"}, false},
		{"no name", []string{""}, false},
		{"a directory", []string{"/x/.."}, false},
		{"the top", []string{"/"}, false},
	} {
		if err := Check(c.files); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// A record is complete, or only its log is left.
func TestRecord(t *testing.T) {
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	from := t.TempDir()
	put(t, from, "guest.conf")
	if err := errors.Join(os.WriteFile(from+"/large", nil, 0o666), os.Truncate(from+"/large", maxFile+1), os.Symlink("guest.conf", from+"/link")); err != nil {
		t.Fatal(err)
	}
	reason := errors.New("two\nlines \x1b[1m")
	for _, c := range []struct {
		name   string
		ctx    context.Context
		attach string
		end    func(r *Record) error
		ok     bool // to attach
		want   []string
		log    string
	}{
		{"kept", t.Context(), "guest.conf", (*Record).Keep, true, []string{v1 + "/guest.conf", v1 + "/log"}, "a line"},
		{"a link", t.Context(), "link", (*Record).Keep, true, []string{v1 + "/link", v1 + "/log"}, "a line"},
		{"failed", t.Context(), "guest.conf", func(r *Record) error { return r.Fail(reason) }, true, []string{v1 + ".failed/log"}, "failed: two\n\tlines"},
		{"failed after it was kept", t.Context(), "guest.conf", func(r *Record) error { return errors.Join(r.Keep(), r.Fail(reason)) }, true, []string{v1 + ".failed/log"}, "failed: two"},
		{"a missing file", t.Context(), "missing", func(r *Record) error { return r.Fail(reason) }, false, []string{v1 + ".failed/log"}, "a line"},
		{"a directory", t.Context(), ".", func(r *Record) error { return r.Fail(reason) }, false, []string{v1 + ".failed/log"}, "a line"},
		{"too large", t.Context(), "large", func(r *Record) error { return r.Fail(reason) }, false, []string{v1 + ".failed/log"}, "a line"},
		{"cancelled", cancelled, "guest.conf", func(r *Record) error { return r.Fail(reason) }, false, []string{v1 + ".failed/log"}, "a line"},
	} {
		dir, path := open(t)
		put(t, path, v1+".part/left", v1+".failed/left") // of runs before
		r, err := Begin(dir, v1, now)
		if err != nil {
			t.Fatal(err)
		}
		r.Logf("a line of %s", "text")
		if err := r.Attach(c.ctx, filepath.Join(from, c.attach)); (err == nil) != c.ok {
			t.Errorf("%s: attaching: %v", c.name, err)
		}
		if err := c.end(r); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		got := slices.DeleteFunc(tree(t, path), func(f string) bool { return strings.HasSuffix(f, "/left") })
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: left are %q", c.name, got)
		}
		log, _ := os.ReadFile(filepath.Join(path, c.want[len(c.want)-1]))
		if !strings.HasPrefix(string(log), "2024-03-01T12:00:00Z a line of text\n") || !strings.Contains(string(log), c.log) || strings.Contains(string(log), "\x1b") {
			t.Errorf("%s: the log is %q", c.name, log)
		}
		if info, err := os.Stat(filepath.Join(path, v1, "guest.conf")); err == nil && info.Mode().Perm() != 0o600 {
			t.Errorf("%s: an attached file has mode %v", c.name, info.Mode())
		}
	}
}

// What backups that were killed have left becomes the log of a failed one; that of versions which
// the guest has stays.
func TestSettle(t *testing.T) {
	for _, c := range []struct {
		name   string
		newest string
		files  []string
		want   []string
	}{
		{"a version", v1, []string{v1 + "/log", v1 + "/conf"}, []string{v1 + "/conf", v1 + "/log"}},
		{"killed while it ran", v1, []string{v2 + ".part/log", v2 + ".part/conf"}, []string{v2 + ".failed/log"}},
		{"killed without a log", v1, []string{v2 + ".part/conf"}, nil},
		{"killed before it was named", v1, []string{v2 + "/log", v2 + "/conf"}, []string{v2 + ".failed/log"}},
		{"killed, and failed before", v1, []string{v2 + ".failed/log", v2 + ".failed/old", v2 + ".part/log"}, []string{v2 + ".failed/log"}},
		{"the first", "", []string{v1 + "/log", v1 + "/conf"}, []string{v1 + ".failed/log"}},
		{"others", v1, []string{"vda/x", "notes", v2 + "x/log"}, []string{v2 + "x/log", "notes", "vda/x"}},
		{"a file", v1, []string{v3}, []string{v3}},
	} {
		dir, path := open(t)
		put(t, path, c.files...)
		for range 2 { // it can be repeated
			if err := Settle(dir, c.newest); err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
		}
		if got := tree(t, path); !slices.Equal(got, c.want) {
			t.Errorf("%s: left are %q, want %q", c.name, got, c.want)
		}
	}
}

func TestCollect(t *testing.T) {
	dir, path := open(t)
	const old, young = "2024-01-31-115959", "2024-01-31-120001" // 30 days before now, and a second
	put(t, path, v1+"/log", v2+"/log", v2+"/conf", old+".failed/log", young+".failed/log", v3+".part/log", "vda/x")
	if err := Collect(dir, func(version string) bool { return version == v1 }, now()); err != nil {
		t.Fatal(err)
	}
	want := []string{v1 + "/log", v3 + ".part/log", young + ".failed/log", "vda/x"}
	if got := tree(t, path); !slices.Equal(got, want) {
		t.Errorf("left are %q, want %q", got, want)
	}
}
