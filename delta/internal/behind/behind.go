// Package behind writes from a goroutine of its own, so that its user reads and
// computes concurrently.
package behind

import "io"

// Writer collects bytes and hands them over, a buffer at a time, to a goroutine
// that writes them. Close must be called. It is not for concurrent use.
type Writer struct {
	buf   []byte       // what is not handed over yet
	then  func() error // called after it; may be nil
	full  chan piece   // to the goroutine
	empty chan []byte  // and back
	ended chan struct{}
	err   error // of the writer; valid once ended is closed
}

// piece is what the goroutine writes, and what it does then.
type piece struct {
	p    []byte
	then func() error // may be nil
}

// New returns a Writer to w with two buffers of size bytes.
func New(w io.Writer, size int) *Writer {
	b := &Writer{
		buf:   make([]byte, 0, size),
		full:  make(chan piece),
		empty: make(chan []byte, 2), // room for both buffers, so that the goroutine never waits
		ended: make(chan struct{}),
	}
	b.empty <- make([]byte, 0, size)
	// It ends when Close closes full.
	go func() {
		defer close(b.ended)
		for piece := range b.full {
			if len(piece.p) > 0 {
				_, b.err = w.Write(piece.p)
			}
			if b.err == nil && piece.then != nil {
				b.err = piece.then()
			}
			if b.err != nil {
				return
			}
			b.empty <- piece.p[:0]
		}
	}()
	return b
}

// Next returns room for the next bytes, at least one and at most n of them. What
// the caller puts there counts once it calls Filled.
func (b *Writer) Next(n int64) ([]byte, error) {
	if len(b.buf) == cap(b.buf) {
		if err := b.flush(); err != nil {
			return nil, err
		}
	}
	used := len(b.buf)
	return b.buf[used : used+int(min(n, int64(cap(b.buf)-used)))], nil
}

// Filled marks the first n bytes of what Next returned as to write.
func (b *Writer) Filled(n int) { b.buf = b.buf[:len(b.buf)+n] }

// After has the goroutine call f once all that was filled so far is written, and
// perhaps some more, instead of what an earlier call has asked for if that was not
// done yet. No buffer is handed over for it before it is full: whole pages are
// written, which a file system takes at half the cost. An error of f is like one
// of the writer.
func (b *Writer) After(f func() error) { b.then = f }

// flush hands over the buffer and takes an empty one.
func (b *Writer) flush() error {
	select {
	case b.full <- piece{b.buf, b.then}:
		b.buf, b.then = nil, nil
	case <-b.ended:
		return b.err
	}
	select {
	case b.buf = <-b.empty:
		return nil
	case <-b.ended:
		return b.err
	}
}

// Close ends the goroutine when all that was filled is written, and returns the
// error of the writer, if it gave one.
func (b *Writer) Close() error {
	if len(b.buf) > 0 || b.then != nil {
		select {
		case b.full <- piece{b.buf, b.then}:
		case <-b.ended:
		}
	}
	close(b.full)
	<-b.ended
	return b.err
}
