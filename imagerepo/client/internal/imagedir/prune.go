package imagedir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/assemble"
	"puavo-image-repository/meta"
)

// Prune removes the oldest of the images of a series, which are named, so that the
// newest, as many as keep says and at least one, stay. Never removed is an image
//
//   - that is protected,
//   - that has a file <image>.img.lock beside it,
//   - that has another name in the directory, such as the default and the backup
//     link, or to which a symbolic link there leads,
//   - that a loop device has as its backing file.
//
// It returns what was removed, also with an error. The default link need not be
// told: it is protected whatever its name is.
func (d *Dir) Prune(series []meta.Name, keep int, protected ...meta.Name) ([]meta.Name, error) {
	if err := d.locked(); err != nil {
		return nil, err
	}
	if keep < 1 {
		return nil, fmt.Errorf("%d images to keep, want at least 1", keep)
	}
	old, err := d.named()
	if err != nil {
		return nil, err
	}
	old = slices.DeleteFunc(old, func(im Image) bool { return !slices.Contains(series, im.Name) })
	old = old[:max(len(old)-keep, 0)]
	use, err := d.inUse()
	if err != nil {
		return nil, err
	}
	old = slices.DeleteFunc(old, func(im Image) bool {
		return slices.Contains(protected, im.Name) || d.has(im.File+".lock") || use.has(d.Dir, im.File)
	})
	var removed []meta.Name
	err = d.keeping(func() (err error) {
		removed, err = d.remove(old)
		return err
	})
	return removed, err
}

func (d *Dir) remove(images []Image) (removed []meta.Name, err error) {
	for _, im := range images {
		if err := d.Remove(im.File); err != nil {
			return removed, err
		}
		removed = append(removed, im.Name)
	}
	if len(removed) == 0 {
		return nil, nil
	}
	return removed, d.SyncDir(".")
}

// use tells which images are in use.
type use struct {
	names  []string      // of files, wherever they are
	files  []fs.FileInfo // whatever their names are
	inodes []inode       // also of files of which no name is known
}

// inode tells files apart.
type inode struct{ device, number uint64 }

// has reports whether an image is in use.
func (u use) has(dir atomicfile.Dir, file string) bool {
	info, err := dir.Lstat(file)
	if err != nil || slices.Contains(u.names, file) {
		return true
	}
	if sys, ok := info.Sys().(*syscall.Stat_t); ok && slices.Contains(u.inodes, inode{uint64(sys.Dev), sys.Ino}) { //nolint:unconvert // it has 32 bits on some machines
		return true
	}
	return slices.ContainsFunc(u.files, func(f fs.FileInfo) bool { return os.SameFile(f, info) })
}

// inUse finds out which images have other names in the directory, or are backing
// files.
func (d *Dir) inUse() (use, error) {
	entries, err := fs.ReadDir(d.FS(), ".")
	if err != nil {
		return use{}, err
	}
	var u use
	for _, e := range entries {
		if _, suffix, ok := split(e.Name()); ok && suffix == "" && e.Type().IsRegular() {
			continue
		}
		if target, err := d.Readlink(e.Name()); err == nil {
			u.names = append(u.names, path.Base(target))
		} else if info, err := e.Info(); err == nil {
			u.files = append(u.files, info)
		}
	}
	d.backing(&u)
	return u, nil
}

// backing adds the backing files of the loop devices. Their paths need not lead to
// them from here, so their names count wherever they are. A machine that runs on
// what the default link was two updates ago has it as a file that is deleted: only
// its inode tells which image that is.
func (d *Dir) backing(u *use) {
	paths, _ := fs.Glob(d.blocks, "loop*/loop/backing_file")
	for _, p := range paths {
		text, err := fs.ReadFile(d.blocks, p)
		if err != nil {
			continue // it is let go
		}
		if i, err := d.looped(path.Dir(path.Dir(p))); err == nil {
			u.inodes = append(u.inodes, i)
		}
		file := strings.TrimSuffix(strings.TrimSuffix(string(text), "\n"), " (deleted)")
		u.names = append(u.names, path.Base(file))
		if info, err := os.Stat(file); err == nil {
			u.files = append(u.files, info)
		}
	}
}

// looped returns the inode of the backing file of a loop device, which root can ask
// for.
func looped(device string) (inode, error) {
	f, err := os.Open("/dev/" + device)
	if err != nil {
		return inode{}, err
	}
	defer f.Close()
	info, err := unix.IoctlLoopGetStatus64(int(f.Fd()))
	if err != nil {
		return inode{}, err
	}
	return inode{info.Device, info.Inode}, nil
}

// Sweep removes what dead runs have left: what was made of other images than the
// wanted ones, links without a name, and what was about to be known. They are dead, for the lock is held.
func (d *Dir) Sweep(wanted ...meta.Name) error {
	if err := d.locked(); err != nil {
		return err
	}
	entries, err := fs.ReadDir(d.FS(), ".")
	if err != nil {
		return err
	}
	return d.keeping(func() error {
		var failed []error
		for _, e := range entries {
			if e.Type().IsRegular() && d.isLeft(e.Name(), wanted) {
				failed = append(failed, d.drop(e.Name()))
			}
		}
		return errors.Join(failed...)
	})
}

// isLeft reports whether a file was left by a dead run.
func (d *Dir) isLeft(file string, wanted []meta.Name) bool {
	n, suffix, ok := split(file)
	if !ok {
		return strings.HasPrefix(file, nextLink) || file == knownTmp
	}
	return suffix != "" && !slices.Contains(wanted, n) && !d.has(n.String()+".lock") && !d.has(assemble.PartialName(n)+".lock")
}
