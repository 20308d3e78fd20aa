// Package work is what builder and farm say to each other: jobs, which are values, and their
// results. Package farm describes how a farm works.
//
// # Job
//
// A job is JSON in one form, so that its ID, the BLAKE3 of that, is that of the work:
//
//	{"format":1,"kind":"rdiff","base":{"size":1269211136,"blake3":"…"},"target":{…},
//	 "effort":"default","index":268435456,"limit":1441533542}
//
// The keys, in this order:
//
//	format   1
//	kind     rdiff, compact or verify
//	base     size in bytes and BLAKE3 of the image that the delta is made from; both zero
//	         where a compact delta needs none
//	target   likewise, of the image that it makes
//	delta    likewise, of the compact delta that verify applies; missing for other kinds
//	effort   of the search: fast, default or best; missing for verify
//	index    bytes of memory for the search, on which the delta depends; missing for verify
//	limit    bytes that a delta may have; one that is larger is not sent. Missing for verify
//
// Equal jobs have equal results on every machine where the program has the same version.
package work

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"puavo-image-repository/cksum"
	"puavo-image-repository/delta"
	"puavo-image-repository/meta"
)

// Format is the version of the jobs that this package writes and reads.
const Format = 1

// Kind is what is done.
type Kind string

// The kinds of jobs.
const (
	RDiff   Kind = "rdiff"   // makes an rdiff delta
	Compact Kind = "compact" // makes a compact delta
	Verify  Kind = "verify"  // applies a compact delta, and compares what that makes
)

// MaxJob bounds a job as JSON, in bytes.
const MaxJob = 2 << 10

// File is a file by its content.
type File struct {
	Size   int64           `json:"size"` // bytes
	BLAKE3 cksum.Digest256 `json:"blake3"`
}

// Job is a piece of work, see the documentation of the package.
type Job struct {
	Format int          `json:"format"`
	Kind   Kind         `json:"kind"`
	Base   File         `json:"base"`
	Target File         `json:"target"`
	Delta  File         `json:"delta,omitzero"`
	Effort delta.Effort `json:"effort,omitempty"`
	Index  int64        `json:"index,omitempty"`
	Limit  int64        `json:"limit,omitempty"`
}

// ID names a job: the BLAKE3 of its JSON.
type ID = cksum.Digest256

// ErrJob is wrapped by the errors for what is no job.
var ErrJob = errors.New("not a job of this version")

// JSON returns the one form of a job.
func (j Job) JSON() []byte {
	data, err := json.Marshal(j)
	if err != nil {
		panic(err) // it has no values that JSON has not
	}
	return data
}

// ID returns the ID of a job.
func (j Job) ID() ID {
	h := cksum.NewBLAKE3()
	h.Write(j.JSON()) // never fails
	return ID(h.Sum(nil))
}

// Parse returns the job that JSON returned as these bytes. Every other form of it is an error.
func Parse(data []byte) (j Job, err error) {
	if len(data) > MaxJob {
		return Job{}, fmt.Errorf("%w: it has %d bytes", ErrJob, len(data))
	}
	if err := json.Unmarshal(data, &j); err != nil {
		return Job{}, fmt.Errorf("%w: %w", ErrJob, meta.PlainJSON(err))
	}
	if err := j.check(); err != nil {
		return Job{}, fmt.Errorf("%w: %w", ErrJob, err)
	}
	if !bytes.Equal(j.JSON(), data) {
		return Job{}, fmt.Errorf("%w: it is not in the one form that jobs have", ErrJob)
	}
	return j, nil
}

// most bounds all sizes in a job, in bytes.
const most = 1 << 50

func (j Job) check() error {
	for _, n := range []int64{j.Base.Size, j.Target.Size, j.Delta.Size, j.Index, j.Limit} {
		if n < 0 || n > most {
			return fmt.Errorf("the size %d", n)
		}
	}
	makes := j.Kind == RDiff || j.Kind == Compact
	switch {
	case j.Format != Format:
		return fmt.Errorf("format %d", j.Format)
	case !makes && j.Kind != Verify:
		return errors.New("an unknown kind")
	case j.Target == File{} || j.Kind == RDiff && j.Base == File{}:
		return errors.New("an image is missing")
	case makes != (j.Delta == File{}) || makes != (j.Effort != "") || makes != (j.Index > 0) || makes != (j.Limit > 0):
		return errors.New("a key is missing or too much for its kind")
	}
	if makes {
		_, err := delta.ParseEffort(string(j.Effort))
		return err
	}
	return nil
}

// What takes memory besides mapped files, in bytes.
const (
	SearchMemory = 32 << 20  // the search on each core, besides the index
	ApplyMemory  = 128 << 20 // applying a compact delta, on however many cores
)

const (
	processMemory = 64 << 20  // bytes of a worker for each job
	packMemory    = 192 << 20 // on each core, of the compression of a compact delta, when the index is gone
)

// Memory returns how much memory a job takes on so many cores besides mapped files, in bytes.
func (j Job) Memory(cores int) int64 {
	n := int64(cores)
	switch j.Kind {
	case Compact:
		return processMemory + max(j.Index+n*SearchMemory, n*packMemory)
	case Verify:
		return processMemory + ApplyMemory
	default:
		return processMemory + j.Index + n*SearchMemory
	}
}

// Size returns the bytes of both images.
func (j Job) Size() int64 { return j.Base.Size + j.Target.Size }
