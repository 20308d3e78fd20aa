package assemble

import (
	"context"
	"crypto/sha512"
	"fmt"
	"hash"
	"io"

	"puavo-image-repository/cksum"
)

// verifier compares what is written to it with a size and a digest.
type verifier struct {
	name     string // in errors
	want     cksum.Sums
	size     int64                   // bytes written
	digest   digest                  // nil after skip: then the size alone is compared
	passed   bool                    // the digest was compared, and is right
	progress func(done, total int64) // may be nil
}

// digest is what a verifier uses of a hash.Hash.
type digest interface {
	io.Writer
	Sum(b []byte) []byte
}

// newVerifier returns a verifier that compares the SHA-512.
func newVerifier(name string, want cksum.Sums, progress func(done, total int64)) *verifier {
	return &verifier{name: name, want: want, digest: newBackgroundSHA512(), progress: progress}
}

// newFastVerifier returns a verifier that compares the BLAKE3, which takes a
// quarter of the time, if it is known, or else the SHA-512.
func newFastVerifier(name string, want cksum.Sums) *verifier {
	if (want.BLAKE3 == cksum.Digest256{}) {
		return newVerifier(name, want, nil)
	}
	return &verifier{name: name, want: want, digest: cksum.NewBLAKE3()}
}

// Write counts and digests p. It refuses what exceeds the size.
func (v *verifier) Write(p []byte) (int, error) {
	if v.size += int64(len(p)); v.size > v.want.Size {
		return 0, fmt.Errorf("%w: %s has more than its %d bytes", ErrVerify, v.name, v.want.Size)
	}
	if v.progress != nil {
		v.progress(v.size, v.want.Size)
	}
	if v.digest == nil {
		return len(p), nil
	}
	return v.digest.Write(p)
}

// skip counts n bytes at the beginning that are not seen.
func (v *verifier) skip(n int64) { v.size, v.digest = n, nil }

// check returns an error if what was written is incomplete or wrong.
func (v *verifier) check() error {
	if v.size != v.want.Size {
		return fmt.Errorf("%w: %s has %d bytes, want %d", ErrVerify, v.name, v.size, v.want.Size)
	}
	if v.digest == nil {
		return nil
	}
	switch sum := v.digest.Sum(nil); {
	case len(sum) == len(v.want.SHA512) && cksum.Digest512(sum) != v.want.SHA512:
		return fmt.Errorf("%w: %s has another SHA-512", ErrVerify, v.name)
	case len(sum) == len(v.want.BLAKE3) && cksum.Digest256(sum) != v.want.BLAKE3:
		return fmt.Errorf("%w: %s has another BLAKE3", ErrVerify, v.name)
	}
	v.passed = true
	return nil
}

// verifyingReader returns the verifier's error in place of io.EOF.
type verifyingReader struct {
	ctx context.Context
	r   io.Reader
	v   *verifier
	// left, which may be nil, is called with the bytes that are left. Its error ends
	// the reading.
	left func(bytes int64) error
}

func (r *verifyingReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := r.r.Read(p)
	if _, tooLong := r.v.Write(p[:n]); tooLong != nil {
		return 0, tooLong
	}
	if err == io.EOF {
		if wrong := r.v.check(); wrong != nil {
			return n, wrong
		}
	} else if err != nil {
		err = readError{err}
	} else if r.left != nil {
		err = r.left(r.v.want.Size - r.v.size)
	}
	return n, err
}

// readError is an error of a mirror. As it is wrapped, a broken connection is not
// mistaken for a truncated delta.
type readError struct{ error }

func (e readError) Unwrap() error { return e.error }

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

// backgroundSHA512 is a SHA-512 that hashes one buffer in a goroutine while its
// user fills the next.
type backgroundSHA512 struct {
	hash hash.Hash
	buf  []byte
	idle chan struct{} // holds a token, and is empty while buf is hashed
}

func newBackgroundSHA512() *backgroundSHA512 {
	b := &backgroundSHA512{hash: sha512.New(), idle: make(chan struct{}, 1)}
	b.idle <- struct{}{}
	return b
}

// Write copies p and begins to hash it. It waits for the call before.
func (b *backgroundSHA512) Write(p []byte) (int, error) {
	<-b.idle
	b.buf = append(b.buf[:0], p...)
	// The next call waits for its end.
	go func() {
		b.hash.Write(b.buf)
		b.idle <- struct{}{}
	}()
	return len(p), nil
}

// Sum appends the digest of all that was written.
func (b *backgroundSHA512) Sum(p []byte) []byte {
	<-b.idle
	defer func() { b.idle <- struct{}{} }()
	return b.hash.Sum(p)
}
