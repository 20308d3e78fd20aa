// Package memory bounds the memory that a command may use, the page cache with it,
// by a control group, and empties the page cache of files.
package memory

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ErrNoGroup tells that no control group can be made here: the process is not root,
// or the machine or the container does not let it.
var ErrNoGroup = errors.New("no control group of memory can be made; run this as root, on a machine or in a container that lets root make one")

// hierarchy is where control groups of memory are made.
type hierarchy struct {
	dir string
	v2  bool
}

// hierarchyOf finds it in the text of /proc/self/mountinfo, whose fields are
//
//	36 35 98:0 /root /mount/point options - type source options
//
// Where both versions are mounted, memory is controlled by the first one, if it is
// mounted with memory, since a controller belongs to one of them.
func hierarchyOf(mountinfo string) (found hierarchy, err error) {
	for line := range strings.Lines(mountinfo) {
		before, after, _ := strings.Cut(line, " - ")
		place, kind := strings.Fields(before), strings.Fields(after)
		if len(place) < 5 || len(kind) < 3 {
			continue
		}
		switch {
		case kind[0] == "cgroup" && slices.Contains(strings.Split(kind[2], ","), "memory"):
			return hierarchy{dir: place[4]}, nil
		case kind[0] == "cgroup2":
			found = hierarchy{dir: place[4], v2: true}
		}
	}
	if found.dir == "" {
		return found, fmt.Errorf("%w: none is mounted", ErrNoGroup)
	}
	return found, nil
}

// Group is a control group of memory. It is removed with Remove.
type Group struct {
	dir string
	v2  bool
}

// NewGroup makes a control group that may use limit bytes of memory, page cache
// included, and no swap where that can be said. The error is ErrNoGroup if this
// process may not.
func NewGroup(name string, limit int64) (*Group, error) {
	mountinfo, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	h, err := hierarchyOf(string(mountinfo))
	if err != nil {
		return nil, err
	}
	return h.group(name, limit)
}

func (h hierarchy) group(name string, limit int64) (*Group, error) {
	g := &Group{dir: filepath.Join(h.dir, name), v2: h.v2}
	if h.v2 {
		if err := write(h.dir, "cgroup.subtree_control", "+memory"); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrNoGroup, err)
		}
	}
	if err := os.Mkdir(g.dir, 0o755); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoGroup, err)
	}
	file := "memory.limit_in_bytes"
	if g.v2 {
		file = "memory.max"
		write(g.dir, "memory.swap.max", "0") // not there without swap
	}
	if err := write(g.dir, file, strconv.FormatInt(limit, 10)); err != nil {
		g.Remove()
		return nil, fmt.Errorf("%w: %w", ErrNoGroup, err)
	}
	return g, nil
}

// write writes into a control file, which is there.
func write(dir, file, text string) error {
	f, err := os.OpenFile(filepath.Join(dir, file), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// Command returns a command that runs in the group from its first instruction on:
// a shell enters the group and becomes the command.
func (g *Group) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	enter := []string{"-c", `echo $$ >"$0" && exec "$@"`, filepath.Join(g.dir, "cgroup.procs"), name}
	return exec.CommandContext(ctx, "sh", append(enter, args...)...)
}

// Peak returns the most memory that the group has used, in bytes, page cache
// included; 0 if the kernel does not tell.
func (g *Group) Peak() int64 {
	file := "memory.max_usage_in_bytes"
	if g.v2 {
		file = "memory.peak"
	}
	text, err := os.ReadFile(filepath.Join(g.dir, file))
	if err != nil {
		return 0
	}
	n, _ := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	return n
}

// Remove removes the group, whose commands have ended; the kernel may take a moment
// to notice that.
func (g *Group) Remove() (err error) {
	for range 100 {
		if err = os.Remove(g.dir); err == nil || errors.Is(err, os.ErrNotExist) {
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return err
}
