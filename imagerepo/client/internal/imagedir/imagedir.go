// Package imagedir is the images directory of a client: which images are there,
// whether they are right, which one is the default, and how all that is changed so
// that a process that is killed, or a power cut, at any instant leaves whole images.
//
// # Files
//
//	<image>.img                    an image; only whole, verified ones get such a name
//	<image>.img.tmp                one that is being made, or was made on the way to another
//	<image>.img.tmp.journal        how far it has got, which others write
//	<image>.img.lock               any file: the image stays, and what is made of it
//	<image>.img.tmp.lock           any file: what is made of the image stays
//	ltsp.img                       the default link: a hard link of the image in use
//	ltsp-backup.img                the backup link: the one that was the default before
//	.image_updates_known           what is known of the files, a JSON object
//	.image_updates_lock            flock(2)ed by who changes the directory
//	.image_updates_link.ltsp.img   what is about to become the default link
//	.image_updates_backup.ltsp.img what is about to become the backup link
//	DISABLE_IMAGE_UPDATES          any file: nothing is to be done
//
// The link can have another name than ltsp.img. The names of lock, locks of images
// and links, and what the links are, are those of the installed tools, which find
// the default image by the inode of the link.
//
// # What is known
//
// An image is large, so what was found out by reading it is remembered:
//
//	files    by file name, of images and what is made of them
//	  size     bytes
//	  mtime    nanoseconds since 1970
//	  ctime    nanoseconds since 1970; who sets the mtime back, changes it
//	  inode    its number: if these four are as they were, so is the content
//	  sha512   the digests of the content; one that was not taken is left out
//	  blake3
//	pending  the image that is being put to use; left out if there is none
//
// An example:
//
//	{"files":{"a-2022-01-20-173248-amd64.img":{"size":6,"mtime":1,"ctime":2,"inode":3,"blake3":"00..."}},
//	"pending":"a-2022-01-20-173248-amd64.img"}
//
// A file of that name that is damaged, or another's, counts as empty: then the
// images are read again.
package imagedir

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"math/bits"
	"os"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/assemble"
	"puavo-image-repository/imagerepo/internal/lockfile"
	"puavo-image-repository/meta"
)

const (
	lockName    = ".image_updates_lock"
	disableName = "DISABLE_IMAGE_UPDATES"
)

// Dir is an images directory. What is made in it otherwise is made through the
// atomicfile.Dir. It is not for concurrent use, but for that one.
type Dir struct {
	atomicfile.Dir
	lock   *lockfile.Lock // nil if it is not held
	known  known
	link   func(old, name string) error // makes a hard link
	blocks fs.FS                        // /sys/block
	looped func(device string) (inode, error)
}

// Image is an image that is there.
type Image struct {
	Name meta.Name
	// File is its file's name: that of the image, or the temporary one of an image
	// that was made on the way to another, and is complete.
	File string
	Size int64 // bytes
}

// Open opens an images directory, which whoever calls it closes. It takes no lock
// and writes nothing.
func Open(path string) (*Dir, error) {
	dir, err := atomicfile.Open(path)
	if err != nil {
		return nil, fmt.Errorf("images directory: %w; check the path", err)
	}
	d := &Dir{Dir: dir, link: dir.Link, blocks: os.DirFS("/sys/block"), looped: looped}
	d.load()
	return d, nil
}

// Close gives the lock back, if it is held, and closes the directory.
func (d *Dir) Close() error {
	var err error
	if d.lock != nil {
		err = d.lock.Release()
		d.lock = nil
	}
	return errors.Join(err, d.Dir.Close())
}

// Disabled reports whether nothing is to be done in the directory.
func (d *Dir) Disabled() bool { return d.has(disableName) }

// Lock takes the lock, without which nothing in the directory is changed. Where
// another holds it the error wraps lockfile.ErrHeld.
func (d *Dir) Lock() (err error) {
	if d.lock, err = lockfile.Acquire(d.Name(), lockName); err != nil {
		return fmt.Errorf("images directory %s: %w", d.Name(), err)
	}
	d.load() // another may have changed it until now
	return nil
}

// locked returns an error if the lock is not held.
func (d *Dir) locked() error {
	if d.lock == nil {
		return fmt.Errorf("images directory %s: the lock is not held", d.Name())
	}
	return nil
}

func (d *Dir) has(file string) bool {
	_, err := d.Lstat(file)
	return err == nil
}

// split parses the name of a file of an image. The suffix of the image itself is
// "".
func split(file string) (n meta.Name, suffix string, ok bool) {
	for _, suffix := range []string{"", assemble.PartialSuffix, assemble.JournalSuffix, assemble.NextJournalSuffix} {
		if image, ok := strings.CutSuffix(file, suffix); ok {
			if n, err := meta.ParseName(image); err == nil {
				return n, suffix, true
			}
		}
	}
	return meta.Name{}, "", false
}

// Images returns the images that are there, oldest first: regular files with an
// image's name, and those with the temporary one that are known to be complete,
// where there is nothing of the image's name.
func (d *Dir) Images() ([]Image, error) {
	entries, err := fs.ReadDir(d.FS(), ".")
	if err != nil {
		return nil, err
	}
	var images []Image
	for _, e := range entries {
		n, suffix, ok := split(e.Name())
		if !ok || suffix != "" && suffix != assemble.PartialSuffix {
			continue
		}
		info, err := e.Info()
		if err != nil || !info.Mode().IsRegular() {
			continue
		}
		if _, complete := d.known.of(e.Name(), info); suffix == assemble.PartialSuffix && (!complete || d.has(n.String())) {
			continue
		}
		images = append(images, Image{n, e.Name(), info.Size()})
	}
	slices.SortFunc(images, func(a, b Image) int { return a.Name.Compare(b.Name) })
	return images, nil
}

// named returns the images that have their names, oldest first.
func (d *Dir) named() ([]Image, error) {
	images, err := d.Images()
	return slices.DeleteFunc(images, func(im Image) bool { return im.File != im.Name.String() }), err
}

// Install gives an image that was made, verified and flushed to the disk its name,
// removes its journal, and learns its digests. The image is the pending one from
// before it has its name. After an error, as at any instant, the file with its
// journal is there or the image is.
func (d *Dir) Install(n meta.Name, sums cksum.Sums) error {
	tmp := assemble.PartialName(n)
	if err := d.learn(tmp, sums); err != nil {
		return err
	}
	if err := d.SetPending(n); err != nil {
		return err
	}
	if err := d.Rename(tmp, n.String()); err != nil {
		return err
	}
	d.known.restamp(d.Dir, n.String(), d.known.Files[tmp])
	err := errors.Join(d.SyncDir("."), d.drop(assemble.JournalName(n)), d.drop(n.String()+assemble.NextJournalSuffix))
	d.save()
	return err
}

// drop removes a file if it is there.
func (d *Dir) drop(file string) error {
	if err := d.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Room returns how many bytes can still be written in the directory, without the
// privileges of root.
func (d *Dir) Room() (int64, error) {
	f, err := d.Open(".")
	if err != nil {
		return 0, err
	}
	defer f.Close()
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &st); err != nil {
		return 0, fmt.Errorf("room in %s: %w", d.Name(), err)
	}
	unit := st.Frsize
	if unit == 0 {
		unit = st.Bsize
	}
	high, low := bits.Mul64(st.Bavail, uint64(unit))
	if high != 0 || low > math.MaxInt64 { // so do some that are elsewhere
		return math.MaxInt64, nil
	}
	return int64(low), nil
}

// Taken returns how many bytes of the disk a file takes already, 0 if it is not
// there.
func (d *Dir) Taken(file string) int64 {
	info, err := d.Lstat(file)
	if err != nil {
		return 0
	}
	if sys, ok := info.Sys().(*syscall.Stat_t); ok {
		return sys.Blocks * 512
	}
	return info.Size()
}
