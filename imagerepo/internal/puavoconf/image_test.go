package puavoconf

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// pack returns a squashfs of files, by path. What starts with "->" is a
// symbolic link; a path that ends in a slash is a directory.
func pack(t *testing.T, files map[string]string, args ...string) []byte {
	t.Helper()
	mksquashfs := tool(t, "mksquashfs")
	root, image := t.TempDir(), filepath.Join(t.TempDir(), "a.img")
	for name, content := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := put(path, content, strings.HasSuffix(name, "/")); err != nil {
			t.Fatal(err)
		}
	}
	run(t, mksquashfs, append([]string{root, image, "-noappend", "-no-progress"}, args...)...)
	b, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func put(path, content string, isDir bool) error {
	if target, ok := strings.CutPrefix(content, "->"); ok {
		return os.Symlink(target, path)
	}
	if isDir {
		return os.MkdirAll(path, 0o755)
	}
	return os.WriteFile(path, []byte(content), 0o644)
}

func TestFiles(t *testing.T) {
	for _, row := range []struct {
		name  string
		files map[string]string
		keys  int    // or:
		none  bool   // and
		want  string // a part of the error
	}{
		{"one", map[string]string{dir + "/a.json": `{"a":1}`}, 1, false, ""},
		{"no key", map[string]string{dir + "/a.json": `{}`}, 0, false, ""},
		{"others", map[string]string{
			dir + "/a.json": `{"a":1}`, dir + "/.b.json": `x`, dir + "/c.json/": "", dir + "/d.json~": `x`, dir + "/JSON": `x`, "x.json": "x",
		}, 1, false, ""},
		{"link", map[string]string{dir + "/a.json": `->../../../x`, "usr/x": `{"a":1}`}, 1, false, ""},
		{"link to directory", map[string]string{dir + "/a.json": `{"a":1}`, dir + "/b.json": `->../definitions`}, 1, false, ""},
		{"link above", map[string]string{dir: `->../../../defs`, "defs/a.json": `{"a":1}`}, 1, false, ""},
		{"link out", map[string]string{dir + "/a.json": `->../../../../../../../etc/hostname`}, 0, true, "a.json in the image cannot be opened"},
		{"link absolute", map[string]string{dir + "/a.json": `->/x`, "x": `{"a":1}`}, 0, true, "a.json in the image cannot be opened"},
		{"link broken", map[string]string{dir + "/a.json": `->b`}, 0, true, "a.json in the image cannot be opened"},
		{"link to no file", map[string]string{dir + "/a.json": `{"a":1}`, dir + "/b.json": `->..`, dir + "/c.json": "->.", dir + "/d.json": "->../../../.."}, 1, false, ""},
		{"link to more", map[string]string{dir + "/a.json": `->b.json/`, dir + "/b.json": `{"a":1}`}, 0, true, "not a directory"},
		{"links", map[string]string{dir + "/a.json": `->b`, dir + "/b": "->../c", dir + "/../c": "->./d/../d//e", dir + "/../d/e": `{"a":1}`}, 1, false, ""},
		{"link circle", map[string]string{dir + "/a.json": `->b`, dir + "/b": `->a.json`}, 0, true, "too many levels"},
		{"link circle above", map[string]string{dir: `->../x`, "usr/share/x": "->puavo-conf/definitions"}, 0, true, "too many levels"},
		{"link broken above", map[string]string{dir: `->../x`}, 0, true, "no /usr/share"},
		{"link loop", map[string]string{dir + "/a.json": `->a.json`}, 0, true, "too many levels"},
		{"no files", map[string]string{dir + "/README": `x`}, 0, true, "no *.json file in /usr/share"},
		{"only directories", map[string]string{dir + "/a.json/": ""}, 0, true, "no *.json file in /usr/share"},
		{"a file", map[string]string{dir: `{}`}, 0, true, "is no directory"},
		{"a file above", map[string]string{"usr": `{}`}, 0, true, "cannot be opened"},
		{"nothing", nil, 0, true, "no /usr/share"},
	} {
		t.Run(row.name, func(t *testing.T) {
			got, err := read(pack(t, row.files))
			if row.want != "" {
				fails(t, got, err, row.none, row.want)
			} else if err != nil || got == nil || len(got) != row.keys {
				t.Errorf("got %v, %v, want %d keys", got, err, row.keys)
			}
		})
	}
}

// TestBlocks reads files of no, one and several blocks, with and without a tail
// in a fragment.
func TestBlocks(t *testing.T) {
	long := func(key string, n int) string {
		head := fmt.Sprintf(`{%q:"`, key)
		noise := make([]byte, n-len(head)-2)
		for i := range noise {
			noise[i] = 'a' + byte(rand.IntN(16))
		}
		return head + string(noise) + `"}`
	}
	files := make(map[string]string)
	for i, n := range []int{20, 4095, 4096, 4097, 131072, 300000, 1<<20 + 1} {
		files[fmt.Sprintf("%s/%02d.json", dir, i)] = long(fmt.Sprint(i), n)
	}
	for _, args := range []string{"-b 4K", "-b 128K", "-b 1M", "-b 1M -always-use-fragments", "-b 4K -noI -noD -noF -noId",
		"-b 1M -comp lzo", "-b 1M -comp xz", "-b 1M -comp lz4", "-b 1M -comp zstd", "-no-fragments", "-b 1M -noD -noF"} {
		t.Run(args, func(t *testing.T) {
			got, err := read(pack(t, files, strings.Fields(args)...))
			if err != nil {
				t.Fatal(err)
			}
			for i := range len(files) {
				key := fmt.Sprint(i)
				if want := files[fmt.Sprintf("%s/%02d.json", dir, i)]; fmt.Sprintf("{%q:%s}", key, got[key]) != want {
					t.Errorf("the file of %d bytes is read as one of %d", len(want), len(got[key]))
				}
			}
		})
	}
}

func TestLimits(t *testing.T) {
	// files returns n files, the last one of tail spaces, all others of size.
	files := func(n int, ext string, size, tail int) map[string]string {
		m := make(map[string]string)
		for i := range n - 1 {
			m[fmt.Sprintf("%s/%04d%s", dir, i, ext)] = "{}" + strings.Repeat(" ", size-2)
		}
		m[dir+"/last.json"] = "{}" + strings.Repeat(" ", tail-2)
		return m
	}
	for _, row := range []struct {
		name  string
		files map[string]string
		want  string // a part of the error, if any
	}{
		{"file", files(1, "", 0, maxFile), ""},
		{"file+1", files(1, "", 0, maxFile+1), "last.json in the image is too large"},
		{"names", files(maxNames, "", 2, 2), ""},
		{"names+1", files(maxNames+1, "", 2, 2), "more than 4096 files"},
		{"files", files(maxNames, ".json", 2, 2), ""},
		{"total", files(9, ".json", maxFile-1, 8), ""},
		{"total+1", files(9, ".json", maxFile-1, 9), "last.json in the image is too large"},
	} {
		t.Run(row.name, func(t *testing.T) {
			got, err := read(pack(t, row.files))
			if row.want != "" {
				fails(t, got, err, false, row.want)
			} else if err != nil {
				t.Error(err)
			}
		})
	}
}
