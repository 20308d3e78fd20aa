// Package imagedir is the directory of images of a client: which images there are,
// what is known of them, which one is in use, and which can go.
//
//	<image>.img              an image
//	<image>.img.lock         it is not removed
//	<image>.img.tmp          one that is being made, or was made on the way to another
//	<image>.img.tmp.journal  how far it has got
//	ltsp.img                 a hard link to the image in use, if there is to be one
//	ltsp-backup.img          a hard link to the one that was in use before
//	.image_updates_known     what is known of the images, see below
//	.image_updates_lock      flock(2)ed by who changes something
//	DISABLE_IMAGE_UPDATES    where it is there, nothing is to be done
//
// # What is known
//
// .image_updates_known is a JSON object:
//
//	{"files": {"<file>": {"size": 1, "mtime": 2, "ctime": 3, "inode": 4, "sha512": "…", "blake3": "…"}},
//	 "pending": "<image>"}
//
// with the digests that were taken of a file, one of them or both, and what tells
// without reading whether it is still the file that was read. Times are in
// nanoseconds. ctime, which no program can set back, gives away a change after
// which mtime was. pending is an image whose putting to use has begun and not
// ended. A file that is missing or damaged costs another look at the images.
package imagedir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"puavo-image-repository/imagerepo/internal/atomicfile"
	"puavo-image-repository/imagerepo/internal/lockfile"
	"puavo-image-repository/meta"
)

const (
	lockName    = ".image_updates_lock"
	disableName = "DISABLE_IMAGE_UPDATES"
)

// Dir is the directory. It is not for concurrent use.
type Dir struct {
	atomicfile.Dir
	lock  *lockfile.Lock // nil where it is not held: then nothing is remembered
	known memory
	loops fs.FS // /sys/block
}

// Open opens the directory. It takes no lock and writes nothing.
func Open(path string) (*Dir, error) {
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, fmt.Errorf("images directory: %w", err)
	}
	d := &Dir{Dir: atomicfile.Dir{Root: root}, loops: os.DirFS("/sys/block")}
	d.load()
	return d, nil
}

// Lock keeps others from changing the directory until Close. It does not wait.
func (d *Dir) Lock() (err error) {
	if d.lock, err = lockfile.Acquire(d.Root, lockName); err == nil {
		d.load() // another may have learnt something meanwhile
	}
	return err
}

// Close gives the lock back.
func (d *Dir) Close() error {
	var err error
	if d.lock != nil {
		err = d.lock.Release()
	}
	return errors.Join(err, d.Root.Close())
}

// Disabled reports whether nothing is to be done.
func (d *Dir) Disabled() bool {
	_, err := d.Lstat(disableName)
	return err == nil
}

// Tmp returns the name of an image while it is made.
func Tmp(n meta.Name) string { return n.String() + tmpSuffix }

// Journal returns the name of the file that tells how far it has got.
func Journal(n meta.Name) string { return n.String() + journalSuffix }

const (
	tmpSuffix     = ".tmp"
	journalSuffix = ".tmp.journal"
)

// Image is an image that is there.
type Image struct {
	Name meta.Name
	// File is the name of the image, or, of one that was made on the way to another,
	// its temporary name.
	File string
	Size int64 // bytes
}

// Images returns the images, oldest first. Among them are those under a temporary
// name that are known to be complete, where there is none under the right one.
func (d *Dir) Images() ([]Image, error) {
	entries, err := fs.ReadDir(d.FS(), ".")
	if err != nil {
		return nil, err
	}
	var images []Image
	for _, e := range entries {
		stem, isTmp := strings.CutSuffix(e.Name(), tmpSuffix)
		name, err := meta.ParseName(stem)
		if err != nil {
			continue
		}
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() && (!isTmp || d.complete(e.Name(), stem)) {
			images = append(images, Image{name, e.Name(), info.Size()})
		}
	}
	slices.SortFunc(images, func(a, b Image) int { return a.Name.Compare(b.Name) })
	return images, nil
}

// complete reports whether a temporary file is known to be a whole image, and the
// image is not there under its name.
func (d *Dir) complete(tmp, image string) bool {
	_, err := d.Lstat(image)
	_, known := d.record(tmp)
	return known && errors.Is(err, fs.ErrNotExist)
}

// Room returns how many bytes can be written to the directory, by others than root.
func (d *Dir) Room() (int64, error) {
	f, err := d.Open(".")
	if err != nil {
		return 0, err
	}
	defer f.Close()
	var s unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &s); err != nil {
		return 0, fmt.Errorf("free space of %s: %w", d.Name(), err)
	}
	return int64(s.Bavail) * s.Bsize, nil
}

// Taken returns how many bytes a file takes on the disk, 0 if it is not there.
func (d *Dir) Taken(file string) int64 {
	info, err := d.Lstat(file)
	if err != nil {
		return 0
	}
	return info.Sys().(*syscall.Stat_t).Blocks * 512
}
