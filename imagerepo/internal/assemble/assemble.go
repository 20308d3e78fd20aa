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
//	target    SHA-512 of the image
//	source    SHA-512 of the file that is downloaded, a delta or the image itself
//	position  where to continue: in the file, in the image, and within a literal
//	idle      how many calls in a row have brought nothing
//	head      of a compact delta: its head, in base64, so that it is not fetched again
//	others    source, position and idle of files that were downloaded before this one
//	wrong     files that did not make the image: SHA-512, and in which mirror
//
// Earlier versions also wrote mirror, version and failed, which no longer count.
//
// The bytes of an image are the same whatever they are made from. So a call can
// continue with a file from another mirror, with the full image where a delta has
// stopped, and then with that delta again.
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
//	    [two buffers of 256 KiB]                    [one checkpoint]
//	            |                                           |
//	hasher   digest, compared at the end         saver   flush the image, then
//	                                                     replace the journal
//
// A compact delta has a writer for each core, see package compact. They write a group of
// the image in their turn, and offer a checkpoint behind each. The file is read by sections,
// in which several groups are, and goes on where the section of a group begins. Since its
// head says where that is, it can continue what any other file has made.
//
// The full image needs no writer: the caller copies from the mirror to the partial
// image, a hasher takes its digest meanwhile, and a saver saves the checkpoints. The
// digest of a delta has such buffers and a hasher too.
//
// The writer gives the saver a checkpoint once the image is written up to there. A
// checkpoint is saved once a second at most, and is dropped while another is being
// saved. So a slow disk delays no download, and the journal never says more than
// what is on the disk.
//
// A call that continues reads the partial image again, so the digest at the end
// notices what a crash or a bad disk made of it. It is the fastest of those that
// Job.Sums has, see package cksum; a SHA-512 that is only named still tells the journal
// which image and which source are meant. A delta that comes in a single call
// is compared with its own digest too. Of one that comes in parts the beginning is
// gone; the digest of the image decides. If that is wrong, all starts over, once, and
// past all caches: one of them may hold an old file, or may have held one of the parts.
package assemble

import (
	"context"
	"errors"
	"log/slog"
	"time"

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
	ErrIncomplete = errors.New("cut off; run again to resume")
	// ErrUnfit is wrapped besides by the error for a delta that is right itself, but
	// makes another image. Another mirror's copy of it would do no better.
	ErrUnfit = errors.New("the delta does not make the image")
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
	Sums  cksum.Sums     // of the image, all from one document: size, SHA-512, and what else it names
	// Base is the file in Dir that the delta is applied to; "": there is none, and the full
	// image is downloaded, unless Source is a compact delta.
	Base string
	// BaseDir holds the base, if Dir does not; the base must stay as it is. The zero Dir is Dir.
	BaseDir atomicfile.Dir

	Mirror     *fetch.Mirror
	Source     string     // path in the mirror of the delta, or of the full image
	SourceSums cksum.Sums // of that file, likewise
	Compact    bool       // Source is a compact delta
	BaseSums   cksum.Sums // of the base, for a compact delta, if the caller has compared them; zero: it is compared
	Wrong      []Wrong    // files to remember, for Look

	Log      *slog.Logger            // takes why the work continues or starts over; nil discards
	Progress func(done, total int64) // of the image, in bytes; may be nil
	// Left, which may be nil, is called with the bytes that are left to fetch each time
	// that some have come. Its error suspends the work, as the end of ctx does.
	Left func(bytes int64) error
	// Came, which may be nil, is called before it with the bytes that came, and how long that
	// took. Both are called one at a time, in a goroutine that Make waits for.
	Came func(n int, waited time.Duration)
}

// Make makes the partial image complete: all bytes verified, and flushed to the
// disk. Renaming it is up to the caller. It continues from where an earlier call
// has stopped, if it can. What cannot be used is discarded only once the mirror has
// answered.
//
// What proves wrong is removed, and the error wraps ErrVerify or delta.ErrFormat.
// After other errors, and when ctx has ended, the partial image is kept. If the
// directory or its disk fails, the error is a LocalError. If the mirror has another
// file, it wraps fetch.ErrChanged. If the network fails, it wraps ErrIncomplete. But if
// three calls in a row bring nothing, it does not: then the file cannot be had, and
// another source may do.
func Make(ctx context.Context, j Job) error {
	if j.Log == nil {
		j.Log = slog.New(slog.DiscardHandler)
	}
	err := j.attempt(ctx, false)
	if stale, ok := errors.AsType[staleError](err); ok {
		j.Log.Warn("starting over", "image", j.Image, "reason", stale.error)
		return j.attempt(ctx, true)
	}
	return err
}

// staleError is the error for a failure that a fresh start may mend: what an earlier
// call has made is wrong, or what a cache holds.
type staleError struct{ error }

func (e staleError) Unwrap() error { return e.error }
