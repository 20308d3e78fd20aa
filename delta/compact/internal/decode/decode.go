package decode

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"runtime"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"puavo-image-repository/cksum"
	"puavo-image-repository/delta/compact/internal/wire"
	"puavo-image-repository/delta/mmap"
)

// Options say how a compact delta is applied.
type Options struct {
	Cores int // 0 is all that the process may use
	// From is the first group to be made. What was made before is the caller's to check.
	From int
	// Trusted says that the caller has compared the base's digest.
	Trusted bool
	// Compared says that the caller compares the target's digest.
	Compared bool
}

// ErrBase is the error for a base that is not the one which the delta is for.
var ErrBase = errors.New("the base is not the one that the compact delta is for")

// Decode writes to w the target, or, from a group on, what is left of it. It reads r from
// where Start says, as far as the file goes.
func (d *Delta) Decode(ctx context.Context, r io.Reader, base io.ReaderAt, w io.Writer, o Options) error {
	if o.From < 0 || o.From > len(d.head.Groups) {
		return fmt.Errorf("group %d of %d", o.From, len(d.head.Groups))
	}
	if !o.Trusted {
		if err := d.checkBase(ctx, base); err != nil {
			return err
		}
	}
	m := &making{Delta: d, base: base, w: w, from: o.From, free: make(chan *section, 2)}
	if o.From == 0 && !o.Compared {
		m.sum = cksum.NewBLAKE3()
	}
	if err := m.run(ctx, r, d.workers(o)); err != nil {
		return err
	}
	if m.sum != nil && !bytes.Equal(m.sum.Sum(nil), d.head.Target.BLAKE3[:]) {
		return wire.Malformed("it makes a target with another digest than it says")
	}
	return nil
}

// workers returns how many workers keep to the limit.
func (d *Delta) workers(o Options) int {
	n := cmp.Or(o.Cores, runtime.GOMAXPROCS(0))
	for n > 1 && d.head.MemoryFor(n) > memoryLimit {
		n--
	}
	return n
}

// checkBase compares the digest of the base.
func (d *Delta) checkBase(ctx context.Context, base io.ReaderAt) error {
	h := cksum.NewBLAKE3()
	whole := io.NewSectionReader(base, 0, d.head.Base.Size+1)
	n, err := io.CopyBuffer(struct{ io.Writer }{h}, readerOf(ctx, whole), make([]byte, wire.WindowLen))
	if err != nil {
		return err
	}
	if n != d.head.Base.Size || !bytes.Equal(h.Sum(nil), d.head.Base.BLAKE3[:]) {
		return ErrBase
	}
	return nil
}

// making is one run of Decode.
type making struct {
	*Delta
	base     io.ReaderAt
	w        io.Writer
	from     int
	sum      hash.Hash     // of what was written; nil if not from the start, or the caller's
	free     chan *section // those that are not used
	frees    []func()
	unpacked atomic.Int64 // bytes of content of blocks of the base
	coded    atomic.Int64 // and of the target
}

// alloc returns memory of n bytes until free is called. It is not Go's, so that no garbage
// waits besides it: what is not used takes nothing.
func (m *making) alloc(n int64) ([]byte, error) {
	b, free, err := mmap.Alloc[byte](n)
	if err == nil {
		m.frees = append(m.frees, free)
	}
	return b, err
}

func (m *making) run(ctx context.Context, r io.Reader, workers int) error {
	defer func() {
		for _, free := range m.frees {
			free()
		}
	}()
	group, inner := errgroup.WithContext(ctx)
	jobs := make(chan job)
	sections, err := newSectionReader(inner, m, jobs)
	if err != nil {
		return err
	}
	var all []*worker
	for range workers {
		w, err := newWorker(inner, m)
		if err != nil {
			return err
		}
		all = append(all, w)
	}
	var unread error
	group.Go(func() error { // groups whose section has come are made, even if the next does not come
		defer close(jobs)
		unread = sections.run(r)
		return nil
	})
	for _, w := range all {
		group.Go(func() error { return w.run(jobs) })
	}
	err = group.Wait()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return cmp.Or(err, unread)
}
