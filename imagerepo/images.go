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
	"sync"

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
// first since it is quick and its errors are the administrator's to mend: the plan
// is made once more without the series that they concern.
func (r *run) readConfs(ctx context.Context) error {
	failed := len(r.failed)
	for _, im := range r.plan.Images {
		if !im.Read || im.Touched {
			continue
		}
		if err := r.tolerate(ctx, r.readConf(ctx, im.Image), im.Name); err != nil {
			return err
		}
	}
	if len(r.failed) > failed {
		return cmp.Or(ctx.Err(), r.planAgain())
	}
	return ctx.Err()
}

// readConf reads the puavo-conf of an image.
func (r *run) readConf(ctx context.Context, im Image) error {
	f, err := os.Open(r.source(im.Name))
	if err != nil {
		return err
	}
	defer f.Close()
	conf, err := puavoconf.Read(ctx, f, im.Stamp.Size)
	if errors.Is(err, puavoconf.ErrNone) {
		r.Log.Warn("no puavo-conf, {} is published", "image", im.Name.String(), "reason", err)
		conf, err = map[string]json.RawMessage{}, nil
	}
	if err != nil {
		return fmt.Errorf("%w: %s: puavo-conf definitions: %w; copy or make the image again, or move it away", ErrInput, r.source(im.Name), err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.confs[im.Name] = conf
	return nil
}

// compareImages compares the images that were touched with what is known of them, by
// the fastest digest. One that was overwritten in place, and so in the mirror too, is
// not published any more, until it is read and its deltas are made again.
func (r *run) compareImages(ctx context.Context) error {
	var touched []*PlannedImage
	for i := range r.plan.Images {
		if im := &r.plan.Images[i]; im.Touched {
			touched = append(touched, im)
		}
	}
	var mu sync.Mutex
	var other []string
	err := pool.Each(ctx, r.budget.jobs, touched, func(ctx context.Context, im *PlannedImage) error {
		same, err := r.compareImage(ctx, im)
		if err == nil && !same {
			mu.Lock()
			other = append(other, im.File)
			mu.Unlock()
			err = r.readConf(ctx, im.Image)
		}
		return r.tolerate(ctx, err, im.Name)
	})
	if err != nil {
		return err
	}
	other = slices.DeleteFunc(other, func(file string) bool { // a copy, or another file, is as it was
		return !slices.ContainsFunc(touched, func(im *PlannedImage) bool { return im.File == file && im.Action == Keep })
	})
	return r.withdrawn(ctx, other)
}

// compareImage reports whether a touched image is what is known of it: then it need
// not be read. Whoever touched it may have written it.
func (r *run) compareImage(ctx context.Context, im *PlannedImage) (same bool, err error) {
	f, err := os.Open(r.source(im.Name))
	if err != nil {
		return false, err
	}
	defer f.Close()
	record := r.ledger.Of(im.File)
	digest, err := r.digest(ctx, f)
	if err == nil {
		err = r.unchanged(im.Image)
	}
	if err != nil || digest != record.Sums.BLAKE3 {
		return false, err
	}
	if im.Action == Keep {
		if err := r.mirror.Root.Sync(im.File); err != nil {
			return false, err
		}
	}
	im.Read = false
	record.Stamp = im.Stamp
	return true, r.ledger.Put(im.File, record)
}

// digest returns the fastest digest of a file.
func (r *run) digest(ctx context.Context, f io.Reader) (cksum.Digest256, error) {
	digest := cksum.NewBLAKE3()
	_, err := io.Copy(digest, r.meter.Reader(ctx, f))
	return cksum.Digest256(digest.Sum(nil)), err
}

// readImages reads the images that are to be read for their digests and
// signatures. Those that prove to be other than what is published are withdrawn.
func (r *run) readImages(ctx context.Context) error {
	var images []PlannedImage
	for _, im := range r.plan.Images {
		if im.Read && r.wanted(im.Name) {
			images = append(images, im)
		}
	}
	// The largest first, so that none is left to one core at the end.
	slices.SortStableFunc(images, func(a, b PlannedImage) int { return cmp.Compare(b.Size, a.Size) })
	err := pool.Each(ctx, r.budget.jobs, images, func(ctx context.Context, im PlannedImage) error {
		err := r.readImage(ctx, im)
		if err != nil {
			err = fmt.Errorf("reading %s: %w", r.source(im.Name), err)
		}
		return r.tolerate(ctx, err, im.Name)
	})
	if err != nil {
		return err
	}
	var other []string
	for _, im := range images {
		sums, published := r.docs.Sums(im.File)
		if record := r.ledger.Of(im.File); published && im.Action == Keep && record.Sums.SHA512 != sums.SHA512 {
			other = append(other, im.File)
		}
	}
	return r.withdrawn(ctx, other)
}

// readImage reads an image for its digests and its signature.
func (r *run) readImage(ctx context.Context, im PlannedImage) error {
	f, err := os.Open(r.source(im.Name))
	if err != nil {
		return err
	}
	defer f.Close()
	sums, err := r.sign(ctx, f, im)
	if err != nil {
		return err
	}
	record := r.ledger.Of(im.File)
	record.Sums = sums
	if before := r.holds.Records[im.File]; im.Action == Check && (before == nil || before.Sums != sums) {
		record.Copy = state.Stamp{} // what is in the mirror is a copy of another content
	}
	if err := r.unchanged(im.Image); err != nil {
		return err
	}
	if im.Action == Keep || im.Action == Link || im.Action == Replace { // whoever made it may not have flushed it
		if err := r.mirror.Root.Sync(im.File); err != nil {
			return err
		}
	}
	record.Stamp, record.Conf = im.Stamp, r.confs[im.Name]
	if im.Action == Keep && r.holds.Takes(im.File) {
		record.Placed = true // it is the same file
	}
	return r.ledger.Put(im.File, record)
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
	if record := r.ledger.Of(im.File); record.Sums != (cksum.Sums{}) {
		if record.Sums = (cksum.Sums{}); im.Action == Check {
			record.Copy = state.Stamp{}
		}
		if err := r.ledger.Put(im.File, record); err != nil {
			return cksum.Sums{}, err
		}
	}
	return sums, signature.Commit()
}
