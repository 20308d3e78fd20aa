package imagerepo

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"puavo-image-repository/cksum"
	"puavo-image-repository/delta"
	"puavo-image-repository/imagerepo/internal/mirror"
	"puavo-image-repository/imagerepo/internal/pool"
	"puavo-image-repository/imagerepo/internal/puavoconf"
	"puavo-image-repository/imagerepo/internal/state"
	"puavo-image-repository/meta"
)

// ErrChanged is wrapped by the error for an image that is not what it was when
// the run began.
var ErrChanged = errors.New("changed while it was read; run again when it is complete")

// source returns the path of an image in the image directory.
func (r *run) source(n meta.Name) string { return filepath.Join(r.ImageDir, n.String()) }

// unchanged reports, as an error, that an image is not the one that was
// scanned.
func (r *run) unchanged(im Image) error {
	info, err := os.Stat(r.source(im.Name))
	if err == nil && state.StampOf(info) == im.Stamp {
		return nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return fmt.Errorf("%s %w", r.source(im.Name), ErrChanged)
}

// readConfs reads the puavo-conf of the images that are to be read. It goes
// first since it is quick and its errors are the administrator's to mend.
func (r *run) readConfs(ctx context.Context) error {
	for _, im := range r.plan.Images {
		if !im.Read {
			continue
		}
		conf, err := r.readConf(ctx, im.Image)
		if err != nil {
			return fmt.Errorf("%w: %s: puavo-conf definitions: %w; copy or make the image anew, or move it away", ErrInput, r.source(im.Name), err)
		}
		r.confs[im.Name] = conf
	}
	return ctx.Err()
}

func (r *run) readConf(ctx context.Context, im Image) (map[string]json.RawMessage, error) {
	f, err := os.Open(r.source(im.Name))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	conf, err := puavoconf.Read(ctx, f, im.Stamp.Size)
	if errors.Is(err, puavoconf.ErrNone) {
		r.Log.Warn("no puavo-conf, {} is published", "image", im.Name.String(), "reason", err)
		return map[string]json.RawMessage{}, nil
	}
	return conf, err
}

// linkImages puts the images into the mirror.
func (r *run) linkImages(ctx context.Context) error {
	if err := r.withdrawReplaced(ctx); err != nil {
		return err
	}
	for _, im := range r.plan.Images {
		if im.Action != Link && im.Action != Replace {
			continue
		}
		if err := r.linkImage(ctx, im); err != nil {
			return fmt.Errorf("putting %s into the mirror: %w", im.File, err)
		}
	}
	return r.mirror.Root.SyncDir(".")
}

func (r *run) linkImage(ctx context.Context, im PlannedImage) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if im.Action == Replace {
		if err := r.mirror.Root.Remove(im.File); err != nil {
			return err
		}
	}
	record := r.record(im.File)
	record.Copy, record.Unnamed = state.Stamp{}, 0
	if err := r.put(im.File, record); err != nil {
		return err
	}
	source, err := filepath.EvalSymlinks(r.source(im.Name))
	if err != nil {
		return err
	}
	if info, err := os.Stat(source); err == nil && info.Mode()&0o004 == 0 {
		r.Log.Warn("others may not read this image, nor perhaps does a web server; chmod it to 0644", "file", source)
	}
	linkErr := r.mirror.Root.LinkFrom(source, im.File)
	if linkErr == nil {
		r.meter.Add(im.Size)
		return r.linked(im)
	}
	return r.copyImage(ctx, im, source, linkErr)
}

// linked makes sure that a link in the mirror is of the image that was scanned.
func (r *run) linked(im PlannedImage) error {
	info, err := r.mirror.Root.Lstat(im.File)
	if err == nil && state.StampOf(info) != im.Stamp {
		err = errors.Join(fmt.Errorf("%s %w", r.source(im.Name), ErrChanged), r.mirror.Root.Remove(im.File))
	}
	return err
}

// copyImage copies an image into the mirror, sharing its blocks where the file
// system can.
func (r *run) copyImage(ctx context.Context, im PlannedImage, source string, linkErr error) error {
	src, err := os.Open(source)
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
	if err := dst.Commit(); err != nil {
		return err
	}
	info, err := r.mirror.Root.Stat(im.File)
	if err != nil {
		return err
	}
	record := r.record(im.File)
	record.Copy = state.StampOf(info)
	return r.put(im.File, record)
}

// readImages reads the images that are to be read for their digests and
// signatures.
func (r *run) readImages(ctx context.Context) error {
	var images []PlannedImage
	for _, im := range r.plan.Images {
		if im.Read {
			images = append(images, im)
		}
	}
	// The largest first, so that none is left to one core at the end.
	slices.SortStableFunc(images, func(a, b PlannedImage) int { return cmp.Compare(b.Size, a.Size) })
	return pool.Each(ctx, r.budget.jobs, images, func(ctx context.Context, im PlannedImage) error {
		if err := r.readImage(ctx, im); err != nil {
			return fmt.Errorf("reading %s: %w", r.source(im.Name), err)
		}
		return nil
	})
}

// readImage reads an image for its digests and its signature. One that is known
// and was only touched, or copied anew, is recognised by the fastest digest. One
// that was overwritten in place, and so in the mirror too, is not published any
// more, until its deltas are made anew.
func (r *run) readImage(ctx context.Context, im PlannedImage) error {
	f, err := os.Open(r.source(im.Name))
	if err != nil {
		return err
	}
	defer f.Close()
	record := r.record(im.File)
	same := false
	if im.Touched {
		if same, err = r.same(ctx, f, record.Sums.BLAKE3); err == nil && !same {
			err = r.unpublishOther(ctx, im.Name, cksum.Sums{})
		}
		if err != nil {
			return err
		}
	}
	if !same {
		if record.Sums, err = r.sign(ctx, f, im); err != nil {
			return err
		}
	}
	if err := r.unchanged(im.Image); err != nil {
		return err
	}
	if im.Action != BaseOnly { // whoever made it may not have flushed it, and the meta is to name it
		if err := r.mirror.Root.Sync(im.File); err != nil {
			return err
		}
	}
	if err := r.unpublishOther(ctx, im.Name, record.Sums); err != nil {
		return err
	}
	record.Stamp, record.Conf = im.Stamp, r.confs[im.Name]
	return r.put(im.File, record)
}

// same reports whether a file has that digest, and rewinds it.
func (r *run) same(ctx context.Context, f *os.File, want cksum.Digest256) (bool, error) {
	digest := cksum.NewBLAKE3()
	if _, err := io.Copy(digest, r.meter.Reader(ctx, f)); err != nil {
		return false, err
	}
	_, err := f.Seek(0, io.SeekStart)
	return cksum.Digest256(digest.Sum(nil)) == want, err
}

// sign writes the signature of an image and returns the image's digests.
func (r *run) sign(ctx context.Context, f io.Reader, im PlannedImage) (cksum.Sums, error) {
	signature, err := r.mirror.Root.Begin(mirror.TmpPath(im.File+".sig"), mirror.SignaturePath(im.Name))
	if err != nil {
		return cksum.Sums{}, err
	}
	defer signature.Discard()
	signer := delta.NewSigner(signature, delta.Kept)
	sums, err := cksum.Read(ctx, io.TeeReader(r.meter.Reader(ctx, f), signer))
	if err != nil {
		return cksum.Sums{}, err
	}
	if err := signer.Close(); err != nil {
		return cksum.Sums{}, err
	}
	if err := r.unchanged(im.Image); err != nil {
		return cksum.Sums{}, err
	}
	// Until the record tells of this content, no signature may stand for another.
	if record := r.record(im.File); record.Sums != (cksum.Sums{}) {
		record.Sums = cksum.Sums{}
		if err := r.put(im.File, record); err != nil {
			return cksum.Sums{}, err
		}
	}
	return sums, signature.Commit()
}
