package imagedir

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"syscall"

	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/client/internal/loopdev"
	"puavo-image-repository/meta"
)

// Prune removes the oldest installed images of a series, so that the newest keep of
// them, at least one, stay. It never removes an image
//
//   - that is protected,
//   - that has a file <image>.img.lock next to it,
//   - that has another name in the directory, such as the default and the backup
//     link, or to which a symbolic link there leads,
//   - that a loop device has as its backing file.
//
// It returns what was removed, also with an error. The default link is in use
// whatever its name is.
func (d *Dir) Prune(series []meta.Name, keep int, protected ...meta.Name) ([]meta.Name, error) {
	return d.prune(loopdev.Local(), series, keep, protected)
}

func (d *Dir) prune(devices loopdev.Devices, series []meta.Name, keep int, protected []meta.Name) ([]meta.Name, error) {
	if err := d.wantLock(); err != nil {
		return nil, err
	}
	if keep < 1 {
		return nil, fmt.Errorf("cannot keep %d images, want 1 or more", keep)
	}
	old, err := d.Installed()
	if err != nil {
		return nil, err
	}
	old = slices.DeleteFunc(old, func(im Image) bool { return !slices.Contains(series, im.Name) })
	old = old[:max(len(old)-keep, 0)]
	use, err := findUse(d.Files, devices)
	if err != nil {
		return nil, err
	}
	old = slices.DeleteFunc(old, func(im Image) bool {
		return slices.Contains(protected, im.Name) || exists(d.Files, im.File+".lock") || use.has(d.Files, im.File)
	})
	var removed []meta.Name
	err = d.Digests.Preserve(func() (err error) {
		removed, err = removeAll(d.Files, old)
		return err
	})
	return removed, err
}

func removeAll(files atomicfile.Dir, images []Image) (removed []meta.Name, err error) {
	for _, im := range images {
		if err := files.Remove(im.File); err != nil {
			return removed, err
		}
		removed = append(removed, im.Name)
	}
	if len(removed) == 0 {
		return nil, nil
	}
	return removed, files.SyncDir(".")
}

// use says which images are in use.
type use struct {
	names  []string        // of files, in whatever directory
	files  []fs.FileInfo   // under whatever name
	inodes []loopdev.Inode // also of files without a name
}

// has reports whether an image is in use.
func (u use) has(files atomicfile.Dir, file string) bool {
	info, err := files.Lstat(file)
	if err != nil || slices.Contains(u.names, file) {
		return true
	}
	if sys, ok := info.Sys().(*syscall.Stat_t); ok && slices.Contains(u.inodes, loopdev.Inode{Device: uint64(sys.Dev), Number: sys.Ino}) { //nolint:unconvert // it has 32 bits on some machines
		return true
	}
	return slices.ContainsFunc(u.files, func(f fs.FileInfo) bool { return os.SameFile(f, info) })
}

// findUse finds what is in use: other names in the directory, and backing files of
// loop devices.
func findUse(files atomicfile.Dir, devices loopdev.Devices) (use, error) {
	entries, err := fs.ReadDir(files.FS(), ".")
	if err != nil {
		return use{}, err
	}
	var u use
	for _, e := range entries {
		if _, suffix, ok := split(e.Name()); ok && suffix == "" && e.Type().IsRegular() {
			continue
		}
		if target, err := files.Readlink(e.Name()); err == nil {
			u.names = append(u.names, path.Base(target))
		} else if info, err := e.Info(); err == nil {
			u.files = append(u.files, info)
		}
	}
	for _, b := range devices.BackingFiles() {
		u.addBacking(b)
	}
	return u, nil
}

// addBacking adds a backing file. Its path need not lead to it from here, so its
// base name counts in any directory. A machine that runs on what the default link
// was two updates ago has a backing file that is deleted: only the inode tells which
// image that is.
func (u *use) addBacking(b loopdev.BackingFile) {
	u.names = append(u.names, path.Base(b.Path))
	if (b.Inode != loopdev.Inode{}) {
		u.inodes = append(u.inodes, b.Inode)
	}
	if info, err := os.Stat(b.Path); err == nil {
		u.files = append(u.files, info)
	}
}
