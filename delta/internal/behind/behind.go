// Package behind writes from a goroutine of its own, so that what is written next
// is read meanwhile.
package behind

import "io"

// Writer collects bytes and hands them over, a buffer at a time, to a goroutine
// that writes them. Close must be called. It is not for concurrent use.
type Writer struct {
	buf   []byte      // what is not handed over yet
	full  chan []byte // to the goroutine
	empty chan []byte // and back
	ended chan struct{}
	err   error // of the writer; to be looked at once ended is closed
}

// New returns a Writer to w with two buffers of size bytes.
func New(w io.Writer, size int) *Writer {
	b := &Writer{
		buf:   make([]byte, 0, size),
		full:  make(chan []byte),
		empty: make(chan []byte, 2), // room for both buffers, so that the goroutine never waits
		ended: make(chan struct{}),
	}
	b.empty <- make([]byte, 0, size)
	// It ends when Close closes full.
	go func() {
		defer close(b.ended)
		for p := range b.full {
			if _, b.err = w.Write(p); b.err != nil {
				return
			}
			b.empty <- p[:0]
		}
	}()
	return b
}

// Next returns room for the next bytes, at least one and at most n of them,
// which the caller fills.
func (b *Writer) Next(n int64) ([]byte, error) {
	if len(b.buf) == cap(b.buf) {
		if err := b.flush(); err != nil {
			return nil, err
		}
	}
	used := len(b.buf)
	b.buf = b.buf[:used+int(min(n, int64(cap(b.buf)-used)))]
	return b.buf[used:], nil
}

// flush hands over the buffer and takes an empty one.
func (b *Writer) flush() error {
	select {
	case b.full <- b.buf:
		b.buf = nil
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

// Sync waits until all is written.
func (b *Writer) Sync() error {
	if len(b.buf) > 0 {
		if err := b.flush(); err != nil {
			return err
		}
	}
	// The buffer that is not ours is empty when the goroutine has nothing to write.
	select {
	case other := <-b.empty:
		b.empty <- other
		return nil
	case <-b.ended:
		return b.err
	}
}

// Close ends the goroutine, after what is left was written if that is wanted, and
// returns the error of the writer, if it gave one.
func (b *Writer) Close(all bool) error {
	if all && len(b.buf) > 0 {
		select {
		case b.full <- b.buf:
		case <-b.ended:
		}
	}
	close(b.full)
	<-b.ended
	return b.err
}
