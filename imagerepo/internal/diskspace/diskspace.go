// Package diskspace reports how much room a directory has, and how much of it a file
// takes.
package diskspace

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"math/bits"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"puavo-image-repository/imagerepo/atomicfile"
)

// Free returns how many bytes can still be written in a directory without the
// privileges of root.
func Free(dir atomicfile.Dir) (int64, error) {
	f, err := dir.OpenDir(".")
	if err != nil {
		return 0, err
	}
	defer f.Close()
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &st); err != nil {
		return 0, fmt.Errorf("room in %s: %w", dir.Name(), err)
	}
	unit := st.Frsize
	if unit == 0 {
		unit = st.Bsize
	}
	high, low := bits.Mul64(st.Bavail, uint64(unit))
	if high != 0 || low > math.MaxInt64 { // some network file systems claim so
		return math.MaxInt64, nil
	}
	return int64(low), nil
}

// Existing returns a directory, or the nearest above it that is there: it will be made in
// that.
func Existing(dir string) string {
	for {
		if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) || dir == filepath.Dir(dir) {
			return dir
		}
		dir = filepath.Dir(dir)
	}
}

// Used returns how many bytes of the disk a file takes, 0 if it does not exist.
// Holes take none.
func Used(dir atomicfile.Dir, file string) int64 {
	info, err := dir.Lstat(file)
	if err != nil {
		return 0
	}
	if sys, ok := info.Sys().(*syscall.Stat_t); ok {
		return sys.Blocks * 512
	}
	return info.Size()
}
