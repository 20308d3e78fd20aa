package imagerepo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo/internal/mirror"
	"puavo-image-repository/imagerepo/internal/pool"
	"puavo-image-repository/imagerepo/internal/state"
)

// withdraw takes out of the documents what is replaced in the mirror, and what cannot
// be what they say.
func (r *run) withdraw(ctx context.Context) error {
	var files []string
	for _, im := range r.plan.Images {
		sums, published := r.docs.Sums(im.File)
		if published && im.Action == Replace || published && im.Action == Keep && sums.Size != im.Size {
			files = append(files, im.File)
		}
	}
	return r.withdrawn(ctx, files)
}

// linkImages puts the images into the mirror.
func (r *run) linkImages(ctx context.Context) error {
	for i := range r.plan.Images {
		im := &r.plan.Images[i]
		if im.Action != Link && im.Action != Replace {
			continue
		}
		err := r.linkImage(ctx, im)
		if err != nil {
			err = fmt.Errorf("putting %s into the mirror: %w", im.File, err)
		}
		if err := r.tolerate(ctx, err, im.Name); err != nil {
			return err
		}
	}
	return r.mirror.Root.SyncDir(".")
}

// linkImage puts an image into the mirror, in the place of what it replaces.
func (r *run) linkImage(ctx context.Context, im *PlannedImage) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if im.Action == Replace {
		err := r.renaming(func() error { return r.mirror.Root.Remove(im.File) }, r.holds.Files[im.File].Inode)
		if err != nil {
			return err
		}
	}
	if _, err := r.mirror.Root.Lstat(im.File); err == nil {
		return foreign(im.File) // it came since the plan was made, or is no regular file
	}
	before := r.ledger.Of(im.File)
	record := *before
	record.Placed, record.Copy, record.Unnamed = true, state.Stamp{}, 0
	if err := r.ledger.Put(im.File, &record); err != nil {
		return err
	}
	err := r.place(ctx, im)
	if errors.Is(err, errForeign) {
		return errors.Join(err, r.ledger.Put(im.File, before))
	}
	if err == nil && !im.Read { // else it is flushed when it was read
		err = r.mirror.Root.Sync(im.File)
	}
	return err
}

// place links or copies an image into the mirror, where nothing has its name.
func (r *run) place(ctx context.Context, im *PlannedImage) error {
	source, err := filepath.EvalSymlinks(r.source(im.Name))
	if err != nil {
		return err
	}
	if info, err := os.Stat(source); err == nil && info.Mode()&0o004 == 0 {
		r.Log.Warn("others may not read this image, nor perhaps does a web server; chmod it to 0644", "file", source)
	}
	if err := r.unchanged(im.Image); err != nil {
		return err
	}
	err = r.renaming(func() error { return r.mirror.Root.LinkFrom(source, im.File) }, im.Stamp.Inode)
	switch {
	case errors.Is(err, fs.ErrExist):
		return foreign(im.File)
	case err != nil:
		return r.copyImage(ctx, im, err)
	}
	r.meter.Add(im.Size)
	return r.linked(im, im.File)
}

// linked makes sure that a link in the mirror is of the image that was scanned, and
// removes another.
func (r *run) linked(im *PlannedImage, name string) error {
	info, err := r.mirror.Root.Lstat(name)
	if err == nil && state.StampOf(info) != im.Stamp {
		err = errors.Join(fmt.Errorf("%s %w", r.source(im.Name), ErrChanged), r.mirror.Root.Remove(name))
	}
	return err
}

// renaming makes a change to the names in the mirror that changes the change times of
// the files with these inodes. Of all images that are one of them, and were what they
// are known to be just before, the stamp is taken again.
func (r *run) renaming(change func() error, inodes ...uint64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var same []*PlannedImage
	for i := range r.plan.Images {
		if im := &r.plan.Images[i]; slices.Contains(inodes, im.Stamp.Inode) && r.unchanged(im.Image) == nil {
			same = append(same, im)
		}
	}
	err := change()
	for _, im := range same {
		err = errors.Join(err, r.restamp(im))
	}
	return err
}

// restamp takes the stamp of an image again, of which only the change time may be
// another.
func (r *run) restamp(im *PlannedImage) error {
	info, err := os.Stat(r.source(im.Name))
	if err != nil {
		return nil // what becomes of it is seen by whoever reads it
	}
	stamp, ok := im.Stamp.Renamed(state.StampOf(info))
	if !ok || stamp == im.Stamp {
		return nil
	}
	record := r.ledger.Of(im.File)
	known := record.Known(im.Stamp)
	im.Stamp = stamp
	if !known {
		return nil
	}
	record.Stamp = stamp
	return r.ledger.Put(im.File, record)
}

// copyImage copies an image into the mirror, sharing its blocks where the file
// system can.
func (r *run) copyImage(ctx context.Context, im *PlannedImage, linkErr error) error {
	src, err := os.Open(r.source(im.Name))
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := r.mirror.Root.Begin(mirror.TmpPath(im.File), im.File)
	if err != nil {
		return err
	}
	defer dst.Discard()
	if dst.Clone(src) == nil {
		r.meter.Add(im.Size)
	} else {
		r.Log.Warn("the image cannot be linked into the mirror: it is copied and takes its space twice", "image", im.File, "reason", linkErr)
		if _, err := io.Copy(dst, r.meter.Reader(ctx, src)); err != nil {
			return err
		}
	}
	if err := r.unchanged(im.Image); err != nil {
		return err
	}
	if _, err := r.mirror.Root.Lstat(im.File); err == nil {
		return foreign(im.File)
	}
	if err := dst.Commit(); err != nil {
		return err
	}
	return r.copied(im.File)
}

// copied records the copy of an image in the mirror.
func (r *run) copied(file string) error {
	info, err := r.mirror.Root.Stat(file)
	if err != nil {
		return err
	}
	record := r.ledger.Of(file)
	record.Copy = state.StampOf(info)
	return r.ledger.Put(file, record)
}

// settleImages decides about the files in the mirror that have the name of an image
// and are not known to be that: what proves to be it is kept, or linked to it; what is
// the tool's own is replaced; anything else stays.
func (r *run) settleImages(ctx context.Context) error {
	var checked []*PlannedImage
	for i := range r.plan.Images {
		if im := &r.plan.Images[i]; im.Action == Check && r.wanted(im.Name) {
			checked = append(checked, im)
		}
	}
	var mu sync.Mutex
	right := make(map[*PlannedImage]bool)
	err := pool.Each(ctx, r.budget.jobs, checked, func(ctx context.Context, im *PlannedImage) error {
		digest, err := r.held(ctx, im.File)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		mu.Lock()
		defer mu.Unlock()
		right[im] = err == nil && digest == r.ledger.Of(im.File).Sums.BLAKE3 // what cannot be read is not
		return nil
	})
	if err != nil {
		return err
	}
	// One after the other: several can be links of one file, see renaming.
	var other []*PlannedImage
	for _, im := range checked {
		if !right[im] {
			other = append(other, im)
		} else if err := r.tolerate(ctx, r.takeImage(im), im.Name); err != nil {
			return err
		}
	}
	return r.replaceImages(ctx, other)
}

// held returns the digest of a file in the mirror, as it is known or read.
func (r *run) held(ctx context.Context, file string) (cksum.Digest256, error) {
	record, stamp := r.holds.Records[file], r.holds.Files[file]
	if record.Known(stamp) || record.Summed() && record.Copy == stamp {
		return record.Sums.BLAKE3, nil
	}
	f, err := r.mirror.Root.Open(file)
	if err != nil {
		return cksum.Digest256{}, err
	}
	defer f.Close()
	return r.digest(ctx, f)
}

// takeImage uses a file in the mirror that has the content of an image. If it is the
// tool's own, or a document named it and no record tells whose it is, it is taken over,
// and replaced by a link where that can be, so that it does not take its space twice.
func (r *run) takeImage(im *PlannedImage) error {
	record := r.ledger.Of(im.File)
	if !r.holds.Takes(im.File) {
		return r.keepCopy(im.File)
	}
	record.Placed, record.Unnamed = true, 0
	if err := r.ledger.Put(im.File, record); err != nil {
		return err
	}
	source, err := filepath.EvalSymlinks(r.source(im.Name))
	if err != nil {
		return err
	}
	tmp := mirror.TmpPath(im.File)
	if r.renaming(func() error { return r.mirror.Root.LinkFrom(source, tmp) }, im.Stamp.Inode) != nil {
		return r.keepCopy(im.File)
	}
	// What is there under its name is right: only what is right too takes its place.
	if err := cmp.Or(r.linked(im, tmp), r.mirror.Root.Sync(tmp)); err != nil {
		return err
	}
	return r.renaming(func() error { return r.mirror.Root.Rename(tmp, im.File) }, im.Stamp.Inode, r.holds.Files[im.File].Inode)
}

// keepCopy records a file in the mirror that is a copy of its image, once it is flushed.
func (r *run) keepCopy(file string) error {
	if err := r.mirror.Root.Sync(file); err != nil {
		return err
	}
	return r.copied(file)
}

// replaceImages replaces files in the mirror that are not the images of their names,
// if they are the tool's own.
func (r *run) replaceImages(ctx context.Context, images []*PlannedImage) error {
	var own []string
	for _, im := range images {
		if r.holds.Owns(im.File) {
			own = append(own, im.File)
		} else if err := r.tolerate(ctx, foreign(im.File), im.Name); err != nil {
			return err
		}
	}
	if err := r.withdrawn(ctx, own); err != nil {
		return err
	}
	for _, im := range images {
		if !slices.Contains(own, im.File) {
			continue
		}
		im.Action, im.Read = Replace, false
		if err := r.tolerate(ctx, r.linkImage(ctx, im), im.Name); err != nil {
			return err
		}
	}
	return r.mirror.Root.SyncDir(".")
}
