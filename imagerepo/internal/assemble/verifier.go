package assemble

import (
	"context"
	"fmt"
	"io"
	"time"

	"puavo-image-repository/cksum"
)

// verifier compares what is written to it with a size and a digest, the fastest of
// those that the document names.
type verifier struct {
	name     string // in errors
	want     cksum.Sums
	size     int64                   // bytes written
	digest   *cksum.Hash             // nil after skip: then the size alone is compared
	passed   bool                    // the digest was compared, and is right
	progress func(done, total int64) // may be nil
}

func newVerifier(name string, want cksum.Sums, progress func(done, total int64)) *verifier {
	want = want.Fastest()
	return &verifier{name: name, want: want, digest: cksum.NewFor(want), progress: progress}
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
	comparable, wrong := v.digest.Sums().Compare(v.want)
	if wrong != nil {
		return fmt.Errorf("%w: %s: %w", ErrVerify, v.name, wrong)
	}
	if !comparable {
		return fmt.Errorf("%w: %s: no digest of it is known", ErrVerify, v.name)
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
	// came, which may be nil, is called with the bytes of each read, and how long it took.
	came func(n int, waited time.Duration)
}

func (r *verifyingReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	begun := time.Now()
	n, err := r.r.Read(p)
	if r.came != nil {
		r.came(n, time.Since(begun))
	}
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
