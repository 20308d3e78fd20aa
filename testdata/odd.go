package testdata

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"
)

// Odd is a kind of file that must not be read where a regular file is expected.
type Odd struct {
	Name string // such as "a pipe"
	Make func(path string) error
}

// OddFiles returns the kinds. Without the right to make devices, which CI needs, these
// are left out. Whoever opens one of the pipes waits: see Promptly.
func OddFiles(t testing.TB) []Odd {
	t.Helper()
	kinds := []Odd{
		{"a pipe", pipe},
		{"a directory", directory},
		{"a dangling link", dangling},
		{"a link to itself", func(path string) error { return os.Symlink(path, path) }},
		{"a link out of its directory", func(path string) error { return os.Symlink("/dev/null", path) }},
		{"a socket", func(path string) error {
			fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
			if err != nil {
				return err
			}
			return errors.Join(syscall.Bind(fd, &syscall.SockaddrUnix{Name: path}), syscall.Close(fd))
		}},
	}
	if err := null(t.TempDir() + "/null"); err == nil {
		kinds = append(kinds, Odd{"a device", null})
	} else if os.Getenv("CI") != "" {
		t.Fatalf("making a device: %v", err)
	}
	return kinds
}

func pipe(path string) error      { return syscall.Mkfifo(path, 0o666) }
func directory(path string) error { return os.Mkdir(path, 0o777) }
func dangling(path string) error  { return os.Symlink("nowhere", path) }

// null makes a device such as /dev/null.
func null(path string) error { return syscall.Mknod(path, syscall.S_IFCHR|0o666, 1<<8|3) }

// OddFile returns the kind of that name.
func OddFile(t testing.TB, name string) Odd {
	t.Helper()
	for _, kind := range OddFiles(t) {
		if kind.Name == name {
			return kind
		}
	}
	t.Skipf("%s cannot be made", name)
	return Odd{}
}

// Sparse makes a file of 2 GiB that takes no room on the disk.
func Sparse(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Truncate(2<<30), f.Close())
}

// PutOdd puts a pipe, a directory, a dangling link, a device or a sparse file in the
// place of what is there.
func PutOdd(kind, path string) error {
	put := map[string]func(path string) error{
		"pipe": pipe, "directory": directory, "dangling": dangling, "device": null, "sparse": Sparse,
	}[kind]
	if put == nil {
		return fmt.Errorf("no kind %s", kind)
	}
	return errors.Join(os.RemoveAll(path), put(path))
}

// Promptly calls do, which must return, and fails the test if it has not after half a
// minute, as one who waits at a pipe.
func Promptly(t testing.TB, what string, do func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		do()
	}()
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		t.Fatalf("%s: it waits", what)
	}
}
