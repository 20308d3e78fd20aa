package imagerepo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"slices"

	"puavo-image-repository/cksum"
	"puavo-image-repository/delta"
	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/base"
	"puavo-image-repository/imagerepo/internal/budget"
	"puavo-image-repository/imagerepo/internal/ledger"
	"puavo-image-repository/imagerepo/internal/meter"
	"puavo-image-repository/imagerepo/internal/mirror"
	"puavo-image-repository/imagerepo/internal/planner"
	"puavo-image-repository/imagerepo/internal/pool"
	"puavo-image-repository/imagerepo/internal/source"
	"puavo-image-repository/imagerepo/internal/state"
	"puavo-image-repository/imagerepo/plan"
	"puavo-image-repository/meta"
)

// errTooLarge ends a diff whose delta is not worth having.
var errTooLarge = errors.New("the delta is too large")

// maker makes the deltas of a plan.
type maker struct {
	source    *source.Dir
	mirror    *mirror.Mirror
	ledger    *ledger.Ledger
	holds     mirror.Inventory
	failed    *failures
	results   *results
	publisher *publisher
	progress  *meter.Meter
	budget    budget.Budget
	policy    plan.Policy
	effort    delta.Effort
	log       *slog.Logger
}

// diffBase is what a maker needs of a base, see package base.
type diffBase interface {
	Diff(ctx context.Context, t base.Target, w io.Writer) error
	Verify(ctx context.Context, t base.Target, r io.ReaderAt, size int64, seen io.Writer) error
	Close()
}

// imageBase is a variable since tests have one that makes wrong deltas.
var imageBase = func(path string, size int64, o delta.Options, progress *meter.Meter) diffBase {
	return base.Image(path, size, o, progress)
}

// makeDeltas makes or checks the deltas of the plan, grouped by base so that a
// base is mapped and indexed once. The groups with the most to do come first, so
// that none of them is left to one core at the end.
func (m *maker) makeDeltas(ctx context.Context, p plan.Plan) error {
	groups := p.Bases()
	for i := range groups {
		groups[i] = slices.DeleteFunc(groups[i], func(d plan.Delta) bool { return !m.failed.wantsDelta(d) })
	}
	groups = slices.DeleteFunc(groups, func(g []plan.Delta) bool { return len(g) == 0 })
	work := func(g []plan.Delta) (n int64) {
		for _, d := range g {
			if d.Open() {
				n += d.Work()
			}
		}
		return n
	}
	slices.SortStableFunc(groups, func(a, b []plan.Delta) int { return cmp.Compare(work(b), work(a)) })
	return pool.Within(ctx, m.budget.Jobs, m.budget.ForJobs(), groups, m.budget.Need, m.makeGroup)
}

// makeGroup makes, checks or drops the deltas from one base. While a delta is
// verified, the next one is made.
func (m *maker) makeGroup(ctx context.Context, deltas []plan.Delta) error {
	from := m.base(deltas[0])
	defer from.Close()
	return pool.Pipe(ctx, deltas, func(ctx context.Context, d plan.Delta) (func() error, error) {
		j := m.job(from, d)
		rest, err := j.begin(ctx)
		if err != nil || rest == nil {
			return func() error { return nil }, j.tolerate(ctx, err)
		}
		return func() error { return j.tolerate(ctx, rest()) }, nil
	})
}

// base returns the base of a delta, not opened yet.
func (m *maker) base(d plan.Delta) diffBase {
	if d.Retired {
		return base.Signature(filepath.Join(m.mirror.Dir, mirror.SignaturePath(d.Base)), d.BaseSize, m.progress)
	}
	return imageBase(m.source.File(d.Base), d.BaseSize, delta.Options{Memory: m.budget.Index(d.BaseSize), Effort: m.effort}, m.progress)
}

// job is the work for one delta, now that all digests are known.
type job struct {
	maker  *maker
	delta  plan.Delta
	from   diffBase
	target base.Target
	record *state.Record // what is known of the delta
	fresh  state.Record  // what will be recorded of it: what it is made of
}

func (m *maker) job(from diffBase, d plan.Delta) *job {
	record := m.ledger.Of(d.File)
	baseSums, targetSums := m.ledger.Of(d.Base.String()).Sums, m.ledger.Of(d.Target.String()).Sums
	return &job{
		maker: m, delta: d, from: from, record: record,
		target: base.Target{Path: m.source.File(d.Target), Size: d.TargetSize, BLAKE3: targetSums.BLAKE3},
		fresh:  state.Record{Base: baseSums.BLAKE3, Target: targetSums.BLAKE3, Orphaned: record.Orphaned},
	}
}

// tolerate returns nil for an error that is the fault of an image, or of the signature
// of a retired base: the delta is left out then.
func (j *job) tolerate(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, base.ErrSignature) {
		return j.omit(err)
	}
	// It is the fault of the target, unless the base has changed.
	faulty := j.delta.Target
	if !j.delta.Retired && j.maker.source.Unchanged(j.delta.Base) != nil {
		faulty = j.delta.Base
	}
	return j.maker.failed.tolerate(ctx, fmt.Errorf("delta %s: %w", j.delta.File, err), faulty)
}

// omit leaves out a delta that cannot be made, and what is published of it.
func (j *job) omit(reason error) error {
	j.maker.log.Warn("the delta is left out", "delta", j.delta.File, "reason", reason)
	j.maker.results.delta(j.delta, plan.Omit, j.record)
	return nil
}

// begin does the first part of the work, and returns the rest, which can be done while
// the next job is begun.
func (j *job) begin(ctx context.Context) (rest func() error, err error) {
	var file state.Stamp
	if info, err := j.maker.mirror.Root.Lstat(meta.DeltaPath(j.delta.File)); err == nil && info.Mode().IsRegular() {
		file = state.StampOf(info)
	}
	action := j.delta.Action
	if planned, _ := j.maker.holds.Has(j.delta.File); action == plan.Await || file != planned {
		// The plan could not know the images, or the file changed since.
		action = planner.Decide(j.maker.policy, j.record, file, j.maker.ledger.Of(j.delta.Base.String()).Sums, j.maker.ledger.Of(j.delta.Target.String()).Sums)
	}
	switch action {
	case plan.Keep:
		j.maker.progress.Add(j.delta.Work())
		return func() error { return j.keep(file) }, nil
	case plan.Drop:
		j.maker.progress.Add(j.delta.Work())
		return j.stayDropped, nil
	case plan.Check:
		if same, err := j.isKnown(ctx, file); same || err != nil {
			return func() error { return j.keep(file) }, err
		}
		return j.check(ctx)
	default:
		return j.make(ctx)
	}
}

// keep keeps a delta as it is. A record that lacks the change time gets it.
func (j *job) keep(stamp state.Stamp) error {
	if j.record.Stamp != stamp {
		j.record.Stamp = stamp
		if err := j.maker.ledger.Put(j.delta.File, j.record); err != nil {
			return err
		}
	}
	j.maker.results.delta(j.delta, plan.Keep, j.record)
	return nil
}

// drop records that a delta of size bytes, or more, is not worth having.
func (j *job) drop(size int64) error {
	j.fresh.Dropped, j.fresh.Sums.Size = true, size
	if err := j.maker.ledger.Put(j.delta.File, &j.fresh); err != nil {
		return err
	}
	j.maker.results.delta(j.delta, plan.Drop, &j.fresh)
	return nil
}

// stayDropped drops a delta by its record.
func (j *job) stayDropped() error {
	if !j.record.Dropped {
		return j.drop(j.record.Sums.Size)
	}
	j.maker.results.delta(j.delta, plan.Drop, j.record)
	return nil
}

// make makes a delta, and returns what verifies it and puts it into the mirror.
func (j *job) make(ctx context.Context) (rest func() error, err error) {
	// Whatever happens from here on, the file is known as the tool's own.
	if err := j.maker.ledger.Put(j.delta.File, &state.Record{Orphaned: j.fresh.Orphaned}); err != nil {
		return nil, err
	}
	f, err := j.maker.mirror.Root.Begin(mirror.TmpPath(j.delta.File), meta.DeltaPath(j.delta.File))
	if err != nil {
		return nil, err
	}
	sums, err := j.diff(ctx, f)
	if err != nil {
		f.Discard()
	}
	if errors.Is(err, errTooLarge) {
		j.maker.progress.Add(j.delta.TargetSize) // the verification that was saved
		j.maker.log.Info("the delta is not published: it is too large a share of its image",
			"delta", j.delta.File, "limit", j.maker.policy.MaxRatio)
		return func() error { return j.drop(sums.Size) }, nil
	} else if err != nil {
		return nil, err
	}
	return func() error {
		defer f.Discard()
		if err := j.verify(ctx, f, sums.Size, io.Discard); err != nil {
			return err
		}
		return j.replace(ctx, f, sums)
	}, nil
}

// diff writes the delta to f and returns its digests. It gives up with errTooLarge,
// and the size reached, when the delta is not worth having.
func (j *job) diff(ctx context.Context, f io.Writer) (cksum.Sums, error) {
	hash := cksum.New()
	w := &limited{w: io.MultiWriter(f, hash), tooLarge: func(size int64) bool { return j.maker.policy.TooLarge(size, j.delta.TargetSize) }}
	err := j.from.Diff(ctx, j.target, w)
	switch {
	case errors.Is(err, errTooLarge):
		return cksum.Sums{Size: w.size}, err
	case errors.Is(err, delta.ErrChanged):
		return cksum.Sums{}, cmp.Or(j.changed(), err)
	}
	return hash.Sums(), err
}

// verify makes sure that a delta of size bytes makes its target.
func (j *job) verify(ctx context.Context, r io.ReaderAt, size int64, seen io.Writer) error {
	err := j.from.Verify(ctx, j.target, r, size, seen)
	if ctx.Err() != nil {
		return cmp.Or(err, ctx.Err())
	}
	// What is mapped by now may be another than what was read for its digests.
	return cmp.Or(j.changed(), err)
}

// changed returns an error if one of the two images has changed.
func (j *job) changed() error {
	err := j.maker.source.Unchanged(j.delta.Target)
	if err == nil && !j.delta.Retired {
		err = j.maker.source.Unchanged(j.delta.Base)
	}
	return err
}

// replace puts a delta into the mirror. Another one of its name is first taken out of
// the documents, which have that one's digests.
func (j *job) replace(ctx context.Context, f *atomicfile.File, sums cksum.Sums) error {
	if published, ok := j.maker.publisher.docs.Sums(j.delta.File); ok && published.SHA512 != sums.SHA512 {
		if err := j.maker.publisher.withdraw(ctx, j.delta.File); err != nil {
			return err
		}
	}
	if err := f.Commit(); err != nil {
		return err
	}
	return j.recordAs(plan.Make, sums)
}

// recordAs records a delta that is in the mirror.
func (j *job) recordAs(action plan.Action, sums cksum.Sums) error {
	info, err := j.maker.mirror.Root.Stat(meta.DeltaPath(j.delta.File))
	if err != nil {
		return err
	}
	j.fresh.Stamp, j.fresh.Sums = state.StampOf(info), sums
	if err := j.maker.ledger.Put(j.delta.File, &j.fresh); err != nil {
		return err
	}
	j.maker.results.delta(j.delta, action, &j.fresh)
	return nil
}

// check verifies a delta that is in the mirror, of which no record says that it is
// right. If it is not, it is made.
func (j *job) check(ctx context.Context) (rest func() error, err error) {
	sums, err := j.checked(ctx)
	switch {
	case errors.Is(err, base.ErrWrong) && !j.maker.holds.Owns(j.delta.File):
		return nil, j.omit(fmt.Errorf("%s is there and not right, and %w", meta.DeltaPath(j.delta.File), mirror.ErrForeign))
	case errors.Is(err, base.ErrWrong):
		j.maker.log.Info("the delta in the mirror is not right and is made again", "delta", j.delta.File, "reason", err)
		return j.make(ctx)
	case err != nil:
		return nil, err
	}
	j.maker.progress.Add(j.delta.TargetSize) // the diff that was saved
	if tooLarge := j.maker.policy.TooLarge(sums.Size, j.delta.TargetSize); tooLarge && !j.maker.holds.Takes(j.delta.File) {
		return nil, j.omit(fmt.Errorf("%s is there and larger than it may be, and %w", meta.DeltaPath(j.delta.File), mirror.ErrForeign))
	} else if tooLarge {
		return func() error { return j.drop(sums.Size) }, nil
	}
	j.fresh.Foreign = !j.maker.holds.Takes(j.delta.File)
	return func() error { return j.adopt(sums) }, nil
}

// checked returns the digests of a delta in the mirror that is right.
func (j *job) checked(ctx context.Context) (cksum.Sums, error) {
	f, err := j.maker.mirror.Root.Open(meta.DeltaPath(j.delta.File))
	if err != nil {
		return cksum.Sums{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return cksum.Sums{}, err
	}
	if j.maker.holds.Owns(j.delta.File) && j.maker.policy.TooLarge(info.Size(), j.delta.TargetSize) {
		return cksum.Sums{}, fmt.Errorf("%w as it is wanted: it is too large a share of it", base.ErrWrong)
	}
	hash := cksum.New()
	if err := j.verify(ctx, f, info.Size(), hash); err != nil {
		return cksum.Sums{}, err
	}
	return hash.Sums(), nil
}

// isKnown reports, by the fastest digest, whether a delta whose stamp changed is still
// the one that proved right.
func (j *job) isKnown(ctx context.Context, file state.Stamp) (bool, error) {
	of := j.record.Base == j.fresh.Base && j.record.Target == j.fresh.Target
	if !of || j.record.Dropped || !j.record.Summed() || j.record.Sums.Size != file.Size || j.maker.policy.TooLarge(file.Size, j.delta.TargetSize) {
		return false, nil
	}
	f, err := j.maker.mirror.Root.Open(meta.DeltaPath(j.delta.File))
	if err != nil {
		return false, err
	}
	defer f.Close()
	digest, err := blake3(meter.New(0, nil).Reader(ctx, f))
	if err != nil || digest != j.record.Sums.BLAKE3 {
		return false, err
	}
	j.maker.progress.Add(j.delta.Work())
	j.maker.log.Info("the delta is what it was", "delta", j.delta.File)
	return true, nil
}

// adopt records a delta that is in the mirror and right. Whoever put it there may not
// have flushed it.
func (j *job) adopt(sums cksum.Sums) error {
	if err := j.maker.mirror.Root.Sync(meta.DeltaPath(j.delta.File)); err != nil {
		return err
	}
	return j.recordAs(plan.Check, sums)
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
