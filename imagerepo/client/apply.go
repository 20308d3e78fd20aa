package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"

	"puavo-image-repository/cksum"
	"puavo-image-repository/delta"
	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/diskspace"
)

// ApplyOptions say what Apply does. Base, Deltas and Out are needed.
type ApplyOptions struct {
	Base   string   // path of the old image
	Deltas []string // paths of the deltas, applied one after the other
	Out    string   // path of the new image, which must not exist
	// Digests that the new image must have; zero ones are not known. Each that is given is
	// computed and compared. If none is, no delta may make more than 64 GiB.
	BLAKE3 cksum.Digest256
	SHA256 cksum.Digest256
	SHA512 cksum.Digest512
	// Progress, which may be nil, is called with the bytes made so far and the bytes to
	// make, of the new image and those on the way to it. The calls come from several
	// goroutines, but one at a time.
	Progress func(done, total int64)
}

// sums returns the digests that the new image must have.
func (o ApplyOptions) sums() cksum.Sums {
	return cksum.Sums{BLAKE3: o.BLAKE3, SHA256: o.SHA256, SHA512: o.SHA512}
}

// maxUnknown is the size in bytes of the largest image that is made if no digest of it
// is known: a delta of a few bytes can make an image of any size.
const maxUnknown = 64 << 30

// Apply makes an image offline from an old one and deltas. The new image gets its
// name when it is complete and verified; images between two deltas have no name.
// Nothing is written if there is no room for the largest two that follow each other;
// the error then wraps syscall.ENOSPC. For a malformed delta it wraps
// delta.ErrFormat, for a wrong result ErrVerify, and if the new image exists
// fs.ErrExist.
func Apply(ctx context.Context, o ApplyOptions) error {
	switch {
	case o.Base == "":
		return errors.New("ApplyOptions.Base: want the path of the old image")
	case len(o.Deltas) == 0:
		return errors.New("ApplyOptions.Deltas: no deltas to apply")
	case o.Out == "":
		return errors.New("ApplyOptions.Out: want the path of the new image")
	}
	if _, err := os.Lstat(o.Out); err == nil {
		return fmt.Errorf("%s: %w; remove it or choose another name", o.Out, fs.ErrExist)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	base, size, err := openRegular(o.Base)
	if err != nil {
		return err
	}
	a := &chain{options: o, base: base}
	defer func() { a.base.Close() }()
	if err := a.inspect(ctx, size); err != nil {
		return err
	}
	if a.out, err = atomicfile.Open(filepath.Dir(o.Out)); err != nil {
		return err
	}
	defer a.out.Close()
	if err := a.checkRoom(); err != nil {
		return err
	}
	return a.make(ctx)
}

// openRegular opens a regular file, and returns its size. Another kind of file is an
// error; a pipe does not make it wait.
func openRegular(path string) (*os.File, int64, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file; give the path of one", path)
	}
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, info.Size(), nil
}

// chain is the state of one Apply.
type chain struct {
	options     ApplyOptions
	base        *os.File       // the old image, or the last one that was made
	out         atomicfile.Dir // of options.Out
	sizes       []int64        // of the images that the deltas make
	done, total int64
}

// inspect reads the deltas before anything is written: they must be well formed, and
// each must fit the size of its base. size is that of the old image.
func (a *chain) inspect(ctx context.Context, size int64) error {
	for _, path := range a.options.Deltas {
		f, _, err := openRegular(path)
		if err != nil {
			return err
		}
		stats, err := delta.Inspect(ctx, f)
		f.Close()
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		if stats.BaseEnd > size {
			return fmt.Errorf("%s: %w: it needs a base of %d bytes, this one has %d", path, delta.ErrFormat, stats.BaseEnd, size)
		}
		size = stats.Target()
		if a.options.sums() == (cksum.Sums{}) && size > maxUnknown {
			return fmt.Errorf("%s makes %d bytes; without a digest of the new image, at most %d are allowed", path, size, int64(maxUnknown))
		}
		if size > math.MaxInt64-a.total {
			return fmt.Errorf("%s: %w: with the deltas before, it makes 2^63 bytes or more", path, delta.ErrFormat)
		}
		a.sizes = append(a.sizes, size)
		a.total += size
	}
	return nil
}

// checkRoom returns an error if there is no room for the images.
func (a *chain) checkRoom() error {
	free, err := diskspace.Free(a.out)
	if err != nil {
		return err
	}
	var need, before int64
	for _, size := range a.sizes {
		need, before = max(need, before+size), size
	}
	if need > free {
		return fmt.Errorf("%s: %w: the deltas need %d bytes at once, and %d are free; make room there or choose another directory", a.out.Name(), syscall.ENOSPC, need, free)
	}
	return nil
}

// make makes the new image.
func (a *chain) make(ctx context.Context) error {
	last := len(a.options.Deltas) - 1
	for i := range last {
		next, err := a.between(ctx, i)
		if err != nil {
			return err
		}
		a.base.Close()
		a.base = next
	}
	name := filepath.Base(a.options.Out)
	out, err := a.out.Begin(fmt.Sprintf(".%s.%x.tmp", name, rand.Uint64()), name) // another process may make it too
	if err != nil {
		return err
	}
	defer out.Discard()
	digests := cksum.NewFor(a.options.sums())
	if err := a.step(ctx, last, io.MultiWriter(out, digests)); err != nil {
		return err
	}
	if _, err := digests.Sums().Compare(a.options.sums()); err != nil {
		return fmt.Errorf("%w: the image made from %s: %w; is it the right base?", ErrVerify, a.options.Base, err)
	}
	if err := ctx.Err(); err != nil { // it may have ended with the last byte
		return err
	}
	return out.Commit()
}

// between makes an image between two deltas, in a file without a name.
func (a *chain) between(ctx context.Context, i int) (*os.File, error) {
	f, err := a.out.Scratch()
	if err != nil {
		return nil, err
	}
	if err := a.step(ctx, i, f); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// step applies one delta.
func (a *chain) step(ctx context.Context, i int, w io.Writer) error {
	f, _, err := openRegular(a.options.Deltas[i])
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := a.base.Stat()
	if err != nil {
		return err
	}
	base := io.NewSectionReader(a.base, 0, info.Size())
	if err := delta.Patch(ctx, io.MultiWriter(w, a), base, f, a.sizes[i]); err != nil {
		return fmt.Errorf("%s: %w", a.options.Deltas[i], err)
	}
	return nil
}

// Write counts the bytes that are made.
func (a *chain) Write(p []byte) (int, error) {
	a.done += int64(len(p))
	if a.options.Progress != nil {
		a.options.Progress(a.done, a.total)
	}
	return len(p), nil
}
