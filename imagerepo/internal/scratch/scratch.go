// Package scratch makes directories for documents that are of no use after this process.
//
//	TMPDIR/puavo-<what>-<process>-<random>/lock  held while the process uses the directory
//	                                      /files the directory
//
// A process that is killed cannot remove its own: the next that makes one for the same
// purpose, or calls Clean, removes those of this user whose lock is free and whose process
// has ended. The number of the process protects a directory whose lock is not taken yet; the
// lock protects those of processes in other containers, and it counts after another process
// has got the number.
package scratch

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/lockfile"
)

const (
	lock  = "lock"
	files = "files"
)

// prefix returns how the names of directories for a purpose begin.
func prefix(what string) string { return "puavo-" + what + "-" }

// Make makes a directory, of which what says what it is for: one word. Whoever calls it calls
// remove in the end. It calls Clean first, whose error does not matter to it.
func Make(what string) (dir string, remove func() error, err error) {
	_ = Clean(what)
	parent, err := atomicfile.Open(os.TempDir())
	if err != nil {
		return "", nil, err
	}
	whole, err := os.MkdirTemp(os.TempDir(), fmt.Sprintf("%s%d-", prefix(what), os.Getpid()))
	if err != nil {
		return "", nil, errors.Join(err, parent.Close())
	}
	name := filepath.Base(whole)
	held, err := lockfile.Acquire(whole, lock)
	if err == nil {
		err = parent.Mkdir(filepath.Join(name, files), 0o700)
	}
	remove = func() error {
		err := parent.RemoveAll(name)
		if held != nil {
			err = errors.Join(err, held.Release())
		}
		return errors.Join(err, parent.Close())
	}
	if err != nil {
		return "", nil, errors.Join(err, remove())
	}
	return filepath.Join(whole, files), remove, nil
}

// Clean removes what processes have left that are gone.
func Clean(what string) error {
	parent, err := atomicfile.Open(os.TempDir())
	if err != nil {
		return err
	}
	defer parent.Close()
	entries, err := fs.ReadDir(parent.FS(), ".")
	if err != nil {
		return err
	}
	for _, e := range entries {
		rest, ours := strings.CutPrefix(e.Name(), prefix(what))
		if ours && isLeft(e, rest) {
			err = errors.Join(err, parent.RemoveAll(e.Name()))
		}
	}
	return err
}

// isLeft reports whether an entry of TMPDIR is a directory of this user that no process uses;
// rest is its name after the prefix.
func isLeft(e fs.DirEntry, rest string) bool {
	info, err := e.Info()
	if err != nil || !info.IsDir() {
		return false
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); !ok || int64(stat.Uid) != int64(os.Geteuid()) {
		return false
	}
	number, _, _ := strings.Cut(rest, "-")
	process, err := strconv.Atoi(number)
	if err != nil || !errors.Is(unix.Kill(process, 0), unix.ESRCH) {
		return false
	}
	_, held := lockfile.Holder(filepath.Join(os.TempDir(), e.Name()), lock)
	return !held
}
