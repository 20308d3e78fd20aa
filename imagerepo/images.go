package imagerepo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

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
			return fmt.Errorf("%w: %s: puavo-conf definitions: %w; make the image anew or move it away", ErrInput, r.source(im.Name), err)
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
		if err := r.withdraw(im.Name); err != nil {
			return err
		}
	}
	record := r.record(im.File)
	record.Copy = state.Stamp{}
	if err := r.put(im.File, record); err != nil {
		return err
	}
	source, err := filepath.EvalSymlinks(r.source(im.Name))
	if err != nil {
		return err
	}
	linkErr := os.Link(source, filepath.Join(r.MirrorDir, im.File))
	if linkErr == nil {
		r.meter.add(im.Size)
		return nil
	}
	return r.copyImage(ctx, im, source, linkErr)
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
	if unix.IoctlFileClone(int(dst.Fd()), int(src.Fd())) == nil {
		r.meter.add(im.Size)
	} else {
		r.Log.Warn("the image cannot be linked into the mirror: it is copied and takes its space twice", "image", im.File, "reason", linkErr)
		if _, err := io.Copy(dst.File, &reader{ctx, src, r.meter}); err != nil {
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

// withdraw takes an image out of what is published and out of the mirror.
func (r *run) withdraw(n meta.Name) error {
	if err := r.unpublish(n); err != nil {
		return err
	}
	return r.mirror.Root.Remove(n.String())
}

// unpublish takes an image out of the meta, with all deltas from and to it, so
// that no client finds another content than the meta says.
func (r *run) unpublish(n meta.Name) error {
	docs, err := fs.Glob(r.mirror.Root.FS(), mirror.MetaDir+"/*.json")
	if err != nil {
		return err
	}
	for _, doc := range docs {
		data, err := r.mirror.Root.ReadFile(doc)
		if err != nil {
			return err
		}
		s, err := meta.ParseSeries(data)
		if err != nil || !without(&s, n) {
			continue // not ours, or it does not name the image
		}
		if data, err = s.Encode(); err != nil {
			return err
		}
		if err := r.writeFile(doc, data); err != nil {
			return err
		}
	}
	return nil
}

// readImages reads the images that are to be read for their digests and
// signatures. One that was overwritten in place, and so in the mirror too, is no
// longer published until its deltas are made anew.
func (r *run) readImages(ctx context.Context) error {
	var images []PlannedImage
	before := make(map[string]cksum.Sums)
	for _, im := range r.plan.Images {
		if im.Read {
			images = append(images, im)
			before[im.File] = r.record(im.File).Sums
		}
	}
	if err := r.readAll(ctx, images); err != nil {
		return err
	}
	for _, im := range images {
		if old := before[im.File]; old != (cksum.Sums{}) && old != r.record(im.File).Sums {
			if err := r.unpublish(im.Name); err != nil {
				return fmt.Errorf("withdrawing %s: %w", im.File, err)
			}
		}
	}
	return nil
}

func (r *run) readAll(ctx context.Context, images []PlannedImage) error {
	return pool.Each(ctx, r.Jobs, images, func(ctx context.Context, im PlannedImage) error {
		if err := r.readImage(ctx, im); err != nil {
			return fmt.Errorf("reading %s: %w", r.source(im.Name), err)
		}
		return nil
	})
}

// readImage reads an image once, for its digests and its signature.
func (r *run) readImage(ctx context.Context, im PlannedImage) error {
	f, err := os.Open(r.source(im.Name))
	if err != nil {
		return err
	}
	defer f.Close()
	signature, err := r.mirror.Root.Begin(mirror.TmpPath(im.File+".sig"), mirror.SignaturePath(im.Name))
	if err != nil {
		return err
	}
	defer signature.Discard()
	signer := delta.NewSigner(signature, delta.Kept)
	sums, err := cksum.Read(ctx, io.TeeReader(&reader{ctx, f, r.meter}, signer))
	if err != nil {
		return err
	}
	if err := r.unchanged(im.Image); err != nil {
		return err
	}
	if err := signer.Close(); err != nil {
		return err
	}
	if err := signature.Commit(); err != nil {
		return err
	}
	record := r.record(im.File)
	record.Stamp, record.Sums, record.Conf = im.Stamp, sums, r.confs[im.Name]
	return r.put(im.File, record)
}
