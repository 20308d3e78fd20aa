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
	"puavo-image-repository/delta/compact"
	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/diskspace"
)

// ApplyOptions say what Apply does. Base, Deltas and Out are needed.
type ApplyOptions struct {
	Base   string   // path of the old image; "" if the first delta is a compact one that needs none
	Deltas []string // paths of the deltas, rdiff or compact, applied one after the other
	Out    string   // path of the new image, which must not exist
	// Digests that the new image must have; zero ones are not known. Each that is given is
	// computed and compared. If none is, no delta may make more than 64 GiB. A compact delta
	// has the digests of its base and of what it makes, and they are always compared.
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
// delta.ErrFormat or ErrVerify, for a wrong base of a compact one and a wrong result
// ErrVerify, and if the new image exists fs.ErrExist.
func Apply(ctx context.Context, o ApplyOptions) error {
	switch {
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
	a := &chain{options: o}
	size, err := a.open()
	if err != nil {
		return err
	}
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

// IsCompact reports whether a file is a compact delta, by how it begins. Such a delta has
// the digest of what it makes, which Apply compares.
func IsCompact(path string) bool {
	f, _, err := openRegular(path)
	if err != nil {
		return false
	}
	defer f.Close()
	magic := make([]byte, len(compact.Magic))
	_, err = io.ReadFull(f, magic)
	return err == nil && string(magic) == compact.Magic
}

// readCompact reads the head of a compact delta. It returns nil for a file that is none.
func readCompact(path string) (*compact.Delta, error) {
	f, size, err := openRegular(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	d, err := compact.Open(f)
	switch {
	case errors.Is(err, compact.ErrMagic):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("%w: %s: %w", ErrVerify, path, err)
	case d.Info().Length != size:
		return nil, fmt.Errorf("%w: %s has %d bytes, and says that it has %d", ErrVerify, path, size, d.Info().Length)
	}
	return d, nil
}

// open opens the old image, and returns its size.
func (a *chain) open() (size int64, err error) {
	if a.options.Base != "" {
		a.base, size, err = openRegular(a.options.Base)
		return size, err
	}
	first, err := readCompact(a.options.Deltas[0])
	if err != nil {
		return 0, err
	}
	if first == nil || first.Info().Base.Size > 0 {
		return 0, fmt.Errorf("ApplyOptions.Base: %s needs a base; give the path of the old image", a.options.Deltas[0])
	}
	a.base, err = os.Open(os.DevNull)
	return 0, err
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
		d, err := readCompact(path)
		if err != nil {
			return err
		}
		if d == nil {
			size, err = inspectRdiff(ctx, path, size)
		} else {
			size, err = inspectCompact(d, path, size)
		}
		if err != nil {
			return err
		}
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

// inspectRdiff reads an rdiff delta, and returns the size of what it makes of a base of size
// bytes.
func inspectRdiff(ctx context.Context, path string, size int64) (int64, error) {
	f, _, err := openRegular(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	stats, err := delta.Inspect(ctx, f)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", path, err)
	}
	if stats.BaseEnd > size {
		return 0, fmt.Errorf("%s: %w: it needs a base of %d bytes, this one has %d", path, delta.ErrFormat, stats.BaseEnd, size)
	}
	return stats.Target(), nil
}

// inspectCompact is inspectRdiff for a compact delta.
func inspectCompact(d *compact.Delta, path string, size int64) (int64, error) {
	if want := d.Info().Base.Size; want != size {
		return 0, fmt.Errorf("%w: %s needs a base of %d bytes, this one has %d", ErrVerify, path, want, size)
	}
	return d.Info().Target.Size, nil
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
	path := a.options.Deltas[i]
	f, _, err := openRegular(path)
	if err != nil {
		return err
	}
	defer f.Close()
	d, err := compact.Open(f)
	if err == nil {
		if err := d.Decode(ctx, f, a.base, io.MultiWriter(w, a), compact.DecodeOptions{}); err != nil {
			return fmt.Errorf("%s: %w", path, wrongAsVerify(err))
		}
		return nil
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	info, err := a.base.Stat()
	if err != nil {
		return err
	}
	base := io.NewSectionReader(a.base, 0, info.Size())
	if err := delta.Patch(ctx, io.MultiWriter(w, a), base, f, a.sizes[i]); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// wrongAsVerify returns the error for a compact delta that is malformed, or for another
// base, as an ErrVerify.
func wrongAsVerify(err error) error {
	if errors.Is(err, compact.ErrFormat) || errors.Is(err, compact.ErrBase) {
		return fmt.Errorf("%w: %w", ErrVerify, err)
	}
	return err
}

// Write counts the bytes that are made.
func (a *chain) Write(p []byte) (int, error) {
	a.done += int64(len(p))
	if a.options.Progress != nil {
		a.options.Progress(a.done, a.total)
	}
	return len(p), nil
}
