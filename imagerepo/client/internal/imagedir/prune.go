package imagedir

import (
	"errors"
	"io/fs"
	"path"
	"slices"
	"strings"

	"puavo-image-repository/meta"
)

const imageLock = ".lock"

// Prune removes the oldest of the images that are named, so that the newest keep
// of them stay. Never removed are those that are protected, those that link or its
// backup is a hard link of, those with a lock beside, and those that a loop device
// has: one of these may be what the machine runs on. It returns what was removed.
func (d *Dir) Prune(images []meta.Name, keep int, link string, protected ...meta.Name) (removed []meta.Name, err error) {
	images = slices.SortedFunc(slices.Values(images), meta.Name.Compare)
	for _, name := range []string{link, Backup(link)} {
		if n, ok := d.Default(name); ok {
			protected = append(protected, n)
		}
	}
	inUse := d.inUse()
	var old []string
	for _, n := range images[:max(0, len(images)-keep)] {
		if slices.Contains(protected, n) || slices.Contains(inUse, n.String()) || d.locked(n.String()) {
			continue
		}
		old = append(old, n.String())
		removed = append(removed, n)
	}
	for i, file := range old {
		if err := d.Remove(file); err != nil {
			return removed[:i], err
		}
	}
	if len(old) == 0 {
		return nil, nil
	}
	return removed, errors.Join(d.SyncDir("."), d.save())
}

func (d *Dir) locked(file string) bool {
	_, err := d.Lstat(file + imageLock)
	return err == nil
}

// inUse returns the names of the files that loop devices have. Their directories
// do not count: a machine that runs on an image may have it from another root.
func (d *Dir) inUse() (files []string) {
	backing, _ := fs.Glob(d.loops, "loop*/loop/backing_file")
	for _, b := range backing {
		if name, err := fs.ReadFile(d.loops, b); err == nil {
			files = append(files, path.Base(strings.TrimSuffix(strings.TrimSpace(string(name)), " (deleted)")))
		}
	}
	return files
}

// Sweep removes what dead runs left of other images than those that are wanted.
// They are dead, for the lock is held.
func (d *Dir) Sweep(wanted ...meta.Name) error {
	entries, err := fs.ReadDir(d.FS(), ".")
	if err != nil {
		return err
	}
	for _, e := range entries {
		image, rest, isTmp := strings.Cut(e.Name(), tmpSuffix)
		n, err := meta.ParseName(image)
		left := rest == "" || rest == ".journal" || rest == ".journal.new"
		if err != nil || !isTmp || !left || !e.Type().IsRegular() || slices.Contains(wanted, n) || d.locked(image) || d.locked(image+tmpSuffix) {
			continue
		}
		if err := d.Remove(e.Name()); err != nil {
			return err
		}
	}
	return nil
}
