package audit

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"puavo-image-repository/cksum"
	"puavo-image-repository/delta"
	"puavo-image-repository/delta/mmap"
	"puavo-image-repository/imagerepo/internal/pool"
	"puavo-image-repository/imagerepo/internal/state"
	"puavo-image-repository/meta"
)

// trial is a delta that must make its target of its base.
type trial struct {
	base                meta.Name
	delta, from, target *file // from is the base's, nil where it is not published
	size                int64 // of the target by the meta, in bytes
}

// planTrials lists the deltas of the meta, for a deep look, the largest targets
// first.
func (v *verifier) planTrials() {
	if !v.options.Deep {
		return
	}
	seen := make(map[[2]*file]bool) // series can share images and deltas
	for _, p := range slices.Sorted(maps.Keys(v.docs.series)) {
		for _, im := range v.docs.series[p].Images {
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
	for _, t := range v.trials {
		if _, known := v.caches.results.get(t.stamps()); !known && t.possible() {
			v.trialBytes += t.size
		}
	}
}

// possible reports whether the files of a trial are there and, as far as they have
// been read, good.
func (t *trial) possible() bool {
	return t.from != nil && !t.from.bad && !t.delta.bad && !t.target.bad
}

// stamps returns the stamps of the files of a trial.
func (t *trial) stamps() (all [3]state.Stamp) {
	for i, f := range []*file{t.delta, t.from, t.target} {
		if f != nil && f.info != nil {
			all[i] = state.StampOf(f.info)
		}
	}
	return all
}

// applyDeltas applies the deltas whose files are good.
func (v *verifier) applyDeltas(ctx context.Context) error {
	var tried []*trial
	for _, t := range v.trials {
		switch {
		case t.possible():
			tried = append(tried, t)
		case t.from == nil && !t.delta.bad && !t.target.bad:
			v.found.add(t.delta.path, Note, "not applied: its base "+t.base.String()+" is not in the mirror any more, or not published")
		}
	}
	all := v.meter.Done() + v.trialBytes
	if err := pool.Each(ctx, v.options.Jobs, tried, v.try); err != nil {
		return err
	}
	v.catchUp(all)
	return nil
}

// try applies a delta and compares what it makes with the target, which has been
// read and has the digests of the meta.
func (v *verifier) try(ctx context.Context, t *trial) error {
	r, known := v.caches.results.get(t.stamps())
	if !known {
		r.digest, r.err = v.apply(ctx, t)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	v.found.countDelta()
	switch {
	case errors.Is(r.err, delta.ErrFormat):
		v.found.add(t.delta.path, Wrong, fmt.Sprintf("applied to %s: %v", t.from.path, r.err))
	case r.err != nil:
		v.found.add(t.delta.path, Unreadable, "applying it: "+r.err.Error())
	case r.digest != t.target.sums.BLAKE3:
		v.found.add(t.delta.path, Wrong, fmt.Sprintf("from %s it makes a file of which blake3 is %s, that of %s is %s",
			t.from.path, short(r.digest.String()), t.target.path, short(t.target.sums.BLAKE3.String())))
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
	data, unmap, err := mmap.Map(base)
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
	content := io.NewSectionReader(bytes.NewReader(data), 0, t.from.sums.Size)
	err = delta.Verify(ctx, v.meter.Writer(digest), content, in, t.target.sums.Size)
	made := cksum.Digest256(digest.Sum(nil))
	stamps := t.stamps()
	if (err == nil || errors.Is(err, delta.ErrFormat)) && unchanged(in, stamps[0]) && unchanged(base, stamps[1]) {
		v.caches.results.put(stamps, result{made, err})
	}
	return made, err
}
