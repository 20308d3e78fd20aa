package imagerepo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/ledger"
	"puavo-image-repository/imagerepo/internal/meter"
	"puavo-image-repository/imagerepo/internal/mirror"
	"puavo-image-repository/imagerepo/internal/pool"
	"puavo-image-repository/imagerepo/internal/sharing"
	"puavo-image-repository/imagerepo/internal/source"
	"puavo-image-repository/imagerepo/internal/state"
	"puavo-image-repository/imagerepo/plan"
	"puavo-image-repository/meta"
)

// linker puts images into the mirror. First prepare gives them temporary names there, as
// far as they can share their bytes, so that it is known how much space the others take;
// then link gives them their own names; in the end discard removes what was not needed.
type linker struct {
	source    *source.Dir
	root      atomicfile.Dir
	ledger    *ledger.Ledger
	holds     mirror.Inventory
	failed    *failures
	publisher *publisher
	progress  *meter.Meter
	jobs      int
	log       *slog.Logger
	shared    map[meta.Name]sharing.Shared // by prepare
}

// placed reports whether the plan has an image put into the mirror.
func placed(im plan.Image) bool { return im.Action == plan.Link || im.Action == plan.Replace }

// prepare gives the images that the plan links or replaces temporary names in the mirror,
// and marks those that must be copied instead.
func (l *linker) prepare(ctx context.Context, images []plan.Image) error {
	for i := range images {
		im := &images[i]
		if err := ctx.Err(); err != nil {
			return err
		}
		if !placed(*im) || !l.failed.wants(im.Name) {
			continue
		}
		err := l.share(*im)
		if err != nil {
			err = fmt.Errorf("linking %s into the mirror: %w", im.File, err)
		}
		if err := l.failed.tolerate(ctx, err, im.Name); err != nil {
			return err
		}
		im.Copied = err == nil && l.shared[im.Name].Way == sharing.Copy
	}
	return nil
}

// share gives an image its temporary name in the mirror, if it can share its bytes. Whether
// the image is the one that was found, place sees.
func (l *linker) share(im plan.Image) error {
	return l.renaming(func() (err error) {
		l.shared[im.Name], err = sharing.Share(l.root, l.source.File(im.Name), mirror.TmpPath(im.File))
		return err
	}, l.source.Stamp(im.Name).Inode)
}

// discard removes the temporary names of images that did not get their own.
func (l *linker) discard() (err error) {
	for n := range l.shared {
		tmp := mirror.TmpPath(n.String())
		if _, statErr := l.root.Lstat(tmp); statErr == nil {
			err = errors.Join(err, l.renaming(func() error { return l.root.Remove(tmp) }, l.source.Stamp(n).Inode))
		}
	}
	return err
}

// link puts the images into the mirror that the plan links or replaces. Those that will
// be read are flushed then.
func (l *linker) link(ctx context.Context, images, unread []plan.Image) error {
	for _, im := range images {
		if !placed(im) || !l.failed.wants(im.Name) {
			continue
		}
		flush := !slices.ContainsFunc(unread, func(other plan.Image) bool { return other.Name == im.Name })
		err := l.linkImage(ctx, im, im.Action == plan.Replace, flush)
		if err != nil {
			err = fmt.Errorf("putting %s into the mirror: %w", im.File, err)
		}
		if err := l.failed.tolerate(ctx, err, im.Name); err != nil {
			return err
		}
	}
	return l.root.SyncDir(".")
}

// linkImage puts an image into the mirror, in the place of what it replaces.
func (l *linker) linkImage(ctx context.Context, im plan.Image, replace, flush bool) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if replace {
		if err := cmp.Or(l.publisher.torrents.Discard(im.File, cksum.Sums{}), l.removeFile(im.File)); err != nil {
			return err
		}
	}
	if _, err := l.root.Lstat(im.File); err == nil {
		return mirror.Foreign(im.File) // it came since the plan was made, or is no regular file
	}
	before := l.ledger.Of(im.File)
	record := *before
	record.Placed, record.Copy, record.Orphaned = true, state.Stamp{}, 0
	if err := l.ledger.Put(im.File, &record); err != nil {
		return err
	}
	err := l.place(ctx, im)
	if errors.Is(err, mirror.ErrForeign) {
		return errors.Join(err, l.ledger.Put(im.File, before))
	}
	if err == nil && flush {
		err = l.root.Sync(im.File)
	}
	return err
}

// place gives an image its name in the mirror, which nothing has.
func (l *linker) place(ctx context.Context, im plan.Image) error {
	file := l.source.File(im.Name)
	if info, err := os.Stat(file); err == nil && info.Mode()&0o004 == 0 {
		l.log.Warn("other users, such as a web server, cannot read this image; chmod it to 0644", "file", file)
	}
	if _, prepared := l.shared[im.Name]; !prepared {
		if err := l.share(im); err != nil {
			return err
		}
	}
	if err := l.source.Unchanged(im.Name); err != nil {
		return err
	}
	switch s := l.shared[im.Name]; s.Way {
	case sharing.Link:
		return l.placeLink(im)
	case sharing.Reflink:
		return l.placeReflink(im)
	default:
		return l.copyImage(ctx, im, s.NoLink)
	}
}

// placeLink gives the link that an image has under its temporary name its own name. It
// is no renaming, which would replace what has got the name meanwhile.
func (l *linker) placeLink(im plan.Image) error {
	tmp := mirror.TmpPath(im.File)
	err := l.renaming(func() error {
		if err := l.root.Link(tmp, im.File); err != nil {
			return err
		}
		return l.root.Remove(tmp)
	}, l.source.Stamp(im.Name).Inode)
	if errors.Is(err, fs.ErrExist) {
		return mirror.Foreign(im.File)
	} else if err != nil {
		return err
	}
	return l.checkLink(im, im.File)
}

// placeReflink gives the reflink of an image its own name.
func (l *linker) placeReflink(im plan.Image) error {
	dst, err := l.root.Resume(mirror.TmpPath(im.File), im.File, im.Size)
	if err != nil {
		return err
	}
	defer dst.Discard()
	return l.commit(im, dst)
}

// checkLink makes sure that a link in the mirror is of the image that was found, and
// removes another.
func (l *linker) checkLink(im plan.Image, name string) error {
	info, err := l.root.Lstat(name)
	if err == nil && state.StampOf(info) != l.source.Stamp(im.Name) {
		err = errors.Join(fmt.Errorf("%s %w", l.source.File(im.Name), ErrChanged), l.root.Remove(name))
	}
	return err
}

// renaming makes a change to the names in the mirror, which changes the change times of
// the files with these inodes, and records the new stamps of images that are known.
func (l *linker) renaming(change func() error, inodes ...uint64) error {
	return l.source.Renaming(change, func(n meta.Name, was, now state.Stamp) error {
		record := l.ledger.Of(n.String())
		if !record.Known(was) {
			return nil
		}
		record.Stamp = now
		return l.ledger.Put(n.String(), record)
	}, inodes...)
}

// removeFile removes a file of the mirror.
func (l *linker) removeFile(path string) error {
	return l.renaming(func() error { return l.root.Remove(path) }, l.holds.Files[path].Inode)
}

// copyImage copies an image into the mirror.
func (l *linker) copyImage(ctx context.Context, im plan.Image, noLink error) error {
	src, err := l.source.Open(im.Name)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := l.root.Begin(mirror.TmpPath(im.File), im.File)
	if err != nil {
		return err
	}
	defer dst.Discard()
	l.log.Warn("the image cannot be linked into the mirror, so it is copied and takes twice the space", "image", im.File, "reason", noLink)
	defer l.progress.Begin("image_copy", im.File)()
	if _, err := io.Copy(dst, l.progress.At(meter.Copy).Reader(ctx, src)); err != nil {
		return err
	}
	return l.commit(im, dst)
}

// commit gives a file that has the bytes of an image its name in the mirror.
func (l *linker) commit(im plan.Image, f *atomicfile.File) error {
	if err := l.source.Unchanged(im.Name); err != nil {
		return err
	}
	if _, err := l.root.Lstat(im.File); err == nil {
		return mirror.Foreign(im.File)
	}
	if err := f.Commit(); err != nil {
		return err
	}
	return l.recordCopy(im.File)
}

// recordCopy records the copy of an image in the mirror.
func (l *linker) recordCopy(file string) error {
	info, err := l.root.Stat(file)
	if err != nil {
		return err
	}
	record := l.ledger.Of(file)
	record.Copy = state.StampOf(info)
	return l.ledger.Put(file, record)
}

// settle decides about the files in the mirror that have the name of an image and are
// not known to be it: the image itself is kept, or replaced by a link; what else is the
// tool's own is replaced; anything else stays.
func (l *linker) settle(ctx context.Context, images []plan.Image) error {
	var checked []plan.Image
	for _, im := range images {
		if im.Action == plan.Check && l.failed.wants(im.Name) {
			checked = append(checked, im)
		}
	}
	var mu sync.Mutex
	right := make(map[string]bool)
	err := pool.Each(ctx, l.jobs, checked, func(ctx context.Context, im plan.Image) error {
		digest, err := l.digest(ctx, im.File)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		mu.Lock()
		defer mu.Unlock()
		right[im.File] = err == nil && digest == l.ledger.Of(im.File).Sums.BLAKE3 // what cannot be read is not
		return nil
	})
	if err != nil {
		return err
	}
	// One after the other: several can be links of one file, see renaming.
	var wrong []plan.Image
	for _, im := range checked {
		if !right[im.File] {
			wrong = append(wrong, im)
		} else if err := l.failed.tolerate(ctx, l.take(im), im.Name); err != nil {
			return err
		}
	}
	return l.replace(ctx, wrong)
}

// digest returns the digest of a file in the mirror, as it is known or read.
func (l *linker) digest(ctx context.Context, file string) (cksum.Digest256, error) {
	record, stamp := l.holds.Records[file], l.holds.Files[file]
	if record.Known(stamp) || record.Summed() && record.Copy == stamp {
		l.progress.At(meter.Compare).Expect(-l.holds.Files[file].Size)
		return record.Sums.BLAKE3, nil
	}
	f, err := l.root.Open(file)
	if err != nil {
		return cksum.Digest256{}, err
	}
	defer f.Close()
	defer l.progress.Begin("image_compare", file)()
	return blake3(l.progress.At(meter.Compare).Reader(ctx, f))
}

// take uses a file in the mirror that has the content of an image. It is taken over,
// unless a record says that it is somebody's, and replaced by a link where that can be,
// so that it does not take its space twice.
func (l *linker) take(im plan.Image) error {
	record := l.ledger.Of(im.File)
	if !l.holds.TakesCopy(im.File) {
		return l.keepCopy(im.File)
	}
	if !l.holds.Takes(im.File) {
		l.log.Info("using the copy of the image that is in the mirror", "file", im.File)
	}
	record.Placed, record.Orphaned = true, 0
	if err := l.ledger.Put(im.File, record); err != nil {
		return err
	}
	file, err := filepath.EvalSymlinks(l.source.File(im.Name))
	if err != nil {
		return err
	}
	tmp := mirror.TmpPath(im.File)
	inode := l.source.Stamp(im.Name).Inode
	if l.renaming(func() error { return l.root.LinkFrom(file, tmp) }, inode) != nil {
		return l.keepCopy(im.File)
	}
	// What has its name is right: only what is right too takes its place.
	if err := cmp.Or(l.checkLink(im, tmp), l.root.Sync(tmp)); err != nil {
		return err
	}
	return l.renaming(func() error { return l.root.Rename(tmp, im.File) }, inode, l.holds.Files[im.File].Inode)
}

// keepCopy records a file in the mirror that is a copy of its image, once it is flushed.
func (l *linker) keepCopy(file string) error {
	if err := l.root.Sync(file); err != nil {
		return err
	}
	return l.recordCopy(file)
}

// replace replaces files in the mirror that are not the images of their names, if they
// are the tool's own.
func (l *linker) replace(ctx context.Context, images []plan.Image) error {
	var own []string
	for _, im := range images {
		if l.holds.Owns(im.File) {
			own = append(own, im.File)
		} else if err := l.failed.tolerate(ctx, mirror.Foreign(im.File), im.Name); err != nil {
			return err
		}
	}
	if err := l.publisher.withdraw(ctx, own...); err != nil {
		return err
	}
	for _, im := range images {
		if !slices.Contains(own, im.File) {
			continue
		}
		if err := l.failed.tolerate(ctx, l.linkImage(ctx, im, true, true), im.Name); err != nil {
			return err
		}
	}
	return l.root.SyncDir(".")
}
