package compactdelta

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"

	"puavo-image-repository/cksum"
	"puavo-image-repository/delta"
	"puavo-image-repository/delta/compact"
	"puavo-image-repository/delta/compact/squashfs"
	"puavo-image-repository/delta/mmap"
	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/compacts"
	"puavo-image-repository/imagerepo/internal/mirror"
	"puavo-image-repository/meta"
)

var errImage = errors.New("it is not what is published of it, or changed while it was read; build again")

// faults are the errors for which one compact delta is left out, and the others are made.
var faults = []error{
	errImage, compacts.ErrWrong, compacts.ErrOther, compact.ErrChanged, fs.ErrNotExist, atomicfile.ErrNotRegular,
	syscall.ENOSPC, syscall.EDQUOT,
}

func isFault(err error) bool {
	for _, fault := range faults {
		if errors.Is(err, fault) {
			return true
		}
	}
	return false
}

// encode makes a compact delta. It is a variable since tests have one that makes wrong ones.
var encode = compact.Encode

// maker makes compact deltas, and changes nothing that is published.
type maker struct {
	mirror *mirror.Mirror
	effort delta.Effort
	work   *progress
}

// made is a compact delta that makes its target, in a file without a name.
type made struct {
	file     *os.File
	info     compact.Info
	sums     cksum.Sums
	believed bool // it was applied by workers alone
}

func (m *made) Close() error { return m.file.Close() }

// make makes a compact delta of images of the mirror, and applies it. Whoever calls it closes
// what it returns.
func (k *maker) make(ctx context.Context, d Delta) (_ *made, err error) {
	base, target, err := k.open(d)
	if err != nil {
		return nil, err
	}
	defer func() { err = cmp.Or(err, base.close(), target.close()) }()
	f, err := k.mirror.Scratch()
	if err != nil {
		return nil, err
	}
	m := &made{file: f}
	if err = k.encode(ctx, m, d, base, target); err == nil {
		err = k.apply(ctx, m, d, base)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return m, nil
}

// encode writes the compact delta into the file of m.
func (k *maker) encode(ctx context.Context, m *made, d Delta, base, target *image) (err error) {
	defer k.work.making(d)()
	digests := cksum.New()
	m.info, err = encode(ctx, io.MultiWriter(m.file, digests), base.Image, target.Image, compact.Options{
		Memory: d.Need.index + int64(d.Need.cores)*searchMemory, Effort: k.effort, Cores: d.Need.cores, Scratch: k.mirror.Scratch,
	})
	if err != nil {
		return fmt.Errorf("making it: %w", err)
	}
	m.sums = digests.Sums()
	for _, im := range []struct {
		*image
		is compact.Object
	}{{base, m.info.Base}, {target, m.info.Target}} {
		if im.name != (meta.Name{}) && im.is != (compact.Object{Size: im.sums.Size, BLAKE3: im.sums.BLAKE3}) {
			return fmt.Errorf("%s: %w", im.name, errImage)
		}
	}
	return nil
}

// apply applies the compact delta as it is in its file, and compares what it makes.
func (k *maker) apply(ctx context.Context, m *made, d Delta, base *image) error {
	defer k.work.checking(d)()
	file := bufio.NewReaderSize(io.NewSectionReader(m.file, 0, m.sums.Size+1), 1<<20)
	images := compacts.Images{Base: d.base, Target: d.target, Cores: d.Need.cores}
	if !d.isFull() {
		images.From = base
	}
	digest := cksum.NewBLAKE3()
	made := &counter{w: digest, done: func(n int64) { k.work.checked(d, n) }}
	if _, err := compacts.Apply(ctx, file, images, made); err != nil {
		return fmt.Errorf("applying it: %w", err)
	}
	if made.n != d.target.Size || cksum.Digest256(digest.Sum(nil)) != d.target.BLAKE3 {
		return compacts.ErrWrong
	}
	return nil
}

// counter passes on what is written to it, and counts it.
type counter struct {
	w    io.Writer
	n    int64
	done func(n int64)
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	c.done(c.n)
	return n, err
}

// image is an image of the mirror, mapped, and with what is published of it.
type image struct {
	compact.Image
	io.ReaderAt
	name  meta.Name
	sums  cksum.Sums
	close func() error
}

// open opens base and target, the first empty if there is none.
func (k *maker) open(d Delta) (base, target *image, err error) {
	base = &image{close: func() error { return nil }}
	if d.Base != (meta.Name{}) {
		if base, err = k.openOne(d.Base, d.base); err != nil {
			return nil, nil, err
		}
	}
	if target, err = k.openOne(d.Target, d.target); err != nil {
		base.close()
		return nil, nil, err
	}
	return base, target, nil
}

func (k *maker) openOne(name meta.Name, sums cksum.Sums) (*image, error) {
	f, err := k.mirror.Root.Open(name.String())
	if err != nil {
		return nil, err
	}
	bytes, unmap, err := mmap.Map(f)
	if err != nil {
		f.Close()
		return nil, err
	}
	im := &image{ReaderAt: f, name: name, sums: sums, close: func() error { return cmp.Or(unmap(), f.Close()) }}
	im.Bytes = bytes
	if int64(len(bytes)) != sums.Size || sums.BLAKE3 == (cksum.Digest256{}) {
		err = fmt.Errorf("%s: %w", name, errImage)
	} else {
		err = mmap.Guard(func() error { im.Blocks = squashfs.Blocks(bytes); return nil })
	}
	if err != nil {
		im.close()
		return nil, err
	}
	return im, nil
}
