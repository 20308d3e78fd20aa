package imagerepo

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"

	"puavo-image-repository/cksum"
	"puavo-image-repository/delta"
	"puavo-image-repository/delta/mapfile"
	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/mirror"
	"puavo-image-repository/imagerepo/internal/pool"
	"puavo-image-repository/imagerepo/internal/state"
	"puavo-image-repository/meta"
)

// errTooLarge ends a diff whose delta is not worth having.
var errTooLarge = errors.New("the delta is too large")

// makeDeltas makes or checks the deltas of the plan, grouped by base so that a
// base is mapped and indexed once. The groups with the most to do come first, so
// that none of them is left to one core at the end.
func (r *run) makeDeltas(ctx context.Context) error {
	groups := r.plan.groups()
	work := func(g []PlannedDelta) (n int64) {
		for _, d := range g {
			if d.open() {
				n += d.cost()
			}
		}
		return n
	}
	slices.SortStableFunc(groups, func(a, b []PlannedDelta) int { return cmp.Compare(work(b), work(a)) })
	return pool.Within(ctx, r.budget.jobs, r.budget.memory-runMemory, groups, r.budget.need, r.makeGroup)
}

// makeGroup deals with the deltas from one base. While a delta is verified, the
// next one is made.
func (r *run) makeGroup(ctx context.Context, deltas []PlannedDelta) error {
	b := &base{run: r, name: deltas[0].Base, retired: deltas[0].Retired}
	defer b.close()
	return pool.Pipe(ctx, deltas, func(ctx context.Context, d PlannedDelta) (func() error, error) {
		verify, err := b.deal(ctx, d)
		if err != nil {
			return nil, fmt.Errorf("delta %s: %w", d.File, err)
		}
		return func() error {
			if err := verify(); err != nil {
				return fmt.Errorf("delta %s: %w", d.File, err)
			}
			return nil
		}, nil
	})
}

// base is the base of a group of deltas, opened when first needed: the image, or
// of a retired one its signature.
type base struct {
	*run
	name    meta.Name
	retired bool
	content []byte // mapped: of the image or of the signature
	unmap   func() error
	index   interface {
		Diff(ctx context.Context, dst io.Writer, target []byte, progress func(n int)) (delta.Stats, error)
		Close()
	}
}

func (b *base) close() {
	if b.index != nil {
		b.index.Close()
	}
	if b.unmap != nil {
		b.unmap()
	}
}

// deal does what is to be done about one delta, now that all digests are known,
// and returns what is left to do beside the next.
func (b *base) deal(ctx context.Context, d PlannedDelta) (rest func() error, err error) {
	record := b.record(d.File)
	baseSums, targetSums := b.record(b.name.String()).Sums, b.record(d.Target.String()).Sums
	var file state.Stamp
	if info, err := b.mirror.Root.Stat(meta.DeltaPath(d.File)); err == nil {
		file = state.StampOf(info)
	}
	fresh := &state.Record{Base: baseSums.BLAKE3, Target: targetSums.BLAKE3, Unnamed: record.Unnamed}
	switch b.Policy.decide(record, file, baseSums, targetSums) {
	case Keep:
		b.meter.Add(d.cost())
		return func() error { b.report(d, Keep); return nil }, nil
	case Drop:
		b.meter.Add(d.cost())
		return func() error { return b.drop(d, record, fresh) }, nil
	case Check:
		return b.check(ctx, d, fresh)
	default:
		return b.make(ctx, d, fresh)
	}
}

// cost is the work of a delta as the meter counts it: the target is diffed, and
// made once more to verify the delta.
func (d PlannedDelta) cost() int64 { return 2 * d.TargetSize }

// drop takes down that a delta is not worth having any more.
func (b *base) drop(d PlannedDelta, record, fresh *state.Record) error {
	if !record.Dropped {
		fresh.Dropped, fresh.Sums.Size = true, record.Sums.Size
		if err := b.put(d.File, fresh); err != nil {
			return err
		}
	}
	b.report(d, Drop)
	return nil
}

// make makes a delta, and returns what verifies it and puts it into the mirror.
func (b *base) make(ctx context.Context, d PlannedDelta, record *state.Record) (rest func() error, err error) {
	// Whatever happens from here on, the file is known as the tool's own.
	if err := b.put(d.File, &state.Record{Unnamed: record.Unnamed}); err != nil {
		return nil, err
	}
	f, err := b.mirror.Root.Begin(mirror.TmpPath(d.File), meta.DeltaPath(d.File))
	if err != nil {
		return nil, err
	}
	sums, err := b.diff(ctx, d, f)
	if err != nil {
		f.Discard()
	}
	if errors.Is(err, errTooLarge) {
		b.meter.Add(d.TargetSize) // the verification that was saved
		b.Log.Info("the delta is not published: it is too large a share of its image",
			"delta", d.File, "limit", b.Policy.MaxRatio)
		return func() error { return b.drop(d, &state.Record{Sums: sums}, record) }, nil
	} else if err != nil {
		return nil, err
	}
	return func() error {
		defer f.Discard()
		if err := b.verify(ctx, d, f, sums.Size, io.Discard); err != nil {
			return err
		}
		return b.replace(ctx, d, f, sums, record)
	}, nil
}

// replace puts a delta into the mirror. Another one that is there under its name
// is first taken out of the meta, which tells that one's digests.
func (b *base) replace(ctx context.Context, d PlannedDelta, f *atomicfile.File, sums cksum.Sums, record *state.Record) error {
	if _, err := b.mirror.Root.Lstat(meta.DeltaPath(d.File)); err == nil {
		err := b.unpublish(ctx, func(s *meta.Series) bool {
			return withoutDeltas(s, func(published meta.Diff) bool { return published.Filename == d.File && published.Sums != sums })
		})
		if err != nil {
			return err
		}
	}
	if err := f.Commit(); err != nil {
		return err
	}
	return b.take(d, Make, sums, record)
}

// take records a delta that is in the mirror.
func (b *base) take(d PlannedDelta, action Action, sums cksum.Sums, record *state.Record) error {
	info, err := b.mirror.Root.Stat(meta.DeltaPath(d.File))
	if err != nil {
		return err
	}
	record.Stamp, record.Sums = state.StampOf(info), sums
	if err := b.put(d.File, record); err != nil {
		return err
	}
	b.report(d, action)
	return nil
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
	if err = b.makeIndex(ctx, d); err == nil {
		_, err = b.index.Diff(ctx, w, target, func(n int) { b.meter.Add(int64(n)) })
	}
	switch {
	case errors.Is(err, errTooLarge):
		return cksum.Sums{Size: w.size}, err
	case errors.Is(err, delta.ErrChanged):
		return cksum.Sums{}, cmp.Or(b.changed(d), err)
	}
	return hash.Sums(), err
}

// open maps the base.
func (b *base) open() (err error) {
	if b.unmap != nil {
		return nil
	}
	where := b.source(b.name)
	if b.retired {
		where = filepath.Join(b.mirror.Dir, mirror.SignaturePath(b.name))
	}
	b.content, b.unmap, err = mapfile.Open(where)
	return err
}

// makeIndex makes what deltas are made with, of the image or of its signature.
func (b *base) makeIndex(ctx context.Context, d PlannedDelta) error {
	if b.index != nil {
		return nil
	}
	if err := b.open(); err != nil {
		return err
	}
	if b.retired {
		blocks, err := delta.LoadSignature(ctx, b.content)
		if err == nil {
			b.index = blocks
		}
		return err
	}
	index, err := delta.NewIndex(ctx, b.content, delta.Options{Memory: b.budget.index(d.baseSize), Effort: b.Effort})
	if err == nil {
		b.index = index
	}
	return err
}

// changed returns which of the two images of a delta changed, if one did.
func (b *base) changed(d PlannedDelta) error {
	images := []meta.Name{d.Target}
	if !b.retired {
		images = append(images, d.Base)
	}
	for _, n := range images {
		if err := b.unchanged(Image{n, b.record(n.String()).Stamp}); err != nil {
			return err
		}
	}
	return nil
}

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
	var content io.ReaderAt = bytes.NewReader(b.content)
	if blocks, retired := b.index.(*delta.Blocks); retired {
		target, unmap, err := mapfile.Open(b.source(d.Target))
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
	err := delta.Verify(ctx, b.meter.Writer(digest), content, d.baseSize, in, d.TargetSize)
	if err == nil && cksum.Digest256(digest.Sum(nil)) != b.record(d.Target.String()).Sums.BLAKE3 {
		err = errors.New("another digest")
	}
	return err
}

// check verifies a delta that is in the mirror, of which no record tells that it
// is right. If it is not, it is made.
func (b *base) check(ctx context.Context, d PlannedDelta, record *state.Record) (rest func() error, err error) {
	sums, err := b.checked(ctx, d)
	switch {
	case errors.Is(err, errNotRight):
		b.Log.Info("the delta in the mirror is not right and is made anew", "delta", d.File, "reason", err)
		return b.make(ctx, d, record)
	case err != nil:
		return nil, err
	}
	b.meter.Add(d.TargetSize) // the diff that was saved
	return func() error { return b.take(d, Check, sums, record) }, nil
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
	if b.Policy.tooLarge(info.Size(), d.TargetSize) {
		return cksum.Sums{}, fmt.Errorf("%w as it is wanted: it is too large a share of it", errNotRight)
	}
	hash := cksum.New()
	if err := b.verify(ctx, d, f, info.Size(), hash); err != nil {
		return cksum.Sums{}, err
	}
	return hash.Sums(), nil
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
