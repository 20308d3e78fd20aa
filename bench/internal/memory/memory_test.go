package memory

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestHierarchyOf(t *testing.T) {
	const (
		one   = "36 32 0:30 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory\n"
		cpu   = "35 32 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu,cpuacct\n"
		two   = "42 25 0:39 / /sys/fs/cgroup rw,relatime - cgroup2 cgroup2 rw,nsdelegate\n"
		other = "22 1 254:0 / / rw - ext4 /dev/vda rw,memory\n"
	)
	for _, c := range []struct {
		name, text string
		want       hierarchy
	}{
		{"the first version", other + cpu + one, hierarchy{"/sys/fs/cgroup/memory", false}},
		{"the second", other + two, hierarchy{"/sys/fs/cgroup", true}},
		{"both", two + one, hierarchy{"/sys/fs/cgroup/memory", false}},
		{"the second, and the first without memory", two + cpu, hierarchy{"/sys/fs/cgroup", true}},
		{"none", other + "nonsense\n", hierarchy{}},
	} {
		got, err := hierarchyOf(c.text)
		if got != c.want || (c.want.dir == "") != errors.Is(err, ErrNoGroup) {
			t.Errorf("%s: %+v, %v", c.name, got, err)
		}
	}
}

// The files of both versions, in a directory that is no real hierarchy: a group's
// directory has no files there, so its limit cannot be set, and it is removed.
func TestGroupRefused(t *testing.T) {
	dir := t.TempDir()
	for _, v2 := range []bool{false, true} {
		if v2 {
			if _, err := (hierarchy{dir, true}).group("a", 1<<20); !errors.Is(err, ErrNoGroup) || !strings.Contains(err.Error(), "subtree_control") {
				t.Errorf("without subtree_control: %v", err)
			}
			if err := os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), nil, 0o666); err != nil {
				t.Fatal(err)
			}
		}
		want := map[bool]string{false: "memory.limit_in_bytes", true: "memory.max"}[v2]
		if _, err := (hierarchy{dir, v2}).group("a", 1<<20); !errors.Is(err, ErrNoGroup) || !strings.Contains(err.Error(), want) {
			t.Errorf("v2 %v: %v", v2, err)
		}
		if _, err := os.Stat(filepath.Join(dir, "a")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the group is left: %v", err)
		}
	}
}

// A command in a group knows its bound: the kernel counts it there.
func TestGroup(t *testing.T) {
	const limit = 64 << 20
	g, err := NewGroup("bench-memory-test", limit)
	if errors.Is(err, ErrNoGroup) {
		t.Skip(err)
	} else if err != nil {
		t.Fatal(err)
	}
	defer g.Remove()
	out, err := g.Command(t.Context(), "sh", "-c", "head -c 20000000 /dev/zero | tail -c 20000000 | wc -c; cat /proc/self/cgroup").CombinedOutput()
	if err != nil || !strings.HasPrefix(string(out), "20000000\n") || !strings.Contains(string(out), "bench-memory-test") {
		t.Errorf("%v\n%s", err, out)
	}
	if peak := g.Peak(); peak != 0 && (peak < 20e6 || peak > limit) {
		t.Errorf("a peak of %d bytes", peak)
	}
	// More than there is: the kernel ends tail, or swaps.
	g.Command(t.Context(), "sh", "-c", "head -c 200000000 /dev/zero | tail -c 200000000 | wc -c").Run()
	if peak := g.Peak(); peak > limit {
		t.Errorf("a peak of %d bytes, of %d", peak, limit)
	}
	if err := g.Remove(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(g.dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the group is left: %v", err)
	}
}

func TestDrop(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, make([]byte, 1<<20), 0o666); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if pages, err := cached(f); err != nil || pages != 1<<20/os.Getpagesize() {
		t.Errorf("%d pages of what was just written, %v", pages, err)
	}
	var fs unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &fs); err != nil || fs.Type == unix.TMPFS_MAGIC {
		t.Skip("the page cache is all that a tmpfs has")
	}
	if err := Drop([]string{path}); err != nil {
		t.Fatal(err)
	}
	if pages, err := cached(f); err != nil || pages != 0 {
		t.Errorf("%d pages after it, %v", pages, err)
	}
	if err := Drop([]string{path, "no/such"}); err == nil || !strings.Contains(err.Error(), "no/such") {
		t.Errorf("no such file: %v", err)
	}
}

// The read-ahead is that of the disk on which a file is.
func TestReadAhead(t *testing.T) {
	for _, c := range []struct {
		path  string
		fails bool
	}{
		{t.TempDir(), false},
		{"/nowhere", true},
		{"/proc/self/status", true}, // on no disk
	} {
		if n, err := ReadAhead(c.path); (err != nil) != c.fails || err == nil && (n < 0 || n%1024 != 0) {
			t.Errorf("%s: %d, %v", c.path, n, err)
		}
	}
}
