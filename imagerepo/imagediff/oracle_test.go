package imagediff

import (
	"bytes"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"puavo-image-repository/testdata"
)

// squash makes an image of a tree.
func squash(t *testing.T, tree string, options ...string) string {
	t.Helper()
	image := filepath.Join(t.TempDir(), "image")
	testdata.Run(t, "mksquashfs", append([]string{tree, image, "-noappend", "-no-progress", "-quiet"}, options...)...)
	return image
}

// do fails the test for the first error.
func do(t *testing.T, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// noise returns n bytes that compress to about a half.
func noise(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = 'a' + byte(rand.IntN(16))
	}
	return b
}

// trees makes two trees, of which the second is a changed copy of the first.
func trees(t *testing.T) (older, newer string) {
	t.Helper()
	older, newer = filepath.Join(t.TempDir(), "older"), filepath.Join(t.TempDir(), "newer")
	write := func(tree, name string, data []byte) {
		do(t, os.MkdirAll(filepath.Dir(filepath.Join(tree, name)), 0o755), os.WriteFile(filepath.Join(tree, name), data, 0o644))
	}
	changed := func(data []byte, at int) []byte {
		data = slices.Clone(data)
		data[at]++
		return data
	}
	sizes := []int{0, 1, 4095, 4096, 4097, 300_000, 131072, 131073, 1<<20 + 7}
	for _, n := range sizes[:testdata.Scale(len(sizes), 6)] {
		data := noise(n)
		for _, tree := range []string{older, newer} {
			write(tree, fmt.Sprintf("same/%d", n), data)
			write(tree, fmt.Sprintf("same/zeros%d", n), make([]byte, n))
			write(tree, fmt.Sprintf("same/half%d", n), append(make([]byte, n), data...))
		}
		write(older, fmt.Sprintf("longer/%d", n), data)
		write(newer, fmt.Sprintf("longer/%d", n), append(slices.Clone(data), 0))
		write(older, fmt.Sprintf("removed/%d", n), data)
		write(newer, fmt.Sprintf("added/%d/%d", n, n), data)
		if n > 0 {
			for i, at := range []int{0, n / 2, n - 1} {
				write(older, fmt.Sprintf("byte/%d.%d", n, i), data)
				write(newer, fmt.Sprintf("byte/%d.%d", n, i), changed(data, at))
				write(older, fmt.Sprintf("zero/%d.%d", n, i), make([]byte, n))
				write(newer, fmt.Sprintf("zero/%d.%d", n, i), changed(make([]byte, n), at))
			}
		}
	}
	for i := range 300 { // so that fragments are cut elsewhere
		small := noise(1 + rand.IntN(2000))
		write(older, fmt.Sprintf("small/%d", i), small)
		if i%50 != 7 {
			write(newer, fmt.Sprintf("small/%d", i), small)
		}
		write(older, "a-b/x", nil) // sorts elsewhere as a path than as a name
		write(newer, "a/x", nil)
		write(newer, "a-b/x", nil)
	}
	for _, tree := range []string{older, newer} {
		is := func(name string) string { return filepath.Join(tree, name) }
		value := "older"
		if tree == newer {
			value = "newer"
		}
		do(t, os.Symlink("same", is("link")), os.Symlink(value, is("target")), os.Symlink("/absolute/"+value, is("absolute")),
			syscall.Mkfifo(is("pipe"), 0o600))
		write(tree, "mode", noise(5000)[:0])
		write(tree, "both", []byte(value))
		write(tree, strings.Repeat("long", 60), []byte(value))
		write(tree, "späce and\nnewline", []byte(value))
	}
	is := func(name string) string { return filepath.Join(newer, name) }
	do(t, os.Chmod(is("mode"), 0o4711), os.Chmod(is("both"), 0o600), os.Chmod(is("same"), 0o700|fs.ModeSticky), os.Chmod(is("pipe"), 0o644))
	do(t, os.Symlink("x", is("type")), os.WriteFile(filepath.Join(older, "type"), noise(99), 0o644))
	do(t, os.WriteFile(is("emptied"), nil, 0o644), os.MkdirAll(filepath.Join(older, "emptied/below"), 0o755), os.MkdirAll(is("filled/below"), 0o755),
		os.Symlink("nowhere", filepath.Join(older, "filled")))
	if os.Geteuid() == 0 {
		for i, tree := range []string{older, newer} {
			is := func(name string) string { return filepath.Join(tree, name) }
			do(t, syscall.Mknod(is("null"), syscall.S_IFCHR|0o666, 1<<8|3), syscall.Mknod(is("changed"), syscall.S_IFBLK|0o660, 8<<8|i),
				syscall.Mknod(is("large"), syscall.S_IFBLK|0o660, 259<<8|0x12<<20|i), os.Lchown(is("link"), 7*i, 70_000*i), os.Lchown(is("both"), 1000*i, 0))
		}
	}
	return older, newer
}

// unsquashed returns what unsquashfs makes of an image.
func unsquashed(t *testing.T, image string) string {
	t.Helper()
	tree := filepath.Join(t.TempDir(), "tree")
	testdata.Run(t, "unsquashfs", "-no-progress", "-d", tree, image)
	return tree
}

// entries returns all that is in a tree, as the system says it, by path.
func entries(t *testing.T, tree string) map[string]File {
	t.Helper()
	all := make(map[string]File)
	do(t, filepath.WalkDir(tree, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var s syscall.Stat_t
		do(t, syscall.Lstat(path, &s))
		f := File{Mode: fmt.Sprintf("%04o", s.Mode&0o7777), User: s.Uid, Group: s.Gid}
		major, minor := s.Rdev>>8&0xfff, s.Rdev&0xff|s.Rdev>>12&0xfff00
		switch s.Mode & syscall.S_IFMT {
		case syscall.S_IFDIR:
			f.Type = "directory"
		case syscall.S_IFREG:
			f.Type, f.Size = "file", uint64(s.Size)
		case syscall.S_IFLNK:
			f.Type = "link"
			f.Target, err = os.Readlink(path)
		case syscall.S_IFBLK:
			f.Type, f.Device = "block device", fmt.Sprintf("%d:%d", major, minor)
		case syscall.S_IFCHR:
			f.Type, f.Device = "character device", fmt.Sprintf("%d:%d", major, minor)
		case syscall.S_IFIFO:
			f.Type = "pipe"
		}
		name, _ := filepath.Rel(tree, path)
		all[filepath.Clean("/"+name)] = f
		return err
	}))
	return all
}

// differing returns the paths of files that diff finds to have other bytes.
func differing(t *testing.T, older, newer string) map[string]bool {
	t.Helper()
	cmd := exec.Command("diff", "-rq", "--no-dereference", older, newer)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	out, err := cmd.Output()
	if cmd.ProcessState.ExitCode() != 1 {
		t.Fatal(err)
	}
	all := make(map[string]bool)
	for line := range strings.SplitSeq(string(out), "\nFiles ") {
		name, _, found := strings.Cut(strings.TrimPrefix(line, "Files "), " and "+newer)
		if found {
			all[strings.TrimPrefix(name, older)] = true
		}
	}
	return all
}

// expected returns the changes between two trees.
func expected(t *testing.T, older, newer string) map[string]string {
	t.Helper()
	left, right, other := entries(t, older), entries(t, newer), differing(t, older, newer)
	all := make(map[string]string)
	for name, a := range left {
		b, both := right[name]
		if !both {
			all[name] = "removed " + outline(&a, nil)
			continue
		}
		var what []string
		for is, changed := range map[string]bool{
			"1type": a.Type != b.Type, "2content": a.Type == b.Type && other[name], "3target": a.Type == b.Type && a.Target != b.Target,
			"4device": a.Type == b.Type && a.Device != b.Device, "5mode": a.Mode != b.Mode && a.Type != "link" && b.Type != "link", "6owner": a.User != b.User || a.Group != b.Group,
		} {
			if changed {
				what = append(what, is)
			}
		}
		if slices.Sort(what); len(what) > 0 {
			for i := range what {
				what[i] = what[i][1:]
			}
			all[name] = fmt.Sprintf("changed %s %s", what, outline(&a, &b))
		}
	}
	for name, b := range right {
		if _, both := left[name]; !both {
			all[name] = "added " + outline(nil, &b)
		}
	}
	return all
}

func outline(a, b *File) string {
	var text bytes.Buffer
	for _, f := range []*File{a, b} {
		if f != nil {
			fmt.Fprintf(&text, "%+v ", *f)
		}
	}
	return text.String()
}

// compared returns the changes between two images, and checks their order.
func compared(t *testing.T, older, newer string) (all map[string]string, same int) {
	t.Helper()
	all = make(map[string]string)
	var order []string
	same, err := Compare(t.Context(), older, newer, func(c Change) error {
		order = append(order, strings.ReplaceAll(c.Path, "/", "\x00"))
		text := string(c.Kind) + " "
		if c.Kind == Changed {
			text = fmt.Sprintf("changed %s ", c.What)
		}
		all[c.Path] = text + outline(c.Old, c.New)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.IsSorted(order) || len(slices.Compact(order)) != len(all) {
		t.Errorf("the order is %q", order)
	}
	return all, same
}

// The changes are those that diff and the system find in what unsquashfs makes of the
// images, whatever these are compressed with.
func TestOracle(t *testing.T) {
	testdata.Tool(t, "mksquashfs")
	testdata.Tool(t, "unsquashfs")
	older, newer := trees(t)
	var want map[string]string
	const gzip, lzo, zstd = "-comp gzip -Xcompression-level 1", "-comp lzo -Xalgorithm lzo1x_1", "-comp zstd -Xcompression-level 1"
	cases := [][2]string{
		{gzip, gzip}, {lzo, lzo}, {"-comp xz", "-comp xz"}, {"-comp lz4", "-comp lz4"}, {zstd, zstd},
		{gzip + " -b 4K", gzip + " -b 1M"}, {gzip + " -b 128K", zstd + " -b 128K"}, {zstd + " -no-fragments", zstd + " -always-use-fragments"},
		{"-comp lz4 -noI -noD -noF", "-comp xz -noD"}, {gzip + " -no-sparse -no-duplicates", gzip + " -b 8K"},
	}
	for i, c := range cases {
		if i >= 5 && i%testdata.Scale(1, 4) != 1%testdata.Scale(1, 4) {
			continue
		}
		a, b := squash(t, older, strings.Fields(c[0])...), squash(t, newer, strings.Fields(c[1])...)
		if want == nil {
			want = expected(t, unsquashed(t, a), unsquashed(t, b))
			if len(want) < 70 {
				t.Fatalf("only %d changes", len(want))
			}
		}
		got, same := compared(t, a, b)
		for name := range want {
			if got[name] != want[name] {
				t.Errorf("%s: %q: %s\nwant %s", c, name, got[name], want[name])
			}
		}
		for name := range got {
			if want[name] == "" {
				t.Errorf("%s: %q: %s\nwant nothing", c, name, got[name])
			}
		}
		if again, all := compared(t, a, a); len(again) > 0 || all <= same {
			t.Errorf("%s: %d changes to itself, and %d the same, of %d", c, len(again), all, same)
		}
	}
}

// Small files whose fragments are alike are not the same where they lie elsewhere in them,
// and fragments are compared each for itself.
func TestFragments(t *testing.T) {
	tree := func(files map[string][]byte) string {
		dir := t.TempDir()
		for name, data := range files {
			do(t, os.WriteFile(filepath.Join(dir, name), data, 0o644))
		}
		return squash(t, dir, "-all-root", "-b", "4K")
	}
	first, second := noise(1000), noise(1000)
	for _, c := range []struct {
		name       string
		older, now map[string][]byte
		want       []string
	}{
		{"elsewhere in a fragment that is alike", map[string][]byte{"a": first, "b": second}, map[string][]byte{"b": first, "c": second}, []string{"/a", "/b", "/c"}},
		{"the second fragment is another", map[string][]byte{"a": append(first, make([]byte, 2500)...), "b": second}, map[string][]byte{"a": append(first, make([]byte, 2500)...), "b": noise(1000)}, []string{"/b"}},
		{"the first fragment is another", map[string][]byte{"a": append(first, make([]byte, 2500)...), "b": second}, map[string][]byte{"a": append(first, make([]byte, 2499)...), "b": second}, []string{"/a"}},
	} {
		all, _ := compared(t, tree(c.older), tree(c.now))
		delete(all, "/") // of which the mode is that of a temporary directory
		if got := slices.Sorted(maps.Keys(all)); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}
