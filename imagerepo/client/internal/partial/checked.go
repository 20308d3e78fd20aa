package partial

import (
	"context"
	"crypto/sha512"
	"encoding"
	"fmt"
	"hash"
	"io"

	"puavo-image-repository/cksum"
)

// checked compares a stream with its size and SHA-512.
type checked struct {
	name     string
	want     cksum.Sums
	size     int64
	digest   *digest
	progress func(done, total int64) // may be nil
}

func newChecked(name string, want cksum.Sums, progress func(done, total int64)) *checked {
	return &checked{name: name, want: want, digest: newDigest(), progress: progress}
}

// Write counts and digests p. It refuses what goes beyond the size.
func (c *checked) Write(p []byte) (int, error) {
	if c.size += int64(len(p)); c.size > c.want.Size {
		return 0, fmt.Errorf("%w: %s has more than its %d bytes", ErrVerify, c.name, c.want.Size)
	}
	if c.progress != nil {
		c.progress(c.size, c.want.Size)
	}
	return c.digest.Write(p)
}

// check returns an error if what was written is not all, or not right.
func (c *checked) check() error {
	if c.size != c.want.Size {
		return fmt.Errorf("%w: %s has %d bytes, want %d", ErrVerify, c.name, c.size, c.want.Size)
	}
	if cksum.Digest512(c.digest.wait().Sum(nil)) != c.want.SHA512 {
		return fmt.Errorf("%w: %s has another SHA-512", ErrVerify, c.name)
	}
	return nil
}

// checkedReader gives the error of check instead of the end.
type checkedReader struct {
	ctx   context.Context
	r     io.Reader
	c     *checked
	known int64 // bytes that come first and have been checked before
}

func (r *checkedReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := r.r.Read(p)
	known := min(r.known, int64(n))
	r.known -= known
	if _, tooLong := r.c.Write(p[known:n]); tooLong != nil {
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

// digest is a SHA-512 that is taken beside what its user does meanwhile.
type digest struct {
	hash hash.Hash
	buf  []byte
	idle chan struct{} // holds something while nothing is digested
}

func newDigest() *digest {
	d := &digest{hash: sha512.New(), idle: make(chan struct{}, 1)}
	d.idle <- struct{}{}
	return d
}

// Write has p digested; it may be changed then.
func (d *digest) Write(p []byte) (int, error) {
	<-d.idle
	d.buf = append(d.buf[:0], p...)
	// Whatever is called next waits for its end.
	go func() {
		d.hash.Write(d.buf)
		d.idle <- struct{}{}
	}()
	return len(p), nil
}

// wait returns the hash when all is digested.
func (d *digest) wait() hash.Hash {
	<-d.idle
	d.idle <- struct{}{}
	return d.hash
}

// state returns what restore goes on from.
func (d *digest) state() ([]byte, error) { return d.wait().(encoding.BinaryMarshaler).MarshalBinary() }

func (d *digest) restore(state []byte) error {
	return d.wait().(encoding.BinaryUnmarshaler).UnmarshalBinary(state)
}
