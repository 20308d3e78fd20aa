// Package meter counts the bytes of work that are done, for progress.
package meter

import (
	"context"
	"io"
	"sync/atomic"
)

// Meter counts bytes of work. It can be used concurrently.
type Meter struct {
	done     atomic.Int64
	total    int64
	progress func(done, total int64)
}

// New returns a meter for so much work in all. progress, which may be nil, is
// called with each change, from whichever goroutine made it.
func New(total int64, progress func(done, total int64)) *Meter {
	return &Meter{total: total, progress: progress}
}

// Add counts n bytes of work.
func (m *Meter) Add(n int64) {
	done := m.done.Add(n)
	if m.progress != nil {
		m.progress(min(done, m.total), m.total)
	}
}

// Done returns how much work is done.
func (m *Meter) Done() int64 { return m.done.Load() }

// Reader returns a reader of r that counts what is read, and ends with ctx.
func (m *Meter) Reader(ctx context.Context, r io.Reader) io.Reader { return &reader{ctx, r, m} }

// Writer returns a writer to w that counts what is written.
func (m *Meter) Writer(w io.Writer) io.Writer { return &writer{w, m} }

type reader struct {
	ctx context.Context
	r   io.Reader
	*Meter
}

func (r *reader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := r.r.Read(p)
	r.Add(int64(n))
	return n, err
}

type writer struct {
	w io.Writer
	*Meter
}

func (w *writer) Write(p []byte) (int, error) {
	n, err := w.w.Write(p)
	w.Add(int64(n))
	return n, err
}
