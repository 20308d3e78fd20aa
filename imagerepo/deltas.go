package imagerepo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"puavo-image-repository/cksum"
	"puavo-image-repository/delta"
	"puavo-image-repository/delta/mapfile"
	"puavo-image-repository/imagerepo/internal/mirror"
	"puavo-image-repository/imagerepo/internal/pool"
	"puavo-image-repository/imagerepo/internal/state"
	"puavo-image-repository/meta"
)

// indexMemory bounds the index of one base, in bytes; there are as many as jobs.
const indexMemory = 64 << 20

// errTooLarge ends a diff whose delta is not worth having.
var errTooLarge = errors.New("the delta is too large")

// makeDeltas makes or checks the deltas of the plan, grouped by base so that a
// base is indexed once.
func (r *run) makeDeltas(ctx context.Context) error {
	var groups [][]PlannedDelta
	for _, d := range r.plan.Deltas {
		if n := len(groups); n > 0 && groups[n-1][0].Base == d.Base {
			groups[n-1] = append(groups[n-1], d)
		} else {
			groups = append(groups, []PlannedDelta{d})
		}
	}
	return pool.Each(ctx, r.Jobs, groups, r.makeGroup)
}

// makeGroup deals with the deltas from one base.
func (r *run) makeGroup(ctx context.Context, deltas []PlannedDelta) error {
	b := &base{run: r, name: deltas[0].Base}
	defer b.close()
	for _, d := range deltas {
		if err := b.deal(ctx, d); err != nil {
			return fmt.Errorf("delta %s: %w", d.File, err)
		}
	}
	return nil
}

// base is the base of a group of deltas, mapped and indexed when first needed.
type base struct {
	*run
	name  meta.Name
	index *delta.Index
	unmap func() error
}

func (b *base) close() {
	if b.index != nil {
		b.index.Close()
	}
	if b.unmap != nil {
		b.unmap()
	}
}

// deal does what is to be done about one delta, now that all digests are known.
func (b *base) deal(ctx context.Context, d PlannedDelta) error {
	record := b.record(d.File)
	baseSums, targetSums := b.record(b.name.String()).Sums, b.record(d.Target.String()).Sums
	var file state.Stamp
	if info, err := b.mirror.Root.Stat(meta.DeltaPath(d.File)); err == nil {
		file = state.StampOf(info)
	}
	action := b.Policy.decide(record, file, baseSums, targetSums)
	fresh := &state.Record{Base: baseSums.BLAKE3, Target: targetSums.BLAKE3}
	var err error
	switch action {
	case Keep:
		b.meter.add(d.cost())
	case Drop:
		b.meter.add(d.cost())
		if !record.Dropped {
			fresh.Dropped, fresh.Sums.Size = true, record.Sums.Size
			err = b.put(d.File, fresh)
		}
	case Check:
		err = b.check(ctx, d, fresh)
		if errors.Is(err, errNotRight) {
			b.Log.Info("the delta in the mirror is not right and is made anew", "delta", d.File, "reason", err)
			action, err = Make, b.make(ctx, d, fresh)
		} else if err == nil {
			b.meter.add(d.TargetSize) // the diff that was saved
		}
	case Make:
		err = b.make(ctx, d, fresh)
	}
	if err != nil {
		return err
	}
	b.report(d, action)
	return nil
}

// cost is the work of a delta as the meter counts it: the target is diffed, and
// made once more to verify the delta.
func (d PlannedDelta) cost() int64 { return 2 * d.TargetSize }

// make makes a delta, verifies it, and puts it into the mirror.
func (b *base) make(ctx context.Context, d PlannedDelta, record *state.Record) error {
	// Whatever happens from here on, the file is known as the tool's own.
	if err := b.put(d.File, &state.Record{}); err != nil {
		return err
	}
	f, err := b.mirror.Root.Begin(mirror.TmpPath(d.File), meta.DeltaPath(d.File))
	if err != nil {
		return err
	}
	defer f.Discard()
	sums, err := b.diff(ctx, d, f)
	if errors.Is(err, errTooLarge) {
		b.meter.add(d.TargetSize) // the verification that was saved
		b.Log.Info("the delta is not published: it is too large a share of its image",
			"delta", d.File, "limit", b.Policy.MaxRatio)
		record.Dropped, record.Sums.Size = true, sums.Size
		return b.put(d.File, record)
	} else if err != nil {
		return err
	}
	if err := b.verify(ctx, d, io.NewSectionReader(f, 0, sums.Size)); err != nil {
		return err
	}
	if err := f.Commit(); err != nil {
		return err
	}
	return b.publish(d, sums, record)
}

// publish records a delta that is in the mirror.
func (b *base) publish(d PlannedDelta, sums cksum.Sums, record *state.Record) error {
	info, err := b.mirror.Root.Stat(meta.DeltaPath(d.File))
	if err != nil {
		return err
	}
	record.Stamp, record.Sums = state.StampOf(info), sums
	return b.put(d.File, record)
}

// diff writes the delta to f and returns its digests. It gives up with
// errTooLarge, and the size reached, when the delta is not worth having.
func (b *base) diff(ctx context.Context, d PlannedDelta, f io.Writer) (cksum.Sums, error) {
	hash := cksum.New()
	w := &limited{w: io.MultiWriter(f, hash), tooLarge: func(size int64) bool { return b.Policy.tooLarge(size, d.TargetSize) }}
	target, unmap, err := mapfile.Open(b.source(d.Target))
	if err != nil {
		return cksum.Sums{}, err
	}
	defer unmap()
	if err = b.open(ctx); err == nil {
		_, err = b.index.Diff(ctx, w, target, func(n int) { b.meter.add(int64(n)) })
	}
	switch {
	case errors.Is(err, errTooLarge):
		return cksum.Sums{Size: w.size}, err
	case errors.Is(err, delta.ErrChanged):
		return cksum.Sums{}, cmp.Or(b.changed(d), err)
	}
	return hash.Sums(), err
}

// open maps and indexes the base.
func (b *base) open(ctx context.Context) error {
	if b.index != nil {
		return nil
	}
	data, unmap, err := mapfile.Open(b.source(b.name))
	if err != nil {
		return err
	}
	b.unmap = unmap
	b.index, err = delta.NewIndex(ctx, data, delta.Options{Memory: indexMemory, Effort: b.Effort})
	return err
}

// changed returns which of the two images of a delta changed, if one did.
func (b *base) changed(d PlannedDelta) error {
	for _, n := range []meta.Name{d.Base, d.Target} {
		if err := b.unchanged(Image{n, b.record(n.String()).Stamp}); err != nil {
			return err
		}
	}
	return nil
}

// errNotRight is wrapped by the error for a delta that does not make its target.
var errNotRight = errors.New("the delta does not make its image")

// verify applies a delta with the second implementation and compares the
// result's digest with the target's.
func (b *base) verify(ctx context.Context, d PlannedDelta, r io.Reader) error {
	f, err := os.Open(b.source(b.name))
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	digest := cksum.NewBLAKE3()
	err = delta.Verify(ctx, &counter{digest, b.meter}, f, info.Size(), r, d.TargetSize)
	if err == nil && cksum.Digest256(digest.Sum(nil)) != b.record(d.Target.String()).Sums.BLAKE3 {
		err = errors.New("another digest")
	}
	if err == nil || ctx.Err() != nil {
		return err
	}
	if changed := b.changed(d); changed != nil {
		return changed
	}
	return fmt.Errorf("%w: %w", errNotRight, err)
}

// check verifies a delta that is in the mirror and records it if it is right.
func (b *base) check(ctx context.Context, d PlannedDelta, record *state.Record) error {
	f, err := b.mirror.Root.Open(meta.DeltaPath(d.File))
	if err != nil {
		return err
	}
	defer f.Close()
	hash := cksum.New()
	if err := b.verify(ctx, d, io.TeeReader(f, hash)); err != nil {
		return err
	}
	sums := hash.Sums()
	if b.Policy.tooLarge(sums.Size, d.TargetSize) {
		return fmt.Errorf("%w as it is wanted: it is too large a share of it", errNotRight)
	}
	return b.publish(d, sums, record)
}

// limited passes on what is written to it until that becomes too large.
type limited struct {
	w        io.Writer
	size     int64
	tooLarge func(size int64) bool
}

func (l *limited) Write(p []byte) (int, error) {
	l.size += int64(len(p))
	if l.tooLarge(l.size) {
		return 0, errTooLarge
	}
	return l.w.Write(p)
}
