package work

import (
	"context"
	"io"
	"os"

	"puavo-image-repository/imagerepo/internal/pool"
)

// Farm has jobs done by other machines. It can be used concurrently.
type Farm interface {
	// Offer hands jobs over. Whoever calls it closes the batch, after which nothing of it is
	// in work any more. An error means that the farm cannot be used now.
	Offer(ctx context.Context, o Offer) (Batch, error)
}

// Offer is what is handed over.
type Offer struct {
	Jobs []Item
	// Files are the images of the jobs in Mirror, a directory, by their paths there.
	Files  map[File]string
	Mirror string
	// Scratch returns an empty file that nobody else has, for a result.
	Scratch func() (*os.File, error)
}

// Item is a job with how long one core is expected to take for it.
type Item struct {
	Job
	Seconds float64
}

// Batch are jobs that were handed over. Its methods can be called concurrently.
type Batch interface {
	// Take takes a job back, to be done here, and reports whether that was possible: no
	// worker has begun it, and it was handed over.
	Take(Job) bool
	// TakeOver takes up to n jobs of kind RDiff back, to be done here: first those that no
	// worker has begun, then those begun last. It returns none when all of that kind have
	// ended. Whoever has nothing else to do calls it: a worker may need longer for the
	// images than a builder for the delta.
	TakeOver(n int) []Job
	// Idle says that whoever offered the jobs has nothing else to do. From then on a job that
	// no worker begins within some seconds comes back.
	Idle()
	// Next returns the next result, or io.EOF when each job was taken or has had a result.
	// The error is otherwise that of ctx, when no result is there. The caller closes the
	// result.
	Next(ctx context.Context) (Result, error)
	// Checked says that whoever offered the job has applied its result, and that it was right
	// if wrong is nil. Whoever is to blame gets no more jobs.
	Checked(r Result, wrong error)
	// Distrusted reports whether a worker was to blame.
	Distrusted(worker string) bool
	Close() error
}

// Share does the jobs of a batch: here does those that it can take, and there, called concurrently,
// what must be done with the results of the others. When here has ended, it says
// so to the batch, see Idle.
func Share(ctx context.Context, b Batch, here, there func(context.Context) error) error {
	both := []func(context.Context) error{func(ctx context.Context) error {
		defer b.Idle()
		return here(ctx)
	}, there}
	return pool.Each(ctx, 2, both, func(ctx context.Context, do func(context.Context) error) error { return do(ctx) })
}

// Result is what came of a job.
type Result struct {
	Job
	File *os.File // the delta, nil where Err is not
	Size int64    // of the delta, in bytes
	// Maker is the worker that made the delta, and Verifier another one that has applied it, ""
	// if none did. Accuser is one that says that it is wrong.
	Maker, Verifier, Accuser string
	// Check says that the caller must apply the delta before it uses it.
	Check bool
	// Err says why no worker has done the job: the caller must.
	Err error
}

// Reader reads the delta from its start.
func (r Result) Reader() *io.SectionReader { return io.NewSectionReader(r.File, 0, r.Size) }

// Close frees the delta.
func (r Result) Close() error {
	if r.File == nil {
		return nil
	}
	return r.File.Close()
}
