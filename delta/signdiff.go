package delta

import (
	"bytes"
	"context"
	"io"
	"runtime"

	"puavo-image-repository/delta/internal/blocks"
	"puavo-image-repository/delta/internal/match"
)

// Blocks knows the blocks of a base by its signature. It is not changed once it
// is made, so any number of goroutines may Diff against it at the same time, until
// Close.
type Blocks struct {
	Signature
	table *blocks.Table
}

// LoadSignature reads a signature, and prepares it on all cores to be looked up.
// Besides the signature itself, to which the result refers and which must stay as
// it is, it takes 7 to 16 bytes of memory a block. Errors in the signature wrap
// ErrFormat; those of a mapped file that became shorter are ErrChanged.
func LoadSignature(ctx context.Context, signature []byte) (b *Blocks, err error) {
	err = match.Guard(func() error {
		b, err = loadSignature(ctx, signature)
		return err
	})
	return b, err
}

func loadSignature(ctx context.Context, signature []byte) (*Blocks, error) {
	s, err := readHeader(bytes.NewReader(signature))
	if err != nil {
		return nil, err
	}
	sums := signature[signatureHeader:]
	if err := s.count(int64(len(sums))); err != nil {
		return nil, err
	}
	form := blocks.Form{Weak: s.weak(), MD4: s.md4(), BlockLen: s.BlockLen, StrongLen: s.StrongLen}
	table, err := blocks.New(ctx, form, sums, runtime.GOMAXPROCS(0))
	if err != nil {
		return nil, err
	}
	return &Blocks{s, table}, nil
}

// Close gives back the memory, which is outside of Go's heap. It is called once,
// when nobody uses the blocks any more.
func (b *Blocks) Close() { b.table.Close() }

// Diff writes to dst the delta that makes target from the signature's base. It is
// made of whole blocks, as rdiff's, and does what Index.Diff does in all else.
// That copies are right is as sure as the strong sums are long.
func (b *Blocks) Diff(ctx context.Context, dst io.Writer, target []byte, progress func(n int)) (Stats, error) {
	// Short pieces need little of the target in memory; but to begin one costs as
	// much as a block's length.
	piece := max(256<<10, 32*b.BlockLen)
	return encode(ctx, dst, target, piece, progress, func() finder { return b.table.NewFinder(target) })
}
