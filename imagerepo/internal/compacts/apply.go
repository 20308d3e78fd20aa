package compacts

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"puavo-image-repository/cksum"
	"puavo-image-repository/delta/compact"
	"puavo-image-repository/imagerepo/internal/state"
)

var (
	// ErrOther is wrapped by the error for a compact delta from another base, or to another
	// target.
	ErrOther = errors.New("it is of other images")
	// ErrWrong is wrapped by the errors for what is no compact delta, or does not make its target.
	ErrWrong = errors.New("it does not make its image")
)

// Images are those of a compact delta.
type Images struct {
	Base, Target cksum.Sums  // of which the sizes and BLAKE3 count; Base is zero if it needs none
	From         io.ReaderAt // the base; nil if it needs none
	Cores        int         // how many are used; 0 is all that the process may use
}

// Apply applies the compact delta that r holds whole and writes its target to w, with up to
// 128 MiB of memory. It reads the base first, to be sure of it. The target proved to
// have its BLAKE3 if there is no error. Errors are those of ctx, of r, base and w, and those
// that wrap ErrOther, before anything is written, and ErrWrong. It returns what applying takes.
func Apply(ctx context.Context, r io.Reader, images Images, w io.Writer) (state.Compact, error) {
	failing := &source{r: r}
	d, err := compact.Open(failing)
	if err != nil {
		return state.Compact{}, failing.judge(ctx, err)
	}
	info, from := d.Info(), images.From
	if from == nil {
		from = bytes.NewReader(nil)
		images.Base = cksum.Sums{BLAKE3: emptyBLAKE3()}
	}
	if info.Target.Size != images.Target.Size || info.Target.BLAKE3 != images.Target.BLAKE3 {
		return state.Compact{}, fmt.Errorf("%w: it makes another target", ErrOther)
	}
	if info.Base.Size != images.Base.Size || info.Base.BLAKE3 != images.Base.BLAKE3 {
		return state.Compact{}, fmt.Errorf("%w: it starts from another base", ErrOther)
	}
	if err := d.Decode(ctx, failing, from, w, compact.DecodeOptions{Cores: images.Cores}); err != nil {
		return state.Compact{}, failing.judge(ctx, err)
	}
	if n, err := io.CopyN(io.Discard, failing, 1); n > 0 {
		return state.Compact{}, fmt.Errorf("%w: more follows its end", ErrWrong)
	} else if !errors.Is(err, io.EOF) {
		return state.Compact{}, err
	}
	return state.Compact{Memory: info.Memory, Coded: info.Coded, Unpacked: info.Unpacked}, nil
}

func emptyBLAKE3() cksum.Digest256 { return cksum.Digest256(cksum.NewBLAKE3().Sum(nil)) }

// source remembers an error of what it reads.
type source struct {
	r   io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}

// judge returns an error that wraps ErrWrong if it is the compact delta's fault.
func (s *source) judge(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case s.err != nil:
		return s.err
	case errors.Is(err, compact.ErrMagic), errors.Is(err, compact.ErrFormat), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%w: %w", ErrWrong, err)
	case errors.Is(err, compact.ErrBase):
		return fmt.Errorf("%w: %w", ErrOther, err)
	}
	return err
}
