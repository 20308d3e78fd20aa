package imagedir

import (
	"crypto/sha512"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo/client/internal/loopdev"
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

// cacheName is the file of the digest cache.
const cacheName = ".image_updates_known"

func name(t testing.TB, file string) meta.Name {
	t.Helper()
	n, err := meta.ParseName(file)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func names(t testing.TB, files ...string) (all []meta.Name) {
	for _, f := range files {
		all = append(all, name(t, f))
	}
	return all
}

// sumsOf returns the size and the two digests of a content.
func sumsOf(content string) cksum.Sums {
	s := cksum.Sums{Size: int64(len(content)), SHA512: sha512.Sum512([]byte(content))}
	h := cksum.NewBLAKE3()
	h.Write([]byte(content))
	h.Sum(s.BLAKE3[:0])
	return s
}

// fill makes files, of which each holds its own name unless it is told what.
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

// noLoops are the loop devices of a machine without any.
var noLoops = loopdev.Devices{Blocks: fstest.MapFS{}}

// open opens a directory.
func open(t testing.TB, dir string) *Dir {
	t.Helper()
	d, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// lock opens a directory and locks it.
func lock(t testing.TB, dir string) *Dir {
	t.Helper()
	d := open(t, dir)
	if err := d.Lock(); err != nil {
		t.Fatal(err)
	}
	return d
}

// list returns what is in a directory, but for what belongs to the package.
func list(t testing.TB, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		if e.Name() != cacheName && e.Name() != lockName {
			all = append(all, e.Name())
		}
	}
	return strings.Join(all, " ")
}

// cached returns the files of which the digest cache on the disk has digests.
func cached(t testing.TB, dir string) []string {
	t.Helper()
	var contents struct{ Files map[string]any }
	if err := json.Unmarshal([]byte(content(dir, cacheName)), &contents); err != nil {
		t.Fatal(err)
	}
	return slices.Sorted(maps.Keys(contents.Files))
}

// content returns what a file holds, "" if it is not there.
func content(dir, file string) string {
	b, _ := os.ReadFile(filepath.Join(dir, file))
	return string(b)
}

// fullDisk returns a directory with files on a file system that has no room left
// but for what the lock tells of its holder.
func fullDisk(t testing.TB, files ...string) string {
	t.Helper()
	dir := testdata.SmallDisk(t, 256<<10)
	fill(t, dir, lockName)
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
