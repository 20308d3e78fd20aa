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

	"puavo-image-repository/meta"
)

// The names of links before they get theirs are these and that of the default
// link.
const (
	nextLink     = ".image_updates_link."
	previousLink = ".image_updates_backup."
)

// backupLink returns the name of the backup link: ltsp-backup.img of ltsp.img.
func backupLink(link string) string {
	ext := path.Ext(link)
	return strings.TrimSuffix(link, ext) + "-backup" + ext
}

// CheckLink returns an error if link cannot be the default link: it is no plain
// file name, or an image's, or there is something else of its name or of that of
// the backup link.
func (d *Dir) CheckLink(link string) error {
	for _, name := range []string{link, backupLink(link)} {
		_, _, ofImage := split(name)
		if name == "" || name[0] == '.' || path.Base(name) != name || ofImage || name == disableName {
			return fmt.Errorf("%q cannot be the default link: choose a plain file name such as ltsp.img", link)
		}
		info, err := d.Lstat(name)
		if err == nil && !info.Mode().IsRegular() {
			return fmt.Errorf("%s cannot be a hard link of an image: it is there as another kind of file (%s); move it away",
				filepath.Join(d.Name(), name), info.Mode())
		}
	}
	return nil
}

// Default returns the image that link is a hard link of.
func (d *Dir) Default(link string) (meta.Name, bool) {
	if d.CheckLink(link) != nil || !d.has(link) {
		return meta.Name{}, false
	}
	images, _ := d.named()
	for _, im := range images {
		if d.same(link, im.File) {
			return im.Name, true
		}
	}
	return meta.Name{}, false
}

// same reports whether two names, not followed, are of one file.
func (d *Dir) same(a, b string) bool {
	ia, errA := d.Lstat(a)
	ib, errB := d.Lstat(b)
	return errA == nil && errB == nil && os.SameFile(ia, ib)
}

// SetDefault makes link a hard link of an image, and then the backup link one of
// what link was before, which has a temporary name meanwhile. If link is one of the
// image already, the backup stays. At any instant each of them is a whole image, if
// it was there. Called again, it brings to an end what was cut short.
func (d *Dir) SetDefault(link string, n meta.Name) error {
	if err := d.locked(); err != nil {
		return err
	}
	if err := d.CheckLink(link); err != nil {
		return err
	}
	if info, err := d.Lstat(n.String()); err != nil {
		return err
	} else if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is no regular file", n)
	}
	return d.keeping(func() error { return d.setDefault(link, n.String()) })
}

func (d *Dir) setDefault(link, image string) error {
	previous := previousLink + link
	if !d.same(link, image) {
		if err := d.linkAs(link, previous); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := d.swap(image, link); err != nil {
			if d.same(link, previous) {
				d.Remove(previous)
			}
			return err
		}
	}
	if d.same(previous, image) || !d.has(previous) { // nothing has changed
		return d.drop(previous)
	}
	return d.rename(previous, backupLink(link))
}

// swap makes name a hard link of a file, in one instant.
func (d *Dir) swap(file, name string) error {
	tmp := nextLink + name
	if err := d.linkAs(file, tmp); err != nil {
		return err
	}
	defer d.Remove(tmp)
	return d.rename(tmp, name)
}

// rename gives a link its name. Where that is one of the same file already, the
// system does nothing, so the old name is removed.
func (d *Dir) rename(tmp, name string) error {
	if err := d.Rename(tmp, name); err != nil {
		return err
	}
	return errors.Join(d.drop(tmp), d.SyncDir("."))
}

// linkAs makes a hard link of a file. What has its name, which is a temporary one,
// is replaced.
func (d *Dir) linkAs(file, tmp string) error {
	if err := d.drop(tmp); err != nil {
		return err
	}
	err := d.link(file, tmp)
	for _, refused := range []error{syscall.EPERM, syscall.EOPNOTSUPP, syscall.ENOSYS, syscall.EMLINK, syscall.EXDEV} {
		if errors.Is(err, refused) {
			return fmt.Errorf("no hard link can be made of %s: %w; keep the images where that can be done, such as on ext4, or have no default link",
				filepath.Join(d.Name(), file), err)
		}
	}
	return err
}
