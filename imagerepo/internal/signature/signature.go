// Package signature makes the rdiff signatures of images that left the image directory,
// while the mirror still has their files, and removes those that no longer hold.
//
//	the mirror's file ----+---> signer ---> temporary file ----+---> .repo/signatures
//	                      |                                    |
//	                      +---> BLAKE3 ---> that of the record ? no: discarded
//
// # Which content a signature is of
//
// A signature names no content. It is of the content whose sums the record of its image
// has, and two rules keep that so:
//
//   - What Sign reads it also digests, and the signature gets its name only if the digest
//     is that of the record.
//   - Before the record of an image gets other sums than it has, or its first, the
//     signature is removed, and the disk has forgotten it: see Remove.
//
// So a signature whose image has no record with sums is of no use, and one whose image
// comes back with another content is gone before anything is known of that.
package signature

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path"
	"path/filepath"
	"slices"
	"sync"
	"syscall"

	"puavo-image-repository/cksum"
	"puavo-image-repository/delta"
	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/ledger"
	"puavo-image-repository/imagerepo/internal/meter"
	"puavo-image-repository/imagerepo/internal/mirror"
	"puavo-image-repository/imagerepo/internal/pool"
	"puavo-image-repository/imagerepo/plan"
	"puavo-image-repository/meta"
)

// errUnusable is wrapped by the error for a file in the mirror that is not, or is not any
// more, the image of its name.
var errUnusable = errors.New("to use it as a base, put the image into the image directory for one run")

// Signer signs images that left, from their files in the mirror.
type Signer struct {
	Root     atomicfile.Dir // the mirror
	Ledger   *ledger.Ledger
	Progress *meter.Meter // counts the bytes that are read, by the cost that it has
	Jobs     int          // how many images are signed concurrently
	Log      *slog.Logger
}

// Sign signs the images that a plan says to sign, and returns those that are not signed:
// their files in the mirror cannot be read, or have another content than their records
// say. It warns of each. An error is one of writing, or that of ctx; the signatures that
// were finished before it stay.
func (s *Signer) Sign(ctx context.Context, images []plan.Image) (unsigned []meta.Name, err error) {
	images = slices.DeleteFunc(slices.Clone(images), func(im plan.Image) bool { return !im.Sign })
	// The largest first, so that none is left to one core at the end.
	slices.SortStableFunc(images, func(a, b plan.Image) int { return cmp.Compare(b.Size, a.Size) })
	var mu sync.Mutex
	err = pool.Each(ctx, s.Jobs, images, func(ctx context.Context, im plan.Image) error {
		err := s.sign(ctx, im)
		switch {
		case errors.Is(err, errUnusable):
			s.Log.Warn("cannot sign an image that left, so it is no longer a base", "image", im.File, "reason", err)
			mu.Lock()
			defer mu.Unlock()
			unsigned = append(unsigned, im.Name)
			return nil
		case err != nil:
			return fmt.Errorf("signing %s: %w", im.File, err)
		}
		s.Log.Info("signed an image that left", "image", im.File)
		return nil
	})
	return unsigned, err
}

// sign writes the signature of an image, if its file has the content that the record
// says.
func (s *Signer) sign(ctx context.Context, im plan.Image) error {
	f, err := s.Root.Open(im.File)
	switch {
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return err // no fault of the file
	case err != nil:
		return fmt.Errorf("%w; %w", err, errUnusable)
	}
	defer f.Close()
	signature, err := s.Root.Begin(mirror.TmpPath(im.File+".sig"), mirror.SignaturePath(im.Name))
	if err != nil {
		return err
	}
	defer signature.Discard()
	defer s.Progress.Begin("image_sign", im.File)()
	// A byte more than there should be shows that the file is another.
	digest, err := write(signature, s.Progress.Reader(ctx, io.LimitReader(f, im.Size+1)))
	if err != nil {
		return cmp.Or(ctx.Err(), err)
	}
	if digest != s.Ledger.Of(im.File).Sums.BLAKE3 {
		return fmt.Errorf("%s differs from what was published under its name; %w", filepath.Join(s.Root.Name(), im.File), errUnusable)
	}
	return signature.Commit()
}

// write writes the signature of what is read and returns the digest of that.
func write(signature io.Writer, from io.Reader) (cksum.Digest256, error) {
	in, signer, digest := &source{from: from}, delta.NewSigner(signature, delta.Kept), cksum.NewBLAKE3()
	_, err := io.Copy(io.MultiWriter(signer, digest), in)
	if in.err != nil {
		return cksum.Digest256{}, fmt.Errorf("%w; %w", in.err, errUnusable)
	}
	return cksum.Digest256(digest.Sum(nil)), cmp.Or(err, signer.Close())
}

// source passes on what is read and keeps the error of that, so that a fault of the image
// is not taken for one of writing its signature.
type source struct {
	from io.Reader
	err  error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.from.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}

// Remove removes the signature of an image, if there is one. When it returns nil, no power
// cut brings back a signature, not even one that a run before has removed and not flushed.
func Remove(mirrorDir atomicfile.Dir, n meta.Name) error {
	file := mirror.SignaturePath(n)
	if _, err := mirrorDir.Lstat(file); err == nil {
		if err := mirrorDir.Remove(file); err != nil {
			return err
		}
	}
	return mirrorDir.SyncDir(path.Dir(file))
}
