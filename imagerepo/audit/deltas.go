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
	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/meter"
	"puavo-image-repository/imagerepo/internal/pool"
	"puavo-image-repository/imagerepo/internal/state"
	"puavo-image-repository/meta"
)

// trial is a delta that must make its target from its base.
type trial struct {
	baseName            meta.Name
	delta, base, target *content // base is nil where it is not published
	size                int64    // of the target by the meta, in bytes
}

// planTrials returns the deltas of the meta, each once for its target, the largest
// targets first.
func planTrials(series map[string]*meta.Series, contents map[string]*content) (trials []*trial) {
	seen := make(map[[2]*content]bool) // series can share images and deltas
	for _, p := range slices.Sorted(maps.Keys(series)) {
		for _, im := range series[p].Images {
			target := contents[im.Name.String()]
			for _, d := range im.Diffs {
				t := &trial{d.Base, contents[meta.DeltaPath(d.Filename)], contents[d.Base.String()], target, im.Sums.Size}
				if key := [2]*content{t.delta, target}; !seen[key] {
					seen[key] = true
					trials = append(trials, t)
				}
			}
		}
	}
	slices.SortStableFunc(trials, func(a, b *trial) int { return cmp.Compare(b.size, a.size) })
	return trials
}

// possible reports whether the files of a trial exist and, as far as they have been
// read, are good.
func (t *trial) possible() bool { return t.base != nil && !t.base.bad && t.good() }

// good reports whether the delta and the target are.
func (t *trial) good() bool { return !t.delta.bad && !t.target.bad }

// stamps returns the stamps of delta, base and target, zero where one is missing.
func (t *trial) stamps() (all [3]state.Stamp) {
	for i, c := range []*content{t.delta, t.base, t.target} {
		if c != nil && c.info != nil {
			all[i] = state.StampOf(c.info)
		}
	}
	return all
}

// result is what a delta makes.
type result struct {
	digest cksum.Digest256
	err    error // of the delta's format
}

// applier applies deltas, and compares what they make with their targets. Its methods can be
// called concurrently.
type applier struct {
	root    atomicfile.Dir
	results *cache[[3]state.Stamp, result] // by the stamps of a trial
	found   *findings
}

// bytesOf returns how many bytes those deltas make whose results are not cached.
func (a *applier) bytesOf(trials []*trial) (n int64) {
	for _, t := range trials {
		if _, known := a.results.get(t.stamps()); !known && t.possible() {
			n += t.size
		}
	}
	return n
}

// applyAll applies the deltas whose files are good, jobs at a time. All files must have
// been checked.
func (a *applier) applyAll(ctx context.Context, jobs int, trials []*trial, work *meter.Meter) error {
	var possible []*trial
	for _, t := range trials {
		switch {
		case t.possible():
			possible = append(possible, t)
		case t.base == nil && t.good():
			a.found.add(t.delta.file.path, Note, "not applied: its base "+t.baseName.String()+" is not in the mirror any more, or not published")
		}
	}
	return pool.Each(ctx, jobs, possible, func(ctx context.Context, t *trial) error {
		r, known := a.results.get(t.stamps())
		if !known {
			r.digest, r.err = a.apply(ctx, t, work)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		a.check(t, r)
		return nil
	})
}

// check counts a delta and compares what it makes with the target, which was read.
func (a *applier) check(t *trial, r result) {
	a.found.countDelta()
	p, want := t.delta.file.path, t.target.sums.BLAKE3
	switch {
	case errors.Is(r.err, delta.ErrFormat):
		a.found.add(p, Wrong, fmt.Sprintf("applied to %s: %v", t.base.file.path, r.err))
	case r.err != nil:
		a.found.add(p, Unreadable, "applying it: "+r.err.Error())
	case r.digest != want:
		a.found.add(p, Wrong, fmt.Sprintf("from %s it makes a file of which blake3 is %s, that of %s is %s",
			t.base.file.path, short(r.digest.String()), t.target.file.path, short(want.String())))
	}
}

// apply returns the digest of what a delta makes.
func (a *applier) apply(ctx context.Context, t *trial, work *meter.Meter) (cksum.Digest256, error) {
	base, err := openFile(a.root, t.base.file.path)
	if err != nil {
		return cksum.Digest256{}, err
	}
	defer base.Close()
	data, unmap, err := mmap.Map(base)
	if err != nil {
		return cksum.Digest256{}, err
	}
	defer unmap()
	in, err := openFile(a.root, t.delta.file.path)
	if err != nil {
		return cksum.Digest256{}, err
	}
	defer in.Close()
	defer work.Begin("delta_apply", t.delta.file.path)()
	digest := cksum.NewBLAKE3()
	content := io.NewSectionReader(bytes.NewReader(data), 0, t.base.sums.Size)
	err = delta.Verify(ctx, work.At(meter.Apply).Writer(digest), content, in, t.target.sums.Size)
	made := cksum.Digest256(digest.Sum(nil))
	stamps := t.stamps()
	if (err == nil || errors.Is(err, delta.ErrFormat)) && unchanged(in, stamps[0]) && unchanged(base, stamps[1]) {
		a.results.put(stamps, result{made, err})
	}
	return made, err
}
