package puavoconf

import (
	"bytes"
	"encoding/binary"
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
		"-b 1M -comp lzo", "-b 1M -comp xz", "-b 1M -comp zstd", "-no-fragments"} {
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

// TestForged changes the superblock, whose fields the library hardly checks, and
// the inode of a file of definitions.
func TestForged(t *testing.T) {
	le := binary.LittleEndian
	file := func(b []byte) []byte { return b[bytes.Index(b, []byte{2, 0, 0o644 & 0xff, 0o644 >> 8}):] }
	for _, row := range []struct {
		name  string
		forge func(b []byte)
		none  bool
		want  string
	}{
		{"magic", func(b []byte) { b[0] = 'H' }, true, "not a squashfs"},
		{"version", func(b []byte) { b[28] = 3 }, true, "expected squashfs 4.0"},
		{"block size", func(b []byte) { b[12] = 1 }, true, "damaged"},
		{"block size 0", func(b []byte) { le.PutUint32(b[12:], 0); b[22] = 32 }, true, "blocks of 0 bytes"},
		{"block size 1", func(b []byte) { le.PutUint32(b[12:], 1); b[22] = 0 }, true, "blocks of 1 bytes"},
		{"block size 2M", func(b []byte) { le.PutUint32(b[12:], 2<<20); b[22] = 21 }, true, "blocks of 2097152 bytes"},
		{"root", func(b []byte) { le.PutUint16(b[32:], 0xffff) }, true, "cannot be read"},
		{"size", func(b []byte) { le.PutUint64(b[40:], 1<<63) }, true, "cut off"},
		{"inode table", func(b []byte) { le.PutUint64(b[64:], 1<<40) }, true, "no block has 2 bytes at offset 1099511627776"},
		{"negative offset", func(b []byte) { le.PutUint64(b[64:], 1<<63) }, true, "no block has 2 bytes at offset -9223372036854775808"},
		{"directory table", func(b []byte) { le.PutUint64(b[72:], 0) }, true, "cannot be opened"},
		{"fragment table", func(b []byte) { le.PutUint64(b[80:], 1<<40) }, true, "a.json in the image cannot be read"},
		{"loop", func(b []byte) { // an ID table of an empty block, again and again
			le.PutUint64(b[48:], uint64(len(b)-16))
			le.PutUint64(b[len(b)-16:], uint64(len(b)-8))
			le.PutUint64(b[len(b)-8:], 0x8000)
		}, true, "more than 65536 reads"},
		{"file size", func(b []byte) { le.PutUint32(file(b)[28:], 1<<32-1) }, true, "a.json"},
		{"file offset", func(b []byte) { le.PutUint32(file(b)[24:], 1<<20) }, true, "damaged: runtime error"},
		{"fragment", func(b []byte) { le.PutUint32(file(b)[20:], 1<<31) }, true, "a.json in the image cannot be read"},
	} {
		t.Run(row.name, func(t *testing.T) {
			image := pack(t, map[string]string{dir + "/a.json": "{}"}, "-noI")
			row.forge(image)
			got, err := read(image)
			fails(t, got, err, row.none, row.want)
		})
	}
}

func TestUnsupported(t *testing.T) {
	got, err := read(pack(t, map[string]string{dir + "/a.json": "{}"}, "-comp", "lz4"))
	fails(t, got, err, true, "unsupported compression format LZ4")
}
