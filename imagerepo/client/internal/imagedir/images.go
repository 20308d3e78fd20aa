package imagedir

import (
	"errors"
	"io/fs"
	"slices"
	"strings"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo/client/internal/cost"
	"puavo-image-repository/imagerepo/client/internal/digestcache"
	"puavo-image-repository/imagerepo/client/internal/hold"
	"puavo-image-repository/imagerepo/internal/assemble"
	"puavo-image-repository/meta"
)

// Image is an image in an images directory.
type Image struct {
	Name meta.Name
	// File is its file's name: that of the image, or that of a partial image which is
	// complete, but was made only on the way to another.
	File string
	Size int64 // bytes
}

// isInstalled reports whether the image has its own name.
func (im Image) isInstalled() bool { return im.File == im.Name.String() }

// split parses the name of a file of an image. The suffix of the image itself is
// "".
func split(file string) (n meta.Name, suffix string, ok bool) {
	for _, suffix := range []string{"", assemble.PartialSuffix, assemble.JournalSuffix, assemble.NextJournalSuffix} {
		if image, ok := strings.CutSuffix(file, suffix); ok {
			if n, err := meta.ParseOldName(image); err == nil {
				return n, suffix, true
			}
		}
	}
	return meta.Name{}, "", false
}

// Images returns the images of the directory, oldest first: regular files with an
// image's name, and partial images that are known to be complete, unless their own
// name is taken.
func (d *Dir) Images() ([]Image, error) {
	entries, err := fs.ReadDir(d.Files.FS(), ".")
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
		if suffix != "" && (!d.Digests.Has(e.Name(), info) || exists(d.Files, n.String())) {
			continue
		}
		images = append(images, Image{n, e.Name(), info.Size()})
	}
	slices.SortFunc(images, func(a, b Image) int { return a.Name.Compare(b.Name) })
	return images, nil
}

// Installed returns the images that have their own name, oldest first.
func (d *Dir) Installed() ([]Image, error) {
	images, err := d.Images()
	return slices.DeleteFunc(images, func(im Image) bool { return !im.isInstalled() }), err
}

// Install gives a partial image, which is complete, verified and flushed to the
// disk, its own name, removes its journal, and learns its digests. The image is
// pending from before it has its name. After an error, as at any instant, the
// directory has the partial image with its journal, or the image.
func (d *Dir) Install(n meta.Name, sums cksum.Sums) error {
	partial := assemble.PartialName(n)
	if err := d.Digests.LearnPending(n, partial, sums); err != nil {
		return err
	}
	if err := d.Files.Rename(partial, n.String()); err != nil {
		return err
	}
	err := errors.Join(d.Files.SyncDir("."), remove(d.Files, assemble.JournalName(n)), remove(d.Files, n.String()+assemble.NextJournalSuffix))
	d.Digests.Renamed(partial, n.String())
	return err
}

// Sweep removes what dead processes have left: partial images other than those of
// the wanted images, temporary links, and the temporary files of the digest cache, the
// speeds and the hold.
// Those processes are dead, for the lock is held.
func (d *Dir) Sweep(wanted ...meta.Name) error {
	if err := d.wantLock(); err != nil {
		return err
	}
	entries, err := fs.ReadDir(d.Files.FS(), ".")
	if err != nil {
		return err
	}
	return d.Digests.Preserve(func() error {
		var failed []error
		for _, e := range entries {
			if e.Type().IsRegular() && d.isLeftover(e.Name(), wanted) {
				failed = append(failed, remove(d.Files, e.Name()))
			}
		}
		return errors.Join(failed...)
	})
}

// isLeftover reports whether a file was left by a dead process.
func (d *Dir) isLeftover(file string, wanted []meta.Name) bool {
	n, suffix, ok := split(file)
	if !ok {
		return strings.HasPrefix(file, nextLink) || file == digestcache.TmpName || file == hold.TmpName || file == cost.TmpName
	}
	return suffix != "" && !slices.Contains(wanted, n) && !exists(d.Files, n.String()+".lock") && !exists(d.Files, assemble.PartialName(n)+".lock")
}

// Begun returns what is known of partial images, by the names of the images.
func (d *Dir) Begun() (map[meta.Name]assemble.Begun, error) {
	entries, err := fs.ReadDir(d.Files.FS(), ".")
	begun := make(map[meta.Name]assemble.Begun)
	for _, e := range entries {
		if n, suffix, ok := split(e.Name()); ok && suffix == assemble.JournalSuffix {
			begun[n] = assemble.Look(d.Files, n)
		}
	}
	return begun, err
}
