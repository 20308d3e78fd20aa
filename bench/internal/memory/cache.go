package memory

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ReadAhead returns how many bytes the system reads at most around a byte of a file that
// it must fetch from the disk: 128 KiB on most. That is set for each disk.
func ReadAhead(path string) (int64, error) {
	var info unix.Stat_t
	if err := unix.Stat(path, &info); err != nil {
		return 0, fmt.Errorf("%s: %w", path, err)
	}
	setting := fmt.Sprintf("/sys/class/bdi/%d:%d/read_ahead_kb", unix.Major(info.Dev), unix.Minor(info.Dev))
	text, err := os.ReadFile(setting)
	if err != nil {
		return 0, fmt.Errorf("read-ahead of the disk of %s: %w", path, err)
	}
	kib, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", setting, err)
	}
	return kib << 10, nil
}

// Drop writes files to the disk and drops them from the page cache, so that who reads
// them next reads them from the disk. It is an error if some are still there, since
// another process has mapped them. Unlike /proc/sys/vm/drop_caches it needs no
// root, and leaves what others have read.
func Drop(paths []string) error {
	for _, path := range paths {
		if err := drop(path); err != nil {
			return fmt.Errorf("page cache of %s: %w", path, err)
		}
	}
	return nil
}

func drop(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		return err
	}
	if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
		return err
	}
	pages, err := cached(f)
	if err == nil && pages > 0 {
		err = fmt.Errorf("%d pages are still there; end what has mapped it, or copy it to a disk file system", pages)
	}
	return err
}

// cached returns how many pages of a file the page cache has.
func cached(f *os.File) (pages int, err error) {
	info, err := f.Stat()
	if err != nil || info.Size() == 0 {
		return 0, err
	}
	mapped, err := unix.Mmap(int(f.Fd()), 0, int(info.Size()), unix.PROT_NONE, unix.MAP_SHARED)
	if err != nil {
		return 0, err
	}
	defer unix.Munmap(mapped)
	states := make([]byte, (len(mapped)+os.Getpagesize()-1)/os.Getpagesize())
	if _, _, errno := unix.Syscall(unix.SYS_MINCORE, uintptr(unsafe.Pointer(unsafe.SliceData(mapped))), uintptr(len(mapped)),
		uintptr(unsafe.Pointer(unsafe.SliceData(states)))); errno != 0 {
		return 0, errno
	}
	for _, s := range states {
		pages += int(s & 1)
	}
	return pages, nil
}
