package imagerepo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
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
	"puavo-image-repository/imagerepo/internal/work"
	"puavo-image-repository/imagerepo/plan"
	"puavo-image-repository/meta"
)

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
	schedule  budget.Schedule
	bases     bases
	digest    digest
	policy    plan.Policy
	farm      work.Farm // nil if there is none
	away      *away     // nil unless it makes deltas
	effort    delta.Effort
	log       *slog.Logger
}

// digest returns the digests of what it reads to its end, and writes that to others too, as
// cksum.Read does. Calls at the same time may share work.
type digest func(ctx context.Context, r io.Reader, also ...io.Writer) (cksum.Sums, error)

// makeDeltas makes or checks the deltas of the plan, grouped by base so that a
// base is mapped and indexed once.
func (m *maker) makeDeltas(ctx context.Context, p plan.Plan) error {
	groups := budget.Groups(p)
	for i := range groups {
		groups[i] = slices.DeleteFunc(groups[i], func(d plan.Delta) bool { return !m.failed.wantsDelta(d) })
	}
	groups = slices.DeleteFunc(groups, func(g []plan.Delta) bool { return len(g) == 0 })
	if m.farm != nil {
		return m.makeWithFarm(ctx, groups)
	}
	return m.makeGroups(ctx, groups)
}

func (m *maker) makeGroups(ctx context.Context, groups [][]plan.Delta) error {
	return pool.Within(ctx, m.schedule.Jobs, m.schedule.Memory, groups, m.schedule.Need, m.makeGroup)
}

// makeGroup makes, checks or drops the deltas from one base, as many side by side as
// the schedule says.
func (m *maker) makeGroup(ctx context.Context, deltas []plan.Delta) error {
	from := m.bases[deltas[0].Base]
	defer from.Close()
	for sweep := range slices.Chunk(deltas, m.schedule.Sweep(deltas).Width) {
		lanes := from.Sweep(len(sweep))
		jobs := make([]*job, len(sweep))
		for i, d := range sweep {
			jobs[i] = m.job(lanes[i], d)
		}
		err := pool.Each(ctx, len(jobs), jobs, func(ctx context.Context, j *job) error {
			defer j.lane.Leave()
			return j.tolerate(ctx, j.do(ctx))
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// job is the work for one delta, now that all digests are known.
type job struct {
	maker  *maker
	delta  plan.Delta
	lane   *base.Lane
	target base.Target
	record *state.Record // what is known of the delta
	fresh  state.Record  // what will be recorded of it: what it is made of
}

func (m *maker) job(lane *base.Lane, d plan.Delta) *job {
	record := m.ledger.Of(d.File)
	baseSums, targetSums := m.ledger.Of(d.Base.String()).Sums, m.ledger.Of(d.Target.String()).Sums
	return &job{
		maker: m, delta: d, lane: lane, record: record,
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
	j.maker.log.Warn("cannot make the delta", "delta", j.delta.File, "reason", reason)
	j.maker.results.delta(j.delta, plan.Omit, j.record)
	return nil
}

// decide decides what the delta needs, and returns the stamp of its file.
func (j *job) decide() (plan.Action, state.Stamp) {
	var file state.Stamp
	if info, err := j.maker.mirror.Root.Lstat(meta.DeltaPath(j.delta.File)); err == nil && info.Mode().IsRegular() {
		file = state.StampOf(info)
	}
	action := j.delta.Action
	if planned, _ := j.maker.holds.Has(j.delta.File); action == plan.Await || file != planned {
		// The plan could not know the images, or the file changed since.
		action = planner.Decide(j.maker.policy, j.record, file, j.maker.ledger.Of(j.delta.Base.String()).Sums, j.maker.ledger.Of(j.delta.Target.String()).Sums)
	}
	return action, file
}

// do decides what the delta needs, and does it.
func (j *job) do(ctx context.Context) error {
	if j.maker.away.has(j) {
		return nil
	}
	action, file := j.decide()
	j.expect(action)
	switch action {
	case plan.Keep:
		return j.keep(file)
	case plan.Drop:
		return j.stayDropped()
	case plan.Check:
		if same, err := j.isKnown(ctx, file); err != nil {
			return err
		} else if same {
			return j.keep(file)
		}
		return j.check(ctx)
	default:
		return j.make(ctx)
	}
}

// expect has progress expect the work for this action, in the place of what was expected of
// the delta before.
func (j *job) expect(action plan.Action) {
	before := planner.DeltaWork(j.delta)
	j.delta.Action = action
	j.maker.progress.Expect(planner.DeltaWork(j.delta) - before)
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

// make makes and verifies a delta, and puts it into the mirror.
func (j *job) make(ctx context.Context) error {
	return j.put(ctx, func(ctx context.Context, f *atomicfile.File) (base.Verified, error) {
		return j.lane.Make(ctx, j.target, f, func(size int64) bool { return j.maker.policy.TooLarge(size, j.delta.TargetSize) })
	})
}

// put puts a delta into the mirror that write writes and verifies.
func (j *job) put(ctx context.Context, write func(context.Context, *atomicfile.File) (base.Verified, error)) error {
	defer j.maker.progress.Begin("delta_make", meta.DeltaPath(j.delta.File))()
	// Whatever happens from here on, the file is known as the tool's own.
	if err := j.maker.ledger.Put(j.delta.File, &state.Record{Orphaned: j.fresh.Orphaned}); err != nil {
		return err
	}
	f, err := j.maker.mirror.Root.Begin(mirror.TmpPath(j.delta.File), meta.DeltaPath(j.delta.File))
	if err != nil {
		return err
	}
	defer f.Discard()
	j.target.Also = j.maker.publisher.torrents.Begin(j.delta.File, j.delta.TargetSize)
	made, err := write(ctx, f)
	if errors.Is(err, base.ErrTooLarge) {
		j.maker.progress.Expect(-planner.SumsWork(j.delta))
		j.maker.log.Info("the delta is dropped, as it is too large a share of its image",
			"delta", j.delta.File, "limit", j.maker.policy.MaxRatio)
		return j.drop(made.Size)
	}
	sums, err := j.sums(ctx, f, made, err)
	if err != nil {
		return err
	}
	return j.replace(ctx, f, sums)
}

// sums returns the digests of a delta that is verified, or was not, as err says. It is
// the images' fault if these have changed by then: what is mapped may be another
// than what was read for its digests.
func (j *job) sums(ctx context.Context, f io.ReaderAt, made base.Verified, err error) (sums cksum.Sums, _ error) {
	if err == nil {
		again := made.Size
		if j.maker.schedule.Scarce {
			again = 0 // the digests are known by now
		}
		j.maker.progress.Expect(again*meter.Digest - planner.SumsWork(j.delta))
		sums, err = made.Sums(ctx, f, func(ctx context.Context, r io.Reader) (cksum.Sums, error) {
			return j.maker.digest(ctx, j.maker.progress.At(meter.Digest).Reader(ctx, r), j.target.Also...)
		})
	}
	if err == nil {
		j.maker.publisher.torrents.End(j.delta.File, sums)
	}
	switch {
	case ctx.Err() != nil:
		return cksum.Sums{}, ctx.Err()
	case err == nil, errors.Is(err, base.ErrWrong), errors.Is(err, delta.ErrChanged):
		return sums, cmp.Or(j.changed(), err)
	}
	return cksum.Sums{}, err
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
	if err := j.maker.publisher.torrents.Discard(j.delta.File, sums); err != nil {
		return err
	}
	if err := f.Commit(); err != nil {
		return err
	}
	return j.recordAs(ctx, plan.Make, sums)
}

// recordAs records a delta that is in the mirror, and makes its torrent.
func (j *job) recordAs(ctx context.Context, action plan.Action, sums cksum.Sums) error {
	info, err := j.maker.mirror.Root.Stat(meta.DeltaPath(j.delta.File))
	if err != nil {
		return err
	}
	j.fresh.Stamp, j.fresh.Sums = state.StampOf(info), sums
	if err := j.maker.ledger.Put(j.delta.File, &j.fresh); err != nil {
		return err
	}
	j.maker.results.delta(j.delta, action, &j.fresh)
	return j.maker.publisher.torrents.Put(ctx, j.delta.File)
}

// check verifies a delta that is in the mirror, of which no record says that it is
// right. If it is not, it is made.
func (j *job) check(ctx context.Context) error {
	sums, err := j.checked(ctx)
	switch {
	case errors.Is(err, base.ErrWrong) && !j.maker.holds.Owns(j.delta.File):
		return j.omit(fmt.Errorf("%s is damaged, and %w", meta.DeltaPath(j.delta.File), mirror.ErrForeign))
	case errors.Is(err, base.ErrWrong):
		j.maker.log.Info("the delta in the mirror is damaged; making it again", "delta", j.delta.File, "reason", err)
		j.expect(plan.Make)
		return j.make(ctx)
	case err != nil:
		return err
	}
	if tooLarge := j.maker.policy.TooLarge(sums.Size, j.delta.TargetSize); tooLarge && !j.maker.holds.Takes(j.delta.File) {
		return j.omit(fmt.Errorf("%s is too large, and %w", meta.DeltaPath(j.delta.File), mirror.ErrForeign))
	} else if tooLarge {
		return j.drop(sums.Size)
	}
	j.fresh.Foreign = !j.maker.holds.Takes(j.delta.File)
	return j.adopt(ctx, sums)
}

// checked returns the digests of a delta in the mirror that is right.
func (j *job) checked(ctx context.Context) (cksum.Sums, error) {
	f, err := j.maker.mirror.Root.Open(meta.DeltaPath(j.delta.File))
	if err != nil {
		return cksum.Sums{}, err
	}
	defer f.Close()
	defer j.maker.progress.Begin("delta_check", meta.DeltaPath(j.delta.File))()
	info, err := f.Stat()
	if err != nil {
		return cksum.Sums{}, err
	}
	if j.maker.holds.Owns(j.delta.File) && j.maker.policy.TooLarge(info.Size(), j.delta.TargetSize) {
		return cksum.Sums{}, fmt.Errorf("%w within --max-delta-ratio", base.ErrWrong)
	}
	j.target.Also = j.maker.publisher.torrents.Begin(j.delta.File, j.delta.TargetSize)
	checked, err := j.lane.Check(ctx, j.target, f, info.Size())
	return j.sums(ctx, f, checked, err)
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
	j.expect(plan.Keep)
	j.maker.log.Info("the delta is unchanged", "delta", j.delta.File)
	return true, nil
}

// adopt records a delta that is in the mirror and right. Whoever put it there may not
// have flushed it.
func (j *job) adopt(ctx context.Context, sums cksum.Sums) error {
	if err := j.maker.mirror.Root.Sync(meta.DeltaPath(j.delta.File)); err != nil {
		return err
	}
	return j.recordAs(ctx, plan.Check, sums)
}
