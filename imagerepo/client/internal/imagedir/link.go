package imagedir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"

	"puavo-image-repository/cksum"
	"puavo-image-repository/meta"
)

// Install gives an image that is complete and flushed to the disk its name. From
// then on it is pending.
func (d *Dir) Install(n meta.Name, sums cksum.Sums) error {
	if err := d.SetPending(n); err != nil {
		return err
	}
	if err := d.Rename(Tmp(n), n.String()); err != nil {
		return err
	}
	if err := d.SyncDir("."); err != nil {
		return err
	}
	for _, left := range []string{Journal(n), Journal(n) + ".new"} {
		if err := d.Remove(left); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return d.Learn(n.String(), sums)
}

// Backup returns the name of the hard link that keeps what a link was before:
// ltsp-backup.img of ltsp.img.
func Backup(link string) string {
	ext := path.Ext(link)
	return link[:len(link)-len(ext)] + "-backup" + ext
}

// Default returns the image that a name is a hard link of.
func (d *Dir) Default(link string) (meta.Name, bool) {
	if link == "" {
		return meta.Name{}, false
	}
	info, err := d.Lstat(link)
	if err != nil || !info.Mode().IsRegular() {
		return meta.Name{}, false
	}
	images, err := d.Images()
	if err != nil {
		return meta.Name{}, false
	}
	for _, im := range images {
		if other, err := d.Lstat(im.File); err == nil && im.File == im.Name.String() && os.SameFile(info, other) {
			return im.Name, true
		}
	}
	return meta.Name{}, false
}

// SetDefault makes a name a hard link of an image. What it was a link of before
// becomes that of the backup. At every instant it is one or the other.
func (d *Dir) SetDefault(link string, n meta.Name) error {
	if err := checkLink(link); err != nil {
		return err
	}
	if now, ok := d.Default(link); ok && now == n {
		return nil
	}
	var files []string
	images, err := d.Images()
	for _, im := range images {
		files = append(files, im.File)
	}
	if err != nil {
		return err
	}
	return d.keeping(func() error {
		info, err := d.Lstat(link)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return err
		case !info.Mode().IsRegular():
			return fmt.Errorf("%s in %s is no hard link of an image but %s; remove it", link, d.Name(), info.Mode())
		default:
			if err := d.link(link, Backup(link)); err != nil {
				return err
			}
		}
		return d.link(n.String(), link)
	}, files...)
}

// checkLink refuses names that lead out of the directory, or are those of images.
func checkLink(link string) error {
	if _, err := meta.ParseName(link); err == nil || link != path.Base(link) || link == "." || link == ".." || link[0] == '.' {
		return fmt.Errorf("%q cannot be the name of the default link; give one such as ltsp.img", link)
	}
	return nil
}

// link makes name another name of a file, in place of what had it before.
func (d *Dir) link(file, name string) error {
	tmp := name + tmpSuffix
	if err := d.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := d.Link(file, tmp); err != nil {
		return fmt.Errorf("%w; the file system of %s must have hard links", err, d.Name())
	}
	if err := d.Rename(tmp, name); err != nil {
		return err
	}
	// Where name was the same file already, the rename has left both.
	if err := d.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return d.SyncDir(".")
}
