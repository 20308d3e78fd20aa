// Package compactdelta makes the compact deltas of a mirror, after package imagerepo has built
// the mirror and published its rdiff deltas.
//
//	documents, records -> Plan -> for each: encode -> decode, compare -> drop or publish
//
// Package delta/compact describes the format, and package imagerepo where the files lie in a
// mirror and what is recorded of them. A build keeps the compact deltas that exist, and makes
// none.
//
// # The plan
//
// A Plan has all compact deltas that the policy wants: those that exist, those that an earlier
// run made of the same images and dropped because they save too little, and those to make, the
// largest expected saving in bytes first. The saving is estimated as the size of the rdiff delta
// between the same images, or, for one that needs no base, as a quarter of its image.
//
// # What is done
//
//	                        without the mirror's lock                    with it
//	images of the mirror -> Encode -> scratch file                  |
//	scratch file, base   -> Decode -> digest, that of the target?   |
//	                        larger than 85 % of the rdiff delta?    |
//	                                                                +-> record that it is dropped
//	                                                                +-> are the images still those?
//	                                                                    copy, rename, record;
//	                                                                    documents, signed
//
// One is made at a time, on all cores that the memory permits. It is published when it is
// ready, so a run that is killed loses only the one in work. Scratch files have no names, and
// vanish with the process. A run that is killed while it publishes leaves a copy, which
// mirror.Open removes, or a file that its record marks as the tool's own, which the next run
// replaces.
//
// A run that makes compact deltas also holds .repo/making.lock, so that two runs do not make
// the same ones: the second makes none. Another process may build, repair or sign the mirror
// meanwhile. So a compact delta is published only if the documents, read again under the
// mirror's lock, still want it, and have both images with the digests that it was made of.
//
// # Time
//
// A run takes Options.Time at most, and then gives up the compact delta in work. One that is
// expected to take longer than what is left, by the rate that earlier runs recorded, is not
// begun; smaller ones are made in its place. The rate of one that was given up is recorded too,
// so that a later run with as little time does not begin it again.
//
// # Memory and space
//
//	48 MiB      the process
//	index       an eighth of the content that is searched, about 2.5 times the base, at least
//	            64 MiB, at most 2 GiB, rounded down to a power of two; halved as often as needed
//	            where memory is short
//	32 MiB      of each core while it searches; 192 MiB of each when streams are compressed, and
//	            the index is gone
//
// Where memory is short, fewer cores are used first. So the same images give the same bytes
// on every machine whose memory suffices for the index.
//
// Scratch files are expected to take 2.5 times base and target, and 3.5 times the rdiff delta.
// Where that is not free in the mirror, the compact delta is left out, and the run goes on.
package compactdelta

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"puavo-image-repository/delta"
	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/lockfile"
	"puavo-image-repository/imagerepo/internal/page"
	"puavo-image-repository/imagerepo/internal/work"
	"puavo-image-repository/imagerepo/plan"
)

// ErrLocked is wrapped by the error for a mirror whose lock another process held all the time.
var ErrLocked = lockfile.ErrHeld

// Options say what Run does. MirrorDir must be given. URL, Policy, Series, Torrents, NoPage,
// BestBefore, Sign and Root are those of the build, see package imagerepo.
type Options struct {
	MirrorDir  string
	URL        string
	Policy     plan.Policy // its Compact says which are wanted
	Series     plan.Globs
	Torrents   plan.Torrents
	Effort     delta.Effort
	NoPage     bool
	BestBefore bool
	Sign       func(ctx context.Context, mirror atomicfile.Dir) (changed bool, err error)
	Root       *page.Root

	Time        time.Duration // after which Run begins nothing, and gives up what it works on; 0 is no limit
	Memory      int64         // bytes besides mapped files; 0 is a quarter of the machine's
	NoSync      bool          // do not flush what is written to the disk
	IgnoreSpace bool          // begin even if the free space will most likely not do
	Farm        work.Farm     // makes some of them on other machines, see package farm; nil for none
	Log         *slog.Logger  // takes warnings; nil discards
	// Progress and Stage, which may be nil, are as those of the build. The stages are
	// compact_make, compact_check and compact_publish.
	Progress func(done, total int64)
	Stage    func(stage, file string)
	// Done, which may be nil, is called with each compact delta that was made or dropped.
	Done func(Result)
}

// check returns an error for options that are missing or invalid, and completes the others.
func (o *Options) check() error {
	if o.MirrorDir == "" {
		return errors.New("compactdelta.Options: MirrorDir must be given")
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Memory != 0 && o.Memory < MinMemory() {
		return errTooLittle(o.Memory)
	}
	return nil
}

// Summary says what a run did.
type Summary struct {
	Made    int      `json:"made"`
	Bytes   int64    `json:"bytes"` // of those that were made
	Kept    int      `json:"kept"`  // were there before
	Dropped int      `json:"dropped"`
	Left    int      `json:"left"` // for another run
	Seconds float64  `json:"seconds"`
	Changed bool     `json:"changed"` // whether the run changed the mirror
	Deltas  []Result `json:"deltas"`  // what became of those that were to be made, in the order of the plan
}

// Result says what became of a compact delta.
type Result struct {
	File   string      `json:"file"`
	Action plan.Action `json:"action"` // Make, Drop, or Omit for one that is left
	// Size is that of the compact delta, 0 where it is not known, and Rival that of the rdiff
	// delta, or of the image, that clients fetch without it, in bytes.
	Size    int64   `json:"size"`
	Rival   int64   `json:"rival"`
	Seconds float64 `json:"seconds"` // that it took
	// Reason is why it is left.
	Reason string `json:"reason,omitempty"`
}

// Share returns the size as a share of what clients fetch without it.
func (r Result) Share() float64 { return float64(r.Size) / float64(max(r.Rival, 1)) }
