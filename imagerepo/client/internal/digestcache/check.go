package digestcache

import (
	"context"
	"crypto/sha512"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"

	"puavo-image-repository/cksum"
)

// ErrWrong is wrapped by the error for a file whose content is not what it should
// be.
var ErrWrong = errors.New("wrong content")

// Known is Check without reading: it reports whether a file is right, and whether
// that is known.
func (c *Cache) Known(file string, want cksum.Sums) (right, known bool) {
	info, err := c.dir.Lstat(file)
	if err != nil {
		return false, false
	}
	known, err = c.compare(file, info, want)
	return known && err == nil, known
}

// Check compares a file with its size and its digest: nil if they are right, an
// error that wraps ErrWrong if not. If the digest is not known, the file is read,
// with calls of progress, which may be nil. The digest that is taken is the BLAKE3
// if there is one to compare with, or else the SHA-512.
func (c *Cache) Check(ctx context.Context, file string, want cksum.Sums, progress func(done, total int64)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	info, err := c.dir.Lstat(file)
	if err != nil {
		return err
	}
	if known, err := c.compare(file, info, want); known {
		return err
	}
	e, err := c.digest(ctx, file, want, progress)
	if err != nil {
		return err
	}
	_, err = e.compare(file, want)
	return err
}

// compare is Check without reading. The error counts only if the result is known.
func (c *Cache) compare(file string, info fs.FileInfo, want cksum.Sums) (known bool, err error) {
	if !info.Mode().IsRegular() {
		return true, fmt.Errorf("%s: %w: it is no regular file", file, ErrWrong)
	}
	if info.Size() != want.Size {
		return true, fmt.Errorf("%s: %w: it has %d bytes, want %d", file, ErrWrong, info.Size(), want.Size)
	}
	e, known := c.contents.entry(file, info)
	if !known {
		return false, nil
	}
	return e.compare(file, want)
}

// compare compares an entry with a digest. The SHA-512 decides: images are verified
// by it when they are made.
func (e entry) compare(file string, want cksum.Sums) (known bool, err error) {
	var none cksum.Sums
	switch {
	case e.SHA512 != none.SHA512 && want.SHA512 != none.SHA512:
		if e.SHA512 != want.SHA512 {
			err = fmt.Errorf("%s: %w: its SHA-512 is %s, want %s", file, ErrWrong, e.SHA512, want.SHA512)
		}
	case e.BLAKE3 != none.BLAKE3 && want.BLAKE3 != none.BLAKE3:
		if e.BLAKE3 != want.BLAKE3 {
			err = fmt.Errorf("%s: %w: its BLAKE3 is %s, want %s", file, ErrWrong, e.BLAKE3, want.BLAKE3)
		}
	default:
		return false, fmt.Errorf("%s: no digest to compare it with", file)
	}
	return true, err
}

// digest takes the digest of a file, and remembers it with the stamp from before:
// if the file was changed since, nothing is known of it.
func (c *Cache) digest(ctx context.Context, file string, want cksum.Sums, progress func(done, total int64)) (entry, error) {
	f, err := c.dir.Open(file)
	if err != nil {
		return entry{}, err
	}
	defer f.Close()
	before, err := f.Stat()
	if err != nil {
		return entry{}, err
	}
	e := entry{stamp: stampOf(before)}
	var h hash.Hash
	var sum []byte
	if (want.BLAKE3 != cksum.Digest256{}) {
		h, sum = cksum.NewBLAKE3(), e.BLAKE3[:0]
	} else {
		h, sum = sha512.New(), e.SHA512[:0]
	}
	if err := read(ctx, h, f, file, want.Size, progress); err != nil {
		return entry{}, err
	}
	h.Sum(sum)
	c.contents.add(file, e)
	c.save()
	return e, nil
}

// read digests size bytes, which must be all.
func read(ctx context.Context, h hash.Hash, f io.Reader, file string, size int64, progress func(done, total int64)) error {
	buf := make([]byte, 1<<20)
	var done int64
	for {
		n, err := f.Read(buf)
		done += int64(n)
		h.Write(buf[:n])
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case done > size || err == io.EOF && done < size:
			return fmt.Errorf("%s: %w: its size was changed while it was read", file, ErrWrong)
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		}
		if progress != nil {
			progress(done, size)
		}
	}
}
