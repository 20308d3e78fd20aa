package cksum

import (
	"context"
	"fmt"
	"hash"
	"io"
	"sync"
)

// bufferSize is the size of each of the two buffers of a [Hash], in bytes.
const bufferSize = 256 << 10

// short is the length, in bytes, up to which a stream is digested without buffers.
// They and the goroutines would cost it more than they save.
const short = 64 << 10

// Hash computes digests of what is written to it. Make one with [New], or with
// [NewFor] for some of them. It is not safe for concurrent use.
//
// For a stream of more than 64 KiB it computes the digests concurrently with each
// other and with the writer, all of them on up to three cores, as fast as SHA-512
// alone if these are free. For that it holds two buffers, 512 KiB together. Its
// goroutines end by themselves within milliseconds, so a Hash may be abandoned at any
// time.
type Hash struct {
	size  int64
	crc   *crc // nil if it is not computed
	proof []digesting
	lanes []io.Writer // to all of these; each is written to by one goroutine

	filling []byte         // what was written last; nil if nothing was buffered yet
	full    []byte         // what was written before it, for what is running
	running sync.WaitGroup // has the digests until it is done
}

// digesting is a digest while it is computed.
type digesting struct {
	by   algorithm
	hash hash.Hash
}

// New returns a Hash of all digests, to which nothing has been written. SHA-512 takes
// as long as the others together.
func New() *Hash {
	h := &Hash{crc: new(crc)}
	h.compute(bySHA512) // comes first: see Group
	h.compute(bySHA256)
	h.compute(byBLAKE3, h.crc)
	return h
}

// NewFor returns a Hash of the digests that want has, and no others, to which nothing
// has been written. It does not compute the CRC. [Sums.Compare] compares its Sums with
// want.
func NewFor(want Sums) *Hash {
	h := new(Hash)
	for _, a := range fastestFirst {
		if a.isKnown(want) {
			h.compute(a)
		}
	}
	return h
}

// compute has h compute a digest, in one goroutine with what else is written to.
func (h *Hash) compute(a algorithm, besides ...io.Writer) {
	d := digesting{a, a.new()}
	h.proof = append(h.proof, d)
	h.lanes = append(h.lanes, io.MultiWriter(append(besides, d.hash)...))
}

// Also has h write to w all that is written to h, in its order, concurrently with the digests:
// for a stream of more than 64 KiB in a goroutine of its own, and so perhaps on a core more.
// When [Hash.Sums] returns, w has everything. w must not keep what it is given, and its
// errors are ignored. Call Also before the first write.
func (h *Hash) Also(w io.Writer) { h.lanes = append(h.lanes, w) }

// Write adds p to the digests. It never returns an error.
func (h *Hash) Write(p []byte) (int, error) {
	written := len(p)
	if h.filling == nil && h.size+int64(written) <= short {
		h.size += int64(written)
		h.digest(p)
		return written, nil
	}
	for len(p) > 0 {
		n := copy(h.free(), p)
		h.add(n)
		p = p[n:]
	}
	return written, nil
}

// Sums returns the size and the digests of everything written so far; those that h does
// not compute are zero. It does not change h: you may write more after it.
func (h *Hash) Sums() Sums {
	h.running.Wait()
	h.digest(h.filling)
	h.filling = h.filling[:0]
	s := Sums{Size: h.size}
	if h.crc != nil {
		s.CRC = h.crc.sum(h.size)
	}
	for _, d := range h.proof {
		d.hash.Sum(d.by.of(&s)[:0])
	}
	return s
}

// ReadFrom reads r to its end, right into the buffer, and returns how many bytes that
// were. It passes an error of r on. With it, io.Copy needs no buffer.
func (h *Hash) ReadFrom(r io.Reader) (int64, error) {
	before := h.size
	for {
		if err := h.readOnce(r); err == io.EOF {
			return h.size - before, nil
		} else if err != nil {
			return h.size - before, err
		}
	}
}

// readAll adds r to its end. The error is that of [Read].
func (h *Hash) readAll(ctx context.Context, r io.Reader) error {
	var err error
	for err == nil && ctx.Err() == nil {
		h.free() // may wait for long, in a Group
		if ctx.Err() == nil {
			err = h.readOnce(r)
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != io.EOF {
		return fmt.Errorf("cksum: %w", err)
	}
	return nil
}

// readOnce adds one read of r, right into the buffer.
func (h *Hash) readOnce(r io.Reader) error {
	n, err := r.Read(h.free())
	h.add(n)
	return err
}

// free returns the free part of the buffer, which is never empty. Put bytes there,
// and then call add.
func (h *Hash) free() []byte {
	if len(h.filling) == bufferSize {
		h.swap()
	}
	if h.filling == nil {
		h.filling = make([]byte, 0, bufferSize)
	}
	return h.filling[len(h.filling):bufferSize]
}

// add adds the first n bytes of the free part.
func (h *Hash) add(n int) {
	h.filling = h.filling[:len(h.filling)+n]
	h.size += int64(n)
}

// swap empties the buffer: it waits for the digests of the other one, and then
// starts those of this one, in goroutines that wait for nothing, but in a [Group] for
// the turn of SHA-512.
func (h *Hash) swap() {
	h.running.Wait()
	h.filling, h.full = h.full[:0], h.filling
	for _, lane := range h.lanes {
		h.running.Go(func() { lane.Write(h.full) })
	}
}

// digest adds p to the digests, while nothing is running.
func (h *Hash) digest(p []byte) {
	for _, lane := range h.lanes {
		lane.Write(p)
	}
}
