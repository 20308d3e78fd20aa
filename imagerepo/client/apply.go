package client

import (
	"context"
	"crypto/sha512"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"puavo-image-repository/cksum"
	"puavo-image-repository/delta"
	"puavo-image-repository/imagerepo/internal/atomicfile"
)

// ApplyOptions say what Apply is to do.
type ApplyOptions struct {
	Base   string   // path of the old image
	Deltas []string // paths of the deltas, applied one after the other
	Out    string   // path of the new image, which must not be there
	// SHA512 is the new image's; the zero digest means that it is not known.
	SHA512 cksum.Digest512
	// Progress, which may be nil, is called with the bytes that were made and that
	// are to be made, of all images on the way.
	Progress func(done, total int64)
}

// Apply makes an image offline from an old one and deltas. The new image gets
// its name when it is complete and verified; images between two deltas are never
// seen. Deltas that are malformed wrap delta.ErrFormat, and a new image that is
// there already fs.ErrExist.
func Apply(ctx context.Context, o ApplyOptions) error {
	if len(o.Deltas) == 0 {
		return errors.New("no deltas to apply")
	}
	if _, err := os.Lstat(o.Out); err == nil {
		return fmt.Errorf("%s: %w; remove it or give another name", o.Out, fs.ErrExist)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	a, err := inspect(ctx, o)
	if err != nil {
		return err
	}
	root, err := os.OpenRoot(filepath.Dir(o.Out))
	if err != nil {
		return err
	}
	defer root.Close()
	base, err := os.Open(o.Base)
	if err != nil {
		return err
	}
	defer func() { base.Close() }()
	for i := range len(o.Deltas) - 1 {
		next, err := a.between(ctx, i, base)
		if err != nil {
			return err
		}
		base.Close()
		base = next
	}
	name := filepath.Base(o.Out)
	out, err := atomicfile.Dir{Root: root}.Begin("."+name+".tmp", name)
	if err != nil {
		return err
	}
	defer out.Discard()
	digest := sha512.New()
	if err := a.step(ctx, len(o.Deltas)-1, base, io.MultiWriter(out.File, digest)); err != nil {
		return err
	}
	if got := cksum.Digest512(digest.Sum(nil)); o.SHA512 != (cksum.Digest512{}) && got != o.SHA512 {
		return fmt.Errorf("%w: what the deltas make of %s has the SHA-512 %s; is it the right base?", ErrVerify, o.Base, got)
	}
	if err := ctx.Err(); err != nil { // it may have ended with the last byte
		return err
	}
	return out.Commit()
}

// chain is what is known of the deltas of one Apply.
type chain struct {
	ApplyOptions
	sizes       []int64 // of what each delta makes
	done, total int64
}

// inspect reads the deltas before anything is written: they must be well formed,
// and each must fit what the one before makes.
func inspect(ctx context.Context, o ApplyOptions) (*chain, error) {
	info, err := os.Stat(o.Base)
	if err != nil {
		return nil, err
	}
	a := &chain{ApplyOptions: o}
	size := info.Size()
	for _, path := range o.Deltas {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		stats, err := delta.Inspect(ctx, f)
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if stats.BaseEnd > size {
			return nil, fmt.Errorf("%s: %w: it needs a base of %d bytes, this one has %d", path, delta.ErrFormat, stats.BaseEnd, size)
		}
		size = stats.Target()
		a.sizes = append(a.sizes, size)
		a.total += size
	}
	return a, nil
}

// between makes the image between two deltas, in a file without a name.
func (a *chain) between(ctx context.Context, i int, base *os.File) (*os.File, error) {
	f, err := os.CreateTemp(filepath.Dir(a.Out), ".between-*")
	if err != nil {
		return nil, err
	}
	err = os.Remove(f.Name())
	if err == nil {
		err = a.step(ctx, i, base, f)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// step applies one delta.
func (a *chain) step(ctx context.Context, i int, base *os.File, w io.Writer) error {
	f, err := os.Open(a.Deltas[i])
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := base.Stat()
	if err != nil {
		return err
	}
	if err := delta.Patch(ctx, io.MultiWriter(w, a), base, info.Size(), f, a.sizes[i]); err != nil {
		return fmt.Errorf("%s: %w", a.Deltas[i], err)
	}
	return nil
}

// Write counts what is made.
func (a *chain) Write(p []byte) (int, error) {
	a.done += int64(len(p))
	if a.Progress != nil {
		a.Progress(a.done, a.total)
	}
	return len(p), nil
}
