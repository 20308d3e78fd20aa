package budget

// memlimit of KimMachineGun/automemlimit looks at parents, too. But it ends with an
// error, and no limit at all, where the process's own group lies outside of what is
// mounted, as in some containers, or where one file of many cannot be read; here all
// that is known counts. It reads the files of the system alone, so that none of these
// cases could be tested, and needs pbnjay/memory, unchanged since 2021.

import (
	"io/fs"
	"math"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// noLimit is more than any machine has.
const noLimit = math.MaxInt64

// The kinds of file systems by which the kernel shows control groups.
const (
	version1 = "cgroup"
	version2 = "cgroup2"
)

// cgroupLimit returns the smallest limit in bytes of the memory of the control groups
// that the process is in: its own and all above it that can be seen. system is the
// root directory. What cannot be read has no limit.
//
//	/proc/self/cgroup     its own groups, a line for each hierarchy:
//	                      4:memory:/system.slice/images.service   version 1
//	                      0::/system.slice/images.service         version 2
//	/proc/self/mountinfo  where which part of a hierarchy is mounted
//
// Both are described in proc(5) and cgroups(7).
func cgroupLimit(system fs.FS) int64 {
	limit := int64(noLimit)
	eachGroup(system, func(m mount, dir string) { limit = min(limit, m.limit(system, dir)) })
	return limit
}

// eachGroup calls do for the directory of each group that the process is in.
func eachGroup(system fs.FS, do func(m mount, dir string)) {
	own := ownGroups(system)
	for _, m := range memoryMounts(system) {
		for _, dir := range m.above(own[m.kind]) {
			do(m, dir)
		}
	}
}

// Free returns how many bytes of memory the process can have, for itself and for the
// pages of files, before the system takes something from somebody: what the machine
// has available, or less where a control group's limit leaves less.
func Free() int64 { return free(os.DirFS("/")) }

func free(system fs.FS) int64 {
	least := int64(noLimit)
	for line := range strings.Lines(read(system, "proc/meminfo")) {
		if kib, ok := strings.CutPrefix(line, "MemAvailable:"); ok {
			least = min(number(strings.TrimSuffix(strings.TrimSpace(kib), " kB")), noLimit>>10) << 10
		}
	}
	eachGroup(system, func(m mount, dir string) {
		least = min(least, max(0, m.limit(system, dir)-m.used(system, dir)))
	})
	return least
}

// used returns how many bytes a directory's groups use, less the pages of files: these
// make room.
func (m mount) used(system fs.FS, dir string) int64 {
	usage, prefix := "/memory.usage_in_bytes", "total_"
	if m.kind == version2 {
		usage, prefix = "/memory.current", ""
	}
	used := number(read(system, dir+usage))
	if used == noLimit {
		return 0 // not known
	}
	for line := range strings.Lines(read(system, dir+"/memory.stat")) {
		name, bytes, _ := strings.Cut(line, " ")
		if name == prefix+"active_file" || name == prefix+"inactive_file" {
			used -= min(number(bytes), used)
		}
	}
	return used
}

// ownGroups returns the process's own groups, by kind.
func ownGroups(system fs.FS) map[string]string {
	own := make(map[string]string)
	for line := range strings.Lines(read(system, "proc/self/cgroup")) {
		fields := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		switch {
		case len(fields) < 3:
		case fields[0] == "0":
			own[version2] = fields[2]
		case has(fields[1], "memory"):
			own[version1] = fields[2]
		}
	}
	return own
}

// mount is a mounted hierarchy, or a part of one, that may limit memory.
type mount struct {
	kind  string
	root  string // the group at the top of what is mounted, "/" for that of all
	point string // where that lies, a path of an fs.FS
}

// usualMounts are what there is if mountinfo does not say.
var usualMounts = []mount{
	{version2, "/", "sys/fs/cgroup"},
	{version1, "/", "sys/fs/cgroup/memory"},
}

func memoryMounts(system fs.FS) (mounts []mount) {
	for line := range strings.Lines(read(system, "proc/self/mountinfo")) {
		before, after, _ := strings.Cut(line, " - ")
		where, what := strings.Fields(before), strings.Fields(after)
		if len(where) < 5 || len(what) < 3 {
			continue
		}
		if what[0] == version2 || what[0] == version1 && has(what[len(what)-1], "memory") {
			mounts = append(mounts, mount{what[0], unescape(where[3]), path.Join(".", unescape(where[4]))})
		}
	}
	if mounts == nil {
		return usualMounts
	}
	return mounts
}

// above returns the directories of a group and of all above it, as far as they are
// mounted. Of a group that lies elsewhere it is the top of what is mounted.
func (m mount) above(group string) (dirs []string) {
	below := strings.TrimPrefix(group, strings.TrimSuffix(m.root, "/")+"/")
	if !filepath.IsLocal(below) {
		below = "."
	}
	for dir := path.Join(m.point, below); ; dir = path.Dir(dir) {
		dirs = append(dirs, dir)
		if dir == m.point {
			return dirs
		}
	}
}

// limit returns the limit of a directory. In version 1, that of groups above may be
// known even where they are not mounted.
func (m mount) limit(system fs.FS, dir string) int64 {
	if m.kind == version2 {
		return number(read(system, dir+"/memory.max"))
	}
	limit := number(read(system, dir+"/memory.limit_in_bytes"))
	for line := range strings.Lines(read(system, dir+"/memory.stat")) {
		if above, ok := strings.CutPrefix(line, "hierarchical_memory_limit "); ok {
			limit = min(limit, number(above))
		}
	}
	return limit
}

// number returns a limit, which has none if it is "max" or no number.
func number(s string) int64 {
	n, err := strconv.ParseInt(strings.TrimSpace(s), 10, 64)
	if err != nil || n < 0 {
		return noLimit
	}
	return n
}

// read returns what is in a file of the kernel's, nothing if it cannot be read.
func read(system fs.FS, name string) string {
	b, err := fs.ReadFile(system, name)
	if err != nil {
		return ""
	}
	return string(b)
}

// has reports whether one of several words, with commas between them, is word.
func has(words, word string) bool { return slices.Contains(strings.Split(words, ","), word) }

// unescape returns a path of mountinfo as it is.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}
