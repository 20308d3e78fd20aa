package sftp

import (
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"puavo-image-repository/imagerepo/internal/store"
	"puavo-image-repository/imagerepo/internal/store/storetest"
	"puavo-image-repository/testdata"
)

// logged are the lines of the server's log that say what changes.
var logged = regexp.MustCompile(`(mkdir|fsync|posix-rename|hardlink|remove|write)(?: name| old)? "([^"]*)"(?: new "([^"]*)")?`)

// A file is flushed before it gets a name, or counts as being there; the log of the server
// shows it.
func TestOrder(t *testing.T) {
	t.Parallel()
	c := storetest.NewContent(t, "a.img", chunk+1)
	for _, row := range []struct {
		name string
		do   func(*Store) error
		want []string
	}{
		{"write", func(s *Store) error { return s.Write(t.Context(), "a/b/file", []byte("text")) }, []string{
			"mkdir a", "fsync .", "mkdir a/b", "fsync a", "mkdir .publish", "fsync .",
			"write TMP", "fsync TMP", "posix-rename TMP a/b/file", "fsync a/b"}},
		{"create", func(s *Store) error { return s.Create(t.Context(), "file", []byte("text")) }, []string{
			"mkdir .publish", "fsync .", "write TMP", "fsync TMP", "hardlink TMP file", "remove TMP", "fsync ."}},
		{"replace", func(s *Store) error {
			ok(t, s.Write(t.Context(), "file", []byte("old")))
			return s.Replace(t.Context(), "file", []byte("old"), []byte("new"))
		}, []string{
			"mkdir .publish", "fsync .", "write TMP", "fsync TMP", "posix-rename TMP file", "fsync .",
			"write TMP", "fsync TMP", "posix-rename TMP file", "fsync ."}},
		{"payload", func(s *Store) error {
			ok(t, s.Stage(t.Context(), c.Content))
			return s.Release(t.Context(), c.Content)
		}, []string{
			"mkdir .publish", "fsync .", "remove STAGED.sums", "remove STAGED",
			"write STAGED", "fsync STAGED", "write STAGED.sums", "write STAGED", "fsync STAGED", "write STAGED.sums",
			"posix-rename STAGED a.img", "remove STAGED.sums", "fsync ."}},
		{"remove", func(s *Store) error {
			ok(t, s.Create(t.Context(), "file", nil))
			return s.Remove(t.Context(), "file")
		}, []string{
			"mkdir .publish", "fsync .", "write TMP", "fsync TMP", "hardlink TMP file", "remove TMP", "fsync .", "remove file", "fsync ."}},
	} {
		t.Run(row.name, func(t *testing.T) {
			root, log := t.TempDir(), filepath.Join(t.TempDir(), "log")
			server := testdata.NewSSHD(t, sftpServer+" -e -l DEBUG1 2>>"+log)
			ok(t, row.do(opened(t, options(server, root))))
			var got []string
			for _, m := range logged.FindAllStringSubmatch(string(read(t, log)), -1) {
				words := m[1:]
				for i := range words {
					words[i] = named(root, words[i], c)
				}
				if line := strings.TrimSpace(strings.Join(words, " ")); len(got) == 0 || got[len(got)-1] != line {
					got = append(got, line)
				}
			}
			if !slices.Equal(got, row.want) {
				t.Errorf("%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(row.want, "\n"))
			}
		})
	}
}

// named returns a path of the log as a row has it.
func named(root, path string, c *storetest.Content) string {
	if path == root {
		return "."
	}
	path = strings.TrimPrefix(path, root+"/")
	if strings.HasPrefix(path, store.Aside+"/tmp-") {
		return "TMP"
	}
	return strings.Replace(path, c.Staged(), "STAGED", 1)
}
