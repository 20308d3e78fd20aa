package imagerepo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"puavo-image-repository/cksum"
	"puavo-image-repository/delta"
	"puavo-image-repository/delta/mmap"
	"puavo-image-repository/imagerepo/internal/meter"
	"puavo-image-repository/imagerepo/internal/state"
	"puavo-image-repository/meta"
)

// errNotRight is wrapped by the error for a delta that does not make its target.
var errNotRight = errors.New("the delta does not make its image")

// verify applies a delta, of size bytes, with the second implementation, and
// compares the result's digest with the target's. What it reads is written to
// seen too. It needs the base open.
func (b *base) verify(ctx context.Context, d PlannedDelta, r io.ReaderAt, size int64, seen io.Writer) error {
	err := b.apply(ctx, d, r, size, seen)
	if ctx.Err() != nil {
		return err
	}
	// What is mapped by now may be another than what was read for its digests.
	if changed := b.changed(d); changed != nil {
		return changed
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errNotRight, err)
	}
	return nil
}

func (b *base) apply(ctx context.Context, d PlannedDelta, r io.ReaderAt, size int64, seen io.Writer) error {
	var content delta.Source = io.NewSectionReader(bytes.NewReader(b.content), 0, d.baseSize)
	if blocks, retired := b.index.(*delta.Blocks); retired {
		target, unmap, err := mmap.Open(b.source(d.Target))
		if err != nil {
			return err
		}
		defer unmap()
		if content, err = blocks.Recall(ctx, target, d.baseSize, io.NewSectionReader(r, 0, size)); err != nil {
			return err
		}
	}
	digest := cksum.NewBLAKE3()
	in := io.TeeReader(io.NewSectionReader(r, 0, size), seen)
	err := delta.Verify(ctx, b.meter.Writer(digest), content, in, d.TargetSize)
	if err == nil && cksum.Digest256(digest.Sum(nil)) != b.ledger.Of(d.Target.String()).Sums.BLAKE3 {
		err = errors.New("another digest")
	}
	return err
}

// check verifies a delta that is in the mirror, of which no record tells that it
// is right. If it is not, it is made.
func (b *base) check(ctx context.Context, d PlannedDelta, record *state.Record) (rest func() error, err error) {
	sums, err := b.checked(ctx, d)
	switch {
	case errors.Is(err, errNotRight) && !b.holds.Owns(d.File):
		return nil, b.omit(d, fmt.Errorf("%s is there and not right, and %w", meta.DeltaPath(d.File), errForeign))
	case errors.Is(err, errNotRight):
		b.Log.Info("the delta in the mirror is not right and is made again", "delta", d.File, "reason", err)
		return b.make(ctx, d, record)
	case err != nil:
		return nil, err
	}
	b.meter.Add(d.TargetSize) // the diff that was saved
	if tooLarge := b.Policy.tooLarge(sums.Size, d.TargetSize); tooLarge && !b.holds.Takes(d.File) {
		return nil, b.omit(d, fmt.Errorf("%s is there and larger than it may be, and %w", meta.DeltaPath(d.File), errForeign))
	} else if tooLarge {
		return func() error { return b.drop(d, &state.Record{Sums: sums}, record) }, nil
	}
	record.Foreign = !b.holds.Takes(d.File)
	return func() error { return b.adoptDelta(d, sums, record) }, nil
}

// checked returns the digests of a delta in the mirror that is right.
func (b *base) checked(ctx context.Context, d PlannedDelta) (cksum.Sums, error) {
	f, err := b.mirror.Root.Open(meta.DeltaPath(d.File))
	if err != nil {
		return cksum.Sums{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err == nil && b.retired {
		err = b.makeIndex(ctx, d)
	} else if err == nil {
		err = b.open()
	}
	if err != nil {
		return cksum.Sums{}, err
	}
	if b.holds.Owns(d.File) && b.Policy.tooLarge(info.Size(), d.TargetSize) {
		return cksum.Sums{}, fmt.Errorf("%w as it is wanted: it is too large a share of it", errNotRight)
	}
	hash := cksum.New()
	if err := b.verify(ctx, d, f, info.Size(), hash); err != nil {
		return cksum.Sums{}, err
	}
	return hash.Sums(), nil
}

// compare reports whether a delta of which the record has another stamp is still the
// one that proved right, by the fastest digest. fresh has what it is to be made of.
func (b *base) compare(ctx context.Context, d PlannedDelta, record *state.Record, file state.Stamp, fresh *state.Record) (bool, error) {
	of := record.Base == fresh.Base && record.Target == fresh.Target
	if !of || record.Dropped || !record.Summed() || record.Sums.Size != file.Size || b.Policy.tooLarge(file.Size, d.TargetSize) {
		return false, nil
	}
	f, err := b.mirror.Root.Open(meta.DeltaPath(d.File))
	if err != nil {
		return false, err
	}
	defer f.Close()
	digest := cksum.NewBLAKE3()
	if _, err := io.Copy(digest, meter.New(0, nil).Reader(ctx, f)); err != nil {
		return false, err
	}
	if cksum.Digest256(digest.Sum(nil)) != record.Sums.BLAKE3 {
		return false, nil
	}
	b.meter.Add(d.cost())
	b.Log.Info("the delta is what it was", "delta", d.File)
	return true, nil
}

// adoptDelta records a delta that is in the mirror and right. Whoever put it there may
// not have flushed it.
func (b *base) adoptDelta(d PlannedDelta, sums cksum.Sums, record *state.Record) error {
	if err := b.mirror.Root.Sync(meta.DeltaPath(d.File)); err != nil {
		return err
	}
	return b.take(d, Check, sums, record)
}
