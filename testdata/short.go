package testdata

import (
	"flag"
	"os"
	"syscall"
	"testing"
)

// Short returns how often a test tries something, or how much of it: all, or a part where
// only the short tests run. See Scale, which returns the part under the race detector too.
func Short(all, part int) int {
	if testing.Short() {
		return part
	}
	return all
}

// InMemory has tests keep their temporary files in memory where only the short ones run,
// because these wait most of the time for flushes of a disk. It does so if there is room, and
// TMPDIR says nothing else. TestMain calls it, and remove in the end.
func InMemory() (remove func()) {
	const shared, room, noExec = "/dev/shm", 2 << 30, 8
	flag.Parse()
	var s syscall.Statfs_t
	if !testing.Short() || os.Getenv("TMPDIR") != "" || syscall.Statfs(shared, &s) != nil ||
		s.Bavail*uint64(s.Bsize) < room || s.Flags&noExec != 0 {
		return func() {}
	}
	dir, err := os.MkdirTemp(shared, "short")
	if err != nil {
		return func() {}
	}
	os.Chmod(dir, 0o755) // tests have other users look at files
	os.Setenv("TMPDIR", dir)
	return func() { os.RemoveAll(dir) }
}
