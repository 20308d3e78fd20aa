package budget

import (
	"io/fs"
	"os"
	"testing"
	"testing/fstest"
)

// Mounts as /proc/self/mountinfo has them.
const (
	rootMount   = "23 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw\n"
	v2Mount     = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
	v1Mount     = "35 31 0:32 / /sys/fs/cgroup/memory rw,nosuid shared:9 master:3 - cgroup cgroup rw,memory\n"
	v1CPUMount  = "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n"
	hybridMount = "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
)

// v1None is what version 1 has for no limit, by pages of 4 KiB.
const v1None = "9223372036854771712\n"

// sealed is an fs.FS in which one file cannot be read.
type sealed struct {
	fstest.MapFS
	name string
}

func (s sealed) Open(name string) (fs.File, error) {
	if name == s.name {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrPermission}
	}
	return s.MapFS.Open(name)
}

// ReadFile would go around Open.
func (s sealed) ReadFile(name string) ([]byte, error) {
	if name == s.name {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrPermission}
	}
	return s.MapFS.ReadFile(name)
}

func TestCgroupLimit(t *testing.T) {
	const top, v1Top = "sys/fs/cgroup/", "sys/fs/cgroup/memory/"
	type tree map[string]string
	for _, row := range []struct {
		name          string
		group, mounts string // of /proc/self, no files if empty
		files         tree
		sealed        string
		want          int64
	}{
		{"version 2", "0::/a/b\n", rootMount + v2Mount, tree{top + "a/b/memory.max": "1000\n", top + "a/memory.max": "max\n"}, "", 1000},
		{"version 2, tightest in the parent", "0::/a/b/c\n", v2Mount,
			tree{top + "a/b/c/memory.max": "3000\n", top + "a/b/memory.max": "1000\n", top + "a/memory.max": "2000\n"}, "", 1000},
		{"version 2, tightest at the top", "0::/a/b\n", v2Mount, tree{top + "a/b/memory.max": "3000\n", top + "a/memory.max": "1000\n"}, "", 1000},
		{"version 2, another group", "0::/a/b\n", v2Mount, tree{top + "a/b/memory.max": "3000\n", top + "a/c/memory.max": "1000\n", top + "b/memory.max": "5\n"}, "", 3000},
		{"version 2, max", "0::/a/b\n", v2Mount, tree{top + "a/b/memory.max": "max\n", top + "a/memory.max": "max\n"}, "", noLimit},
		{"version 2, 0", "0::/a\n", v2Mount, tree{top + "a/memory.max": "0\n"}, "", 0},
		{"version 2, the group of all", "0::/\n", v2Mount, tree{top + "cgroup.procs": "1\n"}, "", noLimit},
		{"version 2, no controller below", "0::/a/b\n", v2Mount, tree{top + "a/b/cgroup.procs": "1\n", top + "a/memory.max": "1000\n"}, "", 1000},
		{"version 2, group removed", "0::/a/b (deleted)\n", v2Mount, tree{top + "a/memory.max": "1000\n"}, "", 1000},
		{"version 2, elsewhere", "0::/a\n", "30 23 0:26 / /cg rw - cgroup2 none rw\n", tree{"cg/a/memory.max": "1000\n"}, "", 1000},
		{"version 2, strange names", "0::/a b/c\\x2dd:e\n", `30 23 0:26 /a\040b /c\134g rw - cgroup2 none rw` + "\n",
			tree{`c\g/c\x2dd:e/memory.max`: "1000\n"}, "", 1000},

		{"version 1", "7:cpu,cpuacct:/x\n4:memory:/a/b\n1:name=systemd:/x\n", v1CPUMount + v1Mount, tree{v1Top + "a/b/memory.limit_in_bytes": "1000\n"}, "", 1000},
		{"version 1, tightest in the parent", "4:memory:/a/b/c\n", v1Mount,
			tree{v1Top + "a/b/c/memory.limit_in_bytes": "3000\n", v1Top + "a/b/memory.limit_in_bytes": "1000\n", v1Top + "memory.limit_in_bytes": v1None}, "", 1000},
		{"version 1, no limit", "4:memory:/a\n", v1Mount, tree{v1Top + "a/memory.limit_in_bytes": v1None, v1Top + "memory.limit_in_bytes": v1None}, "", 9223372036854771712},
		{"version 1, 2^64-1", "4:memory:/a\n", v1Mount, tree{v1Top + "a/memory.limit_in_bytes": "18446744073709551615\n"}, "", noLimit},
		{"version 1, with another controller", "4:cpu,memory:/a\n", "35 31 0:32 / /cg rw - cgroup none rw,cpu,memory\n", tree{"cg/a/memory.limit_in_bytes": "1000\n"}, "", 1000},
		{"version 1, without memory", "4:cpu:/a\n", v1CPUMount, tree{"sys/fs/cgroup/cpu/memory.limit_in_bytes": "1000\n"}, "", noLimit},
		{"version 1, container", "4:memory:/docker/a\n", "35 31 0:32 /docker/a /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n",
			tree{v1Top + "memory.limit_in_bytes": "1000\n"}, "", 1000},
		{"version 1, container, tightest out of sight", "4:memory:/pod/a\n", "35 31 0:32 /pod/a /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n",
			tree{v1Top + "memory.limit_in_bytes": "2000\n", v1Top + "memory.stat": "cache 5\nhierarchical_memory_limit 1000\nhierarchical_memsw_limit 7\n"}, "", 1000},
		{"version 1, tightest its own", "4:memory:/a\n", v1Mount,
			tree{v1Top + "a/memory.limit_in_bytes": "1000\n", v1Top + "a/memory.stat": "hierarchical_memory_limit 2000\n"}, "", 1000},

		{"hybrid", "4:memory:/a\n0::/b\n", v1Mount + hybridMount,
			tree{v1Top + "a/memory.limit_in_bytes": "1000\n", v1Top + "b/memory.limit_in_bytes": "5\n", "sys/fs/cgroup/unified/b/cgroup.procs": "1\n"}, "", 1000},
		{"hybrid, memory in version 2", "4:cpu:/a\n0::/b\n", v1CPUMount + hybridMount, tree{"sys/fs/cgroup/unified/b/memory.max": "1000\n"}, "", 1000},

		{"namespace", "0::/\n", v2Mount, tree{top + "memory.max": "1000\n"}, "", 1000},
		{"namespace, own group outside of it", "0::/../../x\n", v2Mount, tree{top + "memory.max": "1000\n", "x/memory.max": "5\n", top + "x/memory.max": "6\n"}, "", 1000},
		{"namespace, mount of before it", "0::/x\n", "30 23 0:26 /../.. /sys/fs/cgroup rw - cgroup2 none rw\n", tree{top + "memory.max": "1000\n", top + "x/memory.max": "5\n"}, "", 1000},
		{"mount of another group", "0::/ab/c\n", "30 23 0:26 /a /sys/fs/cgroup rw - cgroup2 none rw\n", tree{top + "memory.max": "1000\n", top + "b/c/memory.max": "5\n"}, "", 1000},
		{"mount of a parent", "0::/a/b/c\n", "30 23 0:26 /a /sys/fs/cgroup rw - cgroup2 none rw\n", tree{top + "memory.max": "3000\n", top + "b/memory.max": "2000\n", top + "b/c/memory.max": "1000\n"}, "", 1000},
		{"mounted at the root", "0::/a\n", "30 23 0:26 / / rw - cgroup2 none rw\n", tree{"a/memory.max": "1000\n"}, "", 1000},
		{"mounted twice", "0::/a\n", "30 23 0:26 /a /x rw - cgroup2 none rw\n" + v2Mount, tree{"x/memory.max": "3000\n", top + "a/memory.max": "3000\n", top + "memory.max": "1000\n"}, "", 1000},

		{"no control groups", "", rootMount, nil, "", noLimit},
		{"no proc", "", "", nil, "", noLimit},
		{"no proc, version 2", "", "", tree{top + "memory.max": "1000\n"}, "", 1000},
		{"no proc, version 1", "", "", tree{v1Top + "memory.limit_in_bytes": "1000\n"}, "", 1000},
		{"no group", "", v2Mount, tree{top + "memory.max": "1000\n", top + "a/memory.max": "5\n"}, "", 1000},
		{"no mountinfo", "0::/a\n", "", tree{top + "memory.max": "2000\n", top + "a/memory.max": "1000\n"}, "", 1000},
		{"unreadable", "0::/a\n", v2Mount, tree{top + "a/memory.max": "1000\n", top + "memory.max": "2000\n"}, top + "a/memory.max", 2000},
		{"unreadable group", "0::/a\n", v2Mount, tree{top + "a/memory.max": "1000\n", top + "memory.max": "2000\n"}, "proc/self/cgroup", 2000},
		{"unreadable stat", "4:memory:/\n", v1Mount, tree{v1Top + "memory.limit_in_bytes": "1000\n", v1Top + "memory.stat": "hierarchical_memory_limit 5\n"}, v1Top + "memory.stat", 1000},
		{"rubbish", "0\n\n::\nx:memory\n", "x\n - \n1 2 3 4 5 - \n1 2 3 4 5 - cgroup2\n - cgroup2 x y\n" + v2Mount, tree{top + "memory.max": "-5\n"}, "", noLimit},
		{"rubbish in a limit", "0::/a\n", v2Mount, tree{top + "memory.max": "", top + "a/memory.max": "1000 bytes\n"}, "", noLimit},
		{"no end of line", "0::/a", v2Mount[:len(v2Mount)-1], tree{top + "a/memory.max": "1000"}, "", 1000},
	} {
		t.Run(row.name, func(t *testing.T) {
			system := sealed{make(fstest.MapFS), row.sealed}
			for name, content := range row.files {
				system.MapFS[name] = &fstest.MapFile{Data: []byte(content)}
			}
			for name, content := range map[string]string{"proc/self/cgroup": row.group, "proc/self/mountinfo": row.mounts} {
				if content != "" {
					system.MapFS[name] = &fstest.MapFile{Data: []byte(content)}
				}
			}
			if got := cgroupLimit(system); got != row.want {
				t.Errorf("got %d, want %d", got, row.want)
			}
		})
	}
}

// This machine has some limit, or none.
func TestCgroupLimitOfMachine(t *testing.T) {
	if got := cgroupLimit(os.DirFS("/")); got < 1<<20 {
		t.Errorf("got %d", got)
	}
}

// What is free is what the tightest of the machine and its groups leaves, the pages of
// files not counted.
func TestFree(t *testing.T) {
	const v1, v2 = "sys/fs/cgroup/memory/", "sys/fs/cgroup/"
	type tree map[string]string
	for _, row := range []struct {
		name, group, mounts string
		files               tree
		want                int64
	}{
		{"nothing is known", "", "", nil, noLimit},
		{"the machine", "0::/\n", v2Mount, tree{"proc/meminfo": "MemTotal:  9 kB\nMemFree: 1 kB\nMemAvailable:   5 kB\n"}, 5 << 10},
		{"no number", "0::/\n", v2Mount, tree{"proc/meminfo": "MemAvailable:\n"}, noLimit >> 10 << 10},
		{"version 2", "0::/a\n", v2Mount, tree{
			"proc/meminfo": "MemAvailable: 5 kB\n", v2 + "a/memory.max": "1000\n", v2 + "a/memory.current": "900\n",
			v2 + "a/memory.stat": "anon 5\nfile 600\ninactive_file 500\nactive_file 100\n"}, 700},
		{"version 2, the parent", "0::/a/b\n", v2Mount, tree{
			v2 + "a/memory.max": "1000\n", v2 + "a/memory.current": "900\n", v2 + "a/b/memory.max": "800\n", v2 + "a/b/memory.current": "10\n"}, 100},
		{"version 2, no limit", "0::/a\n", v2Mount, tree{v2 + "a/memory.max": "max\n", v2 + "a/memory.current": "900\n", "proc/meminfo": "MemAvailable: 5 kB"}, 5 << 10},
		{"version 2, more than the limit", "0::/a\n", v2Mount, tree{v2 + "a/memory.max": "1000\n", v2 + "a/memory.current": "1900\n"}, 0},
		{"version 2, more pages than memory", "0::/a\n", v2Mount, tree{
			v2 + "a/memory.max": "1000\n", v2 + "a/memory.current": "100\n", v2 + "a/memory.stat": "inactive_file 500\n"}, 1000},
		{"version 1", "4:memory:/a\n", v1Mount, tree{
			v1 + "a/memory.limit_in_bytes": "1000\n", v1 + "a/memory.usage_in_bytes": "900\n",
			v1 + "a/memory.stat": "inactive_file 1\nhierarchical_memory_limit 1000\ntotal_inactive_file 500\ntotal_active_file 100\n"}, 700},
		{"usage not known", "4:memory:/a\n", v1Mount, tree{v1 + "a/memory.limit_in_bytes": "1000\n"}, 1000},
	} {
		system := make(fstest.MapFS)
		for name, content := range row.files {
			system[name] = &fstest.MapFile{Data: []byte(content)}
		}
		system["proc/self/cgroup"] = &fstest.MapFile{Data: []byte(row.group)}
		system["proc/self/mountinfo"] = &fstest.MapFile{Data: []byte(row.mounts)}
		if got := free(system); got != row.want {
			t.Errorf("%s: %d, want %d", row.name, got, row.want)
		}
	}
	if got := Free(); got < 1<<20 {
		t.Errorf("this machine has %d", got)
	}
}
