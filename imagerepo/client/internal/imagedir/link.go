package imagedir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"

	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/meta"
)

// The temporary names of links are these and the name of the default link.
const (
	nextLink     = ".image_updates_link."
	previousLink = ".image_updates_backup."
)

// Link is the default link of an images directory, and the backup link that goes
// with it. Nothing of its name need exist.
type Link struct {
	dir  *Dir
	name string
}

// Link returns the default link of this name.
func (d *Dir) Link(name string) Link { return Link{d, name} }

// backup returns the name of the backup link: ltsp-backup.img of ltsp.img.
func (l Link) backup() string {
	ext := path.Ext(l.name)
	return strings.TrimSuffix(l.name, ext) + "-backup" + ext
}

// Check returns an error if the name cannot be that of a default link: it is no
// plain file name, or an image's, or another kind of file has it or the name of the
// backup link.
func (l Link) Check() error {
	for _, name := range []string{l.name, l.backup()} {
		_, _, ofImage := split(name)
		if name == "" || name[0] == '.' || path.Base(name) != name || ofImage || name == disableName {
			return fmt.Errorf("%q cannot be the default link: choose a plain file name such as ltsp.img", l.name)
		}
		info, err := l.dir.Files.Lstat(name)
		if err == nil && !info.Mode().IsRegular() {
			return fmt.Errorf("%s cannot be a hard link to an image: another kind of file (%s) has that name; move it away",
				filepath.Join(l.dir.Files.Name(), name), info.Mode())
		}
	}
	return nil
}

// Image returns the image that the default link points to.
func (l Link) Image() (meta.Name, bool) { return l.imageOf(l.name) }

// Backup returns the image that the backup link points to.
func (l Link) Backup() (meta.Name, bool) { return l.imageOf(l.backup()) }

// imageOf returns the image that one of the two links points to.
func (l Link) imageOf(link string) (meta.Name, bool) {
	if l.Check() != nil || !exists(l.dir.Files, link) {
		return meta.Name{}, false
	}
	images, _ := l.dir.Installed()
	for _, im := range images {
		if isSame(l.dir.Files, link, im.File) {
			return im.Name, true
		}
	}
	return meta.Name{}, false
}

// Set points the default link at an image, and then the backup link at what the
// default link led to before, which has a temporary name meanwhile. If the default
// link leads to the image already, the backup link stays. At any instant each of
// them is a whole image, if it existed. Called again, it completes what was cut
// short.
func (l Link) Set(n meta.Name) error {
	if err := l.dir.wantLock(); err != nil {
		return err
	}
	if err := l.Check(); err != nil {
		return err
	}
	if info, err := l.dir.Files.Lstat(n.String()); err != nil {
		return err
	} else if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file", n)
	}
	return l.dir.Digests.Preserve(func() error { return l.set(l.dir.Files, n.String()) })
}

func (l Link) set(files atomicfile.Dir, image string) error {
	previous := previousLink + l.name
	if !isSame(files, l.name, image) {
		if err := linkAs(files, l.name, previous); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := l.swap(files, image); err != nil {
			if isSame(files, l.name, previous) {
				files.Remove(previous)
			}
			return err
		}
	}
	if isSame(files, previous, image) || !exists(files, previous) { // nothing has changed
		return remove(files, previous)
	}
	return renameLink(files, previous, l.backup())
}

// swap points the default link at an image, in one instant.
func (l Link) swap(files atomicfile.Dir, image string) error {
	tmp := nextLink + l.name
	if err := linkAs(files, image, tmp); err != nil {
		return err
	}
	defer files.Remove(tmp)
	return renameLink(files, tmp, l.name)
}

// isSame reports whether two names, not followed, are of one file.
func isSame(files atomicfile.Dir, a, b string) bool {
	ia, errA := files.Lstat(a)
	ib, errB := files.Lstat(b)
	return errA == nil && errB == nil && os.SameFile(ia, ib)
}

// renameLink gives a link its final name. If that is one of the same file already,
// the system does nothing, so the temporary name is removed.
func renameLink(files atomicfile.Dir, tmp, name string) error {
	if err := files.Rename(tmp, name); err != nil {
		return err
	}
	return errors.Join(remove(files, tmp), files.SyncDir("."))
}

// linkAs makes a hard link of a file under a temporary name, and replaces what has
// that name.
func linkAs(files atomicfile.Dir, file, tmp string) error {
	if err := remove(files, tmp); err != nil {
		return err
	}
	err := files.Link(file, tmp)
	for _, refused := range []error{syscall.EPERM, syscall.EOPNOTSUPP, syscall.ENOSYS, syscall.EMLINK, syscall.EXDEV} {
		if errors.Is(err, refused) {
			return fmt.Errorf("cannot make a hard link to %s: %w; keep the images on a file system with hard links, such as ext4, or leave out --default-link",
				filepath.Join(files.Name(), file), err)
		}
	}
	return err
}
