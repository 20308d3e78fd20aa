// Package mmap handles memory that is not Go's: mapped files, which package delta
// takes as bytes, and tables outside Go's heap. Package delta itself knows no
// files.
//
// Any number of goroutines may read the same mapped bytes. Whoever maps or
// allocates memory frees it, once, when nobody reads it any more: a later read is a
// fault, or returns what has that address by then.
package mmap

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// Open maps a whole file for reading and returns its bytes, and a function that
// ends their use, which the caller calls. The bytes are those of the file at the
// time they are looked at; beyond the end of a file that became shorter, looking
// is a fault, see Guard. An empty file has no bytes, and to unmap it does nothing.
// What is no regular file is an error; a pipe is not waited at.
func Open(path string) (data []byte, unmap func() error, err error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	return Map(f)
}

var errNotRegular = errors.New("it is not a regular file")

// Map does what Open does for an open file, which stays the caller's and may be
// closed afterwards. It maps from the file's start, wherever that is read.
func Map(f *os.File) (data []byte, unmap func() error, err error) {
	info, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, nil, &fs.PathError{Op: "map", Path: f.Name(), Err: errNotRegular}
	}
	if info.Size() == 0 {
		return nil, func() error { return nil }, nil
	}
	data, err = unix.Mmap(int(f.Fd()), 0, int(info.Size()), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, nil, fmt.Errorf("mapping %s: %w", f.Name(), err)
	}
	return data, func() error { return unix.Munmap(data) }, nil
}

// Forget takes the first n mapped bytes, less those of the last page begun, out of
// this process's memory, for those that will hardly be looked at again. data is
// what Open or Map returned. The bytes do not change: the next read of one fetches
// it again, so others may read them concurrently.
func Forget(data []byte, n int) {
	if n &^= os.Getpagesize() - 1; n > 0 {
		// It only saves memory, so an error does not matter.
		_ = unix.Madvise(data[:n], unix.MADV_DONTNEED)
	}
}
