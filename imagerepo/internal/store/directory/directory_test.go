package directory

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/store"
	"puavo-image-repository/imagerepo/internal/store/storetest"
	"puavo-image-repository/testdata"
)

func opened(t *testing.T, path string) *Store {
	t.Helper()
	s, err := Open(path, false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestStore(t *testing.T) {
	t.Parallel()
	storetest.Test(t, func(t *testing.T) store.Store { return opened(t, t.TempDir()+"/new/folder") })
}

func TestFolder(t *testing.T) {
	t.Parallel()
	storetest.TestFolder(t, func(t *testing.T, root string) store.Store { return opened(t, root) })
}

// ok fails the test for an error.
func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A file is flushed before it gets its name, and the folder afterwards.
func TestOrder(t *testing.T) {
	old := storetest.NewContent(t, "old.img", 10)
	c := storetest.NewContent(t, "folder/a.img", 20<<20)
	for _, row := range []struct {
		name   string
		noSync bool
		do     func(*Store) error
		want   []string
	}{
		{"write", false, func(s *Store) error { return s.Write(t.Context(), "a/b/file", []byte("text")) }, []string{
			"mkdir a", "flush dir .", "mkdir a/b", "flush dir a", "create TMP", "write TMP", "flush TMP", "rename TMP to a/b/file", "flush dir a/b"}},
		{"create", false, func(s *Store) error { return s.Create(t.Context(), "file", []byte("text")) }, []string{
			"create TMP", "write TMP", "flush TMP", "rename TMP to file", "flush dir ."}},
		{"replace", false, func(s *Store) error { return s.Replace(t.Context(), "there", nil, []byte("text")) }, []string{
			"create TMP", "write TMP", "flush TMP", "flush TMP", "rename TMP to there", "flush dir ."}},
		{"write without flushes", true, func(s *Store) error { return s.Write(t.Context(), "file", nil) }, []string{
			"create TMP", "write TMP", "rename TMP to file"}},
		{"stage", false, func(s *Store) error { return s.Stage(t.Context(), c.Content) }, []string{
			"create STAGED", "write STAGED", "write STAGED", "write STAGED", "write STAGED", "write STAGED", "flush STAGED"}},
		{"release", false, func(s *Store) error { return s.Release(t.Context(), old.Content) }, []string{
			"rename OLD to old.img", "flush dir ."}},
		{"remove", false, func(s *Store) error { return s.Remove(t.Context(), "there") }, []string{"remove there", "flush dir ."}},
	} {
		t.Run(row.name, func(t *testing.T) {
			root := t.TempDir()
			first := opened(t, root)
			ok(t, errors.Join(first.Write(t.Context(), "there", nil), first.Stage(t.Context(), old.Content)))
			var got []string
			defer atomicfile.Observe(root, func(change atomicfile.Change) error {
				words := strings.Fields(strings.NewReplacer(c.Staged(), "STAGED", old.Staged(), "OLD").Replace(change.String()))
				for i, word := range words {
					if strings.HasPrefix(word, store.Aside+"/tmp-") {
						words[i] = "TMP"
					}
				}
				got = append(got, strings.Join(words, " "))
				return nil
			})()
			s, err := Open(root, row.noSync)
			ok(t, err)
			defer s.Close()
			ok(t, row.do(s))
			if got, want := strings.Join(got, "\n"), strings.Join(row.want, "\n"); got != want {
				t.Errorf("%s\nwant\n%s", got, want)
			}
		})
	}
}

// The directory is made with those above it, which are flushed.
func TestMakeRoot(t *testing.T) {
	above := t.TempDir()
	var got []string
	defer atomicfile.Observe(above, func(c atomicfile.Change) error { got = append(got, c.String()); return nil })()
	opened(t, above+"/a/b")
	if got := strings.Join(got, ", "); got != "mkdir a, flush dir ., mkdir a/b, flush dir a" {
		t.Error(got)
	}
	ok(t, os.WriteFile(above+"/file", nil, 0o666))
	for _, path := range []string{above + "/file", above + "/file/dir"} {
		if s, err := Open(path, false); err == nil {
			s.Close()
			t.Errorf("%s was opened", path)
		}
	}
}

// What an earlier Stage has left counts only as far as it is what this one would write.
func TestDamaged(t *testing.T) {
	t.Parallel()
	c := storetest.NewContent(t, "a.img", 3*piece+5)
	data := c.Data()
	for _, row := range []struct {
		name  string
		left  string
		found int64
	}{
		{"whole", data, 3*piece + 5},
		{"a part of a piece", data[:piece+7], piece},
		{"whole pieces", data[:2*piece], 2 * piece},
		{"a hole in the second piece", data[:piece+7] + strings.Repeat("\x00", piece) + data[2*piece+7:], piece},
		{"damaged at its beginning", "x" + data[1:], 0},
		{"damaged at its end", data[:len(data)-1] + "x", 3 * piece},
		{"too long", data + "x", 3*piece + 5},
		{"empty", "", 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			root := t.TempDir()
			s := opened(t, root)
			ok(t, os.Mkdir(filepath.Join(root, store.Aside), 0o777))
			ok(t, os.WriteFile(filepath.Join(root, c.Staged()), []byte(row.left), 0o666))
			again := storetest.NewContent(t, "a.img", 3*piece+5)
			ok(t, s.Stage(t.Context(), again.Content))
			if again.Found() != row.found || again.Sent() != again.Size-row.found {
				t.Errorf("%d bytes found, want %d; %d sent", again.Found(), row.found, again.Sent())
			}
			ok(t, s.Release(t.Context(), again.Content))
			if got, err := os.ReadFile(filepath.Join(root, "a.img")); err != nil || string(got) != data {
				t.Errorf("%d bytes, or other ones, %v", len(got), err)
			}
		})
	}
}

// Where the file system can share blocks, it does; a reflink is checked like a copy.
func TestReflink(t *testing.T) {
	t.Parallel()
	testdata.Tool(t, "filefrag")
	disk := testdata.NewDisk(t, "btrfs")
	c := storetest.NewContent(t, "a.img", 20<<20)
	from := filepath.Join(disk.Dir, "mirror.img")
	ok(t, os.WriteFile(from, []byte(c.Data()), 0o666))
	c.Open = func() (*os.File, error) { return os.Open(from) }
	s := opened(t, disk.Dir+"/published")
	ok(t, errors.Join(s.Stage(t.Context(), c.Content), s.Release(t.Context(), c.Content)))
	published := filepath.Join(disk.Dir, "published", "a.img")
	if out := string(testdata.Run(t, "filefrag", "-v", published)); !strings.Contains(out, "shared") {
		t.Errorf("no blocks are shared: %s", out)
	}
	if c.Sent() != c.Size {
		t.Errorf("%d bytes were reported", c.Sent())
	}
	ok(t, os.WriteFile(from, []byte("x"+c.Data()[1:]), 0o666))
	if got, err := os.ReadFile(published); err != nil || string(got) != c.Data() {
		t.Errorf("a change to the mirror changed what was published, %v", err)
	}
	if err := s.Stage(t.Context(), c.Content); !errors.Is(err, store.ErrChanged) {
		t.Errorf("of a changed file: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(disk.Dir, "published", store.Aside, "*")); len(left) > 0 {
		t.Errorf("left are %q", left)
	}
}
