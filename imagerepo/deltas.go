package imagerepo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"

	"puavo-image-repository/cksum"
	"puavo-image-repository/delta"
	"puavo-image-repository/delta/mmap"
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
	for i := range groups {
		groups[i] = slices.DeleteFunc(groups[i], func(d PlannedDelta) bool { return !r.wantedDelta(d) })
	}
	groups = slices.DeleteFunc(groups, func(g []PlannedDelta) bool { return len(g) == 0 })
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

// wantedDelta reports whether a series that has not failed needs a delta.
func (r *run) wantedDelta(d PlannedDelta) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.failed) == 0 || slices.ContainsFunc(r.plan.Series, func(s PlannedSeries) bool {
		return r.failed[s.Name] == nil && slices.Contains(s.Deltas[d.Target.String()], d.File)
	})
}

// makeGroup makes, checks or drops the deltas from one base. While a delta is
// verified, the next one is made.
func (r *run) makeGroup(ctx context.Context, deltas []PlannedDelta) error {
	b := &base{run: r, name: deltas[0].Base, retired: deltas[0].Retired}
	defer b.close()
	return pool.Pipe(ctx, deltas, func(ctx context.Context, d PlannedDelta) (func() error, error) {
		verify, err := b.begin(ctx, d)
		if err != nil || verify == nil {
			return func() error { return nil }, b.tolerateDelta(ctx, d, err)
		}
		return func() error { return b.tolerateDelta(ctx, d, verify()) }, nil
	})
}

// tolerateDelta returns nil for the error of a delta that is the fault of one of its
// images, or of the signature of a retired base: the delta is left out then.
func (b *base) tolerateDelta(ctx context.Context, d PlannedDelta, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, errSignature) {
		return b.omit(d, err)
	}
	return b.tolerate(ctx, fmt.Errorf("delta %s: %w", d.File, err), b.faulty(d)...)
}

// faulty returns the images that have changed, or the target if none has.
func (b *base) faulty(d PlannedDelta) []meta.Name {
	if !b.retired && b.unchanged(Image{d.Base, b.ledger.Of(d.Base.String()).Stamp}) != nil {
		return []meta.Name{d.Base}
	}
	return []meta.Name{d.Target}
}

// omit leaves out a delta that cannot be made, and what is published of it.
func (b *base) omit(d PlannedDelta, reason error) error {
	b.Log.Warn("the delta is left out", "delta", d.File, "reason", reason)
	b.mu.Lock()
	b.omitted[d.File] = true
	b.mu.Unlock()
	b.report(d, Omit)
	return nil
}

// base is the base of a group of deltas, opened when first needed: the image, or
// of a retired one its signature.
type base struct {
	*run
	name    meta.Name
	retired bool
	content []byte // mapped: of the image or of the signature
	unmap   func() error
	index   encoder
}

// encoder makes deltas from one base.
type encoder interface {
	Diff(ctx context.Context, dst io.Writer, target []byte, progress func(n int)) (delta.Stats, error)
	Close()
}

// newEncoder is a variable since tests have one that makes wrong deltas.
var newEncoder = func(ctx context.Context, base []byte, o delta.Options) (encoder, error) {
	index, err := delta.NewIndex(ctx, base, o)
	if err != nil {
		return nil, err // and no encoder that holds a nil Index
	}
	return index, nil
}

func (b *base) close() {
	if b.index != nil {
		b.index.Close()
	}
	if b.unmap != nil {
		b.unmap()
	}
}

// begin does the first part of the work for one delta, now that all digests are known,
// and returns the rest, which can be done while the next is begun.
func (b *base) begin(ctx context.Context, d PlannedDelta) (rest func() error, err error) {
	record := b.ledger.Of(d.File)
	baseSums, targetSums := b.ledger.Of(b.name.String()).Sums, b.ledger.Of(d.Target.String()).Sums
	var file state.Stamp
	if info, err := b.mirror.Root.Stat(meta.DeltaPath(d.File)); err == nil {
		file = state.StampOf(info)
	}
	fresh := &state.Record{Base: baseSums.BLAKE3, Target: targetSums.BLAKE3, Unnamed: record.Unnamed}
	switch b.Policy.decide(record, file, baseSums, targetSums) {
	case Keep:
		b.meter.Add(d.cost())
		return func() error { return b.keep(d, record, file) }, nil
	case Drop:
		b.meter.Add(d.cost())
		return func() error { return b.drop(d, record, fresh) }, nil
	case Check:
		if same, err := b.compare(ctx, d, record, file, fresh); same || err != nil {
			return func() error { return b.keep(d, record, file) }, err
		}
		return b.check(ctx, d, fresh)
	default:
		return b.make(ctx, d, fresh)
	}
}

// cost is the work of a delta as the meter counts it: the target is diffed, and
// made once more to verify the delta.
func (d PlannedDelta) cost() int64 { return 2 * d.TargetSize }

// keep keeps a delta as it is. A record that lacks the change time gets it.
func (b *base) keep(d PlannedDelta, record *state.Record, stamp state.Stamp) error {
	if record.Stamp != stamp {
		record.Stamp = stamp
		if err := b.ledger.Put(d.File, record); err != nil {
			return err
		}
	}
	b.report(d, Keep)
	return nil
}

// drop records that a delta is not worth having any more.
func (b *base) drop(d PlannedDelta, record, fresh *state.Record) error {
	if !record.Dropped {
		fresh.Dropped, fresh.Sums.Size = true, record.Sums.Size
		if err := b.ledger.Put(d.File, fresh); err != nil {
			return err
		}
	}
	b.report(d, Drop)
	return nil
}

// make makes a delta, and returns what verifies it and puts it into the mirror.
func (b *base) make(ctx context.Context, d PlannedDelta, record *state.Record) (rest func() error, err error) {
	// Whatever happens from here on, the file is known as the tool's own.
	if err := b.ledger.Put(d.File, &state.Record{Unnamed: record.Unnamed}); err != nil {
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
// is first taken out of the documents, which tell that one's digests.
func (b *base) replace(ctx context.Context, d PlannedDelta, f *atomicfile.File, sums cksum.Sums, record *state.Record) error {
	if published, ok := b.docs.Sums(d.File); ok && published.SHA512 != sums.SHA512 {
		if err := b.withdrawn(ctx, []string{d.File}); err != nil {
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
	if err := b.ledger.Put(d.File, record); err != nil {
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
	target, unmap, err := mmap.Open(b.source(d.Target))
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
	b.content, b.unmap, err = mmap.Open(where)
	return err
}

// makeIndex makes what deltas are made with, of the image or of its signature.
func (b *base) makeIndex(ctx context.Context, d PlannedDelta) (err error) {
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
		} else if ctx.Err() == nil {
			err = fmt.Errorf("%s: %w: %w", filepath.Join(b.mirror.Dir, mirror.SignaturePath(b.name)), errSignature, err)
		}
		return err
	}
	b.index, err = newEncoder(ctx, b.content, delta.Options{Memory: b.budget.index(d.baseSize), Effort: b.Effort})
	return err
}

// changed returns which of the two images of a delta changed, if one did.
func (b *base) changed(d PlannedDelta) error {
	images := []meta.Name{d.Target}
	if !b.retired {
		images = append(images, d.Base)
	}
	for _, n := range images {
		if err := b.unchanged(Image{n, b.ledger.Of(n.String()).Stamp}); err != nil {
			return err
		}
	}
	return nil
}

// errSignature is wrapped by the error for the signature of a retired base that
// cannot be used.
var errSignature = errors.New("its base left, and of that the signature is damaged; remove the signature, or run without --keep-signatures")

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
