// Package assemble makes an image from a delta, or from the full image, while that
// is downloaded. The download is resumable: what was made before the network, the
// process or the power failed is kept, and the next call continues from there.
//
// # Files
//
//	<image>.img.tmp              the partial image
//	<image>.img.tmp.journal      the last checkpoint: how far the partial image has got
//	<image>.img.tmp.journal.new  the next journal, before it is renamed
//
// The journal is a JSON object:
//
//	source    SHA-512 of the file that is downloaded, a delta or the image itself
//	target    SHA-512 of the image
//	mirror    where it is downloaded from
//	version   the validator that this mirror gives for the file, such as an ETag
//	position  where to continue: in the file, in the image, and within a literal
//	idle      how many calls in a row have brought nothing
//	failed    SHA-512 of the deltas that were given up for this image
//
// # How the bytes flow
//
// With a delta, up to four goroutines work at once. An arrow is a call, a box in
// brackets is where bytes wait:
//
//	caller of Make   mirror -> verifier of the delta -> delta.Resume <- base
//	                                                        |
//	                                              [two buffers of 1 MiB]
//	                                                        |
//	writer                 partial image <------------------+
//	                            |
//	            +---------------+---------------------------+
//	            |                                           |
//	    [one buffer of 1 MiB]                       [one checkpoint]
//	            |                                           |
//	hasher   SHA-512, compared at the end        saver   flush the image, then
//	                                                     replace the journal
//
// The full image needs no writer: the caller copies from the mirror to the partial
// image, a hasher takes its SHA-512 meanwhile, and a saver saves the checkpoints.
//
// The writer gives the saver a checkpoint once the image is written up to there. A
// checkpoint is saved once a second at most, and is dropped while another is being
// saved. So a slow disk delays no download, and the journal never says more than
// what is on the disk.
//
// A call that continues reads the partial image again, so the digest at the end
// notices what a crash or a bad disk made of it. A delta that comes in a single call
// is compared with its own digest too. Of one that comes in parts the beginning is
// gone; the digest of the image decides.
package assemble

import (
	"context"
	"errors"
	"log/slog"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/fetch"
	"puavo-image-repository/meta"
)

var (
	// ErrVerify is wrapped by the errors for what is not as the meta says.
	ErrVerify = errors.New("verification failed")
	// ErrIncomplete is wrapped by the error for a network that failed midway. The
	// partial image is kept for the next call.
	ErrIncomplete = errors.New("cut off; run again to go on")
)

// LocalError is an error of the directory in which the image is made, or of its disk.
// Another source of the image would do no better.
type LocalError struct{ Err error }

func (e *LocalError) Error() string { return e.Err.Error() }

// Unwrap returns the error of the system call.
func (e *LocalError) Unwrap() error { return e.Err }

// local returns an error of the directory as a LocalError, nil for nil.
func local(err error) error {
	if err == nil {
		return nil
	}
	return &LocalError{err}
}

// Job describes the image that Make makes.
type Job struct {
	Dir   atomicfile.Dir // holds the partial image, its journal and the base; no other process may change them
	Image meta.Name      // names the partial image and its journal
	Sums  cksum.Sums     // of the image: size and SHA-512
	Base  string         // file in Dir that the delta is applied to; "": the full image is downloaded

	Mirror     *fetch.Mirror
	Source     string            // path in the mirror of the delta, or of the full image
	SourceSums cksum.Sums        // of that file: size and SHA-512, and BLAKE3 if known
	GivenUp    []cksum.Digest512 // of sources that were given up before; GivenUp returns them

	Log      *slog.Logger            // takes why the work continues or starts over; nil discards
	Progress func(done, total int64) // of the image, in bytes; may be nil
}

// Make makes the partial image complete: all bytes verified, and flushed to the
// disk. Renaming it is up to the caller. It continues from where an earlier call
// has stopped if that downloaded the same file. What an earlier call has made from
// another file is discarded only once the mirror has answered.
//
// What proves wrong is removed, and the error wraps ErrVerify, delta.ErrFormat or
// fetch.ErrChanged. After other errors, and when ctx has ended, the partial image is
// kept. If the directory or its disk fails, the error is a LocalError. If the network
// fails, the error wraps ErrIncomplete. But if three calls in a
// row bring nothing, it does not: then the file cannot be had, and another source
// may do.
func Make(ctx context.Context, j Job) error {
	if j.Log == nil {
		j.Log = slog.New(slog.DiscardHandler)
	}
	err := j.attempt(ctx)
	if stale, ok := errors.AsType[staleError](err); ok {
		j.Log.Warn("starting over", "image", j.Image, "reason", stale.error)
		return j.attempt(ctx)
	}
	return err
}

// staleError is the error for a failure that a fresh start may mend: what an
// earlier call has made is wrong, or the file in the mirror was replaced meanwhile,
// perhaps by an identical one.
type staleError struct{ error }

func (e staleError) Unwrap() error { return e.error }
