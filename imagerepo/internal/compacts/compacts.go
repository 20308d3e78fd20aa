// Package compacts keeps the compact deltas of a mirror: compact/<name>.cdelta. Package
// delta/compact has their format, package meta their names and entries.
//
//	compact/SHA256SUMS   names them, and CKSUMS does not
//	meta/<series>.json   the key compact of the image that they make
//	.repo/state          a record under the name of the file
//
// # Records
//
// The record has the stamp and the digests of the file, in Base and Target the BLAKE3 of the
// images, where Base is zero if it needs none, and in Compact what applying it takes. Dropped
// says that it was made of these two images and is not worth keeping, so that it is not tried
// again: then it has no file.
//
// # Which are published
//
// Those that the policy wants, whose record and file agree, and whose images are published with
// the digests that the record has. Where the record says nothing, or another file is there, the
// file is tried if the mirror's documents name it, or if it is the tool's own: it is kept if it
// makes its target from its base, both of them as they are published. All others are orphans.
// One that is damaged, or does not make its target, does not wait for its removal.
//
// A build makes none: it may take an hour of a core, and is done when the rest is published.
package compacts

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/ledger"
	"puavo-image-repository/imagerepo/internal/meter"
	"puavo-image-repository/imagerepo/internal/mirror"
	"puavo-image-repository/imagerepo/internal/state"
	"puavo-image-repository/imagerepo/plan"
	"puavo-image-repository/meta"
)

// Decide says whether a compact delta is kept, stays dropped, is checked or would be made. It
// has a record, which may be nil, and a file in the mirror with this stamp, zero for none. base
// and target are the BLAKE3 of its images; base is zero if it needs none.
func Decide(record *state.Record, file state.Stamp, base, target cksum.Digest256) plan.Action {
	none := cksum.Digest256{}
	of := record != nil && target != none && record.Base == base && record.Target == target
	known := record.Summed() && record.Stamp.Matches(file)
	switch {
	case of && record.Dropped:
		return plan.Drop
	case of && known && record.Believed:
		return plan.Check
	case of && known:
		return plan.Keep
	case known: // it is of other images
		return plan.Make
	case file != state.Stamp{}:
		return plan.Check
	}
	return plan.Make
}

// Keeper says which compact deltas of a mirror are right. Its methods must not be called
// concurrently.
type Keeper struct {
	Root     atomicfile.Dir // the mirror
	Ledger   *ledger.Ledger
	Holds    mirror.Inventory // what the mirror held before
	Cores    int              // to check with; 0 is all that the process may use, in 128 MiB of memory
	Progress *meter.Meter     // counts the bytes of targets that are made
	Log      *slog.Logger

	right, wrong map[string]bool // files that proved to be that
}

// Check checks those that may be right and of which no record says so, and records those that
// are. Their images must be in the mirror as their records say. suspect reports files that are
// known to be damaged: they are wrong. It must be called before Right and Wrong.
func (k *Keeper) Check(ctx context.Context, all []plan.CompactDelta, suspect func(path string) bool) error {
	k.right, k.wrong = make(map[string]bool), make(map[string]bool)
	for _, c := range all {
		if suspect(mirror.PathOf(c.File)) {
			k.wrong[c.File] = true
			continue
		}
		action, stamp := k.decide(c)
		if action == plan.Check && k.Holds.Takes(c.File) {
			if err := k.check(ctx, c, stamp); err != nil {
				return fmt.Errorf("compact delta %s: %w", c.File, err)
			}
			action, _ = k.decide(c)
		}
		k.right[c.File] = action == plan.Keep && !k.wrong[c.File]
	}
	return ctx.Err()
}

// decide is Decide for what is known now.
func (k *Keeper) decide(c plan.CompactDelta) (plan.Action, state.Stamp) {
	var stamp state.Stamp
	if info, err := k.Root.Lstat(mirror.PathOf(c.File)); err == nil && info.Mode().IsRegular() {
		stamp = state.StampOf(info)
	}
	return Decide(k.Ledger.Of(c.File), stamp, k.content(c.Base), k.content(c.Target)), stamp
}

// content returns the BLAKE3 of an image, zero for none.
func (k *Keeper) content(n meta.Name) cksum.Digest256 {
	if n == (meta.Name{}) {
		return cksum.Digest256{}
	}
	return k.Ledger.Of(n.String()).Sums.BLAKE3
}

// Right returns the record of a compact delta that may be published, and whether it may be.
func (k *Keeper) Right(c plan.CompactDelta) (*state.Record, bool) {
	return k.Ledger.Of(c.File), k.right[c.File]
}

// Wrong reports whether the file of that name proved to be damaged, or not to make its target.
func (k *Keeper) Wrong(file string) bool { return k.wrong[file] }

// check checks the file of a compact delta.
func (k *Keeper) check(ctx context.Context, c plan.CompactDelta, stamp state.Stamp) error {
	defer k.Progress.Begin("delta_check", mirror.PathOf(c.File))()
	f, err := k.Root.Open(mirror.PathOf(c.File))
	if errors.Is(err, fs.ErrNotExist) {
		return ctx.Err()
	} else if err != nil {
		return err
	}
	defer f.Close()
	sums, err := cksum.Read(ctx, f)
	if err != nil {
		return k.left(ctx, c, err)
	}
	record := k.Ledger.Of(c.File)
	of := record.Base == k.content(c.Base) && record.Target == k.content(c.Target)
	if of && record.Summed() && !record.Believed && record.Sums.SHA512 == sums.SHA512 { // only its stamp changed
		record.Stamp = stamp
		return k.Ledger.Put(c.File, record)
	}
	applies, err := k.apply(ctx, f, c)
	if err != nil {
		return k.left(ctx, c, err)
	}
	if err := k.Root.Sync(mirror.PathOf(c.File)); err != nil { // whoever put it there may not have flushed it
		return err
	}
	return k.Ledger.Put(c.File, &state.Record{
		Stamp: stamp, Sums: sums, Base: k.content(c.Base), Target: k.content(c.Target), Compact: applies, Orphaned: record.Orphaned,
	})
}

// left reports why a compact delta is not published. One that is of other images than those
// that are published may still be of use to those who have read the documents before.
func (k *Keeper) left(ctx context.Context, c plan.CompactDelta, reason error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	k.wrong[c.File] = errors.Is(reason, ErrWrong)
	k.Log.Warn("the compact delta is not right, and not published", "delta", c.File, "reason", reason)
	return nil
}

// apply applies the compact delta in f, and returns what that takes.
func (k *Keeper) apply(ctx context.Context, f *os.File, c plan.CompactDelta) (state.Compact, error) {
	var base *os.File
	images := Images{Target: k.Ledger.Of(c.Target.String()).Sums, Cores: k.Cores}
	if c.Base != (meta.Name{}) {
		var err error
		if base, err = k.Root.Open(c.Base.String()); err != nil {
			return state.Compact{}, err
		}
		defer base.Close()
		images.Base, images.From = k.Ledger.Of(c.Base.String()).Sums, base
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return state.Compact{}, err
	}
	k.Progress.Expect(c.TargetSize * meter.Apply)
	applied, err := Apply(ctx, f, images, k.Progress.At(meter.Apply).Writer(io.Discard))
	return applied, err
}
