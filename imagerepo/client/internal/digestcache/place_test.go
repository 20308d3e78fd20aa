package digestcache

import (
	"crypto/sha512"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/meta"
	"puavo-image-repository/testdata"
)

// Images, oldest first.
const (
	imageA = "os-2021-01-01-000000-amd64.img"
	imageB = "os-2022-02-02-000000-amd64.img"
	imageC = "os-2023-03-03-000000-amd64.img"
	imageD = "os-2024-04-04-000000-amd64.img"
)

func name(t testing.TB, file string) meta.Name {
	t.Helper()
	n, err := meta.ParseName(file)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// sumsOf returns the size and the two digests of a content.
func sumsOf(content string) cksum.Sums {
	s := cksum.Sums{Size: int64(len(content)), SHA512: sha512.Sum512([]byte(content))}
	h := cksum.NewBLAKE3()
	h.Write([]byte(content))
	h.Sum(s.BLAKE3[:0])
	return s
}

// fill makes files, each written as file=content, or with its own name as content.
func fill(t testing.TB, dir string, files ...string) {
	t.Helper()
	for _, f := range files {
		file, content, ok := strings.Cut(f, "=")
		if !ok {
			content = file
		}
		if err := os.WriteFile(filepath.Join(dir, file), []byte(content), 0o666); err != nil {
			t.Fatal(err)
		}
	}
}

// open opens the cache of a directory for reading.
func open(t testing.TB, path string) *Cache {
	t.Helper()
	dir, err := atomicfile.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dir.Close() })
	return Open(dir)
}

// writable opens the cache of a directory for writing.
func writable(t testing.TB, path string) *Cache {
	t.Helper()
	c := open(t, path)
	c.AllowWrites()
	return c
}

// list returns what is in a directory, but for the cache.
func list(t testing.TB, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		if e.Name() != fileName {
			all = append(all, e.Name())
		}
	}
	return strings.Join(all, " ")
}

// content returns what a file holds, "" if it does not exist.
func content(dir, file string) string {
	b, _ := os.ReadFile(filepath.Join(dir, file))
	return string(b)
}

// fullDisk returns a directory with files on a file system that is full.
func fullDisk(t testing.TB, files ...string) string {
	t.Helper()
	dir := testdata.SmallDisk(t, 256<<10)
	fill(t, dir, files...)
	f, err := os.Create(filepath.Join(dir, "full"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	return dir
}
