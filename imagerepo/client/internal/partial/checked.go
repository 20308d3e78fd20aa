package partial

import (
	"context"
	"crypto/sha512"
	"fmt"
	"hash"
	"io"

	"puavo-image-repository/cksum"
)

// checked compares a stream with its size and a digest.
type checked struct {
	name     string
	want     cksum.Sums
	size     int64
	digest   digest                  // nil if its beginning was not seen: then the size alone is compared
	progress func(done, total int64) // may be nil
}

// newChecked compares with the SHA-512.
func newChecked(name string, want cksum.Sums, progress func(done, total int64)) *checked {
	return &checked{name: name, want: want, digest: newBeside(), progress: progress}
}

// newCheckedFast compares with the BLAKE3, which takes a quarter of the time, if it
// is known.
func newCheckedFast(name string, want cksum.Sums) *checked {
	if (want.BLAKE3 == cksum.Digest256{}) {
		return newChecked(name, want, nil)
	}
	return &checked{name: name, want: want, digest: cksum.NewBLAKE3()}
}

// Write counts and digests p. It refuses what goes beyond the size.
func (c *checked) Write(p []byte) (int, error) {
	if c.size += int64(len(p)); c.size > c.want.Size {
		return 0, fmt.Errorf("%w: %s has more than its %d bytes", ErrVerify, c.name, c.want.Size)
	}
	if c.progress != nil {
		c.progress(c.size, c.want.Size)
	}
	if c.digest == nil {
		return len(p), nil
	}
	return c.digest.Write(p)
}

// goOn has what is written be what comes after the first bytes, so many of them.
func (c *checked) goOn(after int64) { c.size, c.digest = after, nil }

// check returns an error if what was written is not all, or not right.
func (c *checked) check() error {
	if c.size != c.want.Size {
		return fmt.Errorf("%w: %s has %d bytes, want %d", ErrVerify, c.name, c.size, c.want.Size)
	}
	if c.digest == nil {
		return nil
	}
	switch sum := c.digest.Sum(nil); {
	case len(sum) == len(c.want.SHA512) && cksum.Digest512(sum) != c.want.SHA512:
		return fmt.Errorf("%w: %s has another SHA-512", ErrVerify, c.name)
	case len(sum) == len(c.want.BLAKE3) && cksum.Digest256(sum) != c.want.BLAKE3:
		return fmt.Errorf("%w: %s has another BLAKE3", ErrVerify, c.name)
	}
	return nil
}

// checkedReader gives the error of check instead of the end.
type checkedReader struct {
	ctx context.Context
	r   io.Reader
	c   *checked
}

func (r *checkedReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := r.r.Read(p)
	if _, tooLong := r.c.Write(p[:n]); tooLong != nil {
		return 0, tooLong
	}
	if err == io.EOF {
		if wrong := r.c.check(); wrong != nil {
			return n, wrong
		}
	} else if err != nil { // wrapped, a cut connection is not mistaken for a cut delta
		err = fmt.Errorf("%s: %w", r.c.name, err)
	}
	return n, err
}

// contextReader ends with its context.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (r *contextReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}

// digest is what is used of a hash.Hash.
type digest interface {
	io.Writer
	Sum(b []byte) []byte
}

// beside is a SHA-512 that is taken beside what its user does meanwhile.
type beside struct {
	hash hash.Hash
	buf  []byte
	idle chan struct{} // holds something while nothing is digested
}

func newBeside() *beside {
	b := &beside{hash: sha512.New(), idle: make(chan struct{}, 1)}
	b.idle <- struct{}{}
	return b
}

// Write has p digested; it may be changed then.
func (b *beside) Write(p []byte) (int, error) {
	<-b.idle
	b.buf = append(b.buf[:0], p...)
	// Whatever is called next waits for its end.
	go func() {
		b.hash.Write(b.buf)
		b.idle <- struct{}{}
	}()
	return len(p), nil
}

// Sum appends the digest of all that was written.
func (b *beside) Sum(p []byte) []byte {
	<-b.idle
	defer func() { b.idle <- struct{}{} }()
	return b.hash.Sum(p)
}
