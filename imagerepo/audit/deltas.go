package audit

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"runtime"
	"slices"

	"puavo-image-repository/cksum"
	"puavo-image-repository/delta"
	"puavo-image-repository/delta/mmap"
	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/compacts"
	"puavo-image-repository/imagerepo/internal/meter"
	"puavo-image-repository/imagerepo/internal/pool"
	"puavo-image-repository/imagerepo/internal/state"
	"puavo-image-repository/imagerepo/internal/torrent"
	"puavo-image-repository/meta"
	"puavo-image-repository/meta/untrusted"
)

// trial is a delta that must make its target from its base.
type trial struct {
	baseName            meta.Name // zero if it needs none
	delta, base, target *content  // base is nil where it is not published, or not needed
	size                int64     // of the target by the meta, in bytes
	compact             bool      // it is a compact delta
}

// planTrials returns the deltas of the meta, each once for its target, the largest
// targets first.
func planTrials(series map[string]*meta.Series, contents map[string]*content) (trials []*trial) {
	seen := make(map[[2]*content]bool) // series can share images and deltas
	for _, p := range slices.Sorted(maps.Keys(series)) {
		for _, im := range series[p].Images {
			target := contents[im.Name.String()]
			add := func(base meta.Name, file string, compact bool) {
				t := &trial{base, contents[file], contents[base.String()], target, im.Sums.Size, compact}
				if key := [2]*content{t.delta, target}; !seen[key] {
					seen[key] = true
					trials = append(trials, t)
				}
			}
			for _, d := range im.Diffs {
				add(d.Base, meta.DeltaPath(d.Filename), false)
			}
			for _, c := range im.Compact {
				add(c.Base, meta.CompactPath(c.Filename), true)
			}
		}
	}
	slices.SortStableFunc(trials, func(a, b *trial) int { return cmp.Compare(b.size, a.size) })
	return trials
}

// possible reports whether the files of a trial exist and, as far as they have been
// read, are good.
func (t *trial) possible() bool {
	return t.good() && (t.base != nil && !t.base.bad || t.needsNone())
}

// needsNone reports whether the delta needs no base.
func (t *trial) needsNone() bool { return t.baseName == meta.Name{} }

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
			a.found.add(t.delta.file.path, Note, "not applied: its base "+t.baseName.String()+" is no longer in the mirror, or not published")
		}
	}
	return pool.Each(ctx, jobs, possible, func(ctx context.Context, t *trial) error {
		r, known := a.results.get(t.stamps())
		if !known {
			r.digest, r.err = a.apply(ctx, t, jobs, work)
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
	case isWrong(r.err) && t.needsNone():
		a.found.add(p, Wrong, "applied: "+r.err.Error())
	case isWrong(r.err):
		a.found.add(p, Wrong, fmt.Sprintf("applied to %s: %v", t.base.file.path, r.err))
	case r.err != nil:
		a.found.add(p, Unreadable, "applying it: "+r.err.Error())
	case r.digest != want:
		a.found.add(p, Wrong, fmt.Sprintf("applied to %s it makes a file with blake3 %s; %s has %s",
			t.base.file.path, short(r.digest.String()), t.target.file.path, short(want.String())))
	}
}

// isWrong reports whether an error is the delta's fault.
func isWrong(err error) bool {
	return errors.Is(err, delta.ErrFormat) || errors.Is(err, compacts.ErrWrong) || errors.Is(err, compacts.ErrOther)
}

// apply returns the digest of what a delta makes, while jobs are applied.
func (a *applier) apply(ctx context.Context, t *trial, jobs int, work *meter.Meter) (cksum.Digest256, error) {
	if t.compact {
		return a.applyCompact(ctx, t, jobs, work)
	}
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

// applyCompact is apply of a compact delta.
func (a *applier) applyCompact(ctx context.Context, t *trial, jobs int, work *meter.Meter) (made cksum.Digest256, err error) {
	in, err := openFile(a.root, t.delta.file.path)
	if err != nil {
		return made, err
	}
	defer in.Close()
	stamps := t.stamps()
	same := func() bool { return unchanged(in, stamps[0]) }
	images := compacts.Images{Target: t.target.sums, Cores: max(1, runtime.GOMAXPROCS(0)/max(jobs, 1))}
	if !t.needsNone() {
		base, err := openFile(a.root, t.base.file.path)
		if err != nil {
			return made, err
		}
		defer base.Close()
		images.Base, images.From = t.base.sums, base
		same = func() bool { return unchanged(in, stamps[0]) && unchanged(base, stamps[1]) }
	}
	defer work.Begin("delta_apply", t.delta.file.path)()
	if _, err = compacts.Apply(ctx, in, images, work.At(meter.Apply).Writer(io.Discard)); err == nil {
		made = t.target.sums.BLAKE3
	}
	if (err == nil || isWrong(err)) && same() {
		a.results.put(stamps, result{made, err})
	}
	return made, err
}

// offer is a torrent, and the file that it must be of.
type offer struct {
	torrent, file *content
	deep          bool // its pieces are compared too
}

// offers returns the torrents that are good as far as they have been read, with files that
// exist. All files must have been looked at.
func (k *checker) offers(contents map[string]*content, deep bool) (all []*offer) {
	for _, p := range slices.Sorted(maps.Keys(contents)) {
		of, isTorrent := torrentOf(p)
		if file := contents[of]; isTorrent && contents[p].info != nil && file != nil && file.info != nil {
			all = append(all, &offer{contents[p], file, deep})
		}
	}
	return all
}

// stamps returns the stamps of torrent and file.
func (o *offer) stamps() [2]state.Stamp {
	return [2]state.Stamp{state.StampOf(o.torrent.info), state.StampOf(o.file.info)}
}

// bytesOf returns how many bytes are read of files to compare their pieces.
func (k *checker) bytesOf(offers []*offer) (n int64) {
	for _, o := range offers {
		if _, known := k.cached.pieces.get(o.stamps()); !known && o.deep {
			n += o.file.info.Size()
		}
	}
	return n
}

// checkTorrents checks torrents, jobs at a time. All files must have been checked.
func (k *checker) checkTorrents(ctx context.Context, jobs int, offers []*offer, work *meter.Meter) error {
	return pool.Each(ctx, jobs, offers, func(ctx context.Context, o *offer) error {
		if o.torrent.bad {
			return ctx.Err()
		}
		problem, detail := k.checkTorrent(ctx, o, work)
		if ctx.Err() == nil && detail != "" {
			k.found.add(o.torrent.file.path, problem, detail)
		}
		return ctx.Err()
	})
}

// checkTorrent returns what is wrong with a torrent, "" if nothing is.
func (k *checker) checkTorrent(ctx context.Context, o *offer, work *meter.Meter) (p Problem, detail string) {
	in, err := openFile(k.root, o.torrent.file.path)
	if err != nil {
		return Unreadable, err.Error()
	}
	defer in.Close()
	data, err := untrusted.ReadAll(in, torrent.MaxSize)
	if err != nil {
		return Malformed, err.Error()
	}
	t, err := torrent.Parse(data)
	switch name, size := path.Base(o.file.file.path), o.file.info.Size(); {
	case err != nil:
		return Malformed, err.Error()
	case t.Name != name || t.Size != size:
		return Wrong, fmt.Sprintf("it is of %s, %d bytes; %s has %d bytes", untrusted.Show(t.Name), t.Size, name, size)
	case o.deep && !o.file.bad:
		return k.checkPieces(ctx, o, t, work)
	}
	return "", ""
}

// checkPieces compares the pieces of a torrent with its file, which is good.
func (k *checker) checkPieces(ctx context.Context, o *offer, t torrent.Torrent, work *meter.Meter) (p Problem, detail string) {
	if detail, known := k.cached.pieces.get(o.stamps()); known {
		return Wrong, detail
	}
	in, err := openFile(k.root, o.file.file.path)
	if err != nil {
		return Unreadable, err.Error()
	}
	defer in.Close()
	defer work.Begin("torrent_check", o.torrent.file.path)()
	h := torrent.NewHash(t.PieceLength)
	if _, err := io.Copy(h, work.At(meter.Pieces).Reader(ctx, in)); err != nil {
		return Unreadable, "reading its file: " + err.Error()
	}
	if got := h.File(t.Name); !bytes.Equal(got.Pieces, t.Pieces) {
		detail = "its pieces are not those of " + o.file.file.path
	}
	if unchanged(in, o.stamps()[1]) {
		k.cached.pieces.put(o.stamps(), detail)
	}
	return Wrong, detail
}
