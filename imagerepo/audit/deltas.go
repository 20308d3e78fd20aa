package audit

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"puavo-image-repository/cksum"
	"puavo-image-repository/delta"
	"puavo-image-repository/delta/mapfile"
	"puavo-image-repository/imagerepo/internal/pool"
	"puavo-image-repository/meta"
)

// trial is a delta that is to make its target of its base.
type trial struct {
	base                meta.Name
	delta, from, target *file // from is the base's, nil where it is not published
	size                int64 // of the target by the meta, in bytes
}

// planTrials lists the deltas of the meta, for a deep look, the largest targets
// first.
func (v *verifier) planTrials() {
	if !v.Deep {
		return
	}
	seen := make(map[[2]*file]bool) // series can share images and deltas
	for _, p := range slices.Sorted(maps.Keys(v.series)) {
		for _, im := range v.series[p].Images {
			target := v.files[im.Name.String()]
			for _, d := range im.Diffs {
				t := &trial{d.Base, v.files[meta.DeltaPath(d.Filename)], v.files[d.Base.String()], target, im.Sums.Size}
				if key := [2]*file{t.delta, target}; !seen[key] {
					seen[key] = true
					v.trials = append(v.trials, t)
				}
			}
		}
	}
	slices.SortStableFunc(v.trials, func(a, b *trial) int { return cmp.Compare(b.size, a.size) })
}

// trialBytes returns how much the deltas make, in bytes.
func (v *verifier) trialBytes() (n int64) {
	for _, t := range v.trials {
		n += t.size
	}
	return n
}

// applyDeltas applies the deltas whose files are good.
func (v *verifier) applyDeltas(ctx context.Context) error {
	var tried []*trial
	for _, t := range v.trials {
		switch {
		case t.delta.bad || t.target.bad:
		case t.from == nil:
			v.add(t.delta.path, Note, "not applied: its base "+t.base.String()+" is not in the mirror any more, or not published")
		case !t.from.bad:
			tried = append(tried, t)
		}
	}
	done := v.meter.Done()
	if err := pool.Each(ctx, v.Jobs, tried, v.try); err != nil {
		return err
	}
	v.catchUp(done + v.trialBytes())
	return nil
}

// try applies a delta and compares what it makes with the target, which has been
// read and has the digests of the meta.
func (v *verifier) try(ctx context.Context, t *trial) error {
	digest, err := v.apply(ctx, t)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	v.mu.Lock()
	v.report.Deltas++
	v.mu.Unlock()
	switch {
	case errors.Is(err, delta.ErrFormat):
		v.add(t.delta.path, Wrong, fmt.Sprintf("applied to %s: %v", t.from.path, err))
	case err != nil:
		v.add(t.delta.path, Unreadable, "applying it: "+err.Error())
	case digest != t.target.sums.BLAKE3:
		v.add(t.delta.path, Wrong, fmt.Sprintf("from %s it makes a file of which blake3 is %s, that of %s is %s",
			t.from.path, short(digest.String()), t.target.path, short(t.target.sums.BLAKE3.String())))
	}
	return nil
}

// apply returns the digest of what a delta makes.
func (v *verifier) apply(ctx context.Context, t *trial) (cksum.Digest256, error) {
	base, err := openFile(v.mirror.Root, t.from.path)
	if err != nil {
		return cksum.Digest256{}, err
	}
	defer base.Close()
	content, unmap, err := mapfile.Map(base)
	if err != nil {
		return cksum.Digest256{}, err
	}
	defer unmap()
	in, err := openFile(v.mirror.Root, t.delta.path)
	if err != nil {
		return cksum.Digest256{}, err
	}
	defer in.Close()
	digest := cksum.NewBLAKE3()
	err = delta.Verify(ctx, v.meter.Writer(digest), bytes.NewReader(content), t.from.sums.Size, in, t.target.sums.Size)
	return cksum.Digest256(digest.Sum(nil)), err
}
